r"""Couplings of the classical spins to each other and to fields, for a lattice of any size.

.. math::
    E_{\rm cl}(S) = \sum_b \left[K_b\, S_{{\rm from}_b} \cdot S_{{\rm to}_b}
        + D_b \cdot (S_{{\rm from}_b} \times S_{{\rm to}_b})\right]
        - \sum_i h \cdot S_i - D \sum_i (S_i^z)^2

Each bond counts once; K > 0 is antiferromagnetic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcslmc.physics.couplings import check_link, shell_links
from hpcslmc.physics.crystal import Crystal, Link
from hpcslmc.physics.symmetry import Operation, preserving

Vector = tuple[float, float, float]
NOTHING = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ClassicalBond:
    """Energy K S_from . S_to + D . (S_from x S_to) of a bond.

    Attributes
    ----------
    link : Link
    exchange : float
        K.
    dm : (3,) tuple of float
        D, the Dzyaloshinskii-Moriya vector.
    """

    link: Link
    exchange: float
    dm: Vector = NOTHING

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) float64, A in the energy S_from . A S_to."""
        x, y, z = self.dm
        cross = np.array([[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]])
        return self.exchange * np.eye(3) + cross


@dataclass(frozen=True)
class ClassicalCouplings:
    """Couplings of the classical spins, for a lattice of any size of one crystal.

    Attributes
    ----------
    bonds : tuple of ClassicalBond
        Each bond of the unit cell once.
    field : (3,) tuple of float
        h.
    easy_axis : float
        D; negative for an easy plane.
    """

    bonds: tuple[ClassicalBond, ...]
    field: Vector = NOTHING
    easy_axis: float = 0.0

    @classmethod
    def make(
        cls,
        crystal: Crystal,
        exchange: Sequence[float] = (),
        bonds: Sequence[ClassicalBond] = (),
        field: Vector = NOTHING,
        easy_axis: float = 0.0,
    ) -> "ClassicalCouplings":
        """Make couplings from exchange by shell of neighbours and from single bonds.

        Raises
        ------
        ValueError
            A bond is given twice, or joins a site with itself.
        """
        shells = shell_links(crystal, len(exchange))
        all_bonds = [
            ClassicalBond(link, K) for K, links in zip(exchange, shells) for link in links if K
        ]
        all_bonds += bonds
        known: set[Link] = set()
        for bond in all_bonds:
            check_link(crystal, bond.link, known)
        return cls(tuple(all_bonds), field, easy_axis)

    @property
    def is_nothing(self) -> bool:
        """True if there is no energy at all."""
        return not (self.bonds or any(self.field) or self.easy_axis)

    def preserving(self, operations: list[Operation]) -> list[Operation]:
        """Select the operations that leave the energy as it is, rotating no spin."""
        values = {bond.link: bond.matrix for bond in self.bonds}
        values |= {bond.link.reverse: bond.matrix.T for bond in self.bonds}
        return preserving(operations, values, np.zeros((len(operations[0].images), 1)))
