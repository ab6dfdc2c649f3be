"""Chiral magnetism on the triangular lattice against an independent program.

    python tools/validate/verify_triangular.py [--samples 400] [--chains 16]

Two runs with defaults, 6x6, t = 1, J = 16, T = 1/75, exchange K = 0.1. The reference values come
from exact Metropolis of another program; the paper that first simulated the model (G.-P. Zhang et
al., 2011, by a truncated expansion) has n = 0.9146, S(K)/N = 0.464, and n = 0.5, S(M)/N = 0.29.
About two minutes. Exit code 1 if anything differs by more than three standard errors.
"""

import argparse
import math
import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.statistics import bracket
from hpcslmc.api import run_job

REFERENCE = {  # observable: value, standard error, and of rounding where none is given
    -6.0: {
        "density": (0.9144, 3e-4),
        "m2_K": (0.4641, 8e-4),
        "nn_correlation": (-0.4745, 3e-4),
    },
    -8.0: {
        "density": (0.5, 5e-5),
        "m2_M": (0.291, 5e-4),
        "nn_correlation": (-0.310, 3e-3),
        "scalar_chirality_abs": (0.617, 4e-3),
    },
}
SIGMA = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--chains", type=int, default=16)
    options = parser.parse_args()
    table, problems = Table(title="Triangular lattice, 6x6"), 0
    for column in ("mu", "observable", "here", "reference", "z"):
        table.add_column(column)
    for mu, expected in REFERENCE.items():
        results = run_job(
            {
                "lattice": {"name": "triangular", "shape": [6, 6]},
                "hamiltonian": {"J": 16.0, "mu": mu},
                "classical": {"exchange": [0.1]},
                "ensemble": {"temperature": 1.0 / 75.0},
                "sampling": {"chains": options.chains, "samples": options.samples},
            },
            show=True,
        )
        for name, (value, uncertainty) in expected.items():
            mean, error = (
                float(np.ravel(results.summary.of(name, column))[0]) for column in ("mean", "error")
            )
            z = (mean - value) / math.hypot(error, uncertainty)
            problems += not abs(z) < SIGMA
            table.add_row(
                f"{mu:g}", name, bracket(mean, error), bracket(value, uncertainty), f"{z:.1f}"
            )
    Console(width=100).print(table)
    print(f"{problems} problems")
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
