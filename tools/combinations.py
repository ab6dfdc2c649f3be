"""Which combinations of a job's options run, and which are refused: a table, and covering designs.

    python tools/combinations.py [--strength 2] [--seed 1] [--ranks-per-chain 1]

First every weight method with every move and every measurement, on 4x4 sites at half filling; then
combinations in which the values of any two options meet (``--strength 3``: of any three):
ensembles, fillings, lattices, models, what was learned before, checkpoints. Each that is accepted
runs to its end, and all that it measured is compared with dense diagonalisation and with sum rules.
Under mpirun all ranks take part, in groups of that many. The exit code is 1 if a combination that
was accepted fails, or measures nothing or something wrong.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hpcslmc.errors import UserError
from hpcslmc.job.schema import Job
from hpcslmc.parallel.hardware import limit_threads
from hpcslmc.parallel.world import MPIWorld, World

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests/support"))
from job_combinations import (
    MEASUREMENTS,
    METHODS,
    MOVES,
    chosen_job,
    covering,
    prepare,
    problems,
    run,
    small_job,
)

CONSOLE = Console(width=200, force_terminal=False)


def outcome(job: Job, world: World, group: World, folder: Path | None = None) -> list[str]:
    """What is wrong with the run of an accepted job, nothing if it is right. Collective."""
    try:
        return problems(run(job, world, group, folder))
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return [
            f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}: {error}"
        ]


def tabulate(
    world: World, group: World, ranks_per_chain: int
) -> tuple[Table, list[str], list[str]]:
    """Run every method with every move and measurement. Collective.

    Returns
    -------
    table : Table
    sentences : list of str
        By which combinations are refused, as the table numbers them.
    problems : list of str
    """
    sentences: list[str] = []
    found: list[str] = []
    table = Table("method", "moves", *MEASUREMENTS, box=None)
    for method in METHODS:
        for name, move in MOVES.items():
            cells = []
            for measurement in MEASUREMENTS:
                changes = {f"sampling.{key}": value for key, value in move.items()} | {
                    f"measure.{other}": 0 for other in MEASUREMENTS[1:]
                }
                changes |= {
                    "weight.method": method,
                    f"measure.{measurement}": 1,
                    "sampling.ranks_per_chain": ranks_per_chain,
                }
                try:
                    job = small_job(changes)
                except UserError as error:
                    if str(error) not in sentences:
                        sentences.append(str(error))
                    cells.append(f"refused ({sentences.index(str(error)) + 1})")
                    continue
                wrong = outcome(job, world, group)
                cells.append("fails" if wrong else "runs")
                found += [f"{method}, {name}, {measurement}: {problem}" for problem in wrong]
            table.add_row(method, name, *cells)
    return table, sentences, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strength", type=int, default=2, help="options whose values all meet")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks-per-chain", type=int, default=1)
    options = parser.parse_args()
    limit_threads()
    everyone = MPIWorld()
    world, group = everyone.split(options.ranks_per_chain)
    say = CONSOLE.print if everyone.is_root else lambda *_, **__: None
    began = time.monotonic()
    table, sentences, found = tabulate(world, group, options.ranks_per_chain)
    say(table)
    for number, sentence in enumerate(sentences, 1):
        say(f"({number}) {sentence}", markup=False)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(everyone.broadcast(made))
        everyone.on_root(lambda: prepare(folder))
        fixed = {"sampling.ranks_per_chain": options.ranks_per_chain} if everyone.size > 1 else None
        choices, refused = covering(options.strength, folder, fixed, options.seed)
        # all ranks at one place in their groups hold all chains, and write checkpoints together
        mine = folder / f"copy{group.rank}"
        world.on_root(mine.mkdir)
        for choice in choices:
            wrong = outcome(
                chosen_job(choice, folder), world, group, mine if choice["interrupted"] else None
            )
            found += [f"{choice}: {problem}" for problem in wrong]
        everyone.barrier()
    say(
        f"\n{len(choices)} combinations in which any {options.strength} options meet; "
        "refused together are"
    )
    for sentence, count in Counter(refused.values()).items():
        say(f"{count:6}  {sentence}", markup=False)
    every = [problem for some in everyone.all_of(found) for problem in some]
    for problem in every:
        say(problem, markup=False)
    say(f"{len(every)} problems; {time.monotonic() - began:.0f} s; ranks: {everyone.size}")
    return 1 if every else 0


if __name__ == "__main__":
    sys.exit(main())
