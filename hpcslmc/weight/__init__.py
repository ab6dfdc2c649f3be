"""Exact fermion weights: one file per method, one protocol, chosen by name in the job file."""

from typing import Protocol

from torch import Tensor

from hpcslmc.evaluation import Evaluation
from hpcslmc.hamiltonian import Hamiltonian
from hpcslmc.parallel import World
from hpcslmc.weight.diagonalise import Diagonalise


class ExactWeight(Protocol):
    """Exact log W(S) with forces. Every method states its accuracy and agrees with ``diagonalise``."""

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """log W, electronic energy, electrons per site, and with ``forces`` d log W / d S."""
        ...

    def log_weight(self, spins: Tensor) -> Tensor:
        """(chains,) float64, log W of spins (chains, sites, 3)."""
        ...

    def log_weight_and_forces(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """(chains,) and (chains, sites, 3) float64, log W and d log W / d S_i."""
        ...


WEIGHTS: dict[str, type] = {"diagonalise": Diagonalise}


def make_weight(method: str, hamiltonian: Hamiltonian, beta: float, mu: float, group: World) -> ExactWeight:
    """The weight of that name; ``auto`` picks the fastest for the lattice, today always ``diagonalise``.

    Parameters
    ----------
    method : str
    hamiltonian : Hamiltonian
    beta, mu : float
    group : World
        The ranks that share the work of each evaluation.
    """
    return WEIGHTS["diagonalise" if method == "auto" else method](hamiltonian, beta, mu)
