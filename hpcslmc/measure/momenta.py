"""Momenta by name, their stars, and what lies beside them.

A momentum is given by its coordinates in units of the reciprocal vectors, as exact fractions, or by
the name of a point of high symmetry. Of a crystal with one site a cell momenta count modulo the
reciprocal vectors; with several the phases exp(i q.r_i) at the true positions do not repeat there,
and (1,0) is another momentum than (0,0). Without torch, so that a job is checked quickly.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import numpy as np

from hpcslmc.physics.catalogue import CATALOGUE, SQUARE, Named
from hpcslmc.physics.crystal import Crystal
from hpcslmc.physics.lattice import Lattice
from hpcslmc.physics.symmetry import Operation, space_group

Coordinates = tuple[Fraction, ...]
GAMMA = "G"
LARGEST_DENOMINATOR = 1024
"""Of a coordinate: the longest side of a lattice."""
NAMES = {GAMMA, *(name for named in CATALOGUE.values() for name in named.points)}
"""Names of points of high symmetry, of any crystal."""


def is_square(lattice: Lattice) -> bool:
    """Tell whether the crystal is the square lattice, whose observables have names of their own."""
    return lattice.crystal == SQUARE


def name_origin(label: str, lattice: Lattice) -> str:
    """Name the origin in a label: (0,0) on the square lattice, Gamma on every other."""
    if is_square(lattice):
        return label
    return label.replace("m(0,0)", "m(Gamma)").replace("(0,0)", "Gamma")


def _named(crystal: Crystal) -> Named | None:
    return next((named for named in CATALOGUE.values() if named.crystal == crystal), None)


def points(crystal: Crystal) -> dict[str, Coordinates]:
    """Return the named points of a crystal: Gamma, G, and those of the catalogue."""
    named = _named(crystal)
    known = {} if named is None else named.points
    return {GAMMA: (Fraction(0),) * crystal.dimension} | {
        name: tuple(Fraction(x).limit_denominator(LARGEST_DENOMINATOR) for x in place)
        for name, place in known.items()
    }


def usual_momenta(lattice: Lattice) -> list[str]:
    """Return the points that are measured unless the job says which.

    Those of the catalogue's orders that the lattice has; none of the square lattice, where (pi, pi)
    is measured under its own name.
    """
    named = _named(lattice.crystal)
    if named is None or is_square(lattice):
        return []
    return [name for name in named.orders if has_point(lattice, name)]


def point_name(text: str, crystal: Crystal) -> str:
    """Return the name that a momentum has in names of observables.

    Parameters
    ----------
    text : str
        Coordinates, as in "(1/3,2/3)", or the name of a point.
    crystal : Crystal

    Returns
    -------
    str
        The point's name, or else its coordinates: q_1over4_0 for (1/4,0).

    Raises
    ------
    ValueError
        There is no such momentum.
    """
    known = points(crystal)
    if text in known:
        return text
    try:
        coordinates = tuple(Fraction(part) for part in re.sub(r"[()\s]", "", text).split(","))
    except (ValueError, ZeroDivisionError):
        coordinates = ()
    if len(coordinates) != crystal.dimension:
        example = ",".join(["1/2", "0", "0"][: crystal.dimension])
        raise ValueError(
            f'"{text}" is no momentum: give {crystal.dimension} numbers in units of the reciprocal '
            f'vectors, as in "({example})", or one of {", ".join(known)}'
        )
    for name, place in known.items():
        if place == coordinates:
            return name
    parts = (str(x).replace("-", "minus").replace("/", "over") for x in coordinates)
    return "_".join(("q", *parts))


def point_label(name: str) -> str:
    """Write a point as a physicist does: its name, or its coordinates in brackets."""
    if name in NAMES:
        return name
    return f"({','.join(map(str, _given(name)))})"


@cache
def _given(name: str) -> Coordinates:
    """Return the coordinates that a name consists of; raises KeyError if it does not."""
    first, *parts = name.split("_")
    try:
        if first == "q" and parts:
            return tuple(
                Fraction(part.replace("minus", "-").replace("over", "/")) for part in parts
            )
    except (ValueError, ZeroDivisionError):
        pass
    raise KeyError(name)


def is_point_name(name: str) -> bool:
    """Tell whether a name is one of a momentum, of any crystal."""
    try:
        return name in NAMES or bool(_given(name))
    except KeyError:
        return False


def coordinates_of(name: str, crystal: Crystal) -> Coordinates:
    """Return the coordinates of a named momentum; raises KeyError where the crystal has none."""
    return points(crystal)[name] if name in NAMES else _given(name)


def has_point(lattice: Lattice, name: str) -> bool:
    """Tell whether a named momentum is one of the lattice's: waves that fit into its sides."""
    try:
        return _fits(coordinates_of(name, lattice.crystal), lattice)
    except KeyError:
        return False


