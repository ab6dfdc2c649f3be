"""What every measurement costs: milliseconds per sample and chain on one core, against one exact
log W.

    python tools/bench/observable_cost.py [--lengths 8 16 32]

What needs the spectrum is timed with eigenvalues and eigenvectors at hand: they are worked out once
for all, and have rows of their own.
"""

import argparse
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from timing import medians

from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.observables import Needs
from hpcslmc.measure.registry import OBSERVABLES, PROFILES, make_observable, make_profile
from hpcslmc.parallel.hardware import limit_threads
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


def costs(length: int) -> dict[str, tuple[str, float]]:
    """What each row needs, and its milliseconds per chain, on a square lattice."""
    lattice = Lattice((length, length))
    hamiltonian = Hamiltonian(lattice, 1.0, 1.0)
    ensemble = Ensemble(hamiltonian, BETA, 0.0)
    chains = CHAINS.get(length, 1)
    spins = Stream(1, torch.arange(chains), "cost").directions(lattice.sites)
    method, _ = choose_method(ensemble, "cpu", 1, False)
    weight = make_weight(method, ensemble, World())
    electrons = Electrons(ensemble, Diagonalise(ensemble).spectrum)
    rows = {
        "exact log W": ("", milliseconds(lambda: weight.evaluate(spins), chains)),
        "exact log W, forces, energy, density": (
            "",
            milliseconds(lambda: weight.evaluate(spins, forces=True), chains),
        ),
        "all eigenvalues": (
            "",
            milliseconds(lambda: Diagonalise(ensemble).spectrum(spins), chains),
        ),
        "all eigenvectors": (
            "",
            milliseconds(lambda: torch.linalg.eigh(hamiltonian.dense(spins)), chains),
        ),
    }
    evaluation = electrons.at(spins, weight.evaluate(spins, forces=True))
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[8, 16, 32])
    lengths = parser.parse_args().lengths
    print(f"{limit_threads()} thread(s)")
    columns = {length: costs(length) for length in lengths}
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
