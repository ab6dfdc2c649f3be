"""Seconds to write, and to read and check, a checkpoint of a large lattice, against plain writing
to the same disk.

    mpirun -n 2 python tools/bench/checkpoint_cost.py [--folder out] [--shape 32 32]
    [--chains 64] [--configurations 0 80]
    mpirun -n 2 python tools/bench/checkpoint_cost.py --gib 4.4 [--folder out]
    [--shape 32 32] [--chains 64]

Configurations are those of the learning data: spins and forces of each. Medians.

With --gib, the memory that checkpoints of so many GiB take instead: of one array, and of a job
whose learning has collected as much. What is written is read again, and the job resumed from it.
Memory is the largest that a rank had resident beyond what it had before, in units of its part of
the arrays. The exit code is 1 if anything differs or takes 1.5 of them.
"""

import argparse
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from timing import medians

from hpcslmc.density import Evaluation
from hpcslmc.job.load import make_job
from hpcslmc.learning.data import DataSet
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.world import MPIWorld, World
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.storage import checkpoint

MOST_MEMORY = 1.5
"""In units of the arrays."""


def write_plainly(path: Path, block: bytes, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def resident(which: str) -> int:
    """Bytes of this process in memory now (VmRSS) or at most so far (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) << 10
    raise KeyError(which)


class Costs:
    """Time and memory of what is done to this rank's part of some arrays, and whether they came
    back as they were.

    Parameters
    ----------
    world : World
    """

    def __init__(self, world: World) -> None:
        self.world, self.fine = world, True
        self.table = Table(
            "checkpoint of",
            "what",
            "GiB of a rank",
            "s",
            "memory of a rank / its arrays",
            "as before",
            title=f"Memory of checkpoints, {world.size} ranks",
        )

    def of(
        self,
        kind: str,
        what: str,
        size: int,
        function: Callable[[], object],
        same: Callable[[object], bool],
    ) -> None:
        """Add a line. Collective."""
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here
        before, began = resident("VmRSS"), time.perf_counter()
        result = function()
        took, memory = time.perf_counter() - began, (resident("VmHWM") - before) / size
        memory, took, differs = self.world.maximum(
            np.array([memory, took, not same(result)], float)
        ).tolist()
        self.fine &= memory < MOST_MEMORY and not differs
        self.table.add_row(
            kind,
            what,
            f"{size / 2**30:.2f}",
            f"{took:.1f}",
            f"{memory:.2f}",
            "no" if differs else "yes",
        )


def checksums(data: DataSet) -> list[int]:
    return [zlib.crc32(array.numpy()) for array in data.stacked()]


def large_job(shape: list[int], chains: int, size: int, world: World) -> Simulation:
    """A job that has explored until its configurations take so many bytes; they are drawn at random
    instead.
    """
    configurations = max(1, size // (chains * shape[0] * shape[1] * 2 * 3 * 8))
    job = make_job(
        {
            "lattice": {"shape": shape},
            "ensemble": {"temperature": 0.1},
            "weight": {"method": "diagonalise"},
            "effective": {"model": "linear"},
            "learning": {"configurations": configurations + 1},
            "sampling": {"chains": chains},
        }
    )
    simulation = Simulation(job, Ranks.of(world, chains))
    rung, sites = simulation.rungs[0], shape[0] * shape[1]
    count = simulation.ranks.block.count
    random = torch.Generator().manual_seed(world.rank)
    known = [
        torch.rand(count, *of, generator=random, dtype=torch.float64)
        for of in ((), (sites, 3), (), ())
    ]
    _, simulation.phase, *_ = simulation.phases
    rung.chains = replace(rung.chains, evaluation=Evaluation(*known))
    for _ in range(configurations):
        forces = torch.rand(count, sites, 3, generator=random, dtype=torch.float64)
        rung.learning.data.add(forces.clone(), Evaluation(known[0], forces))
    rung.learning.evaluations = configurations
    return simulation


def memory(folder: Path, shape: list[int], chains: int, size: int, world: World) -> bool:
    """Print what checkpoints of so many bytes take; whether all is as it should be."""
    costs, path, block = Costs(world), folder / "checkpoint.h5", ChainBlock.of(world, chains)
    array = np.random.default_rng(world.rank).random((block.count, size // chains // 8))
    own, before = array.nbytes, zlib.crc32(array)
    costs.of(
        "one array",
        "write, read back",
        own,
        lambda: checkpoint.save(path, {"array": array}, {}, block, world),  # noqa: F821
        lambda _: True,
    )
    del array
    costs.of(
        "one array",
        "read",
        own,
        lambda: checkpoint.load(path, block, world)[0]["array"],
        lambda read: zlib.crc32(read.numpy()) == before,
    )
    simulation = large_job(shape, chains, size, world)
    job, data = simulation.job, simulation.rungs[0].learning.data
    costs.of(
        "a job's learning",
        "write, read back",
        own,
        lambda: simulation.save(path, {}),  # noqa: F821
        lambda _: True,
    )
    before = checksums(data)
    del simulation, data
    costs.of(
        "a job's learning",
        "resume",
        own,
        lambda: Simulation(job, Ranks.of(world, job.sampling.chains), path).rungs[0].learning.data,
        lambda read: checksums(read) == before,
    )
    if world.is_root:
        Console(width=120, force_terminal=False).print(costs.table)
    return costs.fine


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("out"))
    parser.add_argument("--shape", type=int, nargs=2, default=(32, 32))
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--configurations", type=int, nargs="+", default=(0, 80))
    parser.add_argument("--gib", type=float)
    options = parser.parse_args()
    world, fine = MPIWorld(), True
    block, sites = ChainBlock.of(world, options.chains), options.shape[0] * options.shape[1]
    rng = np.random.default_rng(world.rank)
    world.on_root(lambda: options.folder.mkdir(parents=True, exist_ok=True))
    folder = Path(world.on_root(lambda: tempfile.mkdtemp(dir=options.folder)))
    if options.gib:
        fine = memory(folder, list(options.shape), options.chains, int(options.gib * 2**30), world)
        options.configurations = ()
    path = folder / "checkpoint.h5"
    table = Table(
        "configurations",
        "MB",
        "write s",
        "read s",
        "write + fsync alone s",
        title=(
            f"Checkpoint of {options.chains} chains on {options.shape[0]}x{options.shape[1]}, "
            f"{world.size} ranks"
        ),
    )
    for count in options.configurations:
        chains = {
            "spins": rng.normal(size=(block.count, sites, 3)),
            "data": {
                name: rng.normal(size=(block.count, count, sites, 3))
                for name in ("spins", "forces")
            },
        }
        calls = {
            "write": lambda: checkpoint.save(path, chains, {}, block, world),
            "read": lambda: checkpoint.load(path, block, world),
        }
        seconds = medians(calls, world, together=("write", "read"))
        size = path.stat().st_size
        block_of_zeros = bytes(min(size, 2**20))
        calls = {"plain": lambda: write_plainly(folder / "plain", block_of_zeros, size)}
        seconds |= medians(calls, world)
        table.add_row(
            str(count), f"{size / 1e6:.1f}", *(f"{taken:.3f}" for taken in seconds.values())
        )
    if world.is_root:
        if options.configurations:
            Console(width=120, force_terminal=False).print(table)
        for name in folder.iterdir():
            name.unlink()
        folder.rmdir()
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
