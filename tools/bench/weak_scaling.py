"""Samples per second of all ranks at work together against those of each rank at work alone, and
the traffic between ranks while sampling.

    mpirun -n 2 python -m mpi4py tools/bench/weak_scaling.py [--seconds 2.0] [--blocks 9]

Every sampler is brought to its sampling phase twice, by every rank for itself and by all ranks
together, with as many chains a rank and with hasty learning: a move takes as long whatever the
model is worth, and models and step sizes are made the same. Then blocks of samples are timed in
turn, one rank after the other while the others sleep and all together, so that neither a machine
whose speed drifts nor a rank that has a slower core matters. A ratio is the samples per second of
all ranks over the mean of one; medians are shown, with the smallest and the largest. No checkpoints
are written.
"""

import argparse
import statistics
import time
from collections import Counter
from pathlib import Path

from mpi4py import MPI
from rich.console import Console
from rich.table import Table

from hpcslmc.cli.launch import variant
from hpcslmc.job.load import load_job
from hpcslmc.job.schema import Job
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.watch import Watch
from hpcslmc.parallel.world import MPIWorld, World
from hpcslmc.sampling import Move
from hpcslmc.simulation.simulation import Simulation

ROOT = Path(__file__).resolve().parents[2]
HASTE = {
    "thermalisation": {"moves": 10},
    "learning": {"rounds": 1, "configurations": 4, "steps": 10, "validation_fraction": 0.25},
}
SAMPLERS = {
    "6x6, SLMC, attention": (
        6,
        16,
        {"effective": {"model": "attention", "layers": 3, "shells": 6}},
    ),
    "12x12, SLMC, linear": (12, 8, {"effective": {"model": "linear", "shells": 6}}),
    "12x12, exact HMC": (12, 8, {"sampling": {"method": "exact", "moves": 1}}),
    "12x12, exact Metropolis": (
        12,
        4,
        {"sampling": {"method": "exact", "exact_move": "metropolis", "moves": 1}},
    ),
    "16x16, SLMC, messages": (
        16,
        4,
        {"effective": {"model": "messages", "layers": 1, "channels": 8, "shells": 14}},
    ),
}
"""Length of the lattice, chains a rank and what differs from the benchmark's job."""
COLLECTIVE = ("broadcast", "all_of", "sum", "sum_tensor", "maximum", "gather", "barrier")


def sampling(base: Job, world: World, name: str) -> Simulation:
    """A simulation at the beginning of its sampling phase. Collective over its own ranks."""
    length, chains, changes = SAMPLERS[name]
    made = HASTE | changes | {"lattice": {"shape": (length, length)}}
    made["learning"] = HASTE["learning"] | {"batch_size": chains * world.size}
    made["sampling"] = changes.get("sampling", {}) | {
        "chains": chains * world.size,
        "samples": 10**6,
    }
    job = variant(base, made, ROOT / "out")
    simulation = Simulation(job, Ranks.of(world, job.sampling.chains))
    simulation.run(lambda: simulation.stage == "sample")
    return simulation


def tune_alike(simulation: Simulation, other: Simulation) -> None:
    """Give one simulation the step sizes and the model of another."""
    for mine, theirs in zip(moves(simulation), moves(other), strict=True):
        mine.load_state_dict(theirs.state_dict() | {"stream": mine.stream.state_dict()})
    for mine, theirs in zip(simulation.rungs, other.rungs, strict=True):
        if mine.learning:
            mine.learning.model.load_state_dict(theirs.learning.model.state_dict())


def moves(simulation: Simulation) -> list[Move]:
    """What a simulation has tuned."""
    (rung,) = simulation.rungs
    return [rung.exact, rung.learning.slmc.inner] if rung.learning else [rung.exact]


def wait_for_all(ranks: MPI.Comm) -> None:
    """A barrier that leaves the cores of those that wait to the others."""
    request = ranks.Ibarrier()
    while not request.Test():
        time.sleep(1e-3)


def rate(simulation: Simulation, watch: Watch, samples: int) -> float:
    """Samples of a chain per second, timed over some. Collective over the simulation's ranks."""
    start = time.perf_counter()
    for _ in range(samples):
        simulation.advance()
        watch.decide()
    return samples / (time.perf_counter() - start)


def block(
    ranks: MPI.Comm,
    alone: tuple[Simulation, Watch],
    together: tuple[Simulation, Watch],
    samples: int,
) -> tuple[float, float]:
    """Samples of a chain per second.

    Of one rank at a time, averaged over the ranks, and of all ranks together. Collective.
    """
    by_itself = 0.0
    for rank in range(ranks.size):
        wait_for_all(ranks)
        if rank == ranks.rank:
            by_itself = rate(*alone, samples)
    wait_for_all(ranks)
    shared = rate(*together, samples)
    return ranks.allreduce(by_itself) / ranks.size, ranks.allreduce(shared)


def count_calls(world: World) -> Counter:
    """Calls of the world's collective operations from now on, by name."""
    calls: Counter = Counter()

    def counted(name: str) -> None:
        call = getattr(world, name)

        def counting(*arguments: object) -> object:
            calls[name] += 1
            return call(*arguments)

        setattr(world, name, counting)

    for name in COLLECTIVE:
        counted(name)
    return calls


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of a block, roughly")
    parser.add_argument("--blocks", type=int, default=9)
    options = parser.parse_args()
    prepare_process()
    ranks = MPI.COMM_WORLD
    base = load_job(str(ROOT / "jobs/benchmark_6x6.toml"), ranks.size)
    table = Table(
        "sampler",
        "chains\na rank",
        "one rank,\nsamples / s",
        f"{ranks.size} ranks,\nsamples / s",
        "ratio",
        "smallest, largest",
        "samples\nof a chain",
        "collective calls\nin them",
        title="Weak scaling of the sampling phase",
    )
    for name, (_, chains, _) in SAMPLERS.items():
        together, alone = sampling(base, MPIWorld(), name), sampling(base, World(), name)
        tune_alike(alone, together)
        both = (alone, Watch(World(), 300.0)), (together, Watch(together.ranks.chains, 300.0))
        trial, _ = block(ranks, *both, 4)
        samples = max(4, round(options.seconds * ranks.bcast(trial)))
        calls = count_calls(together.ranks.chains)
        rates = [block(ranks, *both, samples) for _ in range(options.blocks)]
        ratios = [many / one for one, many in rates]
        one, many = (chains * statistics.median(column) for column in zip(*rates, strict=True))
        table.add_row(
            name,
            str(chains),
            f"{one:.3g}",
            f"{many:.3g}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}, {max(ratios):.2f}",
            str(samples * options.blocks),
            ", ".join(f"{count} {call}" for call, count in calls.items()) or "none",
        )
    if ranks.rank == 0:
        Console(width=140, force_terminal=False).print(table)


if __name__ == "__main__":
    main()
