"""Figures of lattices other than the square one, in their true geometry."""

import itertools
import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection, PolyCollection
from matplotlib.colors import Normalize
from matplotlib.patches import Circle, Polygon
from scipy.spatial import Voronoi

from hpcslmc.measure.grid import Axis
from hpcslmc.measure.momenta import GAMMA, has_point, points
from hpcslmc.measure.rings import nearest_links
from hpcslmc.measure.zone import repeats
from hpcslmc.physics.lattice import Lattice

REACH = 0.42
"""Radius of the disc of a spin, in units of the distance between nearest neighbours."""


def wigner_seitz(vectors: np.ndarray) -> np.ndarray:
    """Return the corners, in order, of what is nearer to 0 than to other points of a lattice.

    (corners, 2) of vectors (2, 2), one a row.
    """
    near = np.array(sorted(itertools.product(range(-3, 4), repeat=2), key=lambda n: n != (0, 0)))
    cells = Voronoi(near @ vectors)
    corners = cells.vertices[cells.regions[cells.point_region[0]]]
    return corners[np.argsort(np.arctan2(*corners.T[::-1]))]


def whole_zone(lattice: Lattice) -> np.ndarray:
    """Return the vectors (d, d) after which functions of momentum repeat, Cartesian."""
    return lattice.crystal.reciprocal * np.array(repeats(lattice.crystal))[:, None]


def zone_map(axes: Axes, lattice: Lattice, values: np.ndarray, norm: Normalize) -> PolyCollection:
    """Draw values at momenta over the zone, each in the cell that is nearest to it.

    The zone is that of the reciprocal vectors or, of a crystal with a basis, of as many as it takes
    the values to repeat, with the first Brillouin zone in it.

    Parameters
    ----------
    axes : Axes
    lattice : Lattice
        In two dimensions.
    values : (q1, q2) float64
    norm : Normalize
    """
    steps = lattice.crystal.reciprocal / np.array(lattice.shape)[:, None]
    outline, cell = wigner_seitz(whole_zone(lattice)), wigner_seitz(steps)
    reach = np.linalg.norm(outline, axis=1).max() + np.linalg.norm(cell, axis=1).max()
    # how many steps it takes, in units of the distance between lines of momenta
    most = np.ceil(reach * np.linalg.norm(np.linalg.inv(steps), axis=0)).astype(int)
    numbers = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij"), -1)
    numbers = numbers.reshape(-1, 2)
    numbers = numbers[np.linalg.norm(numbers @ steps, axis=1) < reach]
    shown = values[tuple(np.mod(numbers, values.shape).T)]
    places = (numbers @ steps)[:, None] + cell
    image = PolyCollection(
        list(places), array=shown, norm=norm, edgecolors="face", linewidths=0.2, rasterized=True
    )
    axes.add_collection(image)
    border = Polygon(outline, closed=True, fill=False, edgecolor="black", linewidth=0.8)
    axes.add_patch(border)
    image.set_clip_path(border)
    if lattice.sublattices > 1:
        first = wigner_seitz(lattice.crystal.reciprocal)
        axes.add_patch(Polygon(first, fill=False, edgecolor="white", linewidth=0.7, linestyle="--"))
    size = 1.06 * np.abs(outline).max(0)
    axes.set(xlim=(-size[0], size[0]), ylim=(-size[1], size[1]), aspect="equal")
    _name_points(axes, lattice)
    return image


