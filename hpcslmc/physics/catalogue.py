"""The named crystals, with their momenta of high symmetry.

Lattice vectors of length 1, but for the fcc lattice and pyrochlore, whose cubic cell has edges of
length 1; 60 degrees between those of the hexagonal crystals. Points are in units of the reciprocal
vectors.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from hpcslmc.physics.crystal import Crystal, Link

ROOT3 = math.sqrt(3.0)
HEXAGONAL = ((1.0, 0.0), (0.5, 0.5 * ROOT3))
SQUARED = ((1.0, 0.0), (0.0, 1.0))
FACES = ((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
HEXAGONAL_POINTS = {"K": (1 / 3, 2 / 3), "M": (0.5, 0.0)}
SQUARE_POINTS = {"X": (0.5, 0.0), "M": (0.5, 0.5)}
FACE_POINTS = {"X": (0.0, 0.5, 0.5), "L": (0.5, 0.5, 0.5)}


@dataclass(frozen=True)
class Named:
    """A named crystal.

    Attributes
    ----------
    crystal : Crystal
    points : mapping of str to tuple of float
        Momenta of high symmetry besides Gamma, in units of the reciprocal vectors.
    orders : tuple of str
        Points of the magnetic orders that are known from the literature.
    nearest : list of Link or None
        What counts as the nearest neighbours, where not all at one distance do.
    """

    crystal: Crystal
    points: Mapping[str, tuple[float, ...]]
    orders: tuple[str, ...]
    nearest: list[Link] | None = field(default=None)


def _half(*vectors: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(0.5 * sum(each) for each in zip(*vectors, strict=True))


def _one(vectors: tuple[tuple[float, ...], ...]) -> Crystal:
    return Crystal(vectors, ("A",), ((0.0,) * len(vectors),))


SQUARE = _one(SQUARED)

CATALOGUE: dict[str, Named] = {
    "chain": Named(_one(((1.0,),)), {"X": (0.5,)}, ("X",)),
    "square": Named(SQUARE, SQUARE_POINTS, ("M", "X")),
    "triangular": Named(_one(HEXAGONAL), HEXAGONAL_POINTS, ("K", "M")),
    "honeycomb": Named(
        Crystal(HEXAGONAL, ("A", "B"), ((0.0, 0.0), (0.5, 0.5 / ROOT3))),
        HEXAGONAL_POINTS,
        ("K", "M"),
    ),
    "kagome": Named(
        Crystal(HEXAGONAL, ("A", "B", "C"), ((0.0, 0.0), *(_half(v) for v in HEXAGONAL))),
        HEXAGONAL_POINTS,
        ("K", "M"),
    ),
    "lieb": Named(
        Crystal(SQUARED, ("A", "B", "C"), ((0.0, 0.0), *(_half(v) for v in SQUARED))),
        SQUARE_POINTS,
        ("M", "X"),
    ),
    "checkerboard": Named(
        Crystal(SQUARED, ("A", "B"), ((0.0, 0.0), (0.5, 0.5))),
        SQUARE_POINTS,
        ("M", "X"),
        # each crossed plaquette is a tetrahedron seen from above: its diagonals count, too
        [
            Link(0, 0, (1, 0)),
            *(Link(0, 1, (x, y)) for x in (0, -1) for y in (0, -1)),
            Link(1, 1, (0, 1)),
        ],
    ),
    "cubic": Named(
        _one(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))),
        {"X": (0.5, 0.0, 0.0), "M": (0.5, 0.5, 0.0), "R": (0.5, 0.5, 0.5)},
        ("R", "M", "X"),
    ),
    "fcc": Named(_one(FACES), FACE_POINTS, ("X", "L")),
    "pyrochlore": Named(
        Crystal(
            FACES, ("A", "B", "C", "D"), ((0.0, 0.0, 0.0), *(_half(vector) for vector in FACES))
        ),
        FACE_POINTS,
        ("X", "L"),
    ),
}
