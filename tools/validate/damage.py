"""Tamper with the state in checkpoints of every stage of a job: each has to be refused.

    python tools/validate/damage.py [--jobs slmc guided exact ladder] [--each 6] [--seed 1]

Small jobs are saved in every stage. Each good checkpoint has to be resumed from; then several
kinds of tampering change one entry of it each, with right checksums: the program has to say so in
one sentence and to use the previous checkpoint. The exit code is 1 if any is taken up, or ends in
another error.

``damaged`` makes such checkpoints, and others after accidents, for faults.py too.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hpcslmc.cli.launch import variant
from hpcslmc.errors import UserError
from hpcslmc.job.load import load_job
from hpcslmc.job.schema import Job
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.simulation.state import MEASURED
from hpcslmc.storage import checkpoint

CHAINS = 8
"""Of every checkpoint here."""
JOBS: dict[str, dict[str, dict]] = {
    "slmc": {"learning": {"rounds": 2, "steps": 30}},
    "guided": {"learning": {"steps": 30}, "sampling": {"method": "guided"}},
    "exact": {
        "sampling": {"method": "exact", "exact_move": "metropolis", "bin_size": 1, "samples": 8}
    },
    "ladder": {
        "ensemble": {"temperature": [0.5, 0.1], "rungs": 3, "filling": 0.9},
        "thermalisation": {"moves": 10},
        "learning": {"steps": 100},
        "sampling": {"exact_move": "metropolis"},
    },
}
"""What the jobs have in place of the values of ``BASE``."""
SMOKE = load_job(str(Path(__file__).resolve().parents[2] / "jobs/smoke.toml"))
BASE = variant(
    SMOKE,
    {
        "weight": {"method": "diagonalise"},
        "thermalisation": {"moves": 6},
        "learning": {"rounds": 1, "configurations": 3, "batch_size": 16},
        "sampling": {"chains": CHAINS, "samples": 6, "moves": 1},
    },
    Path("out"),
)
"""A job of a second."""


def load(path: Path) -> tuple[dict, dict]:
    """Read both trees of a checkpoint, with all chains."""
    return checkpoint.load(path, ChainBlock(CHAINS, 0, CHAINS), World())


def damaged(good: bytes, kind: str, rng: random.Random) -> bytes:
    """A checkpoint's bytes after an accident, or after somebody changed its state and made the
    checksums right again.
    """
    if kind in TAMPERED:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint.h5"
            path.write_bytes(good)
            chains, shared = load(path)
            tamper(chains, shared, kind, rng)
            checkpoint.save(path, chains, shared, ChainBlock(CHAINS, 0, CHAINS), World())
            return path.read_bytes()
    room = int(good[len(checkpoint.FORMAT) : checkpoint.FIRST_LINE - 9])
    index = json.loads(good[checkpoint.FIRST_LINE : room])
    ranges = {"bit in the index": (0, room), "bit anywhere": (0, len(good))}
    if kind == "truncated":
        return good[: rng.randrange(len(good))]
    if kind == "foreign":
        return rng.choice(
            (
                b"",
                b"\x89HDF\r\n\x1a\n" + rng.randbytes(3000),
                rng.randbytes(5000),
                good[room:],
                b"hpcslmc checkpoint 2" + good[20:],
            )
        )
    if kind == "bit in HDF5's own":
        covered = np.zeros(len(good), bool)
        covered[:room] = True
        for dtype, shape, _, place in index["arrays"].values():
            covered[place : place + np.dtype(dtype).itemsize * int(np.prod(shape))] = True
        place = int(rng.choice(np.flatnonzero(~covered)))
    else:
        place = rng.randrange(*ranges[kind])
    changed = bytearray(good)
    changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def entries(
    tree: dict, where: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict, object]]:
    """Everything in a nested dict, groups too: its path, the dict that holds it, and itself."""
    for key, value in tree.items():
        yield (*where, key), tree, value
        if isinstance(value, dict):
            yield from entries(value, (*where, key))


def tamper(chains: dict, shared: dict, kind: str, rng: random.Random) -> None:
    """Change one entry of a checkpoint's trees, drawn from those that the kind suits; of the job
    and the versions none.
    """
    suits, change = TAMPERED[kind]
    found = [
        entry
        for entry in (*entries(chains, ("chains",)), *entries(shared, ("shared",)))
        if entry[0][1] not in ("job", "versions")
    ]
    # a group of arrays has no end but that of its last one
    path, holder, value = rng.choice(
        [
            (path, holder, value)
            for path, holder, value in found
            if len(holder) > 1 and suits(path, value)
        ]
    )
    change(holder, path[-1], value)


def put(change: Callable[[object], object]) -> Callable[[dict, str, object], None]:
    """What puts something else in the place of a value."""
    return lambda holder, key, value: holder.update({key: change(value)})


def is_count(path: tuple[str, ...], value: object) -> bool:
    return type(value) is int


def is_array(path: tuple[str, ...], value: object) -> bool:
    return isinstance(value, torch.Tensor)


def is_plain(path: tuple[str, ...], value: object) -> bool:
    """Whether it may be replaced by a plain value: in a checkpoint chains have arrays alone."""
    return path[0] == "shared"


def is_known(path: tuple[str, ...], value: object) -> bool:
    """Whether nan is wrong there: energies of chains that have moved are not known, and what was
    measured is data.
    """
    measured = any(part in "/".join(path) for part in MEASURED)
    is_number = isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() > 0
    return is_number and not measured and path[-1] not in ("energy", "density")


TAMPERED: dict[
    str, tuple[Callable[[tuple[str, ...], object], bool], Callable[[dict, str, object], object]]
] = {
    "missing": (lambda path, value: True, lambda holder, key, value: holder.pop(key)),
    "unknown": (
        lambda path, value: value != {},
        lambda holder, key, value: holder.update({f"{key}s": value}),
    ),
    "another type": (is_plain, put(lambda value: {"0": True})),
    "text": (is_plain, put(lambda value: "__import__('os').system('touch written')")),
    "negative": (is_count, put(lambda value: -1 - value)),
    "huge": (is_count, put(lambda value: 2**80)),
    "a fraction": (is_count, put(lambda value: value + 0.5)),
    "a name": (
        lambda path, value: path[-1] in ("phase", "stage", "method"),
        put(lambda value: "finish\nhpcslmc: \x1b[31m"),
    ),
    "another shape": (is_array, put(lambda value: value.reshape(*value.shape, 1, 1))),
    "another precision": (is_array, put(lambda value: value.to(torch.uint8))),
    "nan": (is_known, put(lambda value: torch.full_like(value, torch.nan))),
}
"""Kinds of tampering: which entries they suit, by path and value, and what becomes of one."""
DAMAGES = (
    "bit in the index",
    "bit in HDF5's own",
    "bit anywhere",
    "truncated",
    "foreign",
    *TAMPERED,
)


def problem_of(job: Job, path: Path, before: Path) -> str:
    """Resume from a tampered checkpoint; returns what is wrong, "" if the previous one is used."""
    try:
        resumed = Simulation(job, resume=path)
    except UserError as error:
        return f"the previous one is not used: {error}"
    except Exception as error:
        return f"ends in {error!r}"
    remarks = resumed.resume_remarks
    if resumed.resumed_from != before:
        return "taken up"
    if len(remarks) != 1 or not remarks[0].isprintable() or "Error" in remarks[0]:
        return f"not said in one sentence: {remarks}"
    return ""


def tamper_with_every_stage(
    job: Job, path: Path, each: int, rng: random.Random
) -> tuple[list[str], Counter[str], list[str]]:
    """Run a job and tamper with its checkpoint in every stage.

    Returns
    -------
    stages : list of str
    kinds : Counter
        How often each kind of tampering was tried.
    problems : list of str
    """
    simulation = Simulation(job)
    stages, kinds, problems = [], Counter(), []
    before = checkpoint.previous(path)
    suitable = [kind for kind in TAMPERED if kind != "a name" or simulation.learns]

    def tamper() -> None:
        stage = f"{simulation.phase.name}: {simulation.stage}"
        if stage in stages and not simulation.finished:
            return
        stages.append(stage)
        simulation.save(path, {})
        if Simulation(job, resume=path).resumed_from != path:
            problems.append(f"{stage}: a good checkpoint is not taken up")
        good = path.read_bytes()
        before.write_bytes(good)
        for kind in rng.sample(suitable, min(each, len(suitable))):
            path.write_bytes(damaged(good, kind, rng))
            problem = problem_of(job, path, before)
            kinds[kind] += 1
            if problem:
                problems.append(f"{stage}, {kind}: {problem}")

    simulation.run(tamper)
    return stages, kinds, problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--each", type=int, default=6, help="kinds of tampering at each stage")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, problems = random.Random(options.seed), []
    table = Table("job", "stages", "tampered with", "problems", title="Tampered checkpoints")
    for name in options.jobs:
        with tempfile.TemporaryDirectory() as folder:
            stages, kinds, found = tamper_with_every_stage(
                variant(BASE, JOBS[name], Path("out")),
                Path(folder) / "checkpoint.h5",
                options.each,
                rng,
            )
        problems += [f"{name}, {problem}" for problem in found]
        table.add_row(name, str(len(set(stages))), str(kinds.total()), str(len(found)))
    Console(width=100, force_terminal=False).print(table)
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