def _fits(coordinates: Sequence[Fraction], lattice: Lattice) -> bool:
    return len(coordinates) == lattice.dimension and all(
        (x * side).denominator == 1 for x, side in zip(coordinates, lattice.shape, strict=True)
    )


def check_momentum(text: str, lattice: Lattice) -> str:
    """Return the name of a momentum of the lattice; raises ValueError if it is not one."""
    name = point_name(text, lattice.crystal)
    if not has_point(lattice, name):
        places = coordinates_of(name, lattice.crystal)
        sides = [str(x.denominator) for x in places]
        raise ValueError(
            f'"{text}" is no momentum of a lattice of {" x ".join(map(str, lattice.shape))} cells: '
            f"its sides would have to be multiples of {', '.join(sides)}"
        )
    return name


@cache
def operations(crystal: Crystal) -> list[Operation]:
    """Return the operations of a crystal's space group, found once."""
    return space_group(crystal)


def star(lattice: Lattice, name: str) -> np.ndarray:
    """Return the star of a point: its images under the crystal's space group, and -q of each.

    As far as they are momenta of the lattice; (momenta, d) float64, Cartesian.
    """
    crystal = lattice.crystal
    place = np.array(coordinates_of(name, crystal), dtype=object)
    images = {
        _reduced(sign * (place @ operation.rotation), crystal)
        for operation in operations(crystal)
        for sign in (1, -1)
    }
    kept = sorted(image for image in images if _fits(image, lattice))
    return np.array(kept, dtype=float) @ crystal.reciprocal


def _reduced(coordinates: np.ndarray, crystal: Crystal) -> Coordinates:
    """Bring coordinates into the reciprocal cell of a crystal with one site a cell."""
    return tuple(x % 1 if len(crystal.names) == 1 else x for x in coordinates.tolist())


def smallest_steps(lattice: Lattice) -> np.ndarray:
    """Return the smallest momenta along the reciprocal vectors, (directions, d), Cartesian.

    One step b / L along the side of the longest waves, or along all such sides.
    """
    sides = np.array(lattice.shape)
    steps = (lattice.crystal.reciprocal / sides[:, None])[sides > 1]
    sizes = np.linalg.norm(steps, axis=1)
    return steps[np.isclose(sizes, sizes.min(initial=np.inf), rtol=1e-9)]


def step_size(lattice: Lattice) -> float:
    """Return the size of the smallest momenta, as the lattice's Laplacian measures it.

    (2 / r) sin(|k| r / 2), with r the distance of nearest neighbours.
    """
    (first, *_), *_ = lattice.crystal.shells(1)
    distance = lattice.crystal.length(first)
    size = np.linalg.norm(smallest_steps(lattice)[0])
    return float(2.0 / distance * np.sin(0.5 * size * distance))


def waves(lattice: Lattice, momenta: np.ndarray) -> np.ndarray:
    """Return cosines, and then sines, of q.r_i over N, (2 momenta, sites) float64."""
    angles = np.array([lattice.positions @ q for q in momenta])
    return np.concatenate((np.cos(angles), np.sin(angles))) / lattice.sites
