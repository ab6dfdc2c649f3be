"""Exact fermion weights: one file per method, one protocol, chosen by name in the job file."""

from collections.abc import Callable

from torch import Tensor

from hpcslmc.errors import UserError
from hpcslmc.hamiltonian import Hamiltonian
from hpcslmc.parallel import World
from hpcslmc.weight.choice import choose_method
from hpcslmc.weight.greens import GreensFunctions
from hpcslmc.weight.method import ExactWeight

__all__ = ["WEIGHTS", "GreensFunctions", "choose_method", "make_local", "make_spectrum", "make_weight"]

LOCAL_SITES = 16
"""From this many sites on, Green's functions sweep faster than one diagonalisation a site (tools/speed.py)."""


def _diagonalise(hamiltonian: Hamiltonian, beta: float, mu: float, group: World) -> ExactWeight:
    from hpcslmc.weight.diagonalise import Diagonalise

    return Diagonalise(hamiltonian, beta, mu)


def _blocks(hamiltonian: Hamiltonian, beta: float, mu: float, group: World) -> ExactWeight:
    from hpcslmc.weight.blocks import Blocks

    return Blocks(hamiltonian, beta, mu, group)


def _matsubara(hamiltonian: Hamiltonian, beta: float, mu: float, group: World) -> ExactWeight:
    from hpcslmc.weight.matsubara import Matsubara

    return Matsubara(hamiltonian, beta, mu, group)


def _scalapack(hamiltonian: Hamiltonian, beta: float, mu: float, group: World) -> ExactWeight:
    from hpcslmc.weight.distributed import Distributed

    return Distributed(hamiltonian, beta, mu, group.communicator)


# imported only when a job asks for them: PETSc and ScaLAPACK may not be there
WEIGHTS: dict[str, Callable[[Hamiltonian, float, float, World], ExactWeight]] = {
    "diagonalise": _diagonalise, "blocks": _blocks, "matsubara": _matsubara, "scalapack": _scalapack,
}


def make_weight(method: str, hamiltonian: Hamiltonian, beta: float, mu: float, group: World) -> ExactWeight:
    """The weight of that name.

    Parameters
    ----------
    method : str
        A key of ``WEIGHTS``.
    hamiltonian : Hamiltonian
    beta, mu : float
    group : World
        The ranks that share the work of each evaluation.

    Raises
    ------
    UserError
        The method needs something that is not there, or cannot serve this temperature.
    """
    try:
        return WEIGHTS[method](hamiltonian, beta, mu, group)
    except ValueError as error:
        raise UserError(f'[weight] method = "{method}": {error}; method = "diagonalise" always works.') from None


def make_local(hamiltonian: Hamiltonian, beta: float, mu: float, group: World) -> GreensFunctions | None:
    """What sweeps an exact weight site by site, where that is faster than evaluations: from ``LOCAL_SITES`` sites on."""
    if hamiltonian.lattice.sites < LOCAL_SITES:
        return None
    try:
        return GreensFunctions(hamiltonian, beta, mu, group)
    except ValueError:  # no nodes at this temperature
        return None


def make_spectrum(hamiltonian: Hamiltonian, beta: float, mu: float, group: World) -> Callable[[Tensor], Tensor]:
    """All eigenvalues (chains, 2 sites) of spins (chains, sites, 3): by ScaLAPACK over a group, by LAPACK or the GPU on one rank.

    Raises
    ------
    UserError
        There is no ScaLAPACK for the group.
    """
    weight = (_diagonalise if group.size == 1 else _scalapack)(hamiltonian, beta, mu, group)
    return weight.spectrum
