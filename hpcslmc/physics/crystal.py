"""Infinite crystals: lattice vectors, named sites of the unit cell, and their neighbour shells."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-6
"""Largest difference of two equal distances, in units of the longest lattice vector."""


class Link(NamedTuple):
    """Two sites of a crystal, up to translations.

    Attributes
    ----------
    start, end : int
        Sublattices.
    cell : tuple of int
        Of the end, if the start is in cell 0.
    """

    start: int
    end: int
    cell: tuple[int, ...]

    @property
    def reverse(self) -> "Link":
        """The same two sites, from the end to the start."""
        return Link(self.end, self.start, tuple(-step for step in self.cell))

    @property
    def undirected(self) -> "Link":
        """The one of the two directions that stands for both.

        From the earlier sublattice to the later, or within one along the first lattice vector that
        it has a part of.
        """
        back = self.reverse
        return self if (-self.start, *self.cell) > (-back.start, *back.cell) else back


@dataclass(frozen=True)
class Crystal:
    """A Bravais lattice with a basis, in one, two or three dimensions.

    Parameters
    ----------
    vectors : (d, d) nested tuple of float
        Lattice vectors in Cartesian coordinates.
    names : tuple of str
        Of the sublattices.
    places : (sublattices, d) nested tuple of float
        Cartesian positions of the sites in cell 0.

    Raises
    ------
    ValueError
        The vectors are dependent, or two sites are in the same place.
    """

    vectors: tuple[tuple[float, ...], ...]
    names: tuple[str, ...]
    places: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        size = np.linalg.norm(self.vectors, axis=1)
        if abs(np.linalg.det(self.vectors)) <= TOLERANCE * np.prod(size):
            raise ValueError("the lattice vectors are linearly dependent")
        for a, b in itertools.combinations(range(len(self.places)), 2):
            steps = np.linalg.solve(np.array(self.vectors).T, self.offset(Link(a, b, self._origin)))
            apart = (steps - steps.round()) @ np.array(self.vectors)
            if np.linalg.norm(apart) < TOLERANCE * size.max():
                raise ValueError(
                    f"the sites {self.names[a]} and {self.names[b]} are in the same place"
                )

    @property
    def dimension(self) -> int:
        """Number of lattice vectors, 1 to 3."""
        return len(self.vectors)

    @property
    def _origin(self) -> tuple[int, ...]:
        return (0,) * self.dimension

    @cached_property
    def reciprocal(self) -> np.ndarray:
        """(d, d) float64, reciprocal vectors b_i with a_i . b_j = 2 pi delta_ij."""
        return 2.0 * np.pi * np.linalg.inv(self.vectors).T

    def offset(self, link: Link) -> np.ndarray:
        """Return the Cartesian displacement (d,) along a link."""
        apart = np.subtract(self.places[link.end], self.places[link.start])
        return apart + np.array(link.cell) @ np.array(self.vectors)

    def links_within(self, reach: float) -> list[Link]:
        """Return all links no longer than ``reach``, both directions, but none of length 0."""
        spread = max(np.linalg.norm(np.subtract(a, b)) for a in self.places for b in self.places)
        # cells lie in layers as far apart as the inverse length of a reciprocal vector
        layers = np.linalg.norm(self.reciprocal, axis=1) / (2.0 * np.pi)
        most = np.ceil((reach + spread) * layers).astype(int)
        cells = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij"), -1)
        cells = cells.reshape(-1, self.dimension)
        limit = reach + TOLERANCE * self._unit
        found = []
        for a, b in itertools.product(range(len(self.names)), repeat=2):
            start = np.subtract(self.places[b], self.places[a])
            length = np.linalg.norm(start + cells @ np.array(self.vectors), axis=1)
            near = (length <= limit) & (length > TOLERANCE * self._unit)
            found += [Link(a, b, tuple(cell.tolist())) for cell in cells[near]]
        return found

    def length(self, link: Link) -> float:
        """Return the distance between the ends of a link."""
        return float(np.linalg.norm(self.offset(link)))

    @property
    def _unit(self) -> float:
        return float(np.linalg.norm(self.vectors, axis=1).max())

    def by_distance(self) -> Iterator[list[Link]]:
        """Yield the shells of neighbours, nearest first: all links of one length, undirected.

        Lengths are equal that differ by less than ``TOLERANCE``. Within a shell links are in order
        of their sublattices, and then from the first lattice vector to the last.
        """
        done, reach = 0.0, self._unit
        while True:
            links = {link.undirected for link in self.links_within(reach)}
            ordered = sorted(links, key=lambda link: (*link[:2], *(-step for step in link.cell)))
            lengths = np.array([self.length(link) for link in ordered])
            while (rest := lengths[lengths > done + TOLERANCE * self._unit]).size:
                shell = np.abs(lengths - rest.min()) <= TOLERANCE * self._unit
                done = float(rest.min())
                yield [ordered[i] for i in np.flatnonzero(shell)]
            reach *= 2.0

    def shells(self, count: int) -> list[list[Link]]:
        """Return the first shells of neighbours, as ``by_distance`` yields them."""
        return list(itertools.islice(self.by_distance(), count))
