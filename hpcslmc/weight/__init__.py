"""Exact fermion weights: one file per method, one protocol, chosen by name in the job file."""

from collections.abc import Callable

from torch import Tensor

from hpcslmc.errors import UserError
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.plugins import WEIGHTS
from hpcslmc.weight.choice import choose_method
from hpcslmc.weight.diagonalise import Diagonalise
from hpcslmc.weight.greens import GreensFunctions
from hpcslmc.weight.method import ExactWeight

__all__ = [
    "WEIGHTS",
    "GreensFunctions",
    "choose_method",
    "make_local",
    "make_spectrum",
    "make_weight",
]

LOCAL_SITES = 16
"""Number of sites from which local updates by Green's functions replace evaluations.

Their sweep is then faster than one diagonalisation a site (tools/bench/speed.py).
"""


def make_weight(method: str, ensemble: Ensemble, group: World) -> ExactWeight:
    """Make the weight of that name.

    Parameters
    ----------
    method : str
        A key of ``WEIGHTS``.
    ensemble : Ensemble
    group : World
        The ranks that share the work of each evaluation.

    Raises
    ------
    UserError
        The method needs something that is not there, or cannot serve this temperature.
    """
    try:
        return WEIGHTS[method](ensemble, group)
    except ValueError as error:
        alone = " with [sampling] ranks_per_chain = 1" if group.size > 1 else ""
        raise UserError(
            f'[weight] method = "{method}": {error}; method = "diagonalise" always works{alone}.'
        ) from None


def make_local(ensemble: Ensemble, group: World) -> GreensFunctions | None:
    """Return the local updates of an exact weight where they beat evaluations, else None.

    They do from ``LOCAL_SITES`` sites on.
    """
    if ensemble.sites < LOCAL_SITES:
        return None
    try:
        return GreensFunctions(ensemble, group)
    except ValueError:  # no nodes at this temperature
        return None


def make_spectrum(ensemble: Ensemble, group: World) -> Callable[[Tensor], Tensor]:
    """Return all eigenvalues (chains, 2 sites) of h(S) for spins (chains, sites, 3).

    By ScaLAPACK over a group, by LAPACK or the GPU on one rank.

    Raises
    ------
    UserError
        There is no ScaLAPACK for the group.
    """
    if group.size == 1:
        return Diagonalise(ensemble, group).spectrum
    from hpcslmc.weight.distributed import Distributed

    return Distributed(ensemble, group).spectrum
