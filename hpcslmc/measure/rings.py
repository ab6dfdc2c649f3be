"""Elementary rings of a crystal: its triangles, or the smallest plaquettes where it has none."""

from functools import cache

import numpy as np

from hpcslmc.physics.couplings import shell_links
from hpcslmc.physics.crystal import Crystal, Link
from hpcslmc.physics.lattice import Lattice

LONGEST = 8
"""Corners of the largest plaquettes that are looked for."""

Corner = tuple[int, tuple[int, ...]]
"""A sublattice and a cell."""


@cache
def nearest_links(crystal: Crystal) -> list[Link]:
    """Return the links of nearest neighbours, one direction of each."""
    return shell_links(crystal, 1)[0]


@cache
def rings(crystal: Crystal) -> list[tuple[Corner, ...]]:
    """Return the shortest closed paths along bonds of nearest neighbours, up to translations.

    Corners follow each other along the bonds, the first in cell 0; in two dimensions anticlockwise.
    """
    links = nearest_links(crystal)
    onward: dict[int, list[Link]] = {}
    for link in (*links, *(link.reverse for link in links)):
        onward.setdefault(link.start, []).append(link)
    origin = (0,) * crystal.dimension
    paths: list[tuple[Corner, ...]] = [((a, origin),) for a in onward]
    for length in range(2, LONGEST + 1):
        paths = [
            (*path, corner)
            for path in paths
            for corner in _steps(path[-1], onward)
            if corner not in path
        ]
        closed: dict[frozenset[Corner], tuple[Corner, ...]] = {}
        for path in paths if length > 2 else []:
            if path[0] in _steps(path[-1], onward):
                closed.setdefault(_key(path), path)
        if closed:
            return [_anticlockwise(path, crystal) for path in closed.values()]
    return []


def _steps(corner: Corner, onward: dict[int, list[Link]]) -> list[Corner]:
    site, cell = corner
    return [
        (link.end, tuple(x + step for x, step in zip(cell, link.cell, strict=True)))
        for link in onward[site]
    ]


def _key(path: tuple[Corner, ...]) -> frozenset[Corner]:
    """Return the corners of a ring, the same for all its translations, starts and directions."""
    first = min(path)[1]
    return frozenset(
        (site, tuple(x - y for x, y in zip(cell, first, strict=True))) for site, cell in path
    )


def _anticlockwise(path: tuple[Corner, ...], crystal: Crystal) -> tuple[Corner, ...]:
    if crystal.dimension != 2:
        return path
    start = path[0][0]
    x, y = np.array([crystal.offset(Link(start, site, cell)) for site, cell in path]).T
    area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
    return path if area > 0.0 else (path[0], *path[:0:-1])


def ring_sites(lattice: Lattice) -> np.ndarray:
    """Return the corners of all rings of a lattice, (rings, corners) int.

    Without those whose corners are not all different, as on a side of a single cell.
    """
    found = [np.zeros((0, 3), int)]
    for ring in rings(lattice.crystal):
        first = ring[0][0]
        corners = [lattice.ends(Link(first, *corner))[1] for corner in ring]
        found.append(np.stack(corners, 1))
    sites = np.concatenate(found[1:] or found)
    ordered = np.sort(sites, axis=1)
    return sites[(np.diff(ordered, axis=1) > 0).all(1)]
