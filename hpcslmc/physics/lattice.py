"""Periodic lattices: sites, neighbour shells, symmetries, momenta.

Cells are counted with the last direction fastest, the sites of a cell one after the other: site
``x * Ly + y`` of a square lattice, ``(x * Ly + y) * sublattices + sublattice`` of every other one
in two dimensions. Everything here is a pure function of crystal and shape, computed once and
serially.

On a lattice so short that a bond wraps onto a pair that is already joined, the bonds add up: the
hopping between site x and its neighbour x + 1 = x - 1 counts twice in a direction of length 2. The
free bands are then those of the infinite crystal at the lattice's momenta, for every shape.
"""

from functools import cached_property

import numpy as np

from hpcslmc.physics.catalogue import SQUARE
from hpcslmc.physics.crystal import Crystal, Link
from hpcslmc.physics.symmetry import Operation


class Lattice:
    """Periodic lattice of unit cells.

    Parameters
    ----------
    shape : tuple of int
        Cells in the direction of each lattice vector. Of a crystal with one site a cell at least 2.
    crystal : Crystal, optional
        The square lattice if not given.

    Raises
    ------
    ValueError
        If the shape is too short, or of another dimension.
    """

    def __init__(self, shape: tuple[int, ...], crystal: Crystal = SQUARE) -> None:
        if len(shape) != crystal.dimension:
            raise ValueError(
                f"a lattice of {crystal.dimension} lattice vectors needs as many sides, not "
                f"{len(shape)}"
            )
        least = 1 if len(crystal.names) > 1 else 2
        if min(shape) < least:
            raise ValueError(
                f"a lattice needs at least {least} {'cell' if least == 1 else 'sites'} in each "
                "direction"
            )
        self.shape, self.crystal = tuple(int(side) for side in shape), crystal
        self.sublattices = len(crystal.names)
        self.cells = int(np.prod(self.shape))
        self.sites = self.cells * self.sublattices

    @property
    def dimension(self) -> int:
        """Number of directions."""
        return len(self.shape)

    @property
    def volume(self) -> float:
        """Length, area or volume, of all cells together."""
        return self.cells * abs(float(np.linalg.det(self.crystal.vectors)))

    @cached_property
    def cell_coordinates(self) -> np.ndarray:
        """(cells, d) int, coordinates of the cells in units of the lattice vectors."""
        return np.stack(np.unravel_index(np.arange(self.cells), self.shape), axis=1)

    @cached_property
    def coordinates(self) -> np.ndarray:
        """(sites, d) int, coordinates of each site's cell."""
        return np.repeat(self.cell_coordinates, self.sublattices, axis=0)

    @cached_property
    def sublattice(self) -> np.ndarray:
        """(sites,) int, the sublattice of each site."""
        return np.tile(np.arange(self.sublattices), self.cells)

    @cached_property
    def positions(self) -> np.ndarray:
        """(sites, d) float64, Cartesian positions."""
        places = np.array(self.crystal.places)[self.sublattice]
        return places + self.coordinates @ np.array(self.crystal.vectors)

    def _index(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the number of the cells at coordinates (..., d), which may be outside."""
        return np.ravel_multi_index(
            tuple(np.moveaxis(np.mod(coordinates, self.shape), -1, 0)), self.shape
        )

    def ends(self, link: Link) -> tuple[np.ndarray, np.ndarray]:
        """Return the sites (cells,) int at the starts and at the ends of all images of a link."""
        start = np.arange(self.cells)
        end = self._index(self.cell_coordinates + np.array(link.cell))
        return start * self.sublattices + link.start, end * self.sublattices + link.end

    def bond_ends(self, link: Link) -> tuple[np.ndarray, np.ndarray]:
        """Return what ``ends`` does of a bond.

        Raises
        ------
        ValueError
            The lattice is so short that the bond joins a site with itself.
        """
        start, end = self.ends(link)
        if (start == end).any():
            name = self.crystal.names[link.start]
            raise ValueError(
                f"the lattice is too short: the bond from {name} to {name} in cell "
                f"{list(link.cell)} joins a site with itself"
            )
        return start, end

    @cached_property
    def displacement(self) -> np.ndarray:
        """(cells, cells) int, the cell at r_j - r_i: row i, column j."""
        return self._index(self.cell_coordinates[None, :] - self.cell_coordinates[:, None])

    @cached_property
    def neighbours(self) -> np.ndarray:
        """(sites, 4) int, the sites at +x, +y, -x, -y of a square lattice.

        Each bond is met once in the first two columns.
        """
        forward = np.eye(2, dtype=int)
        return self._index(self.coordinates[:, None] + np.concatenate((forward, -forward)))

    @cached_property
    def phases(self) -> np.ndarray:
        """(cells, d) float64, k . a_i of the momenta of the lattice, from 0 to below 2 pi.

        In the order of the cells.
        """
        return 2.0 * np.pi * self.cell_coordinates / np.array(self.shape)

    @cached_property
    def momenta(self) -> np.ndarray:
        """(cells, d) float64, the momenta of the lattice in Cartesian coordinates.

        They fill the cell that the reciprocal vectors span, in the order of the cells; each
        component runs from 0 to below 2 pi on a square lattice.
        """
        return self.phases @ (self.crystal.reciprocal / (2.0 * np.pi))

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
        """(sites,) int, squared distance of each site from site 0 on the torus (nearest image).

        Of a square lattice.
        """
        shape = np.array(self.shape)
        return np.sum(np.minimum(self.coordinates, shape - self.coordinates) ** 2, axis=1)

    @cached_property
    def shells(self) -> np.ndarray:
        """(shells,) int, the squared distances of the neighbour shells, ascending, without 0.

        A shell holds all sites at one distance on the torus. Shells are identified by their squared
        distance, so that a coupling learned on one lattice keeps its meaning on another.
        """
        return np.unique(self.distance2)[1:]

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
        """(cells, sites) int, site permutations.

        Row d moves every site by the coordinates of cell d.
        """
        cells = self._index(self.cell_coordinates[:, None] + self.coordinates[None, :])
        return cells * self.sublattices + self.sublattice

    def keeps(self, operation: Operation) -> bool:
        """True if an operation of the space group maps the periodic lattice onto itself."""
        # the vectors of the periods, and what the operation makes of each in units of them
        images = operation.rotation * np.array(self.shape)
        return not np.any(images % np.array(self.shape)[:, None])

    def image(self, operation: Operation) -> np.ndarray:
        """Return where an operation of the space group takes each site, (sites,) int.

        A permutation if the lattice ``keeps`` the operation, as it does where all sides that it
        exchanges are equal.
        """
        cells = self.coordinates @ operation.rotation.T + operation.cells[self.sublattice]
        return self._index(cells) * self.sublattices + operation.images[self.sublattice]

    def images(self, operations: list[Operation]) -> np.ndarray:
        """Return where operations take the sites, (operations, sites) int."""
        if self.crystal == SQUARE and len(operations) == len(self.point_group):
            return self.point_group  # the same, in the order that it always had
        return np.stack([self.image(operation) for operation in operations])

    @property
    def has_staggered_momentum(self) -> bool:
        """True if (pi, pi) is a momentum of the lattice: both lengths even."""
        return self.shape[0] % 2 == 0 and self.shape[1] % 2 == 0

    @cached_property
    def staggered_sign(self) -> np.ndarray:
        """(sites,) float64, exp(i (pi, pi).r) = (-1)^(x+y)."""
        return 1.0 - 2.0 * (self.coordinates.sum(axis=1) % 2)
