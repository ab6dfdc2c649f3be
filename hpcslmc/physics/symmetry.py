"""Space groups of crystals, and the classes of pairs of sites that they leave."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hpcslmc.physics.crystal import TOLERANCE, Crystal, Link

INCOMMENSURATE = (1.0, 7.3891, 11.0231)
"""Lengths of the lattice vectors that fill a crystal up to three dimensions, in units of its own.

No symmetry mixes them with the others.
"""


class Operation(NamedTuple):
    """An operation of a space group, up to translations of the crystal.

    Attributes
    ----------
    rotation : (d, d) int
        Of cells, in units of the lattice vectors.
    images : (sublattices,) int
        The sublattice that each becomes.
    cells : (sublattices, d) int
        Where the site in cell 0 goes.
    """

    rotation: np.ndarray
    images: np.ndarray
    cells: np.ndarray

    def __call__(self, link: Link) -> Link:
        """Return the image of a link."""
        turned = self.rotation @ np.array(link.cell)
        cell = turned + self.cells[link.end] - self.cells[link.start]
        return Link(int(self.images[link.start]), int(self.images[link.end]), tuple(cell.tolist()))


@dataclass(frozen=True)
class PairClass:
    """All pairs of sites that the space group makes of one, in both directions.

    Attributes
    ----------
    length : float
        Their distance.
    links : tuple of Link
        Both directions.
    """

    length: float
    links: tuple[Link, ...]


def space_group(crystal: Crystal) -> list[Operation]:
    """Return the operations of a crystal's space group, without its translations, by spglib.

    All sites are taken to be alike.
    """
    import spglib

    d, count = crystal.dimension, len(crystal.names)
    vectors = np.diag(INCOMMENSURATE) * np.linalg.norm(crystal.vectors, axis=1).max()
    vectors[:d] = 0.0
    vectors[:d, :d] = crystal.vectors
    places = np.zeros((count, 3))
    places[:, :d] = np.array(crystal.places) @ np.linalg.inv(crystal.vectors)
    cell: Any = (vectors, places, np.ones(count))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it will report errors
        found = spglib.get_symmetry(cell, symprec=TOLERANCE)
    assert found is not None, "every crystal has translations"
    operations, known = [], set()
    for rotation, shift in zip(found["rotations"], found["translations"], strict=True):
        moved = places[:, :d] @ rotation[:d, :d].T + shift[:d]
        apart = moved[:, None] - places[None, :, :d]
        cells = apart.round().astype(int)
        images = np.abs(apart - cells).max(-1).argmin(1)
        one = Operation(rotation[:d, :d].astype(int), images, cells[np.arange(count), images])
        # operations that differ in the directions that filled the crystal up are one
        key = tuple(np.concatenate([part.ravel() for part in one]).tolist())
        if key not in known:
            known.add(key)
            operations.append(one)
    return operations


def pair_classes(crystal: Crystal, operations: list[Operation], count: int) -> list[PairClass]:
    """Return the first ``count`` classes of pairs under operations, by distance."""
    classes: list[PairClass] = []
    for shell in crystal.by_distance():
        left = {link: None for link in shell}
        while left:
            orbit = orbit_of(next(iter(left)), operations)
            for link in orbit:
                left.pop(link.undirected, None)
            both = sorted({*orbit, *(link.reverse for link in orbit)})
            classes.append(PairClass(crystal.length(both[0]), tuple(both)))
        if len(classes) >= count:
            return classes[:count]
    raise AssertionError("a crystal has any number of neighbours")


def orbit_of(link: Link, operations: Iterable[Operation]) -> set[Link]:
    """Return the images of a link under all operations."""
    return {operation(link) for operation in operations}


def preserving(
    operations: list[Operation], values: dict[Link, np.ndarray], sites: np.ndarray
) -> list[Operation]:
    """Select the operations that change neither values of links nor those of sublattices.

    Parameters
    ----------
    operations : list of Operation
    values : dict of Link to array
        Both directions of each link.
    sites : (sublattices, ...) array
    """
    kept = []
    for operation in operations:
        images = {operation(link): value for link, value in values.items()}
        same_links = images.keys() == values.keys() and all(
            np.allclose(images[link], values[link], rtol=0.0, atol=TOLERANCE) for link in values
        )
        moved = sites[operation.images]
        # a value that is not known is not a number
        if same_links and np.allclose(moved, sites, rtol=0.0, atol=TOLERANCE, equal_nan=True):
            kept.append(operation)
    return kept
