"""Samples per second of all ranks together against one rank alone with as many chains a rank, and the traffic between ranks while sampling.

    mpirun -n 2 python -m mpi4py tools/weak_scaling.py [--samples 10] [--blocks 9]

Every sampler is brought to its sampling phase twice, by the root alone and by all ranks, with hasty learning: a move takes as long whatever
the model is worth. Then blocks of samples are timed in turn, so that a machine whose speed drifts does not matter; medians of the ratios
are shown, with the smallest and the largest. No checkpoints are written.
"""

import argparse
import statistics
import time
from collections import Counter

from rich.console import Console
from rich.table import Table
from variants import ROOT, variant

from hpcslmc.config import Job, load_job
from hpcslmc.parallel import MPIWorld, Watch, World, limit_threads
from hpcslmc.simulation import Simulation

HASTE = {"thermalisation": {"moves": 10}, "learning": {"rounds": 1, "configurations": 4, "steps": 10, "validation_fraction": 0.25}}
SAMPLERS = {
    "6x6, SLMC, attention": (6, 16, {"effective": {"model": "attention", "layers": 3, "shells": 6}}),
    "12x12, SLMC, linear": (12, 8, {"effective": {"model": "linear", "layers": None, "shells": 6}}),
    "12x12, exact HMC": (12, 8, {"sampling": {"method": "exact", "moves": 1}}),
    "12x12, exact Metropolis": (12, 4, {"sampling": {"method": "exact", "exact_move": "metropolis", "moves": 1}}),
    "16x16, SLMC, messages": (16, 4, {"effective": {"model": "messages", "layers": 1, "channels": 8, "shells": 14}}),
}
"""Length of the lattice, chains a rank and what differs from the benchmark's job."""
COLLECTIVE = ("broadcast", "all_of", "sum", "sum_tensor", "maximum", "gather", "barrier")


def sampling(base: Job, world: World, name: str) -> Simulation:
    """A simulation at the beginning of its sampling phase. Collective over its own ranks."""
    length, chains, changes = SAMPLERS[name]
    made = HASTE | changes | {"lattice": {"shape": (length, length)}}
    made["learning"] = HASTE["learning"] | {"batch_size": chains * world.size}
    made["sampling"] = changes.get("sampling", {}) | {"chains": chains * world.size, "samples": 10**6}
    simulation = Simulation(variant(base, made, ROOT / "out"), world)
    while simulation.stage != "sample":
        simulation.advance()
    return simulation


def block_s(simulation: Simulation, watch: Watch, samples: int, world: World, taking_part: bool) -> float:
    """Seconds of some samples of every chain; ranks that take no part wait. Collective."""
    world.barrier()
    start = time.perf_counter()
    if taking_part:
        for _ in range(samples):
            simulation.advance()
            watch.decide()
    world.barrier()
    return time.perf_counter() - start


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10, help="of every chain in a block")
    parser.add_argument("--blocks", type=int, default=9)
    options = parser.parse_args()
    limit_threads()
    ranks = MPIWorld()
    base = load_job(str(ROOT / "jobs/benchmark_6x6.toml"), ranks.size)
    table = Table("sampler", "chains\na rank", "one rank,\nsamples / s", f"{ranks.size} ranks,\nsamples / s", "ratio", "smallest, largest",
                  "collective calls in\nall timed samples", title="Weak scaling of the sampling phase")
    for name, (_, chains, _) in SAMPLERS.items():
        together = sampling(base, MPIWorld(), name)
        alone = sampling(base, World(), name) if ranks.is_root else None
        watches = [Watch(World(), 300.0), Watch(together.world, 300.0)]
        times, calls = [], Counter()
        for block in range(options.blocks + 1):
            one = block_s(alone, watches[0], options.samples, ranks, ranks.is_root)
            many = block_s(together, watches[1], options.samples, ranks, True)
            if block:
                times.append((one, many))
            else:
                calls = count_calls(together.world)
        ratios = [ranks.size * one / many for one, many in times]
        samples = options.samples * chains
        table.add_row(name, str(chains), f"{samples / statistics.median(one for one, _ in times):.3g}",
                      f"{samples * ranks.size / statistics.median(many for _, many in times):.3g}", f"{statistics.median(ratios):.2f}",
                      f"{min(ratios):.2f}, {max(ratios):.2f}", ", ".join(f"{count} {call}" for call, count in calls.items()) or "none")
    if ranks.is_root:
        Console(width=140, force_terminal=False).print(table)


if __name__ == "__main__":
    main()
