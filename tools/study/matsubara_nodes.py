"""What the compressed Matsubara sum needs and costs: nodes and certified errors, of the sums for
energy and density too; with --speed, one log W on one core.

    python tools/study/matsubara_nodes.py [--speed 16 32 64]

Rounding is the largest difference between the compressed sum in double and in extended precision,
per eigenvalue.
"""

import argparse
import math
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream
from hpcslmc.weight.density_sum import DENSITY_FREQUENCIES, LARGEST_ERROR, density_sum
from hpcslmc.weight.matsubara import Matsubara
from hpcslmc.weight.nodes import energy_sum, matsubara_nodes, model_tolerance

CONSOLE = Console(width=160, force_terminal=False)
REACHES = (0.1, 1.0, 10.0, 30.0, 90.0, 100.0, 300.0, 500.0, 1000.0, 3000.0, 10000.0, 13000.0)
TOLERANCES = {
    "1e-11 per eigenvalue": lambda reach: 1e-11,
    "3e-13 per eigenvalue": lambda reach: 3e-13,
    "a 128x128 lattice": lambda reach: model_tolerance(reach, 2 * 128**2),
}


def rounding(frequencies: np.ndarray, weights: np.ndarray, reach: float) -> float:
    """Largest difference between the sum in double and in extended precision, on a grid."""
    e = np.geomspace(1e-3 * reach, reach, 5000)[:, None]
    double = np.log1p((e / frequencies) ** 2) @ weights
    extended = np.log1p((e.astype(np.longdouble) / frequencies) ** 2) @ weights.astype(
        np.longdouble
    )
    return float(np.abs(double - extended).max())


def nodes_table() -> None:
    """K, errors and rounding against beta R."""
    for name, tolerance in TOLERANCES.items():
        table = Table(
            "beta R",
            "K",
            "error",
            "error of f",
            "rounding",
            "largest weight",
            "w_K / R",
            "seconds",
            "error of\nenergy / T",
            "its largest\nweight",
            "the same at\nany filling",
            "error of\nthe density",
            "sites with\nfour more",
            title=f"Nodes for the tolerance of {name}",
        )
        for reach in REACHES:
            start = time.perf_counter()
            try:
                nodes = matsubara_nodes(1.0, reach, tolerance(reach))
            except ValueError as error:
                CONSOLE.print(f"beta R = {reach:g}: {error}")
                continue
            seconds = time.perf_counter() - start
            energies = energy_sum(nodes, 1.0, reach)
            everywhere = energy_sum(nodes, 1.0, reach, DENSITY_FREQUENCIES)
            small = Ensemble(Hamiltonian(Lattice((2, 2)), reach / 4.0, 0.0), 1.0, 0.0)
            densities = density_sum(nodes, small)
            table.add_row(
                f"{reach:g}",
                str(len(nodes.weights)),
                f"{nodes.error:.1e}",
                f"{nodes.derivative_error:.1e}",
                f"{rounding(nodes.frequencies, nodes.weights, reach):.1e}",
                f"{nodes.weights.max():.4g}",
                f"{nodes.frequencies[-1] / reach:.2f}",
                f"{seconds:.2f}",
                f"{energies.error:.1e}",
                f"{max(np.abs(energies.node_weights).max(), np.abs(energies.weights).max()):.1e}",
                f"{everywhere.error:.1e}",
                f"{densities.error:.1e}",
                f"{LARGEST_ERROR / (2.0 * densities.argument_error):.0f}",
            )
        CONSOLE.print(table)


def speed_table(lengths: list[int]) -> None:
    """CPU seconds of one log W at J = 1, mu = 0, beta = 20, and the growth exponent in N."""
    table = Table(
        "L",
        "K",
        "set-up / s",
        "per shift / ms",
        "log W / s",
        "exponent in N",
        title="log W by MUMPS, one chain",
    )
    previous = None
    for length in lengths:
        start = time.process_time()
        weight = Matsubara(Ensemble(Hamiltonian(Lattice((length, length)), 1.0, 1.0), 20.0, 0.0))
        spins = Stream(1, torch.arange(1), "speed").directions(length * length)
        weight.log_weight(spins)  # the first one analyses the pattern
        set_up, times = time.process_time() - start, []
        for _ in range(5 if length < 128 else 2):
            start = time.process_time()
            weight.log_weight(spins)
            times.append(time.process_time() - start)
        shift = min(times) / len(weight.nodes.weights)
        exponent = (
            ""
            if previous is None
            else f"{math.log(shift / previous[1]) / (2 * math.log(length / previous[0])):.2f}"
        )
        table.add_row(
            str(length),
            str(len(weight.nodes.weights)),
            f"{set_up:.3f}",
            f"{1e3 * shift:.2f}",
            f"{min(times):.4f}",
            exponent,
        )
        previous = length, shift
    CONSOLE.print(table)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--speed", type=int, nargs="*", default=[], metavar="L", help="lattice lengths to time"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    nodes_table()
    if arguments.speed:
        speed_table(arguments.speed)


if __name__ == "__main__":
    main()
