"""Functions of momentum that models share, and the transform to them."""

import math

import numpy as np
import torch
from torch import Tensor, nn

DENSE_SITES = 100
"""Most sites for which one matrix transforms both directions at once; beyond, two are cheaper."""


def hartley(length: int) -> np.ndarray:
    """Return the symmetric orthogonal matrix (cos + sin)(2 pi k x / length) / sqrt(length)."""
    angle = 2.0 * np.pi * np.outer(np.arange(length), np.arange(length)) / length
    return (np.cos(angle) + np.sin(angle)) / math.sqrt(length)


def shell_waves(shape: tuple[int, ...], shells: tuple[int, ...]) -> np.ndarray:
    r"""Return the structure factors of shells at the momenta of a lattice, (shells, sites).

    The shells are those of the infinite lattice:

    .. math:: \varphi_n(k) = z_n^{-1/2} \sum_{r \in Z^2, |r|^2 = d_n} \cos(k \cdot r)

    with z_n the number of sites at the squared distance d_n. Distances beyond half the lattice wrap
    around it, so that a kernel sum_n w_n phi_n(k) is one function of momentum on lattices of all
    sizes.
    """
    waves = []
    for distance2 in shells:
        reach = math.isqrt(distance2)
        square = np.indices((2 * reach + 1, 2 * reach + 1)).reshape(2, -1) - reach
        x, y = square[:, (square**2).sum(0) == distance2]
        images = np.zeros(shape)
        np.add.at(images, (x % shape[0], y % shape[1]), 1.0)
        waves.append(np.fft.fft2(images).real.flatten() / math.sqrt(len(x)))
    return np.stack(waves)


class Hartley(nn.Module):
    """The Hartley transform of fields on a lattice, its own inverse.

    It is real, and diagonalises even kernels as the Fourier transform does: O(N^{3/2}) a field.

    Parameters
    ----------
    shape : (Lx, Ly)
    """

    _first: Tensor
    _second: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        first, second = (hartley(length) for length in shape)
        self.at_once = shape[0] * shape[1] <= DENSE_SITES
        if self.at_once:
            first = np.kron(first, second)
        self.register_buffer("_first", torch.as_tensor(first), persistent=False)
        self.register_buffer("_second", torch.as_tensor(second), persistent=False)

    def forward(self, fields: Tensor) -> Tensor:
        """Transform fields (..., sites)."""
        first = self._first.to(fields.dtype)
        if self.at_once:
            return fields @ first
        return (first @ (fields.unflatten(-1, self.shape) @ self._second.to(fields.dtype))).flatten(
            -2
        )
