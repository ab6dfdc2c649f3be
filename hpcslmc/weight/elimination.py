r"""Determinants and local blocks of the inverse of A = 1 + i (h - mu) / w, any w > 0.

By block cyclic reduction over the rows of the lattice. The scaling by w keeps determinants of large
w close to 1 and their rounding errors small. The Hermitian part of A is 1, that of every Schur
complement at least 1, so that rows may be eliminated in any order without pivoting between them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian, spin_blocks
from hpcslmc.weight.ring import DENSE_ROWS, Ring, factorise, interleave, solve_ring

WORK_BYTES = {"cpu": 2**24, "accelerator": 2**30}
"""Largest work arrays of a batch: what a core's cache holds, or what fills an accelerator."""


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
            between = -bonds.amplitude
        else:
            first = coordinates[bonds.start, across] == 0
            start = coordinates[bonds.start[first], 1 - across]
            end = coordinates[bonds.end[first], 1 - across]
            np.add.at(row, (start, end), -bonds.amplitude)
            np.add.at(row, (end, start), -bonds.amplitude)
    return row, between


def _new_log_dets(spins: Tensor, frequencies: np.ndarray, arguments: bool) -> Tensor:
    dtype = torch.complex128 if arguments else torch.float64
    return spins.new_zeros(len(spins), len(frequencies), dtype=dtype)


def _direction_across(hamiltonian: Hamiltonian) -> int:
    """Return the direction that leads from row to row, 0 or 1: the longer one."""
    return 1 if hamiltonian.lattice.shape[0] < hamiltonian.lattice.shape[1] else 0


class Inverses(NamedTuple):
    r"""Determinants of several A_k, and weighted sums of their inverses.

    Attributes
    ----------
    log_dets : (chains, K) float64 or complex128
        log|det A_k|, or log det A_k with imaginary parts modulo 2 pi where arguments are wanted.
    trace : (chains,) float64
        sum_k y_k Re tr (1 - A_k^-1).
    blocks : (chains, rows, width, 2, 2) complex128
        Im sum_k x_k (A_k^-1)_ii of each site, Im B = (B - B^\dagger) / 2i, of folded rows.
    """

    log_dets: Tensor
    trace: Tensor
    blocks: Tensor