def _name_points(axes: Axes, lattice: Lattice) -> None:
    """Write the names of points of high symmetry where they are."""
    for name, coordinates in points(lattice.crystal).items():
        x, y = np.array(coordinates, dtype=float) @ lattice.crystal.reciprocal
        axes.text(
            x,
            y,
            r"$\Gamma$" if name == GAMMA else name,
            fontsize=6,
            ha="center",
            va="center",
            bbox={"boxstyle": "circle,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75},
        )


def lengths_of_momenta(lattice: Lattice, axes: Mapping[str, Axis]) -> np.ndarray:
    """Return |q| of the momenta of a profile in the zone around 0, in the shape of the axes."""
    grids = np.meshgrid(*(axis.values for axis in axes.values()), indexing="ij")
    momenta = np.stack(grids, -1) @ lattice.crystal.reciprocal
    images = np.array(list(itertools.product((-2, -1, 0, 1), repeat=lattice.dimension)))
    return np.linalg.norm(momenta[..., None, :] + images @ whole_zone(lattice), axis=-1).min(-1)


def spin_map(
    axes: Axes,
    lattice: Lattice,
    horizontal: np.ndarray,
    vertical: np.ndarray,
    most: tuple[int, int],
) -> PatchCollection:
    """Draw spins at their places: direction in colour, and as arrows.

    Up to ``most`` sites have arrows, and outlines of arrows.

    Of a lattice in three dimensions the layer of cells with the last coordinate 0, seen along z.
    """
    layer = (
        lattice.coordinates[:, 2] == 0 if lattice.dimension == 3 else np.full(lattice.sites, True)
    )
    places = np.zeros((lattice.sites, 2))
    places[:, : min(2, lattice.dimension)] = lattice.positions[:, :2]
    links = nearest_links(lattice.crystal)
    distance = lattice.crystal.length(links[0])
    for link in links:
        start, end = lattice.ends(link)
        apart = lattice.positions[end] - lattice.positions[start] - lattice.crystal.offset(link)
        crosses = np.abs(apart).max(1) > 1e-6 * distance
        bonds = np.stack((places[start], places[end]), 1)[layer[start] & layer[end] & ~crosses]
        axes.add_collection(LineCollection(bonds, colors="#BBBBBB", linewidths=0.6, zorder=0))
    nearest = min(_distances(places[layer]), distance)
    discs = [Circle((x, y), REACH * nearest) for x, y in places[layer]]
    angle = np.arctan2(vertical, horizontal)[layer]
    image = PatchCollection(discs, cmap="twilight", alpha=0.9, linewidths=0.0)
    image.set_array(angle)
    image.set_clim(-math.pi, math.pi)
    axes.add_collection(image)
    if layer.sum() <= most[0]:
        axes.quiver(
            *places[layer].T,
            nearest * horizontal[layer],
            nearest * vertical[layer],
            pivot="middle",
            scale=1.25,
            scale_units="xy",
            angles="xy",
            width=0.1 * nearest,
            units="xy",
            color="black",
            edgecolor="white" if layer.sum() <= most[1] else "none",
            linewidth=0.3,
        )
    low, high = places[layer].min(0) - 0.7 * nearest, places[layer].max(0) + 0.7 * nearest
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    return image


def _distances(places: np.ndarray) -> float:
    """Return the smallest distance between two places (sites, 2) that are not the same."""
    apart = np.linalg.norm(places[:, None] - places[None, : min(len(places), 64)], axis=-1)
    apart = apart[apart > 1e-9]
    return float(apart.min()) if apart.size else math.inf


def path_through(lattice: Lattice) -> tuple[np.ndarray, list[int], list[str]]:
    """Return a path from Gamma through the named points of a crystal, and back.

    Those that are momenta of the lattice; along each reciprocal vector if none is.

    Returns
    -------
    path : (points, d) int
        Momenta, in steps of b / L.
    corners : list of int
        Which of them are corners.
    names : list of str
        Of the corners.
    """
    sides = np.array(lattice.shape)
    stops = [(GAMMA, 0 * sides)]
    for name, place in points(lattice.crystal).items():
        if name != GAMMA and has_point(lattice, name):
            stops.append((name, np.array([int(x * n) for x, n in zip(place, sides, strict=True)])))
    if len(stops) == 1:
        stops += [
            (f"$b_{k + 1}$", sides[k] * row) for k, row in enumerate(np.eye(len(sides), dtype=int))
        ]
    stops.append(stops[0])
    path, corners = [stops[0][1]], [0]
    for (_, start), (_, end) in itertools.pairwise(stops):
        count = math.gcd(*(end - start).tolist())
        path += [start + (end - start) // count * k for k in range(1, count + 1)] if count else []
        corners.append(len(path) - 1)
    return np.array(path), corners, [r"$\Gamma$" if name == GAMMA else name for name, _ in stops]
