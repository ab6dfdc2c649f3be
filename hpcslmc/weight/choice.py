"""Choice of the method that ``auto`` stands for.

The one that a table of measured times predicts to be the fastest.
"""

import functools
import math
import tomllib
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from hpcslmc.errors import UserError
from hpcslmc.physics.catalogue import SQUARE
from hpcslmc.physics.crystal import Link
from hpcslmc.physics.lattice import Lattice
from hpcslmc.weight.dissection import dissect
from hpcslmc.weight.nodes import model_nodes

if TYPE_CHECKING:
    from hpcslmc.physics.ensemble import Ensemble
    from hpcslmc.physics.hamiltonian import Hamiltonian

TABLE = "costs.toml"
WIDEST_ROWS = 15
"""Longest rows of the lattice, in sites, that block elimination takes as they are.

Longer ones are dissected (tools/bench/eliminations.py).
"""
NEAREST = (Link(0, 0, (1, 0)), Link(0, 0, (0, 1)))
"""Bonds to the nearest neighbours of the square lattice."""
UNMEASURED_SITES = 100
"""Number of sites at which ``auto`` changes methods on a device without measured times.

Dense eigenvalues below this many sites, block elimination from there on.
"""

TIE = 1.1
"""Methods this close to the fastest count as equally fast.

The earlier one in the table is taken.
"""


@functools.cache
def cost_table() -> dict[str, dict]:
    """Return measured times by type of device and method.

    Lists ``sites``, ``shifts``, ``log_weight`` and ``forces`` (both in s), an entry for each size.

    Square lattices, one configuration on one rank; ``forces`` is log W with forces. Written by
    tools/bench/weights.py --costs.
    """
    return tomllib.loads(files("hpcslmc.weight").joinpath(TABLE).read_text())


def predict(costs: dict[str, list], sites: float, forces: bool) -> float:
    """Predict the seconds of one configuration, of one shift where the method has shifts.

    Power laws between the measured sizes, and beyond them as at the last two.
    """
    seconds = np.array(costs["forces" if forces else "log_weight"])
    if "shifts" in costs:
        seconds = seconds / costs["shifts"][: len(seconds)]
    x, y, at = np.log(costs["sites"][: len(seconds)]), np.log(seconds), math.log(sites)
    i = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
    return math.exp(y[i] + (y[i + 1] - y[i]) * (at - x[i]) / (x[i + 1] - x[i]))


def choose_method(
    ensemble: "Ensemble",
    device: str = "cpu",
    ranks_per_chain: int = 1,
    forces: bool = False,
) -> tuple[str, str]:
    """Choose the fastest exact weight for a job, and tell why.

    Parameters
    ----------
    ensemble : Ensemble
    device : str
        Its type, as ``cpu`` or ``cuda``.
    ranks_per_chain : int
        Ranks that share a weight; they share out its shifts, and dense eigenvalues not at all.
    forces : bool
        Whether log W mostly comes with forces (exact HMC).

    Returns
    -------
    method : str
        diagonalise, blocks or matsubara.
    why : str
        The predicted times in a few words.

    Raises
    ------
    UserError
        Several ranks are to share a weight at a temperature where only dense eigenvalues serve.

    Notes
    -----
    Times with K shifts in proportion to those on the slowest rank, ceil(K / ranks_per_chain). The
    times of square lattices stand for those of every other one: of eliminations, by the square on
    which they take as many operations. Block elimination by rows depends on the longer and the
    shorter side as L l^3; the operations of a dissection are counted.
    """
    sites = ensemble.sites
    try:
        shifts = len(model_nodes(ensemble).weights)
    except ValueError as error:
        if ranks_per_chain > 1:
            raise UserError(
                f"[sampling] ranks_per_chain = {ranks_per_chain}: there is no weight that ranks "
                "can share here "
                f"({error}): use ranks_per_chain = 1."
            ) from None
        return "diagonalise", "too cold for the others"
    table = cost_table().get(device)
    if table is None:
        dense = sites < UNMEASURED_SITES and ranks_per_chain == 1
        return "diagonalise" if dense else "blocks", f"no times were measured on {device}"
    seconds, eliminated = {}, _square(ensemble.hamiltonian)
    for method, costs in table.items():
        if not isinstance(costs, dict) or (method == "diagonalise" and ranks_per_chain > 1):
            continue
        # sparse LU leaves the forces to block elimination
        by_lu = method == "matsubara" and not forces and _has_rows(ensemble.hamiltonian)
        alike = sites if method == "diagonalise" or by_lu else eliminated
        seconds[method] = predict(costs, alike, forces) * (
            math.ceil(shifts / ranks_per_chain) if "shifts" in costs else 1
        )
    usable = {
        method: s for method, s in seconds.items() if method != "matsubara" or find_spec("petsc4py")
    }
    best = next(method for method, s in usable.items() if s <= TIE * min(usable.values()))
    return best, _why(best, seconds, usable, forces)


def is_by_rows(hamiltonian: "Hamiltonian") -> bool:
    """Tell whether block elimination goes row by row, and not by dissection.

    On narrow square lattices, where all that joins a row to the next is one real hop from each
    site.
    """
    return _has_rows(hamiltonian) and min(hamiltonian.lattice.shape) <= WIDEST_ROWS


def _has_rows(hamiltonian: "Hamiltonian") -> bool:
    couplings = hamiltonian.couplings
    return (
        couplings.crystal == SQUARE
        and couplings.is_scalar
        and couplings.is_real
        and not hamiltonian.site_potential.any()
        and all(hop.link in NEAREST for hop in couplings.hops)
    )


def _square(hamiltonian: "Hamiltonian") -> float:
    """Return the number of sites of the square on which block elimination takes as long."""
    lattice = hamiltonian.lattice
    if is_by_rows(hamiltonian):
        long, short = max(lattice.shape), min(lattice.shape)
        return math.sqrt(long * short**3)
    sites, counts = zip(*_dissected_squares(), strict=True)
    count = _operations(hamiltonian.graph, lattice)
    x, y, at = np.log(counts), np.log(sites), math.log(max(count, 1.0))
    i = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
    return math.exp(y[i] + (y[i + 1] - y[i]) * (at - x[i]) / (x[i + 1] - x[i]))


@functools.cache
def _dissected_squares() -> list[tuple[int, float]]:
    """Return sites of squares and the operations of their dissection."""
    found = []
    for side in (4, 8, 16, 32):
        lattice = Lattice((side, side))
        graph = scipy.sparse.csr_matrix(lattice.adjacency)
        found.append((lattice.sites, _operations(graph, lattice)))
    return found


def _operations(graph: scipy.sparse.csr_matrix, lattice: Lattice) -> float:
    """Count the operations of a determinant by dissection."""
    return sum(
        level.operations(False) for level in dissect(graph, lattice.coordinates, lattice.shape)
    )


def _why(best: str, seconds: dict[str, float], usable: dict[str, float], forces: bool) -> str:
    """Return the reason, such as: predicted 5.1 ms per log W; diagonalise 7.2, blocks 6."""
    unit, scale = ("s", 1.0) if seconds[best] >= 1.0 else ("ms", 1e3)
    others = [
        f"{method} {_number(scale * s)}" + ("" if method in usable else " (without petsc4py)")
        for method, s in seconds.items()
        if method != best
    ]
    chosen = (
        f"predicted {_number(scale * seconds[best])} {unit} per log "
        f"W{' and forces' if forces else ''}"
    )
    return f"{chosen}; {', '.join(others)}" if others else chosen


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100.0 else f"{value:.2g}"
