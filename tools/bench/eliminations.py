"""Determinants and inverses at one frequency: by rows of the lattice against nested dissection.

    python tools/bench/eliminations.py [--lengths 8 12 16 20 24 32 48 64] [--chains 8]

On the first GPU where there is one, else on one core; J = 1, mu = 0, random spins, w = pi T at T =
0.05. Times are medians of repetitions in turn. Shares are rates, by the operations that each
elimination counts, over that of a large product of complex matrices in the same precision.
Differences of log|det| are those of dissection from rows in double precision.
"""

import argparse
import math

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from timing import alternate, matmul_rate, median_ratio

from hpcslmc.parallel.hardware import device, prepare_process
from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream
from hpcslmc.weight.elimination import Elimination
from hpcslmc.weight.multifrontal import Multifrontal
from hpcslmc.weight.rows import Rows

CONSOLE = Console(width=150, force_terminal=False)
FREQUENCY, ONE = np.array([0.05 * math.pi]), np.ones(1)
PRECISIONS = {"double": torch.complex128, "single": torch.complex64}


def rates(table: Table, length: int, chains: int, where: str) -> None:
    """Add the rows of one lattice."""
    hamiltonian = Hamiltonian(Lattice((length, length)), 1.0, 1.0, where)
    chains = max(1, min(chains, 2048 // length))
    spins = Stream(1, torch.arange(chains, device=where), "spins").directions(length**2)
    exact: torch.Tensor | None = None
    for precision, dtype in PRECISIONS.items():
        rows, fronts = (kind(hamiltonian, 0.0, World(), dtype) for kind in (Rows, Multifrontal))
        for inverse in (False, True):

            def work(elimination: Elimination, inverse: bool = inverse) -> torch.Tensor:
                if inverse:
                    return elimination.inverses(spins, FREQUENCY, ONE, ONE).log_dets
                return elimination.log_dets(spins, FREQUENCY)

            times = alternate({"rows": lambda: work(rows), "fronts": lambda: work(fronts)})
            seconds = {name: np.median(taken) / chains for name, taken in times.items()}
            shares = [
                4.0 * kind.operations(inverse) / seconds[name] / matmul_rate(where, dtype)
                for name, kind in (("rows", rows), ("fronts", fronts))
            ]
            exact = work(rows) if exact is None else exact
            table.add_row(
                f"{length}x{length}",
                precision,
                "det and inverse" if inverse else "det",
                *(f"{1e3 * seconds[name]:.3g}" for name in ("rows", "fronts")),
                f"{median_ratio(times['rows'], times['fronts']):.2f}",
                f"{rows.operations(inverse) / fronts.operations(inverse):.2f}",
                *(f"{share:.2f}" for share in shares),
                f"{float((work(fronts) - exact).abs().max()):.0e}",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8, 12, 16, 20, 24, 32, 48, 64])
    parser.add_argument("--chains", type=int, default=8, help="fewer on large lattices")
    options = parser.parse_args()
    prepare_process()
    table = Table(
        "lattice",
        "precision",
        "",
        "rows / ms",
        "dissection / ms",
        "ratio",
        "of operations",
        "share, rows",
        "share, dissection",
        "difference of log|det|",
    )
    for length in options.lengths:
        rates(table, length, options.chains, device(World()))
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
