"""Time and error of every exact weight against LAPACK's eigenvalues, by lattice size, on one core.

    python tools/weights.py [--lengths 6 8 12 16 24 32] [--beta 20] [--chains 2]

Dense diagonalisation is measured up to 32x32 and extrapolated cubically beyond (marked ~). Errors are the largest
difference of log W from dense diagonalisation; above 32x32, of matsubara from blocks.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hpcslmc.hamiltonian import Hamiltonian
from hpcslmc.lattice import Lattice
from hpcslmc.parallel import World, limit_threads
from hpcslmc.streams import Stream
from hpcslmc.weight import make_weight

LARGEST_DENSE = 32
LARGEST_BLOCKS = 64


def seconds(function: Callable[[], object], chains: int) -> float:
    """Median time per chain, of three calls after a warm-up; of one call where that takes long."""
    start = time.perf_counter()
    function()
    first = time.perf_counter() - start
    if first > 5.0:
        return first / chains
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / chains


def measure(length: int, beta: float, chains: int, dense_s: float | None) -> tuple[list[str], dict[str, float]]:
    """A row of the table, and seconds per log W by method."""
    hamiltonian = Hamiltonian(Lattice((length, length)), 1.0, 1.0)
    chains = chains if length <= 24 else 1
    spins = Stream(1, torch.arange(chains), "weights").directions(length * length)
    times, values = {}, {}
    methods = [m for m, largest in (("diagonalise", LARGEST_DENSE), ("blocks", LARGEST_BLOCKS), ("matsubara", math.inf))
               if length <= largest]
    for method in methods:
        weight = make_weight(method, hamiltonian, beta, 0.0, World())
        times[method] = seconds(lambda: weight.log_weight(spins), chains)
        values[method] = weight.log_weight(spins)
        if method != "matsubara":
            times[method + " + forces"] = seconds(lambda: weight.log_weight_and_forces(spins), chains)
    numpy_s = math.inf
    if "diagonalise" in methods:
        matrices = hamiltonian.dense(spins).numpy()
        numpy_s = seconds(lambda: np.linalg.eigvalsh(matrices), chains)
    lapack = min(numpy_s, times.get("diagonalise", math.inf))
    mark = "" if math.isfinite(lapack) else "~"
    if mark:
        lapack = dense_s * (length / LARGEST_DENSE) ** 6
    fastest = min(times[m] for m in methods)
    reference = values[methods[0]]
    errors = [f"{float((values[m] - reference).abs().max()):.0e}" for m in methods[1:]]
    shown = [times.get(c) for c in ("diagonalise", "blocks", "matsubara", "diagonalise + forces", "blocks + forces")]
    cells = [f"{length}x{length}", f"{mark}{1e3 * lapack:.3g}", *("" if t is None else f"{1e3 * t:.3g}" for t in shown),
             f"{mark}{lapack / fastest:.1f}", " ".join(errors)]
    return cells, {**{m: times[m] for m in methods}, "lapack": lapack}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[6, 8, 12, 16, 24, 32, 48, 64, 96, 128])
    parser.add_argument("--beta", type=float, default=20.0)
    parser.add_argument("--chains", type=int, default=2)
    options = parser.parse_args()
    print(f"{limit_threads()} thread(s), beta = {options.beta:g}")
    table = Table("lattice", "best LAPACK", "diagonalise", "blocks", "matsubara", "diagonalise\n+ forces", "blocks\n+ forces",
                  "LAPACK /\nfastest", "errors", title="ms per configuration")
    found, dense_s = {}, None
    for length in options.lengths:
        cells, found[length] = measure(length, options.beta, options.chains, dense_s)
        if length == LARGEST_DENSE:
            dense_s = found[length]["lapack"]
        table.add_row(*cells)
    console = Console(width=120, force_terminal=False)
    console.print(table)
    for method in ("blocks", "matsubara"):
        points = [(2 * math.log(length), math.log(times[method])) for length, times in found.items()
                  if length >= 32 and method in times]
        if len(points) >= 2:
            print(f"{method}: time grows as N^{np.polyfit(*zip(*points), 1)[0]:.2f} from 32x32 on")


if __name__ == "__main__":
    main()
