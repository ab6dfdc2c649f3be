"""Where the time of a job goes: exact evaluations, moves of the model, training, measurements,
phase by phase.

    mpirun -n 2 python tools/bench/profile_job.py jobs/large_32x32.toml [--samples 20]

The whole job is run in memory, writing no files and starting from nothing. Wall time of each part,
averaged over the ranks, is without that of other parts inside it; waiting for other ranks counts
where it happens.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from timing import synchronize

from hpcslmc.job.load import load_job
from hpcslmc.parallel.hardware import device, prepare_process
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.world import MPIWorld, World
from hpcslmc.simulation.rung import Rung
from hpcslmc.simulation.simulation import Simulation

CONSOLE = Console(width=120, force_terminal=False)
EXACT, EXACT_FORCES, EXACT_MOVES = "exact log W", "exact log W with forces", "exact moves, the rest"
MODEL, MODEL_FORCES = "log W_eff", "log W_eff with forces"
INNER, TRAINING, MEASURING = "inner moves, the rest", "training", "measurements"
REST = "the rest"
PARTS = (EXACT, EXACT_FORCES, EXACT_MOVES, MODEL, MODEL_FORCES, INNER, TRAINING, MEASURING, REST)


class Clock:
    """Wall time and calls by phase and part; every second counts once, for the innermost part under
    way.

    Attributes
    ----------
    phase : str
        What time is counted for from now on.
    seconds, calls : dict of (len(PARTS),) float64
        By phase.
    """

    def __init__(self) -> None:
        self.phase = ""
        self.seconds, self.calls = (defaultdict(lambda: np.zeros(len(PARTS))) for _ in range(2))
        self._under_way, self._since = [REST], time.perf_counter()

    def turn(self) -> None:
        """Count the time since the last turn."""
        synchronize()
        now = time.perf_counter()
        self.seconds[self.phase][PARTS.index(self._under_way[-1])] += now - self._since
        self._since = now

    def watch(self, owner: object, method: str, part: str | Callable[..., str]) -> None:
        """Count an object's method as a part, which may depend on its arguments."""
        call = getattr(owner, method)

        def counted(*arguments: object, **named: object) -> object:
            self.turn()
            self._under_way.append(part if isinstance(part, str) else part(*arguments, **named))
            self.calls[self.phase][PARTS.index(self._under_way[-1])] += 1
            try:
                return call(*arguments, **named)
            finally:
                self.turn()
                self._under_way.pop()

        setattr(owner, method, counted)


def watch_all(clock: Clock, simulation: Simulation) -> None:
    """Count everything in a simulation that is a part."""
    for rung in simulation.rungs:
        clock.watch(rung.bins, "add", MEASURING)
        watch_parts(clock, rung)
        watch_new_parts(clock, rung)


def watch_parts(clock: Clock, rung: Rung) -> None:
    """Count the parts of a rung that are built for its temperature and chemical potential."""
    clock.watch(
        rung.weight, "evaluate", lambda spins, forces=False: EXACT_FORCES if forces else EXACT
    )
    clock.watch(rung.exact, "move", EXACT_MOVES)
    if rung.guided:
        clock.watch(rung.guided, "move", EXACT_MOVES)
    if rung.learning:
        clock.watch(rung.learning.slmc.inner, "move", INNER)
        for trainer in rung.learning.trainers:
            clock.watch(
                trainer.model,
                "evaluate",
                lambda spins, forces=False: MODEL_FORCES if forces else MODEL,
            )
            for method in ("fit_linear", "start_round", "train_step", "validate", "finish_round"):
                clock.watch(trainer, method, TRAINING)
    for observable in rung.observables:
        clock.watch(observable, "measure", MEASURING)
    for sums in rung.profiles:
        clock.watch(sums, "add", MEASURING)


def watch_new_parts(clock: Clock, rung: Rung) -> None:
    """Count the parts that a rung builds anew while its ladder is spaced or its filling found."""
    build = rung._build

    def built(temperature: float, mu: float) -> None:
        build(temperature, mu)
        watch_parts(clock, rung)

    rung._build = built


def run(simulation: Simulation) -> tuple[Clock, float]:
    """The job to its end; mean acceptance of this rank's samples."""
    clock, accepted = Clock(), []
    watch_all(clock, simulation)
    clock.phase = simulation.stage

    def note() -> None:
        if clock.phase == "sample":
            accepted.extend(rung.chains.acceptance.mean().item() for rung in simulation.rungs)
        if simulation.stage != clock.phase:
            clock.turn()
            clock.phase = simulation.stage

    simulation.run(note)
    clock.turn()
    return clock, float(np.mean(accepted))


def show(clock: Clock, world: World) -> None:
    """Print the table. Collective."""
    table = Table(
        "phase",
        "part",
        "seconds",
        "share",
        "calls",
        title="Wall time, mean over ranks; calls of a rank, for all its chains at once",
    )
    means = {
        phase: world.sum(seconds) / world.size for phase, seconds in clock.seconds.items() if phase
    }
    for phase, seconds in means.items():
        for part, taken, calls in zip(PARTS, seconds, clock.calls[phase]):
            if calls or part == REST:
                table.add_row(
                    phase,
                    part,
                    f"{taken:.2f}",
                    f"{taken / seconds.sum():.0%}",
                    f"{calls:.0f}" if calls else "",
                )
        table.add_row(
            phase,
            "all",
            f"{seconds.sum():.2f}",
            f"{seconds.sum() / sum(means.values()).sum():.0%} of the job",
            end_section=True,
        )
    if world.is_root:
        CONSOLE.print(table)


def main() -> None:
    """Run a job and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job")
    parser.add_argument("--samples", type=int, help="of every chain, instead of the job's")
    options = parser.parse_args()
    world = MPIWorld()
    threads, job = prepare_process(), world.on_root(lambda: load_job(options.job, world.size))
    if options.samples:
        job = job.model_copy(
            update={"sampling": job.sampling.model_copy(update={"samples": options.samples})}
        )
    where = device(world)
    ranks = Ranks.of(world, job.sampling.chains, job.sampling.ranks_per_chain, where)
    simulation = Simulation(job, ranks)
    if world.is_root:
        print(
            f"{options.job}: exact weight by {simulation.method} ({simulation.method_reason}); "
            f"{job.sampling.chains} chains on "
            f"{world.size} ranks, {where}, {threads} thread(s) a rank"
        )
    clock, acceptance = run(simulation)
    show(clock, world)
    values = world.sum(np.array([acceptance, clock.seconds["sample"].sum()])) / world.size
    if world.is_root:
        sampling = job.sampling
        kind, each = ("tests", 1) if sampling.method == "slmc" else ("moves", sampling.first_moves)
        rate = each * sampling.samples * sampling.chains / values[1]
        print(
            f"Sampling: {rate:.3g} exact {kind} per second, {rate / world.size:.3g} per rank; "
            f"acceptance {values[0]:.3f}"
        )


if __name__ == "__main__":
    main()
