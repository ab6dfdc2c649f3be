r"""Determinants and local blocks of the inverse of A = 1 + i (h - mu) / w, any w > 0.

The scaling by w keeps determinants of large w close to 1 and their rounding errors small. The
Hermitian part of A is 1, that of every Schur complement at least 1, so that sites may be eliminated
in any order without pivoting between them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian

WORK_BYTES = {"cpu": 2**25, "accelerator": 2**30}
"""Largest work arrays of a batch: a core's share of a large cache, or what fills an accelerator.

Measured at 16x16 and 32x32: half of it takes up to 1.1 times as long, a sixteenth 1.2 to 1.8.
"""


class Inverses(NamedTuple):
    r"""Determinants of several A_k, and weighted sums of their inverses.

    Attributes
    ----------
    log_dets : (chains, K) float64 or complex128
        log|det A_k|, or log det A_k with imaginary parts modulo 2 pi where arguments are wanted.
    trace : (chains,) float64
        sum_k y_k Re tr (1 - A_k^-1).
    blocks : (chains, sites, 2, 2) complex128
        Im sum_k x_k (A_k^-1)_ii, Im B = (B - B^\dagger) / 2i.
    """

    log_dets: Tensor
    trace: Tensor
    blocks: Tensor


class Elimination(ABC):
    r"""Elimination of all sites from A_k = 1 + i (h - mu) / w_k at K imaginary frequencies.

    A group of ranks shares out chains and shifts; each rank works on a batch of them at once.

    Parameters
    ----------
    hamiltonian : Hamiltonian
    mu : float
    group : World
        The ranks that share the work; all methods are collective over it.
    dtype : torch.dtype
        complex128, or complex64 for results of about six digits in half the time.
    """

    def __init__(
        self,
        hamiltonian: Hamiltonian,
        mu: float,
        group: World,
        dtype: torch.dtype = torch.complex128,
    ) -> None:
        self.hamiltonian, self.mu, self.group, self.dtype = hamiltonian, mu, group, dtype
        self._copied: dict[bytes, Tensor] = {}
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Prepare what all evaluations share; called once, when the rest is set."""

    @abstractmethod
    def matrices(self, spins: Tensor) -> Tensor:
        """Return what is known of h - mu before the shifts, with chains as the first dimension."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Size of the work arrays of one chain at one shift."""

    @abstractmethod
    def operations(self, wanted: bool) -> float:
        """Count the complex multiplications and additions of one chain at one shift.

        Each counts as one; to leading order; with blocks of the inverse if ``wanted``.
        """

    @abstractmethod
    def eliminate(
        self, matrices: Tensor, scale: Tensor, wanted: bool, arguments: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Eliminate all sites from 1 + ``scale`` (h - mu) of a batch.

        Parameters
        ----------
        matrices : (batch, ...)
            As of ``matrices``.
        scale : (batch,) complex
        wanted : bool
            Whether blocks of the inverse are.
        arguments : bool
            Whether log det is wanted, and not only its real part.

        Returns
        -------
        log_det : (batch,) float64 or complex128
        blocks : (batch, sites, 2, 2), or None
        """

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
        self.hamiltonian.check_spins(spins)
        log_dets = _new_log_dets(spins, frequencies, arguments)
        for chain, shift, found, _ in self._eliminated(spins, frequencies, False, arguments):
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
        self.hamiltonian.check_spins(spins)
        chains, sites = spins.shape[:2]
        of_blocks, of_traces = self.on_device(x), self.on_device(y)
        log_dets = _new_log_dets(spins, frequencies, arguments)
        trace = spins.new_zeros(chains)
        blocks = spins.new_zeros(chains, sites, 2, 2, dtype=torch.complex128)
        for chain, shift, found, inverse in self._eliminated(spins, frequencies, True, arguments):
            assert inverse is not None, "the inverse was asked for"
            log_dets[chain, shift] = found
            blocks.index_add_(0, chain, of_blocks[shift][:, None, None, None] * inverse)
            found_trace = inverse.diagonal(dim1=-2, dim2=-1).real.sum((1, 2))
            trace.index_add_(0, chain, of_traces[shift] * (2.0 * sites - found_trace))
        log_dets, blocks, trace = (
            self.group.sum_tensor(part) for part in (log_dets, blocks, trace)
        )
        return Inverses(log_dets, trace, (blocks - blocks.mH) / 2j)

    def _eliminated(
        self, spins: Tensor, frequencies: np.ndarray, wanted: bool, arguments: bool
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Work through this rank's share of chains and shifts, batch by batch.

        Their numbers, and what ``eliminate`` finds.
        """
        matrices = self.matrices(spins)
        pairs = torch.cartesian_prod(
            *(torch.arange(n, device=spins.device) for n in (len(spins), len(frequencies)))
        )[self.group.rank :: self.group.size]
        scales = (1j / self.on_device(frequencies)).to(self.dtype)
        limit = WORK_BYTES["cpu" if spins.device.type == "cpu" else "accelerator"]
        for batch in pairs.split(max(1, limit // self.bytes)):
            chain, shift = batch.unbind(1)
            yield chain, shift, *self.eliminate(matrices[chain], scales[shift], wanted, arguments)


def _new_log_dets(spins: Tensor, frequencies: np.ndarray, arguments: bool) -> Tensor:
    dtype = torch.complex128 if arguments else torch.float64
    return spins.new_zeros(len(spins), len(frequencies), dtype=dtype)
