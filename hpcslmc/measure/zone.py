"""The momenta of functions of momentum, and Fourier transforms to them."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hpcslmc.measure.grid import Axis
from hpcslmc.measure.momenta import is_square
from hpcslmc.physics.crystal import TOLERANCE, Crystal
from hpcslmc.physics.lattice import Lattice

MOST = 4
"""Most reciprocal cells of a zone in a direction."""


def repeats(crystal: Crystal) -> tuple[int, ...]:
    """Return after how many reciprocal cells in each direction functions of momentum repeat.

    One for a crystal with one site a cell. With a basis it is where the phases exp(i q.r) of all
    sites are 1 again: the common denominator of their coordinates in units of the lattice vectors,
    2 for kagome and pyrochlore, 3 for honeycomb. ``MOST`` where that is more, or there is none.
    """
    places = np.array(crystal.places)
    found = []
    for steps in ((places - places[0]) @ np.linalg.inv(crystal.vectors)).T:
        parts = [Fraction(float(x)).limit_denominator(MOST) for x in steps]
        repeat = math.lcm(*(part.denominator for part in parts))
        exact = np.allclose(steps, [float(x) for x in parts], rtol=0.0, atol=TOLERANCE)
        found.append(repeat if exact and repeat <= MOST else MOST)
    return tuple(found)


class Zone:
    """The lattice's momenta in as many reciprocal cells as ``repeats`` says.

    Parameters
    ----------
    lattice : Lattice
    twist : sequence of float, optional
        Phases of the boundary over 2 pi, by which the electrons' momenta are shifted.

    Attributes
    ----------
    shape : tuple of int
        Momenta in the direction of each reciprocal vector, all cells together.
    """

    def __init__(self, lattice: Lattice, twist: Sequence[float] | None = None) -> None:
        self.lattice, self._repeats = lattice, repeats(lattice.crystal)
        self._twist = (0.0,) * lattice.dimension if twist is None else tuple(twist)
        self.shape = tuple(n * side for n, side in zip(self._repeats, lattice.shape, strict=True))

    def axes(self, letter: str) -> dict[str, Axis]:
        """Return the axes of the zone.

        Of the square lattice ``letter`` x and y, from 0 up to 2 pi, with (pi, pi) in the middle;
        of others ``letter`` 1, 2, 3, in units of the reciprocal vectors, from 0 up to the number of
        cells.
        """
        square = is_square(self.lattice)
        scale = 2.0 * np.pi if square else 1.0
        return {
            letter + (("x", "y") if square else ("1", "2", "3"))[k]: Axis(
                scale * (np.arange(count) + self._twist[k]) / side, "1/a" if square else f"b{k + 1}"
            )
            for k, (count, side) in enumerate(zip(self.shape, self.lattice.shape, strict=True))
        }

    def transform(self, values: Tensor) -> Tensor:
        """Return sum_i exp(-i q.r_i) v_i / sqrt(N), (chains, *zone, ...).

        Values are (chains, sites, ...).
        """
        lattice = self.lattice
        cells = values.unflatten(1, (*lattice.shape, lattice.sublattices))
        dims = tuple(range(1, 1 + lattice.dimension))
        modes = torch.fft.fftn(cells, dim=dims, norm="ortho").movedim(dims[-1] + 1, 0)
        if lattice.sublattices == 1:
            return modes[0]
        rest = (1,) * (values.dim() - 2)
        total = torch.zeros(
            (len(values), *self.shape, *values.shape[2:]), dtype=modes.dtype, device=values.device
        )
        for mode, wave in zip(modes, self._waves, strict=True):
            phases = torch.as_tensor(wave, device=values.device).view(*self.shape, *rest)
            total += phases * mode.repeat(1, *self._repeats, *rest)
        return total / math.sqrt(lattice.sublattices)

    @cached_property
    def _waves(self) -> np.ndarray:
        """(sublattices, *zone) complex128, exp(-i q.r) of each site of the cell."""
        steps = [
            (np.arange(count) + twist) / side
            for count, twist, side in zip(self.shape, self._twist, self.lattice.shape, strict=True)
        ]
        momenta = np.stack(np.meshgrid(*steps, indexing="ij"), -1) @ self.lattice.crystal.reciprocal
        places = np.array(self.lattice.crystal.places)
        return np.exp(-1j * np.moveaxis(momenta @ places.T, -1, 0))
