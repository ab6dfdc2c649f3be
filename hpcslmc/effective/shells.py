"""Shells of neighbours: the classes of pairs of sites that models have a coupling for.

On the square lattice shells are all pairs at one distance, named by its square. On every other
crystal they are the classes of pairs under the symmetries of h, numbered from 1 by distance. Both
mean the same on lattices of all shapes.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from hpcslmc.effective.momentum import spectra
from hpcslmc.errors import UserError
from hpcslmc.physics.catalogue import SQUARE
from hpcslmc.physics.couplings import Couplings
from hpcslmc.physics.crystal import TOLERANCE, Link
from hpcslmc.physics.lattice import Lattice
from hpcslmc.physics.symmetry import orbit_of, pair_classes

Links = tuple[Link, ...]
"""All pairs of sites of a class, up to translations, in both directions."""
SQUARE_SYMMETRIES = 8


@functools.lru_cache(maxsize=64)
def shell_links(couplings: Couplings, shells: tuple[int, ...]) -> list[Links]:
    """Return the classes of pairs that shells name.

    On a square lattice whose couplings are less symmetric than the lattice, a squared distance
    names all classes of pairs at it.

    Parameters
    ----------
    couplings : Couplings
    shells : tuple of int

    Raises
    ------
    UserError
        No sites of a square lattice are at that squared distance.
    """
    if not shells:
        return []
    if couplings.crystal != SQUARE:
        classes = pair_classes(couplings.crystal, couplings.symmetries, max(shells))
        return [classes[number - 1].links for number in shells]
    found = []
    for distance2 in shells:
        reach = math.isqrt(distance2)
        cells = np.indices((2 * reach + 1, 2 * reach + 1)).reshape(2, -1).T - reach
        near = cells[(cells**2).sum(1) == distance2]
        if not len(near):
            raise UserError(
                f"A model's shells are squared distances on a square lattice, and no two sites are "
                f"at {distance2}."
            )
        links = tuple(Link(0, 0, tuple(cell)) for cell in near.tolist())
        found += [links] if has_full_symmetry(couplings) else _divided(links, couplings)
    return found


def has_full_symmetry(couplings: Couplings) -> bool:
    """True if couplings on a square lattice have all its symmetries."""
    return len(couplings.symmetries) == SQUARE_SYMMETRIES


def _divided(links: Links, couplings: Couplings) -> list[Links]:
    """Divide links into classes under the symmetries of couplings."""
    left, classes = dict.fromkeys(links), []
    while left:
        orbit = orbit_of(next(iter(left)), couplings.symmetries)
        orbit |= {link.reverse for link in orbit}
        classes.append(tuple(link for link in links if link in orbit))
        left = {link: None for link in left if link not in orbit}
    return classes


def on_site(couplings: Couplings) -> list[Links]:
    """Return the classes of sites, as links of each with itself."""
    origin = (0,) * couplings.crystal.dimension
    return _divided(
        tuple(Link(a, a, origin) for a in range(len(couplings.crystal.names))), couplings
    )


def shell_waves(lattice: Lattice, classes: Sequence[Links]) -> np.ndarray:
    r"""Return the structure factors of classes at the momenta of a lattice, (classes, numbers).

    The classes are those of the infinite lattice:

    .. math:: \varphi_n(k)_{ab} = z_n^{-1/2} \sum_{r \in n, a \to b} e^{i k \cdot r}

    with z_n their number a site. Distances beyond half the lattice wrap around it, so that a kernel
    sum_n w_n phi_n(k) is one function of momentum on lattices of all sizes. As `spectra`.
    """
    waves, m = [], lattice.sublattices
    for links in classes:
        images = np.zeros((m, m, *lattice.shape))
        for link in links:
            cell = np.mod(link.cell, lattice.shape)
            images[(link.start, link.end, *cell)] += 1.0
        # numpy's transform has the other sign
        functions = np.fft.fftn(images, axes=range(2, images.ndim)).conj().reshape(m, m, -1)
        one = spectra(np.moveaxis(functions, -1, 0)[None])
        waves.append(one / math.sqrt(len(links) / m))
    return np.concatenate(waves)


def shell_index(lattice: Lattice, classes: Sequence[Links]) -> np.ndarray:
    """Return the index in ``classes`` of each pair of sites on the torus, (sites, sites) int.

    A pair belongs to the first class that its shortest image is in; to none, ``len(classes)``.
    """
    crystal, m = lattice.crystal, lattice.sublattices
    reach = max((crystal.length(link) for links in classes for link in links[:1]), default=0.0)
    shortest = np.full((m, m, lattice.cells), np.inf)

    def place(link: Link) -> tuple[int, int, int]:
        cell = np.ravel_multi_index(tuple(np.mod(link.cell, lattice.shape)), lattice.shape)
        return link.start, link.end, int(cell)

    shortest[range(m), range(m), 0] = 0.0
    for link in crystal.links_within(reach):
        shortest[place(link)] = min(shortest[place(link)], crystal.length(link))
    index = np.full(shortest.shape, len(classes))
    close = TOLERANCE * np.linalg.norm(crystal.vectors, axis=1).max()
    for number, links in reversed(list(enumerate(classes))):
        for link in links:
            if crystal.length(link) <= shortest[place(link)] + close:
                index[place(link)] = number
    cell, sublattice = np.divmod(np.arange(lattice.sites), m)
    cells = lattice.displacement[cell[:, None], cell]
    return index[sublattice[:, None], sublattice, cells]
