"""Self-learning Monte Carlo of classical spins coupled to fermions.

What a notebook needs is imported from here, and only when it is asked for::

    from hpcslmc import Hamiltonian, Lattice, exact_weight, random_spins

    hamiltonian = Hamiltonian(Lattice((6, 6)), t=1.0, J=1.0)
    weight = exact_weight(hamiltonian, temperature=0.05)
    log_weight, forces = weight.log_weight_and_forces(random_spins(8, hamiltonian.lattice))
"""

from typing import TYPE_CHECKING

from hpcslmc.plugins import lazy_attributes

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
    "Hamiltonian": "hpcslmc.physics.hamiltonian:Hamiltonian",
    "Lattice": "hpcslmc.physics.lattice:Lattice",
    "Results": "hpcslmc.analysis.results:Results",
    "UserError": "hpcslmc.errors:UserError",
    "exact_weight": "hpcslmc.api:exact_weight",
    "learned_model": "hpcslmc.api:learned_model",
    "load_job": "hpcslmc.job.load:load_job",
    "make_job": "hpcslmc.job.load:make_job",
    "random_spins": "hpcslmc.api:random_spins",
    "read_results": "hpcslmc.analysis.results_file:read",
    "run_job": "hpcslmc.api:run_job",
}

__getattr__ = lazy_attributes(__name__, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
