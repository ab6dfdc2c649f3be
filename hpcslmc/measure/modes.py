r"""Observables and derived quantities of momenta and of sublattices that a job names.

Each kind has a name for every momentum or sublattice: m2_K, binder_K, m2_sublattice_A. Where space
symmetry makes several momenta of one, their star, |m_q|^2 is its mean over the star.
"""

from collections.abc import Collection, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.derived import Derived, Means, UniformCorrelationLength
from hpcslmc.measure.momenta import (
    check_momentum,
    has_point,
    is_point_name,
    point_label,
    smallest_steps,
    star,
    usual_momenta,
    waves,
)
from hpcslmc.measure.observables import NextToUniform2, Observable
from hpcslmc.physics.lattice import Lattice


class Mode2(Observable):
    """|m_q|^2, the mean over the star of q: S(q) / N, and 1/N for free spins.

    One matrix product with the phases of all sites.
    """

    name, label, point = "m2_", "|m{1}|^2", ""

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        super().__init__(lattice, device)
        momenta = self.momenta(lattice)
        self._waves = torch.as_tensor(waves(lattice, momenta), device=device)
        self._count = len(momenta)

    @classmethod
    def exists(cls, lattice: Lattice) -> bool:
        return has_point(lattice, cls.point)

    def momenta(self, lattice: Lattice) -> np.ndarray:
        """Return the momenta (momenta, d) over which the mean is taken, Cartesian."""
        return star(lattice, self.point)

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return (self._waves @ spins).square().sum((1, 2)) / self._count


class Mode4(Mode2):
    """Square of the mean of |m_q|^2 over the star, for the Binder ratio."""

    name, label = "m4_", "|m{1}|^4"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return super().measure(spins, evaluation).square()


class NextToMode2(Mode2):
    """|m_q|^2 next to the star, one smallest step along the reciprocal vectors off."""

    name, label = "m2_next_", "|m_q|^2 next to {}"

    @classmethod
    def exists(cls, lattice: Lattice) -> bool:
        return NextToUniform2.exists(lattice) and super().exists(lattice)

    def momenta(self, lattice: Lattice) -> np.ndarray:
        """Return the momenta (momenta, d) over which the mean is taken, Cartesian."""
        beside = super().momenta(lattice)[:, None] + smallest_steps(lattice)
        return beside.reshape(-1, lattice.dimension)


class SublatticeMagnetisation2(Observable):
    """|m_a|^2, with m_a the mean of the spins of a sublattice; 1 if they are parallel."""

    name, label, point = "m2_sublattice_", "|m of {}|^2", ""

    @classmethod
    def exists(cls, lattice: Lattice) -> bool:
        """Tell whether the crystal has that sublattice, and others."""
        return lattice.sublattices > 1 and cls.point in lattice.crystal.names

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        first = self.lattice.crystal.names.index(self.point)
        return spins[:, first :: self.lattice.sublattices].mean(1).square().sum(-1)


class AtPoint(Derived):
    """A quantity derived from the modes at a momentum."""

    point = ""
    of_point: tuple[str, ...]
    """Observables that it needs, without the name of the point."""


class Susceptibility(AtPoint):
    """chi = beta N <|m_q|^2>, summed over the three spin components; beta for free spins."""

    name, label, of_point = "susceptibility_", "susceptibility at {} [1/t]", ("m2_",)

    def value(self, means: Means) -> np.ndarray:
        return self.beta * self.lattice.sites * means[self.inputs[0]]


class Binder(AtPoint):
    r"""Binder ratio of an order of n real components, 0 for Gaussian fluctuations and 1 with order.

    .. math::

        U = 1 + \frac{n}{2} - \frac{n}{2} \frac{\langle |m|^4 \rangle}{\langle |m|^2 \rangle^2},
        \qquad n = 3 \frac{(\mathrm{tr} A)^2}{\mathrm{tr} A^2}, \qquad
        A_{ij} = \sum_{q \in \mathrm{star}} \cos q.(r_i - r_j)

    n is three times the number of independent waves: 3 for q = 0, 6 for K of the triangular
    lattice, 9 for its three M.
    """

    name, label, of_point = "binder_", "Binder ratio at {}", ("m2_", "m4_")

    @cached_property
    def components(self) -> float:
        """n."""
        modes = waves(self.lattice, star(self.lattice, self.point))
        overlaps = modes @ modes.T
        return float(3.0 * np.trace(overlaps) ** 2 / np.square(overlaps).sum())

    def value(self, means: Means) -> np.ndarray:
        m2, m4 = (means[name] for name in self.inputs)
        half = 0.5 * self.components
        return 1.0 + half - half * m4 / m2**2


class CorrelationLength(UniformCorrelationLength, AtPoint):
    """Second-moment correlation length, as ``UniformCorrelationLength``, at a momentum."""

    name, label = "correlation_length_", "correlation length at {} [a]"
    of_point = ("m2_", "m2_next_")


OBSERVABLES = (NextToMode2, Mode2, Mode4)
DERIVED = (Susceptibility, Binder, CorrelationLength)


@cache
def named_kind(name: str) -> type[Any]:
    """Make the class of an observable or a derived quantity of a momentum or a sublattice.

    Raises
    ------
    KeyError
        The name is none of those.
    """
    prefix = SublatticeMagnetisation2.name
    if name.startswith(prefix):
        point = name.removeprefix(prefix)
        return _subclass(SublatticeMagnetisation2, name, point, point)
    for kind in (*OBSERVABLES, *DERIVED):
        point = name.removeprefix(kind.name)
        if point != name and is_point_name(point):
            return _subclass(kind, name, point, point_label(point))
    raise KeyError(name)


def _subclass(kind: type[Any], name: str, point: str, shown: str) -> type[Any]:
    attributes: dict[str, object] = {
        "__doc__": kind.__doc__,
        "name": name,
        "label": kind.label.format(shown, f"({shown.strip('()')})"),
        "point": point,
    }
    if issubclass(kind, AtPoint):
        attributes["inputs"] = tuple(part + point for part in kind.of_point)
    return type(kind.__name__, (kind,), attributes)


def mode_names(lattice: Lattice, momenta: Sequence[str] | None = None) -> list[str]:
    """Return the observables of sublattices, and of momenta by name, that a lattice has.

    The usual momenta if none are given as a job gives them.

    Raises
    ------
    ValueError
        A momentum is none of the lattice.
    """
    if momenta is None:
        chosen = usual_momenta(lattice)
    else:
        chosen = [check_momentum(text, lattice) for text in momenta]
    names = [SublatticeMagnetisation2.name + name for name in lattice.crystal.names]
    names += [kind.name + point for point in chosen for kind in (Mode2, Mode4, NextToMode2)]
    return [name for name in names if named_kind(name).exists(lattice)]


def measured_points(measured: Collection[str]) -> list[str]:
    """Return the momenta, by name, whose |m_q|^2 is among what is measured."""
    points = [name.removeprefix(Mode2.name) for name in measured if name.startswith(Mode2.name)]
    return [point for point in points if is_point_name(point)]


def derived_names(measured: Collection[str]) -> list[str]:
    """Return the derived quantities, by name, of all momenta whose modes are measured."""
    return [kind.name + point for point in measured_points(measured) for kind in DERIVED]
