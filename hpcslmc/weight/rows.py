"""Elimination by block cyclic reduction over the rows of the lattice."""

import numpy as np
import torch
from torch import Tensor

from hpcslmc.physics.hamiltonian import Hamiltonian, spin_blocks
from hpcslmc.weight.elimination import Elimination
from hpcslmc.weight.ring import DENSE_ROWS, Ring, factorise, interleave, solve_ring


def _solve_rows(
    diagonal: Tensor, bond: Tensor, wanted: bool, arguments: bool
) -> tuple[Tensor, Tensor | None]:
    """Return log|det| (batch,) of the ring of lattice rows and, if wanted, blocks of its inverse.

    ``diagonal`` (rows, batch, n, n) holds the rows, ``bond`` (batch,) times one is what couples
    neighbours. The blocks of the inverse are each site's, (rows, batch, n/2, 2, 2). With
    ``arguments`` log det instead of its real part. The first reduction is the cheapest: the
    couplings are scalings.
    """
    rows, _, n, _ = diagonal.shape
    odd, bond = rows // 2, bond[:, None, None]
    one = (bond * torch.eye(n, dtype=diagonal.dtype, device=diagonal.device)).expand_as(diagonal)
    if rows <= DENSE_ROWS:
        log_det, whole = solve_ring(Ring(diagonal, one, one), wanted, arguments)
        return log_det, None if whole is None else spin_blocks(whole.diagonal)
    # eliminate the odd rows, which couple to their neighbours by multiples of one
    factors = factorise(diagonal[1::2])
    inverse = factors.inverse()
    coupling = -bond.square() * inverse
    reduced = diagonal[0::2].clone()
    reduced[:odd] += coupling
    reduced[1:] += coupling[: len(reduced) - 1]
    if odd == len(reduced):
        reduced[0] += coupling[-1]
    joined = torch.cat((coupling, one[2 * odd :]))
    # solve the ring of even rows that remains
    log_det, even = solve_ring(Ring(reduced, joined, joined), wanted, arguments)
    log_det = log_det + factors.log_det(arguments).sum(0)
    if even is None:
        return log_det, None
    # inverse on the odd rows from the blocks of the even rows around them
    around = (
        even.diagonal.roll(-1, 0)[:odd]
        .add_(even.diagonal[:odd])
        .add_(even.right[:odd])
        .add_(even.left[:odd])
    )
    product = (around @ coupling).mT.unflatten(-2, (n // 2, 2)).mT
    inside = spin_blocks(inverse) - inverse.unflatten(-2, (n // 2, 2)) @ product
    return log_det, interleave(spin_blocks(even.diagonal), inside)


def _row_bonds(hamiltonian: Hamiltonian, width: int) -> tuple[np.ndarray, float]:
    """Return the matrix elements of h within a lattice row, (width, width), and between rows.

    Rows run along the shorter side; the second is the element between each site and its neighbour
    in the next row.
    """
    coordinates = hamiltonian.lattice.coordinates
    across = _direction_across(hamiltonian)
    row, between = np.zeros((width, width)), 0.0
    for bonds in hamiltonian.bonds:
        if bonds.displacement[across]:
            between = -bonds.amplitude.real
        else:
            first = coordinates[bonds.start, across] == 0
            start = coordinates[bonds.start[first], 1 - across]
            end = coordinates[bonds.end[first], 1 - across]
            np.add.at(row, (start, end), -bonds.amplitude.real)
            np.add.at(row, (end, start), -bonds.amplitude.real)
    return row, between


def _direction_across(hamiltonian: Hamiltonian) -> int:
    """Return the direction that leads from row to row, 0 or 1: the longer one."""
    return 1 if hamiltonian.lattice.shape[0] < hamiltonian.lattice.shape[1] else 0


class Rows(Elimination):
    r"""Elimination of the odd rows of the lattice, again and again until few are left.

    Notes
    -----
    Blocks are the rows along the shorter side, n = 2 min(Lx, Ly) wide; work and memory grow as
    their number times n^3 and n^2, as N^2 and N^1.5 on a square lattice.

    The l sites of a row come in the order 0, l-1, 1, l-2, ..., in which the ring is a narrow band
    without corners. In their natural order rounding grows under partial pivoting: by orders of
    magnitude for ordered spins at low temperature.
    """

    def prepare(self) -> None:
        """Prepare what all evaluations share."""
        hamiltonian = self.hamiltonian
        width = min(hamiltonian.lattice.shape)
        one = torch.eye(width, dtype=torch.complex128)
        fold = torch.tensor([width - 1 - x // 2 if x % 2 else x // 2 for x in range(width)])
        bonds, self._between = _row_bonds(hamiltonian, width)
        ring = torch.as_tensor(bonds, dtype=torch.complex128)[fold][:, fold]
        row = torch.kron(ring - self.mu * one, torch.eye(2, dtype=torch.complex128))
        self._row = row.to(hamiltonian.device, self.dtype)
        sites = torch.arange(hamiltonian.lattice.sites).view(hamiltonian.lattice.shape)
        if _direction_across(hamiltonian) == 1:
            sites = sites.T
        self._sites = sites[:, fold].to(hamiltonian.device)
        self._places = self._sites.flatten().argsort()

    def matrices(self, spins: Tensor) -> Tensor:
        """Return the diagonal blocks of h - mu of rows of folded sites, (chains, rows, n, n)."""
        rows = self._row.repeat(len(spins), len(self._sites), 1, 1)
        blocks = self.hamiltonian.site_blocks(spins[:, self._sites], self._sites)
        spin_blocks(rows).add_(blocks.to(rows.dtype))
        return rows

    @property
    def bytes(self) -> int:
        """About ten times the size of the diagonal blocks."""
        return 10 * len(self._sites) * self._row.numel() * self._row.element_size()

    def operations(self, wanted: bool) -> float:
        """Count those of all reductions, a sum over rows of all lengths."""
        return (21.0 if wanted else 7.3) * len(self._sites) * float(len(self._row)) ** 3

    def eliminate(
        self, matrices: Tensor, scale: Tensor, wanted: bool, arguments: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Eliminate as every `Elimination`."""
        diagonal = matrices.transpose(0, 1).contiguous().mul_(scale[:, None, None])
        diagonal.diagonal(dim1=-2, dim2=-1).add_(1.0)
        log_det, inverse = _solve_rows(diagonal, self._between * scale, wanted, arguments)
        if inverse is None:
            return log_det, None
        return log_det, inverse.transpose(0, 1).flatten(1, 2)[:, self._places]
