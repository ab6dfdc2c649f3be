r"""One-body Hamiltonian of electrons on a lattice of classical spins: bonds and one block a site.

.. math::

    h(S) = -\sum_b T_b \left(|r_b\rangle\langle r_b'| + \mathrm{h.c.}\right) \otimes 1_2
        + \bigoplus_i V(S_i), \qquad V(S) = \frac{J}{2} S \cdot \sigma

Row ``2 i + a`` is site i, spin a (0 up, 1 down). h is Hermitian, 2N x 2N. The bonds join nearest
neighbours of the square lattice, T_b = t. The conventions of the whole program are stated and coded
here and nowhere else: what needs h(S), its derivative or its symmetries asks the `Hamiltonian`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from hpcslmc.errors import UserError
from hpcslmc.physics.bounds import spectral_bound
from hpcslmc.physics.lattice import STEPS, Lattice


@dataclass(frozen=True)
class Bonds:
    """All bonds of one kind: a bond of the unit cell and its images under translations.

    Each bond is listed once, and no site twice in ``start`` or in ``end``. Electrons hop along it
    both ways, from ``end`` to ``start`` with the matrix element -amplitude and back with its
    conjugate.

    Attributes
    ----------
    start, end : (bonds,) int
        Sites.
    amplitude : float
        T_b, an energy.
    displacement : tuple of int
        From start to end along the bond, also where it crosses the boundary, in lattice constants.
    """

    start: np.ndarray
    end: np.ndarray
    amplitude: float
    displacement: tuple[int, int]


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
    t : float
        Hopping; the unit of energy is usually t = 1.
    J : float
        Coupling of the local spin to the electrons' spin.
    device : torch.device or str
    """

    spin_symmetry = "O(3)"
    """Group of rotations of all spins that log W is invariant under.

    Proper rotations are unitary transformations of h(S). Time reversal makes h(-S) of h(S), because
    the hopping is real and the same for both spins.
    """

    def __init__(
        self, lattice: Lattice, t: float, J: float, device: torch.device | str = "cpu"
    ) -> None:
        self.lattice, self.t, self.J, self.device = lattice, t, J, device

    def on_lattice(self, lattice: Lattice) -> "Hamiltonian":
        """Return the Hamiltonian of another lattice with the same couplings, on the CPU."""
        return Hamiltonian(lattice, self.t, self.J)

    @property
    def bound(self) -> float:
        """Gershgorin bound of all |E_n|, whatever the spins."""
        return spectral_bound(self.t, self.J)

    @property
    def symmetries(self) -> np.ndarray:
        """(operations, sites) int, a group of site permutations that leave log W as it is.

        The bonds are all alike, and so are the sites: the point group of the lattice.
        """
        return self.lattice.point_group

    @cached_property
    def bonds(self) -> tuple[Bonds, ...]:
        """The static part of h: all bonds along +x, and all along +y."""
        sites = np.arange(self.lattice.sites)
        ends = self.lattice.neighbours.T
        return tuple(
            Bonds(sites, end, self.t, step) for end, step in zip(ends, STEPS, strict=False)
        )

    @cached_property
    def hopping(self) -> scipy.sparse.csr_matrix:
        """(sites, sites) float64, the static part of h for either spin; a bond met twice adds up.

        Made from the bonds, never from a dense matrix: O(sites).
        """
        start = np.concatenate([bonds.start for bonds in self.bonds])
        end = np.concatenate([bonds.end for bonds in self.bonds])
        values = np.concatenate([np.full(len(b.start), -b.amplitude) for b in self.bonds])
        return scipy.sparse.csr_matrix(
            (
                np.concatenate((values, values)),
                (np.concatenate((start, end)), np.concatenate((end, start))),
            ),
            shape=(self.lattice.sites,) * 2,
        )

    @cached_property
    def row_entries(self) -> int:
        """Most entries in a row of h(S): its hops, the diagonal and the spin flip."""
        return int(np.diff(self.hopping.indptr).max()) + 2

    @cached_property
    def pattern(self) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
        """The static part of h, with room for the diagonal blocks, and where those lie.

        The matrix is (2 sites, 2 sites) complex128; the latter (sites, 2, 2) int, indices into its
        data.
        """
        sites, bonds = np.arange(self.lattice.sites), self.hopping.tocoo()
        graph = scipy.sparse.csr_matrix(
            (
                np.append(bonds.data, np.zeros(len(sites))),
                (np.append(bonds.row, sites), np.append(bonds.col, sites)),
            )
        ).tocoo()
        spins = np.arange(2)
        # all four entries of each 2x2 block at first, to find them; off the diagonal blocks only
        # equal spins couple
        keep = (spins[:, None] == spins) | (graph.row == graph.col)[:, None, None]
        entry_rows = np.broadcast_to(2 * graph.row[:, None, None] + spins[:, None], keep.shape)
        entry_columns = np.broadcast_to(2 * graph.col[:, None, None] + spins, keep.shape)
        values = np.broadcast_to(graph.data[:, None, None] * np.eye(2), keep.shape)[keep]
        entry_rows, entry_columns = entry_rows[keep], entry_columns[keep]
        order = np.lexsort((entry_columns, entry_rows))
        entry_rows, entry_columns = entry_rows[order], entry_columns[order]
        matrix = scipy.sparse.csr_matrix((2 * len(sites), 2 * len(sites)), dtype=complex)
        matrix.data, matrix.indices = values[order].astype(complex), entry_columns
        matrix.indptr = np.concatenate(([0], np.cumsum(np.bincount(entry_rows))))
        diagonal = np.flatnonzero(entry_rows // 2 == entry_columns // 2).reshape(-1, 2, 2)
        return matrix, diagonal

    @cached_property
    def is_bipartite(self) -> bool:
        """True if every bond joins two sublattices.

        A graph is bipartite where its double cover, two copies of the sites joined crosswise, falls
        into twice as many pieces.
        """
        graph = abs(self.hopping)
        graph.data[:] = 1.0  # a bond of amplitude 0 is one too
        cover = scipy.sparse.bmat([[None, graph], [graph.T, None]])
        pieces = [connected_components(g, directed=False)[0] for g in (graph, cover)]
        return pieces[1] == 2 * pieces[0]

    def is_half_filled(self, mu: float) -> bool:
        """True if symmetry makes the density 1 for all spins and at every temperature.

        On a bipartite lattice time reversal, with a sign on one sublattice, turns h(S) into -h(S):
        levels come in pairs of E and -E, and mu = 0 is their middle.
        """
        return mu == 0.0 and self.is_bipartite

    @property
    def bands(self) -> np.ndarray:
        """(sites,) float64, energies of free electrons (J = 0) at ``lattice.momenta``."""
        return -2.0 * self.t * np.cos(self.lattice.momenta @ np.array(STEPS).T).sum(-1)

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

    def site_blocks(self, spins: Tensor) -> Tensor:
        """Return V(S_i), (..., 2, 2) complex128 and traceless Hermitian, of spins (..., 3) float64.

        V is linear: the block of a difference of two spins is the change of the block.
        """
        x, y, z = (0.5 * self.J * spins).unbind(-1)
        up = torch.complex(z, torch.zeros_like(z))
        blocks = torch.stack((up, torch.complex(x, -y), torch.complex(x, y), -up), -1)
        return blocks.unflatten(-1, (2, 2))

    @property
    def site_levels(self) -> np.ndarray:
        """(2,) float64, energies of an electron on one site, with its spin and against it."""
        return np.array([0.5, -0.5]) * self.J

    def site_forces(self, blocks: Tensor, scale: float = 1.0) -> Tensor:
        r"""Return forces on spins from each site's block of f(h): the adjoint of ``site_blocks``.

        .. math:: \mathrm{scale} \cdot \frac{\partial}{\partial S_i} \mathrm{tr}[V(S_i) X_i]
            = \mathrm{scale} \cdot \frac{J}{2} \mathrm{tr}[\sigma X_i]

        Parameters
        ----------
        blocks : (..., 2, 2) complex128
            X_i, Hermitian. A multiple of the unit matrix in it changes nothing.
        scale : float

        Returns
        -------
        (..., 3) float64
        """
        flip = blocks[..., 1, 0]
        up, down = blocks[..., 0, 0].real, blocks[..., 1, 1].real
        spin = torch.stack((2.0 * flip.real, 2.0 * flip.imag, up - down), -1)
        return scale * 0.5 * self.J * spin

    @cached_property
    def _hopping(self) -> Tensor:
        hopping = torch.as_tensor(
            self.hopping.toarray(), dtype=torch.complex128, device=self.device
        )
        return torch.kron(hopping, torch.eye(2, dtype=torch.complex128, device=self.device))

    def dense(self, spins: Tensor) -> Tensor:
        """Return dense matrices h(S), (chains, 2 sites, 2 sites) complex128.

        ``spins`` are (chains, sites, 3) float64.
        """
        self.check_spins(spins)
        h = self._hopping.repeat(len(spins), 1, 1)
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
        hops, amplitudes = self._hops
        columns = np.column_stack((2 * hops[site] + down[:, None], 2 * site, 2 * site + 1))
        blocks = self.site_blocks(torch.as_tensor(spins[site])).numpy()
        return columns, np.column_stack((amplitudes[site], blocks[np.arange(len(site)), down]))

    @cached_property
    def _hops(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the neighbours of each site, and the matrix elements to them: (sites, hops) each.

        Sites with fewer hops than others are filled up with hops to themselves of amplitude 0.
        """
        counts = np.diff(self.hopping.indptr)
        place = np.arange(counts.max()) < counts[:, None]
        hops = np.repeat(np.arange(len(counts))[:, None], counts.max(), axis=1)
        hops[place] = self.hopping.indices
        amplitudes = np.zeros(hops.shape)
        amplitudes[place] = self.hopping.data
        return hops, amplitudes
