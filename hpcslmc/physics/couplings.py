r"""Couplings of the electrons, for a lattice of any size of one crystal.

.. math::
    h(S) = -\sum_b \left(T_b M_b |{\rm from}_b\rangle\langle {\rm to}_b| + {\rm h.c.}\right)
        + \bigoplus_i \left(e_i - \tfrac12 B \cdot \sigma + \tfrac{J_i}{2} S_i \cdot \sigma\right)

with amplitudes T_b, real or complex, and 2x2 matrices M_b of the spin, 1 unless given. Here is what
depends on no size; `Hamiltonian` makes matrices of it. Without torch, so that a job is checked
quickly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hpcslmc.physics.catalogue import CATALOGUE, SQUARE
from hpcslmc.physics.crystal import Crystal, Link
from hpcslmc.physics.symmetry import Operation, preserving, space_group

Matrix = tuple[tuple[complex, complex], tuple[complex, complex]]
ONE = ((1.0, 0.0), (0.0, 1.0))


@dataclass(frozen=True)
class Hop:
    """Amplitude of hops along a link, and what they do to the spin.

    Attributes
    ----------
    link : Link
    amplitude : float or complex
        T: the matrix element from the end to the start is -T M.
    matrix : (2, 2) nested tuple, optional
        M.
    """

    link: Link
    amplitude: complex
    matrix: Matrix = ONE

    @property
    def is_scalar(self) -> bool:
        """True if the hop leaves the spin as it is."""
        return self.matrix == ONE

    @property
    def element(self) -> np.ndarray:
        """(2, 2) complex128, the matrix element -T M from the end to the start."""
        return -self.amplitude * np.array(self.matrix, dtype=complex)


def shell_links(crystal: Crystal, count: int) -> list[list[Link]]:
    """Return the links of the first shells of neighbours, nearest first.

    Those of the catalogue, where it says what counts as nearest.

    Raises
    ------
    ValueError
        More than one shell of a crystal whose nearest neighbours are of several distances.
    """
    for name, named in CATALOGUE.items():
        if named.crystal == crystal and named.nearest is not None:
            if count > 1:
                raise ValueError(
                    f"only the nearest neighbours of the {name} lattice are a shell; name other "
                    "bonds one by one"
                )
            return [named.nearest][:count]
    return crystal.shells(count)


@dataclass(frozen=True)
class Couplings:
    """Couplings of the electrons to each other's places and to the spins.

    Parameters
    ----------
    crystal : Crystal
    hops : tuple of Hop
        Each bond of the unit cell once.
    J : tuple of float
        Coupling to the classical spin, for each sublattice.
    potential : tuple of float
        On-site energy, for each sublattice.
    field : (3,) tuple of float
        B, a Zeeman field on the electrons.
    twist : tuple of float
        Phases of the boundary over 2 pi, for each direction.
    spins : tuple of bool
        Whether there is a classical spin, for each sublattice.
    """

    crystal: Crystal
    hops: tuple[Hop, ...]
    J: tuple[float, ...]
    potential: tuple[float, ...]
    field: tuple[float, float, float]
    twist: tuple[float, ...]
    spins: tuple[bool, ...]

    @classmethod
    def make(
        cls,
        crystal: Crystal = SQUARE,
        t: complex | Sequence[complex] = 1.0,
        J: float | Sequence[float] = 1.0,
        bonds: Sequence[Hop] = (),
        potential: Sequence[float] | None = None,
        field: Sequence[float] = (0.0, 0.0, 0.0),
        twist: Sequence[float] | None = None,
        spins: Sequence[bool] | None = None,
    ) -> "Couplings":
        """Make couplings from amplitudes by shell and from single bonds.

        Parameters
        ----------
        crystal : Crystal
        t : number or sequence
            Amplitudes of the shells of neighbours, nearest first.
        J : float or sequence
            Of all sites, or of each sublattice.
        bonds : sequence of Hop
            Besides the shells.
        potential, field, twist : sequences, optional
            0 if not given.
        spins : sequence of bool, optional
            For each sublattice; all true if not given. J is 0 where there is no spin.

        Raises
        ------
        ValueError
            A bond is given twice, or joins a site with itself.
        """
        amplitudes = [t] if isinstance(t, complex | float | int) else list(t)
        hops = [
            Hop(link, amplitude)
            for amplitude, links in zip(
                amplitudes, shell_links(crystal, len(amplitudes)), strict=True
            )
            for link in links
        ]
        hops += bonds
        known: set[Link] = set()
        for hop in hops:
            check_link(crystal, hop.link, known)
        count = len(crystal.names)
        there = tuple(map(bool, spins)) if spins is not None else (True,) * count
        strengths = (float(J),) * count if isinstance(J, float | int) else tuple(map(float, J))
        return cls(
            crystal,
            tuple(hops),
            tuple(strength if spin else 0.0 for strength, spin in zip(strengths, there)),
            tuple(map(float, potential)) if potential is not None else (0.0,) * count,
            (float(field[0]), float(field[1]), float(field[2])),
            tuple(map(float, twist)) if twist is not None else (0.0,) * crystal.dimension,
            there,
        )

    @property
    def is_scalar(self) -> bool:
        """True if no static part of h acts on the electrons' spin."""
        return not any(self.field) and all(hop.is_scalar for hop in self.hops)

    @property
    def is_real(self) -> bool:
        """True if all amplitudes are real and the boundary has no phase."""
        return not any(self.twist) and all(complex(hop.amplitude).imag == 0.0 for hop in self.hops)

    @cached_property
    def hopping_bound(self) -> float:
        """Gershgorin bound of the energies of electrons that no spin scatters."""
        strengths = np.abs(self.potential) + 0.5 * np.linalg.norm(self.field)
        for hop in self.hops:
            strength = abs(hop.amplitude)
            if not hop.is_scalar:
                strength *= float(np.linalg.norm(np.array(hop.matrix), 2))
            for end in (hop.link.start, hop.link.end):
                strengths[end] += strength
        return float(strengths.max())

    @property
    def bound(self) -> float:
        """Bound of all |E_n|, whatever the spins and the size of the lattice.

        Hops by Gershgorin's circles, and V(S) = (J/2) S.sigma by its eigenvalues +-J/2.
        """
        return self.hopping_bound + 0.5 * max(map(abs, self.J))

    @cached_property
    def symmetries(self) -> list[Operation]:
        """Operations of the space group that leave h as it is, rotating no spin.

        Only the identity where the boundary has a phase.
        """
        values: dict[Link, np.ndarray] = {}
        for hop in self.hops:
            values[hop.link] = hop.element
            values[hop.link.reverse] = hop.element.conj().T
        sites = np.column_stack((self.potential, self.J, self.spins))
        operations = space_group(self.crystal)
        if any(self.twist):
            one = np.eye(self.crystal.dimension, dtype=int)
            operations = [op for op in operations if (op.rotation == one).all()]
        return preserving(operations, values, sites)

    def bloch(self, phases: np.ndarray) -> np.ndarray:
        """Return the static part of h at momenta, (n, 2 sublattices, 2 sublattices) complex128.

        In the gauge in which a phase belongs to a cell.

        Parameters
        ----------
        phases : (n, d) float64
            k . a_i of each lattice vector; a twist is not in them.
        """
        count = len(self.crystal.names)
        h = np.zeros((len(phases), count, 2, count, 2), complex)
        for hop in self.hops:
            waves = np.exp(1j * phases @ np.array(hop.link.cell))[:, None, None]
            h[:, hop.link.start, :, hop.link.end] += waves * hop.element
            h[:, hop.link.end, :, hop.link.start] += waves.conj() * hop.element.conj().T
        x, y, z = self.field
        zeeman = -0.5 * np.array([[z, x - 1j * y], [x + 1j * y, -z]])
        for site, energy in enumerate(self.potential):
            h[:, site, :, site] += energy * np.eye(2) + zeeman
        return h.reshape(len(phases), 2 * count, 2 * count)


def check_link(crystal: Crystal, link: Link, known: set[Link]) -> None:
    """Raise ValueError for a bond that is known or joins a site with itself."""
    name = (
        f"the bond from {crystal.names[link.start]} to {crystal.names[link.end]} in cell "
        f"{list(link.cell)}"
    )
    if link == link.reverse:
        raise ValueError(f"{name} joins a site with itself")
    if link.undirected in known:
        raise ValueError(f"{name} is given twice, or in both directions")
    known.add(link.undirected)
