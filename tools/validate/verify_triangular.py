"""Chiral magnetism on the triangular lattice against an independent program, or another start.

    python tools/validate/verify_triangular.py [--length 6] [--samples 400] [--chains 16]

Runs with defaults, t = 1, J = 16, T = 1/75, exchange K = 0.1. At 6x6 the reference values come
from exact Metropolis of another program; the paper that first simulated the model (G.-P. Zhang et
al., 2011, by a truncated expansion) has n = 0.9146, S(K)/N = 0.464, and n = 0.5, S(M)/N = 0.29.
About two minutes. At other even lengths mu = -8 alone, against exact HMC that starts from the
tetrahedral order: what has forgotten whether it started from order or from free spins is
thermal. 12x12: half an hour. Exit code 1 if anything differs by more than three standard errors.
"""

import argparse
import math
import sys
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.results import Results
from hpcslmc.analysis.statistics import bracket
from hpcslmc.api import run_job
from hpcslmc.job.load import make_job
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.simulation.build import required
from hpcslmc.simulation.collect import collect
from hpcslmc.simulation.simulation import Simulation

Values = dict[str, tuple[float, float]]

REFERENCE: dict[float, Values] = {  # value, standard error; that of rounding where none is given
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
REFERENCE_LENGTH = 6
SIGMA = 3.0
DISORDER = 0.05
"""Free spins that are added to the order at the start."""


def job_of(length: int, mu: float, **sampling: object) -> dict:
    return {
        "lattice": {"name": "triangular", "shape": [length, length]},
        "hamiltonian": {"J": 16.0, "mu": mu},
        "classical": {"exchange": [0.1]},
        "ensemble": {"temperature": 1.0 / 75.0},
        "sampling": sampling,
    }


def value(results: Results, name: str) -> tuple[float, float]:
    """Mean and standard error of an observable."""
    mean, error = (float(np.ravel(results.summary.of(name, c))[0]) for c in ("mean", "error"))
    return mean, error


def from_order(length: int, mu: float, chains: int, samples: int) -> Values:
    """Observables by exact HMC alone, whose chains start from tetrahedral order."""
    prepare_process()
    job = make_job(job_of(length, mu, chains=chains, samples=samples, method="exact"))
    simulation = Simulation(job)
    rung = simulation.rungs[0]
    signs = 1.0 - 2.0 * (torch.cartesian_prod(*[torch.arange(length)] * 2) % 2)
    order = torch.cat((signs, signs.prod(1, keepdim=True)), 1).double() / math.sqrt(3.0)
    spins = order + DISORDER * rung.chains.spins
    spins /= spins.norm(dim=-1, keepdim=True)
    rung.chains = replace(rung.chains, spins=spins, evaluation=rung.exact.evaluate(spins))
    simulation.run()
    results = required(collect(simulation, {}))
    # in the gap the density is 1/2 without fluctuations
    return {name: value(results, name) for name in REFERENCE[mu] if name != "density"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=REFERENCE_LENGTH)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--chains", type=int, default=16)
    options = parser.parse_args()
    length, chains, samples = options.length, options.chains, options.samples
    references = REFERENCE
    if length != REFERENCE_LENGTH:
        references = {-8.0: from_order(length, -8.0, chains, samples)}
    table, problems = Table(title=f"Triangular lattice, {length}x{length}"), 0
    for column in ("mu", "observable", "here", "reference", "z"):
        table.add_column(column)
    for mu, expected in references.items():
        results = run_job(job_of(length, mu, chains=chains, samples=samples), show=True)
        for name, (known, uncertainty) in expected.items():
            mean, error = value(results, name)
            z = (mean - known) / math.hypot(error, uncertainty)
            problems += not abs(z) < SIGMA
            table.add_row(
                f"{mu:g}", name, bracket(mean, error), bracket(known, uncertainty), f"{z:.1f}"
            )
    Console(width=100).print(table)
    print(f"{problems} problems")
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
