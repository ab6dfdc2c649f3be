"""Periodic square lattice: sites, neighbour shells, point group, momenta.

Site ``i = x * Ly + y``. Everything here is a pure function of the shape, computed once and
serially.

A direction of length 2 has double bonds: site x and its neighbour x + 1 = x - 1 are joined by two
bonds, one through the boundary, and the hopping between them counts twice. The free bands are then
``-2t (cos kx + cos ky)`` for every shape.
"""

from functools import cached_property

import numpy as np

STEPS = ((1, 0), (0, 1))
"""Steps to the nearest neighbours +x and +y, in lattice constants."""


class Lattice:
    """Periodic Lx x Ly square lattice.

    Parameters
    ----------
    shape : (Lx, Ly)
        Both at least 2.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        if min(shape) < 2:
            raise ValueError(
                f"a lattice needs at least 2 sites in each direction, not {tuple(shape)}"
            )
        self.shape = (int(shape[0]), int(shape[1]))
        self.sites = self.shape[0] * self.shape[1]

    @cached_property
    def coordinates(self) -> np.ndarray:
        """(sites, 2) int, coordinates (x, y) of each site."""
        return np.stack(np.unravel_index(np.arange(self.sites), self.shape), axis=1)

    def _index(self, coordinates: np.ndarray) -> np.ndarray:
        x, y = np.moveaxis(np.mod(coordinates, self.shape), -1, 0)
        return x * self.shape[1] + y

    @cached_property
    def displacement(self) -> np.ndarray:
        """(sites, sites) int, the site at r_j - r_i: row i, column j."""
        return self._index(self.coordinates[None, :] - self.coordinates[:, None])

    @cached_property
    def neighbours(self) -> np.ndarray:
        """(sites, 4) int, the sites at +x, +y, -x, -y.

        Each bond is met once in the first two columns.
        """
        forward = np.array(STEPS)
        return self._index(self.coordinates[:, None] + np.concatenate((forward, -forward)))

    @cached_property
    def momenta(self) -> np.ndarray:
        """(sites, 2) float64, the momenta (kx, ky) of the Brillouin zone in the order of the sites.

        Each component runs from 0 to below 2 pi.
        """
        return 2.0 * np.pi * self.coordinates / np.array(self.shape)

    @cached_property
    def adjacency(self) -> np.ndarray:
        """(sites, sites) float64, the number of bonds between two sites.

        It is 2 across a direction of length 2.
        """
        matrix = np.zeros((self.sites, self.sites))
        for column in self.neighbours.T:
            np.add.at(matrix, (np.arange(self.sites), column), 1.0)
        return matrix

    @cached_property
    def distance2(self) -> np.ndarray:
        """(sites,) int, squared distance of each site from site 0 on the torus (nearest image)."""
        shape = np.array(self.shape)
        return np.sum(np.minimum(self.coordinates, shape - self.coordinates) ** 2, axis=1)

    @cached_property
    def shells(self) -> np.ndarray:
        """(shells,) int, the squared distances of the neighbour shells, ascending, without 0.

        A shell holds all sites at one distance on the torus. Shells are identified by their squared
        distance, so that a coupling learned on one lattice keeps its meaning on another.
        """
        return np.unique(self.distance2)[1:]

    def shell_index(self, shells: np.ndarray) -> np.ndarray:
        """Return the index in ``shells`` of the squared distance of each pair: (sites, sites) int.

        Pairs in no listed shell get ``len(shells)``.
        """
        index = np.full(self.sites, len(shells))
        for n, distance2 in enumerate(shells):
            index[self.distance2 == distance2] = n
        return index[self.displacement]

    @cached_property
    def point_group(self) -> np.ndarray:
        """(operations, sites) int, site permutations.

        C4v (8) on a square, C2v (4) on a rectangle.
        """
        x, y = self.coordinates.T
        images = [(sx * x, sy * y) for sx in (1, -1) for sy in (1, -1)]
        if self.shape[0] == self.shape[1]:
            images += [(b, a) for a, b in images]
        return np.stack([self._index(np.stack(image, axis=-1)) for image in images])

    @cached_property
    def translations(self) -> np.ndarray:
        """(sites, sites) int, site permutations.

        Row d moves every site by the coordinates of site d.
        """
        return self._index(self.coordinates[:, None] + self.coordinates[None, :])

    @property
    def has_staggered_momentum(self) -> bool:
        """True if (pi, pi) is a momentum of the lattice: both lengths even."""
        return self.shape[0] % 2 == 0 and self.shape[1] % 2 == 0

    @cached_property
    def staggered_sign(self) -> np.ndarray:
        """(sites,) float64, exp(i (pi, pi).r) = (-1)^(x+y)."""
        return 1.0 - 2.0 * (self.coordinates.sum(axis=1) % 2)
