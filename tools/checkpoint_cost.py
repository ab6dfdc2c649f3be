"""Seconds to write, and to read and check, a checkpoint of a large lattice, against plain writing to the same disk.

    mpirun -n 2 python tools/checkpoint_cost.py [--folder out] [--shape 32 32] [--chains 64] [--configurations 0 80]

Configurations are those of the learning data: spins and forces of each. Medians of five.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hpcslmc import checkpoint
from hpcslmc.parallel import ChainBlock, MPIWorld, World


def seconds(function: Callable[[], object], world: World) -> float:
    """Median time of five calls, all ranks together."""
    times = []
    for _ in range(5):
        world.barrier()
        start = time.perf_counter()
        function()
        world.barrier()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def write_plainly(path: Path, block: bytes, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("out"))
    parser.add_argument("--shape", type=int, nargs=2, default=(32, 32))
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--configurations", type=int, nargs="+", default=(0, 80))
    options = parser.parse_args()
    world = MPIWorld()
    block, sites = ChainBlock.of(world, options.chains), options.shape[0] * options.shape[1]
    rng = np.random.default_rng(world.rank)
    world.on_root(lambda: options.folder.mkdir(parents=True, exist_ok=True))
    folder = Path(world.on_root(lambda: tempfile.mkdtemp(dir=options.folder)))
    path = folder / "checkpoint.h5"
    table = Table("configurations", "MB", "write s", "read s", "write + fsync alone s",
                  title=f"Checkpoint of {options.chains} chains on {options.shape[0]}x{options.shape[1]}, {world.size} ranks")
    for count in options.configurations:
        chains = {"spins": rng.normal(size=(block.count, sites, 3)),
                  "data": {name: rng.normal(size=(block.count, count, sites, 3)) for name in ("spins", "forces")}}
        write = seconds(lambda: checkpoint.save(path, chains, {}, block, world), world)
        read = seconds(lambda: checkpoint.load(path, block, world), world)
        size = path.stat().st_size
        plain = seconds(lambda: write_plainly(folder / "plain", bytes(min(size, 2**20)), size) if world.is_root else None, world)
        table.add_row(str(count), f"{size / 1e6:.1f}", f"{write:.3f}", f"{read:.3f}", f"{plain:.3f}")
    if world.is_root:
        Console(width=120, force_terminal=False).print(table)
        for name in folder.iterdir():
            name.unlink()
        folder.rmdir()


if __name__ == "__main__":
    main()
