"""Self-learning Monte Carlo of classical spins coupled to fermions.

What a notebook needs is imported from here, and only when it is asked for::

    from hpcslmc import Hamiltonian, Lattice, exact_weight, random_spins

    hamiltonian = Hamiltonian(Lattice((6, 6)), t=1.0, J=1.0)
    weight = exact_weight(hamiltonian, temperature=0.05)
    log_weight, forces = weight.log_weight_and_forces(random_spins(8, hamiltonian.lattice))
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcslmc.analysis.results import Results
    from hpcslmc.analysis.results_file import read as read_results
    from hpcslmc.api import exact_weight, learned_model, random_spins, run_job
    from hpcslmc.errors import UserError
    from hpcslmc.job.load import load_job, make_job
    from hpcslmc.physics.hamiltonian import Hamiltonian
    from hpcslmc.physics.lattice import Lattice

__all__ = [
    "Hamiltonian",
    "Lattice",
    "Results",
    "UserError",
    "exact_weight",
    "learned_model",
    "load_job",
    "make_job",
    "random_spins",
    "read_results",
    "run_job",
]

_PLACES = {
    "Hamiltonian": "physics.hamiltonian",
    "Lattice": "physics.lattice",
    "Results": "analysis.results",
    "UserError": "errors",
    "exact_weight": "api",
    "learned_model": "api",
    "load_job": "job.load",
    "make_job": "job.load",
    "random_spins": "api",
    "read_results": "analysis.results_file:read",
    "run_job": "api",
}
"""Module of each public name, with the name there where it is another."""


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, own = _PLACES[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), own or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