class Elimination:
    r"""Block elimination of A_k = 1 + i (h - mu) / w_k at K imaginary frequencies.

    Parameters
    ----------
    hamiltonian : Hamiltonian
    mu : float
    group : World
        The ranks that share the work; all methods are collective over it.
    dtype : torch.dtype
        complex128, or complex64 for results of about six digits in half the time.

    Notes
    -----
    Blocks are the rows along the shorter side, n = 2 min(Lx, Ly) wide; with L of them, odd rows are
    eliminated until few are left, all shifts and chains of a batch together; a group of ranks
    shares out the shifts. To leading order determinants take 7.3 L n^3 complex multiplications and
    additions per shift, with blocks of the inverse 21 L n^3: O(N^2) on a square lattice.

    The l sites of a row come in the order 0, l-1, 1, l-2, ..., in which the ring is a narrow band
    without corners. In their natural order rounding grows under partial pivoting: by orders of
    magnitude for ordered spins at low temperature.
    """

    def __init__(
        self,
        hamiltonian: Hamiltonian,
        mu: float,
        group: World,
        dtype: torch.dtype = torch.complex128,
    ) -> None:
        self.hamiltonian = hamiltonian
        self.group = group
        width = min(hamiltonian.lattice.shape)
        one = torch.eye(width, dtype=torch.complex128)
        fold = torch.tensor([width - 1 - x // 2 if x % 2 else x // 2 for x in range(width)])
        bonds, self._between = _row_bonds(hamiltonian, width)
        ring = torch.as_tensor(bonds, dtype=torch.complex128)[fold][:, fold]
        row = torch.kron(ring - mu * one, torch.eye(2, dtype=torch.complex128))
        self._row, self._fold = row.to(hamiltonian.device, dtype), fold.to(hamiltonian.device)
        self._unfold = self._fold.argsort()
        self._copied: dict[bytes, Tensor] = {}

    def on_device(self, numbers: np.ndarray) -> Tensor:
        """Return few numbers on the Hamiltonian's device, where they are copied once."""
        key = numbers.tobytes()
        if key not in self._copied:
            self._copied[key] = torch.as_tensor(numbers, device=self.hamiltonian.device)
        return self._copied[key]

    def log_dets(self, spins: Tensor, frequencies: np.ndarray, arguments: bool = False) -> Tensor:
        """Return log|det A_k| (chains, K) float64 of spins (chains, sites, 3) at frequencies (K,).

        With ``arguments`` log det A_k, complex128, imaginary parts modulo 2 pi. Collective over the
        group.
        """
        rows = self._rows(spins)
        log_dets = _new_log_dets(spins, frequencies, arguments)
        for chain, shift, found, _ in self._eliminated(rows, frequencies, False, arguments):
            log_dets[chain, shift] = found
        return self.group.sum_tensor(log_dets)

    def inverses(
        self,
        spins: Tensor,
        frequencies: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        arguments: bool = False,
    ) -> Inverses:
        """Return determinants, as ``log_dets`` does, and sums of inverses at frequencies (K,).

        ``x`` and ``y`` (K,) are the weights of blocks and of traces. Collective over the group.
        """
        rows = self._rows(spins)
        chains, size = len(spins), 2.0 * self.hamiltonian.lattice.sites
        of_blocks, of_traces = self.on_device(x), self.on_device(y)
        log_dets = _new_log_dets(spins, frequencies, arguments)
        trace = spins.new_zeros(chains)
        shape = chains, len(rows), rows.shape[-1] // 2, 2, 2
        blocks = rows.new_zeros(shape, dtype=torch.complex128)
        for chain, shift, found, inverse in self._eliminated(rows, frequencies, True, arguments):
            assert inverse is not None, "the inverse was asked for"
            log_dets[chain, shift] = found
            inverse = inverse.movedim(1, 0)
            blocks.index_add_(0, chain, of_blocks[shift][:, None, None, None, None] * inverse)
            found_trace = inverse.diagonal(dim1=-2, dim2=-1).real.sum((1, 2, 3))
            trace.index_add_(0, chain, of_traces[shift] * (size - found_trace))
        log_dets, blocks, trace = (
            self.group.sum_tensor(part) for part in (log_dets, blocks, trace)
        )
        return Inverses(log_dets, trace, (blocks - blocks.mH) / 2j)

    def forces(self, blocks: Tensor, scale: float) -> Tensor:
        """Return ``Hamiltonian.site_forces`` (chains, sites, 3) of blocks of folded rows."""
        forces = self.hamiltonian.site_forces(blocks, scale)[:, :, self._unfold]
        if _direction_across(self.hamiltonian) == 1:
            forces = forces.transpose(1, 2)
        return forces.flatten(1, 2)

    def _eliminated(
        self, rows: Tensor, frequencies: np.ndarray, inverse: bool, arguments: bool
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Work through this rank's share of chains and shifts, batch by batch.

        Their numbers, log|det A_k| or log det A_k, and each site's block of the inverse if wanted.
        """
        pairs = torch.cartesian_prod(
            *(torch.arange(n, device=rows.device) for n in (rows.shape[1], len(frequencies)))
        )[self.group.rank :: self.group.size]
        scales = (1j / self.on_device(frequencies)).to(rows.dtype)
        for chain, shift in (batch.unbind(1) for batch in pairs.split(self._batch(rows))):
            scale = scales[shift]
            diagonal = rows[:, chain].mul_(scale[:, None, None])
            diagonal.diagonal(dim1=-2, dim2=-1).add_(1.0)
            bond = self._between * scale
            yield chain, shift, *_solve_rows(diagonal, bond, inverse, arguments)

    def _rows(self, spins: Tensor) -> Tensor:
        """Return the diagonal blocks of h - mu, (rows, chains, n, n), in the precision asked for.

        The sites of each row are folded.
        """
        self.hamiltonian.check_spins(spins)
        spins = spins.unflatten(1, self.hamiltonian.lattice.shape)
        if _direction_across(self.hamiltonian) == 1:
            spins = spins.transpose(1, 2)
        spins = spins[:, :, self._fold].transpose(0, 1)
        rows = self._row.repeat(*spins.shape[:2], 1, 1)
        spin_blocks(rows).add_(self.hamiltonian.site_blocks(spins).to(rows.dtype))
        return rows

    def _batch(self, rows: Tensor) -> int:
        """Count the pairs of chain and shift whose work arrays fit the limit.

        About ten times the matrix' own blocks each.
        """
        one = 10 * len(rows) * rows.shape[-1] ** 2 * rows.element_size()
        return max(1, WORK_BYTES["cpu" if rows.device.type == "cpu" else "accelerator"] // one)
