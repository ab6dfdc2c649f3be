"""Speed on one core: exact evaluations against numpy, exact sweeps and inner moves.

    python tools/bench/speed.py [--chains 32]

Ratios are medians over alternating repetitions in one run, so that a machine whose speed drifts
does not matter.
"""

import argparse
import statistics

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from timing import alternate, matmul_rate, median_ratio, medians

from hpcslmc.effective import Architecture, FreeElectrons, Physics, make_model
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import Metropolis, make_move
from hpcslmc.streams import Stream
from hpcslmc.weight.diagonalise import Diagonalise
from hpcslmc.weight.greens import GreensFunctions

CONSOLE = Console(width=120, force_terminal=False)


def exact_evaluations(chains: int) -> None:
    """log W by torch against numpy.linalg.eigvalsh on the same matrices."""
    peak = matmul_rate() / 1e9
    table = Table(
        "lattice",
        "matrix",
        "numpy eigvalsh / s",
        "log W / s",
        "ratio",
        "with forces / s",
        "Gflop/s",
        "of matmul",
        title=f"Exact evaluations per second on one core, {chains} chains at once "
        f"(complex matrix product: {peak:.0f} Gflop/s)",
    )
    for length in (6, 8, 12, 16):
        weight = Diagonalise(Ensemble(Hamiltonian(Lattice((length, length)), 1.0, 1.0), 20.0, 0.0))
        count = chains if length < 12 else 4
        spins = Stream(1, torch.arange(count), "speed").directions(length * length)
        matrices = weight.hamiltonian.dense(spins).numpy()
        times = alternate(
            {
                "numpy": lambda: np.linalg.eigvalsh(matrices),
                "log W": lambda: weight.evaluate(spins),
                "forces": lambda: weight.evaluate(spins, forces=True),
            }
        )
        numpy_s, log_weight_s, forces_s = (statistics.median(t) / count for t in times.values())
        ratio = median_ratio(times["numpy"], times["log W"])
        n = 2 * length * length
        # real operations of a Hermitian tridiagonal reduction
        rate = 16 / 3 * n**3 / log_weight_s / 1e9
        table.add_row(
            f"{length}x{length}",
            str(n),
            f"{1 / numpy_s:.0f}",
            f"{1 / log_weight_s:.0f}",
            f"{ratio:.2f}",
            f"{1 / forces_s:.0f}",
            f"{rate:.1f}",
            f"{rate / peak:.0%}",
        )
    CONSOLE.print(table)


def inner_moves(chains: int) -> None:
    """Moves under the effective models of the benchmark."""
    lattice = Lattice((6, 6))
    spins = Stream(1, torch.arange(chains), "speed").directions(lattice.sites)
    table = Table(
        "model",
        "move",
        "moves / s",
        "ms per batch",
        "log W_eff and forces, ms per batch",
        title=f"Inner moves on one core, 6x6, {chains} chains at once",
    )
    for name, layers in (
        ("linear", 0),
        ("attention", 1),
        ("attention", 3),
        ("cnn", 3),
        ("messages", 1),
    ):
        model = make_model(
            Architecture(
                name,
                {"shells": lattice.shells[:6].tolist(), "layers": layers, "channels": 8},
                Physics(FreeElectrons(1.0, 0.0, 20.0), 1.0),
            ),
            lattice,
        )
        model.initialise(Stream(1, torch.zeros(1, dtype=torch.int64), "parameters"))
        for kind in ("hmc", "metropolis"):
            move = make_move(kind, model, Stream(1, torch.arange(chains), kind), trajectory=1.5)
            if kind == "hmc":
                move.step_size = 0.4
            evaluation = move.evaluate(spins)
            move_s, force_s = medians(
                {
                    "move": lambda: move.move(spins, evaluation),
                    "forces": lambda: model.evaluate(spins, forces=True),
                }
            ).values()
            table.add_row(
                f"{name}, {layers} layers" if layers else name,
                f"hmc, {move.steps} steps" if kind == "hmc" else "metropolis, 1 sweep",
                f"{chains / move_s:.0f}",
                f"{1e3 * move_s:.1f}",
                f"{1e3 * force_s:.2f}",
            )
    CONSOLE.print(table)


def local_sweeps(chains: int) -> None:
    """A Metropolis sweep of the exact weight by Green's functions, against one diagonalisation a
    site.
    """
    table = Table(
        "lattice",
        "by Green's functions, ms",
        "by diagonalisation, ms",
        "ratio",
        "in diagonalisations",
        title=(
            "Exact Metropolis sweeps on one core, ms per chain (from 8x8: N times one "
            f"diagonalisation), {chains} chains at once"
        ),
    )
    for length in (2, 4, 6, 8, 12, 16):
        hamiltonian, sites = Hamiltonian(Lattice((length, length)), 1.0, 1.0), length * length
        weight = Diagonalise(Ensemble(hamiltonian, 20.0, 0.0))
        index = torch.arange(chains if length < 12 else 2)
        spins = Stream(1, index, "speed").directions(sites)
        evaluation = weight.evaluate(spins)
        local, full = (
            Metropolis(weight, Stream(1, index, "sweep"), 0.5, greens)
            for greens in (GreensFunctions(Ensemble(hamiltonian, 20.0, 0.0)), None)
        )
        by_sites = length < 8
        seconds = medians(
            {
                "local": lambda: local.move(spins, evaluation),
                "full": lambda: by_sites and full.move(spins, evaluation),
                "once": lambda: weight.evaluate(spins),
            }
        )
        local_s, full_s, once_s = (taken / len(index) for taken in seconds.values())
        full_s = full_s if by_sites else sites * once_s
        table.add_row(
            f"{length}x{length}",
            f"{1e3 * local_s:.3g}",
            f"{1e3 * full_s:.3g}",
            f"{full_s / local_s:.1f}",
            f"{local_s / once_s:.1f}",
        )
    CONSOLE.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chains", type=int, default=32)
    options = parser.parse_args()
    print(f"{prepare_process()} thread(s)")
    exact_evaluations(options.chains)
    local_sweeps(options.chains)
    inner_moves(options.chains)
