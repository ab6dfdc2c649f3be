"""Convolutions on the sphere of spins and on the lattice: kernels of distance and angle."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hpcslmc.effective.model import Architecture
from hpcslmc.effective.network import SiteNetwork, mix, total, weights
from hpcslmc.effective.options import LieConvOptions
from hpcslmc.physics.lattice import Lattice

ORDERS = (1, 3, 5)
"""Harmonics of each order, 0 to 2."""


class LieConv(SiteNetwork):
    r"""Linear model plus site energies of scalars that zonal kernels send around.

    A spin is a point of SO(3)/SO(2). A kernel between two that rotations leave alone depends on
    their angle alone, P_p(S_i . S_j), and by the addition theorem a sum over sites with it is a
    convolution over the lattice for each spherical harmonic Y:

    .. math:: f_i \leftarrow f_i + {\rm silu}\Big(W \Big[ \sum_j \kappa_{cp}(r_{ij}) P_p(S_i \cdot
        S_j) f_{cj} \Big]_{cp} + b \Big), \quad P_p(S \cdot S') = \sum_m Y_{pm}(S) Y_{pm}(S')

    Exact sums over all pairs, without sampling and without lifting: an average over the stabiliser
    of a spin leaves these kernels.

    Notes
    -----
    O(layers C (C N + N^1.5)). Finzi et al., arXiv:2002.12880.
    """

    Options = LieConvOptions
    gains: ClassVar[dict[str, float]] = {"kernel": 0.3, "energy": 0.0, "bias": 0.0}

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture, dressed=True)
        channels, functions = architecture.channels, len(self.kernels)
        orders = len(ORDERS)
        self.layers = nn.ModuleList(
            weights(
                kernel=(orders * channels, functions),
                mix=(channels, (orders + 1) * channels),
                bias=(channels, 1),
                energy=(1, channels),
            )
            for _ in range(architecture.layers)
        )

    def energy(self, spins: Tensor) -> Tensor:
        """Return the sum of all sites' energies, (chains,) float64."""
        channels, harmonics = self.architecture.channels, spherical_harmonics(spins)
        f = torch.ones_like(spins[:1]).expand(channels, -1, -1)
        energy = spins.new_zeros(spins.shape[1], dtype=torch.float64)
        for block in map(self.cast, self.layers):
            kernels = block["kernel"].split(channels)
            heard = [
                (self.kernels.convolve(kernel, f[:, None] * of) * of).sum(1)
                for kernel, of in zip(kernels, harmonics.split(ORDERS), strict=True)
            ]
            f = f + silu(mix(block["mix"], torch.cat((*heard, f)), block["bias"]))
            energy = energy + total(block["energy"], f)
        return energy


def spherical_harmonics(spins: Tensor) -> Tensor:
    """Return real spherical harmonics (9, ...) of spins (3, ...), orders 0 to 2.

    Those of an order multiply and add up to a Legendre polynomial of two spins' scalar product.
    Where there is no spin, all but the first are zero.
    """
    x, y, z = spins
    half = 0.5 * spins.any(0)
    root = math.sqrt(3.0)
    second = (
        root * x * y,
        root * y * z,
        root * z * x,
        root / 2 * (x * x - y * y),
        1.5 * z * z - half,
    )
    return torch.stack((torch.ones_like(x), x, y, z, *second))
