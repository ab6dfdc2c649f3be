r"""One-body Hamiltonian of electrons on a lattice of classical spins: bonds and one block a site.

.. math::

    h(S) = -\sum_b \left(T_b M_b |r_b\rangle\langle r_b'| + \mathrm{h.c.}\right)
        + \bigoplus_i \left(e_i - \tfrac12 B \cdot \sigma + V(S_i)\right), \qquad
    V(S_i) = \frac{J_i}{2} S_i \cdot \sigma

Row ``2 i + a`` is site i, spin a (0 up, 1 down). h is Hermitian, 2N x 2N. What depends on no size
are its `Couplings`. The conventions of the whole program are stated and coded in this room and
nowhere else: what needs h(S), its derivative or its symmetries asks the `Hamiltonian`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.csgraph import breadth_first_order, connected_components
from torch import Tensor

from hpcslmc.errors import UserError
from hpcslmc.physics.couplings import Couplings
from hpcslmc.physics.crystal import TOLERANCE
from hpcslmc.physics.lattice import Lattice
from hpcslmc.physics.symmetry import Operation


@dataclass(frozen=True)
class Bonds:
    """All bonds of one kind: a bond of the unit cell and its images under translations.

    Each bond is listed once, and no site twice in ``start`` or in ``end``. Electrons hop along it
    both ways, from ``end`` to ``start`` with the matrix element -amplitude M and back with its
    adjoint.

    Attributes
    ----------
    start, end : (bonds,) int
        Sites.
    amplitude : float or complex
        T_b, an energy, with the phase of a twisted boundary.
    displacement : tuple of float
        From start to end along the bond, also where it crosses the boundary, Cartesian.
    matrix : (2, 2) complex128 or None
        M_b; None for 1.
    """

    start: np.ndarray
    end: np.ndarray
    amplitude: complex
    displacement: tuple[float, ...]
    matrix: np.ndarray | None = None

    @property
    def element(self) -> np.ndarray:
        """(2, 2) complex128, the matrix element -T_b M_b from the end to the start."""
        return -self.amplitude * (np.eye(2) if self.matrix is None else self.matrix)


def spin_blocks(matrices: Tensor) -> Tensor:
    """View the diagonal blocks (..., n/2, 2, 2), one a site, of matrices (..., n, n)."""
    n = matrices.shape[-1]
    sites = matrices.unflatten(-1, (n // 2, 2)).unflatten(-3, (n // 2, 2))
    return sites.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


class Hamiltonian:
    """h(S) of the spin-fermion (double-exchange, classical Kondo) model.

    Parameters
    ----------
    lattice : Lattice
    t : float, complex, or a sequence of them, or Couplings
        Hopping by shell of neighbours, nearest first; the unit of energy is usually t = 1. Or all
        couplings at once, with J in them.
    J : float
        Coupling of the local spin to the electrons' spin.
    device : torch.device or str
    site_J, site_potential : (sites,) float64, optional
        J and on-site energy of each site, in place of those of its sublattice.
    site_spins : (sites,) bool, optional
        Where there are classical spins, in place of the sublattices that have some.

    Raises
    ------
    ValueError
        A bond would join a site with itself.
    """

    def __init__(
        self,
        lattice: Lattice,
        t: complex | Sequence[complex] | Couplings = 1.0,
        J: float = 1.0,
        device: torch.device | str = "cpu",
        site_J: np.ndarray | None = None,
        site_potential: np.ndarray | None = None,
        site_spins: np.ndarray | None = None,
    ) -> None:
        self.lattice, self.device = lattice, device
        self.couplings = t if isinstance(t, Couplings) else Couplings.make(lattice.crystal, t, J)
        self._given_J, self._given_potential = site_J, site_potential
        self._given_spins = site_spins

    def on_lattice(self, lattice: Lattice) -> "Hamiltonian":
        """Return the Hamiltonian of another lattice with the same couplings, on the CPU.

        Values that belong to single sites are left behind.
        """
        return Hamiltonian(lattice, self.couplings)

    @property
    def is_uniform(self) -> bool:
        """True if translations by lattice vectors leave J and the on-site energies as they are."""
        given = (self._given_J, self._given_potential, self._given_spins)
        return all(values is None for values in given)

    @cached_property
    def site_J(self) -> np.ndarray:
        """(sites,) float64, coupling of each site's spin, 0 where there is none."""
        given = self._given_J
        values = np.array(self.couplings.J)[self.lattice.sublattice] if given is None else given
        return np.where(self.magnetic, values, 0.0)

    @cached_property
    def magnetic(self) -> np.ndarray:
        """(sites,) bool, the sites that have a classical spin."""
        given = self._given_spins
        return np.array(self.couplings.spins)[self.lattice.sublattice] if given is None else given

    @property
    def coupled(self) -> np.ndarray:
        """(sites,) bool, the sites whose spin the electrons see."""
        return self.site_J != 0.0

    @cached_property
    def site_potential(self) -> np.ndarray:
        """(sites,) float64, on-site energies."""
        of_sublattices = np.array(self.couplings.potential)[self.lattice.sublattice]
        given = self._given_potential
        return of_sublattices if given is None else np.asarray(given, float)

    @cached_property
    def spin_symmetry(self) -> str:
        """Group of rotations of all spins that log W is invariant under.

        "O(3)", "SO(3)", "inversion" (of all spins), or "none".

        Proper rotations are unitary transformations of h(S) where no static part of it acts on the
        electrons' spin. Time reversal makes h(-S) of h(S) where static part is invariant under it:
        where hops are real, up to phases of the sites, or quaternions.
        """
        if self.couplings.is_scalar:
            return "O(3)" if self._is_real_in_some_gauge else "SO(3)"
        return "inversion" if self._is_time_reversal_invariant else "none"

    @cached_property
    def _is_real_in_some_gauge(self) -> bool:
        """True if phases of the sites make all hops real: no loop has a flux but 0 or pi."""
        if self.couplings.is_real:
            return True
        hops = self.static[::2, ::2].tocoo()
        keep = (np.abs(hops.data) > TOLERANCE * self.bound) & (hops.row != hops.col)
        row, column, values = hops.row[keep], hops.col[keep], hops.data[keep]
        graph = scipy.sparse.csr_matrix((values, (row, column)), shape=hops.shape)
        phases, reached = np.ones(len(self.site_J), complex), np.zeros(len(self.site_J), bool)
        for first in range(len(phases)):
            if not reached[first]:
                order, before = breadth_first_order(abs(graph), first, directed=False)
                reached[order] = True
                for site in order[1:]:
                    hop = graph[before[site], site]
                    phases[site] = phases[before[site]] * np.conj(hop) / abs(hop)
        gauged = phases[row].conj() * values * phases[column]
        return bool(np.all(np.abs(gauged.imag) < TOLERANCE * self.bound))

    @cached_property
    def _is_time_reversal_invariant(self) -> bool:
        """True if time reversal leaves the static part of h as it is."""
        if self.couplings.is_scalar:
            return self._is_real_in_some_gauge
        flip = np.array([[0.0, 1.0], [-1.0, 0.0]])
        return not any(self.couplings.field) and all(
            np.allclose(flip @ b.element.conj() @ flip.T, b.element, rtol=0.0, atol=TOLERANCE)
            for b in self.bonds
        )

    @property
    def bound(self) -> float:
        """Gershgorin bound of all |E_n|, whatever the spins."""
        if self.is_uniform:
            return self.couplings.bound
        strength = self.couplings.hopping_bound + float(np.abs(self.site_potential).max())
        return strength + 0.5 * float(np.abs(self.site_J).max())

    @cached_property
    def operations(self) -> list[Operation]:
        """Operations of the space group that leave h as it is, and the periodic lattice, too.

        The identity alone where single sites have values of their own.
        """
        if self.is_uniform:
            return [op for op in self.couplings.symmetries if self.lattice.keeps(op)]
        cells = np.zeros((self.lattice.sublattices, self.lattice.dimension), int)
        one = np.eye(self.lattice.dimension, dtype=int)
        return [Operation(one, np.arange(self.lattice.sublattices), cells)]

    @cached_property
    def symmetries(self) -> np.ndarray:
        """(operations, sites) int, a group of site permutations that leave log W as it is."""
        return self.lattice.images(self.operations)

    def spin_elements(self, elements: Tensor) -> Tensor:
        """Return elements of the symmetry of the spins, made of elements (..., 3, 3) of O(3)."""
        if self.spin_symmetry == "O(3)":
            return elements
        parity = torch.linalg.det(elements).round()[..., None, None]
        if self.spin_symmetry == "SO(3)":
            return parity * elements
        one = torch.eye(3, dtype=elements.dtype, device=elements.device).expand_as(elements)
        return parity * one if self.spin_symmetry == "inversion" else one

    @cached_property
    def translations(self) -> np.ndarray:
        """(translations, sites) int, the translations that leave log W as it is."""
        return self.lattice.translations[: None if self.is_uniform else 1]

    @cached_property
    def bonds(self) -> tuple[Bonds, ...]:
        """The hops of h, one kind for each bond of the unit cell."""
        kinds, crystal = [], self.lattice.crystal
        for hop in self.couplings.hops:
            start, end = self.lattice.bond_ends(hop.link)
            amplitude = hop.amplitude
            if any(self.couplings.twist):
                turns = np.array(self.couplings.twist) / np.array(self.lattice.shape)
                amplitude *= np.exp(2j * math.pi * float(turns @ np.array(hop.link.cell)))
            displacement = tuple(crystal.offset(hop.link).tolist())
            matrix = None if hop.is_scalar else np.array(hop.matrix, dtype=complex)
            kinds.append(Bonds(start, end, amplitude, displacement, matrix))
        return tuple(kinds)

    @cached_property
    def graph(self) -> scipy.sparse.csr_matrix:
        """(sites, sites) float64, 1 for each pair of sites that bonds join, both ways."""
        start = np.concatenate([bonds.start for bonds in self.bonds])
        end = np.concatenate([bonds.end for bonds in self.bonds])
        ends = (np.concatenate((start, end)), np.concatenate((end, start)))
        graph = scipy.sparse.csr_matrix(
            (np.ones(len(ends[0])), ends), shape=(self.lattice.sites,) * 2
        )
        graph.data[:] = 1.0
        return graph

    @cached_property
    def static(self) -> scipy.sparse.csr_matrix:
        """(2 sites, 2 sites) complex128, h without spins; a bond met twice adds up.

        Made from the bonds, never from a dense matrix: O(sites). All diagonal blocks are stored,
        and of hops between two sites the spins that any of the bonds between them couple.
        """
        sites, spins = np.arange(self.lattice.sites), np.arange(2)
        rows, columns, values = [], [], []
        scalar = self.couplings.is_scalar
        for bonds in self.bonds:
            for first, second, element in (
                (bonds.start, bonds.end, bonds.element),
                (bonds.end, bonds.start, bonds.element.conj().T),
            ):
                for a in spins:
                    for b in [a] if scalar else spins:
                        rows.append(2 * first + a)
                        columns.append(2 * second + b)
                        values.append(np.full(len(first), element[a, b]))
        x, y, z = self.couplings.field
        zeeman = -0.5 * np.array([[z, x - 1j * y], [x + 1j * y, -z]])
        for a in spins:
            for b in spins:
                rows.append(2 * sites + a)
                columns.append(2 * sites + b)
                values.append(zeeman[a, b] + (self.site_potential if a == b else 0.0 * sites))
        matrix = scipy.sparse.csr_matrix(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
            shape=(2 * len(sites),) * 2,
        )
        matrix.sort_indices()
        return matrix

    @cached_property
    def row_entries(self) -> int:
        """Most entries in a row of h(S)."""
        return int(np.diff(self.static.indptr).max())

    @cached_property
    def pattern(self) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
        """The static part of h, and where the diagonal blocks lie.

        The matrix is (2 sites, 2 sites) complex128; the latter (sites, 2, 2) int, indices into its
        data.
        """
        rows = np.repeat(np.arange(self.static.shape[0]), np.diff(self.static.indptr))
        diagonal = np.flatnonzero(rows // 2 == self.static.indices // 2).reshape(-1, 2, 2)
        return self.static, diagonal

    @cached_property
    def is_bipartite(self) -> bool:
        """True if every bond joins two sublattices.

        A graph is bipartite where its double cover, two copies of the sites joined crosswise, falls
        into twice as many pieces.
        """
        cover = scipy.sparse.bmat([[None, self.graph], [self.graph.T, None]])
        pieces = [connected_components(g, directed=False)[0] for g in (self.graph, cover)]
        return pieces[1] == 2 * pieces[0]

    def is_half_filled(self, mu: float) -> bool:
        """True if symmetry makes the density 1 for all spins and at every temperature.

        On a bipartite lattice without on-site energies time reversal, with a sign on one
        sublattice, turns h(S) into -h(S): levels come in pairs of E and -E, and mu = 0 is their
        middle.
        """
        return (
            mu == 0.0
            and self.is_bipartite
            and not self.site_potential.any()
            and self._is_time_reversal_invariant
        )

    @property
    def mean_level(self) -> float:
        """The trace of h over the number of levels, whatever the spins."""
        return float(self.site_potential.mean())

    @property
    def bands(self) -> np.ndarray:
        """(sites,) float64, energies of free electrons (J = 0) at ``lattice.momenta``.

        Of a crystal with one site a cell and real hops.
        """
        amplitudes = dict.fromkeys(hop.amplitude for hop in self.couplings.hops)
        return sum(
            -2.0 * t * np.cos(self.lattice.phases @ self._cells(t).T).sum(-1) for t in amplitudes
        )

    def _cells(self, amplitude: complex) -> np.ndarray:
        """Return the cells (n, d) that hops of an amplitude lead to."""
        hops = self.couplings.hops
        return np.array([hop.link.cell for hop in hops if hop.amplitude == amplitude])

    def bloch(self) -> np.ndarray:
        """Return the static part of h at the lattice's momenta.

        (cells, 2 sublattices, 2 sublattices) complex128; values of single sites are not in it.
        """
        twist = 2.0 * np.pi * np.array(self.couplings.twist) / np.array(self.lattice.shape)
        return self.couplings.bloch(self.lattice.phases + twist)

    def check_spins(self, spins: Tensor) -> None:
        """Raise UserError unless spins are (chains, sites, 3) float64.

        One configuration alone would pass for many chains.
        """
        one = (self.lattice.sites, 3)
        if isinstance(spins, Tensor) and spins.shape[1:] == one and spins.dtype == torch.float64:
            return
        is_array = hasattr(spins, "shape")
        found = f"{tuple(spins.shape)} {spins.dtype}" if is_array else type(spins).__name__
        raise UserError(
            f"spins have to be a torch tensor (chains, {self.lattice.sites}, 3) of "
            f"torch.float64, not {found}."
        )

    @cached_property
    def _uniform_J(self) -> float | None:
        """J, where it is the same on all sites."""
        first = float(self.site_J[0])
        return first if (self.site_J == first).all() else None

    def _scaled(self, vectors: Tensor, sites: Tensor | None) -> Tensor:
        """Multiply vectors (..., n, 3) of sites by J."""
        if self._uniform_J is not None:
            return self._uniform_J * vectors
        factors = torch.as_tensor(self.site_J, device=vectors.device)
        return (factors if sites is None else factors[sites])[..., None] * vectors

    def site_blocks(self, spins: Tensor, sites: Tensor | None = None) -> Tensor:
        """Return V(S_i), (..., n, 2, 2) complex128 and traceless Hermitian, of spins (..., n, 3).

        V is linear: the block of a difference of two spins is the change of the block.

        Parameters
        ----------
        spins : (..., n, 3) float64
        sites : (..., n) int, optional
            Sites of the spins; all, in order, if not given.
        """
        x, y, z = (0.5 * self._scaled(spins, sites)).unbind(-1)
        up = torch.complex(z, torch.zeros_like(z))
        blocks = torch.stack((up, torch.complex(x, -y), torch.complex(x, y), -up), -1)
        return blocks.unflatten(-1, (2, 2))

    @property
    def site_levels(self) -> np.ndarray:
        """(2, sublattices) float64, energies of an electron on one site, with its spin and against.

        Relative to the on-site energy.
        """
        return np.array([[0.5], [-0.5]]) * np.array(self.couplings.J)

    def site_forces(self, blocks: Tensor, scale: float = 1.0) -> Tensor:
        r"""Return forces on all spins from each site's block of f(h): the adjoint of `site_blocks`.

        .. math:: \mathrm{scale} \cdot \frac{\partial}{\partial S_i} \mathrm{tr}[V(S_i) X_i]
            = \mathrm{scale} \cdot \frac{J_i}{2} \mathrm{tr}[\sigma X_i]

        Parameters
        ----------
        blocks : (..., sites, 2, 2) complex128
            X_i, Hermitian. A multiple of the unit matrix in it changes nothing.
        scale : float

        Returns
        -------
        (..., sites, 3) float64
        """
        flip = blocks[..., 1, 0]
        up, down = blocks[..., 0, 0].real, blocks[..., 1, 1].real
        spin = torch.stack((2.0 * flip.real, 2.0 * flip.imag, up - down), -1)
        if self._uniform_J is not None:
            return scale * 0.5 * self._uniform_J * spin
        return scale * 0.5 * self._scaled(spin, None)

    @cached_property
    def _dense_static(self) -> Tensor:
        return torch.as_tensor(self.static.toarray(), device=self.device)

    def dense(self, spins: Tensor) -> Tensor:
        """Return dense matrices h(S), (chains, 2 sites, 2 sites) complex128.

        ``spins`` are (chains, sites, 3) float64.
        """
        self.check_spins(spins)
        h = self._dense_static.repeat(len(spins), 1, 1)
        spin_blocks(h).add_(self.site_blocks(spins))
        return h

    def rows(self, spins: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return entries of some rows of h(S), for sparse and for distributed matrices.

        Parameters
        ----------
        spins : (sites, 3) float64
        rows : (rows,) int

        Returns
        -------
        columns : (rows, entries) int
            A column that is met twice counts twice.
        values : (rows, entries) complex128
        """
        site, down = np.divmod(rows, 2)
        all_columns, all_values = self._padded_rows
        columns = np.column_stack((all_columns[rows], 2 * site, 2 * site + 1))
        blocks = self.site_blocks(torch.as_tensor(spins[site]), torch.as_tensor(site)).numpy()
        return columns, np.column_stack((all_values[rows], blocks[np.arange(len(site)), down]))

    @cached_property
    def _padded_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and values of the static part of h, (2 sites, row entries) each.

        Rows with fewer entries than others are filled up with zeros on the diagonal.
        """
        static = self.static.copy()
        static.eliminate_zeros()
        counts = np.diff(static.indptr)
        place = np.arange(counts.max(initial=0)) < counts[:, None]
        columns = np.repeat(np.arange(len(counts))[:, None], counts.max(initial=0), axis=1)
        columns[place] = static.indices
        values = np.zeros(columns.shape, complex)
        values[place] = static.data
        return columns, values
