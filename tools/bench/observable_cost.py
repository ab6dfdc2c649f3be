"""What every measurement costs: milliseconds per sample and chain on one core, against one exact
log W.

    python tools/bench/observable_cost.py [--lengths 8 16 32]
    python tools/bench/observable_cost.py --energies --lengths 8 16 24 --J 4 --mu -2

Energy and density have two rows: from an exact log W that is known, as after a test, and with
forces, as weights without a sum for them would take. What needs the spectrum is timed with
eigenvalues and eigenvectors at hand: they are worked out once for all, and have rows of their own.
"""

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from timing import medians
from torch import Tensor

from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.observables import Needs
from hpcslmc.measure.registry import OBSERVABLES, PROFILES, make_observable, make_profile
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream
from hpcslmc.weight import choose_method, make_weight
from hpcslmc.weight.diagonalise import Diagonalise

BETA, ENERGIES = 20.0, 200
CHAINS = {8: 32, 16: 8}


def milliseconds(function: Callable[[], object], chains: int) -> float:
    """Median time of a call, per chain."""
    return 1e3 * medians({"call": function})["call"] / chains


Rows = dict[str, tuple[str, float]]
"""What each row needs, and its milliseconds per chain."""


def costs_of_energies(ensemble: Ensemble, method: str, spins: Tensor) -> Rows:
    """Costs of log W, and of energy and density."""
    chains = len(spins)
    if method == "auto":
        method, _ = choose_method(ensemble, "cpu", 1, False)
    weight = make_weight(method, ensemble, World())
    known = weight.evaluate(spins)
    seconds = medians(
        {
            "log W": lambda: weight.evaluate(spins),
            "energy": lambda: weight.with_energy(spins, known) if known.energy is None else None,
            "forces": lambda: weight.evaluate(spins, forces=True),
        },
        clock=time.process_time,
    )
    taken = {name: 1e3 * each / chains for name, each in seconds.items()}
    return {
        "exact log W": ("", taken["log W"]),
        "energy, density": ("log W", taken["energy"]),
        "exact log W, forces, energy, density": ("", taken["forces"]),
    }


def costs_of_measurements(ensemble: Ensemble, spins: Tensor) -> Rows:
    """Costs of eigenvalues and eigenvectors, and of all measurements."""
    chains, dense = len(spins), Diagonalise(ensemble)
    electrons = Electrons(ensemble, dense.spectrum)
    rows = {
        "all eigenvalues": ("", milliseconds(lambda: dense.spectrum(spins), chains)),
        "all eigenvectors": (
            "",
            milliseconds(lambda: torch.linalg.eigh(dense.hamiltonian.dense(spins)), chains),
        ),
    }
    evaluation = electrons.at(spins, dense.evaluate(spins))
    for name in ("levels", "eigensystem"):
        getattr(evaluation, name)  # so that no row has to find them
    short = {
        Needs.SPINS: "",
        Needs.ENERGIES: "energy, density",
        Needs.LEVELS: "eigenvalues",
        Needs.STATES: "eigenvectors",
    }
    for name, kind in OBSERVABLES.items():
        made = make_observable(name, electrons)
        rows[name] = (
            short[kind.needs],
            milliseconds(lambda: made.measure(spins, evaluation), chains),
        )
    for name, kind in PROFILES.items():
        profile = make_profile(name, electrons, ENERGIES, 1)
        rows[name] = (
            short[kind.needs],
            milliseconds(lambda: profile.measure(spins, evaluation), chains),
        )
    return rows


def costs(length: int, options: argparse.Namespace) -> Rows:
    """Costs of all rows on a square lattice."""
    lattice = Lattice((length, length))
    ensemble = Ensemble(Hamiltonian(lattice, 1.0, options.J), BETA, options.mu)
    chains = CHAINS.get(length, 1)
    spins = Stream(1, torch.arange(chains), "cost").directions(lattice.sites)
    rows = costs_of_energies(ensemble, options.method, spins)
    return rows if options.energies else rows | costs_of_measurements(ensemble, spins)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--J", type=float, default=1.0)
    parser.add_argument("--mu", type=float, default=0.0)
    parser.add_argument("--method", default="auto", help="of the exact weight")
    parser.add_argument("--energies", action="store_true", help="log W and its electrons alone")
    options = parser.parse_args()
    lengths = options.lengths
    print(f"{prepare_process()} thread(s)")
    columns = {length: costs(length, options) for length in lengths}
    table = Table(
        "measurement",
        "on top of",
        *(f"{length}x{length}, ms" for length in lengths),
        *(f"{length}x{length}, log W = 1" for length in lengths),
        title="Extra cost of a sample, per chain",
    )
    for name, (needs, _) in columns[lengths[0]].items():
        times = [column[name][1] for column in columns.values()]
        shares = [
            taken / column["exact log W"][1] for taken, column in zip(times, columns.values())
        ]
        table.add_row(
            name, needs, *(f"{taken:.3g}" for taken in times), *(f"{share:.3g}" for share in shares)
        )
    Console(width=140, force_terminal=False).print(table)
