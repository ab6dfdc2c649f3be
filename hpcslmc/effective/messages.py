"""Equivariant message passing: vectors, axial vectors and scalars sent along learned propagators."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hpcslmc.effective.model import EffectiveModel
from hpcslmc.lattice import Lattice
from hpcslmc.streams import Stream

DENSE_SITES = 100
"""Up to this size one matrix transforms both directions at once; beyond, two are cheaper."""
HIDDEN = 4
"""Hidden units of a site for each channel."""


CHANNELS = 16
"""Smeared spins that a site looks at; half as many vectors, axial vectors and scalars are sent in a layer."""

HIDDEN = 32
"""Width of the network of a site."""


def hartley(length: int) -> np.ndarray:
    """(length, length), the symmetric orthogonal matrix (cos + sin)(2 pi k x / length) / sqrt(length)."""
    angle = 2.0 * np.pi * np.outer(np.arange(length), np.arange(length)) / length
    return (np.cos(angle) + np.sin(angle)) / math.sqrt(length)


def shell_waves(lattice: Lattice, shells: list[int]) -> np.ndarray:
    r"""Structure factors of shells of the infinite lattice, at the momenta of this one: (shells, sites).

    .. math:: \varphi_n(k) = z_n^{-1/2} \sum_{r \in Z^2, |r|^2 = d_n} \cos(k \cdot r)

    with z_n the number of sites at the squared distance d_n. Distances beyond half the lattice wrap around
    it, so that a kernel sum_n w_n phi_n(k) is one function of momentum on lattices of all sizes.
    """
    waves = []
    for distance2 in shells:
        reach = math.isqrt(distance2)
        square = np.indices((2 * reach + 1, 2 * reach + 1)).reshape(2, -1) - reach
        x, y = square[:, (square**2).sum(0) == distance2]
        images = np.zeros(lattice.shape)
        np.add.at(images, (x % lattice.shape[0], y % lattice.shape[1]), 1.0)
        waves.append(np.fft.fft2(images).real.flatten() / math.sqrt(len(x)))
    return np.stack(waves)


class Messages(EffectiveModel):
    r"""Vectors, axial vectors and scalars sent from site to site along learned propagators, on top of the linear model.

    A propagator is a sum over shells, with structure factors phi_n(k) and learned weights w_n, applied in momentum space,

    .. math:: (K v)_i = \sum_j v_j \frac1N \sum_k e^{i k (r_i - r_j)} \sum_{n=0}^{n_{\max}} w_n \varphi_n(k)

    Every site looks at smeared spins K_c S, c = 0..C with K_0 = 1. Their lengths and overlaps with S_i, all invariant
    under O(3), feed a small network per site, h_i = silu(M x_i + b). Each further layer sends C/2 mixtures v of all
    vectors so far, C/2 axial vectors S_i x a and C/2 scalars, each times a gate that h_i sets; what arrives gives
    new invariants (lengths of both, vectors times local vectors, axial times local axial ones, scalars) for the next h_i. Axial vectors
    enter in pairs, so that reflections remain a symmetry.

    .. math:: \log W_{\rm eff} = \sum_n K_n \sum_{\langle ij \rangle_n} S_i \cdot S_j
        + \sum_{l=0}^{\rm layers} \sum_i e_l \cdot h^{(l)}_i + {\rm const}

    Parameters belong to shells and channels. Kernels are those of the infinite lattice, folded onto this one.

    Notes
    -----
    C = 16 channels. O(layers C N (sqrt(N) + C)) per chain. Vector channels and gates as in Schuett, Unke, Gastegger,
    arXiv:2102.03150; equivariant networks for the Kondo lattice: Miyazaki, arXiv:2305.03804.
    """

    def __init__(self, lattice: Lattice, shells: np.ndarray, layers: int) -> None:
        super().__init__(lattice, shells, layers)
        self.shape = lattice.shape
        transforms = [hartley(length) for length in lattice.shape]
        if lattice.sites <= DENSE_SITES:
            transforms = [np.kron(*transforms)]
        for axis, matrix in enumerate(transforms):
            self.register_buffer(f"_hartley{axis}", torch.as_tensor(matrix), persistent=False)
        self.register_buffer("_waves", torch.as_tensor(shell_waves(lattice, [0, *self.shells])), persistent=False)
        waves, half, pool = len(shells) + 1, CHANNELS // 2, CHANNELS + 1
        self.sight = _parameter(CHANNELS, waves)
        self.blocks = nn.ModuleList()
        for layer in range(layers + 1):
            invariants = 5 * half + HIDDEN if layer else 2 * pool
            block = {"mix": _parameter(HIDDEN, invariants), "bias": _parameter(HIDDEN, 1), "energy": _parameter(1, HIDDEN)}
            if layer:
                block |= {"gate": _parameter(3 * half, HIDDEN), "project": _parameter(3 * half, pool),
                          "propagator": _parameter(3 * half, waves)}
                pool += half
            self.blocks.append(nn.ParameterDict(block))

    def initialise(self, stream: Stream) -> None:
        """Random weights of about unit gain, small gates and no energies: the linear model to start with."""
        def draw(weights: Tensor, gain: float) -> None:
            weights.copy_(gain * stream.normal(*weights.shape)[0])

        with torch.no_grad():
            draw(self.sight, 0.3)
            for block in self.blocks:
                for name, weights in block.items():
                    if name == "propagator":
                        draw(weights, 0.3)
                    elif name in ("mix", "project", "gate"):
                        draw(weights, (0.1 if name == "gate" else 1.0) * weights.shape[1] ** -0.5)

    def transform(self, fields: Tensor) -> Tensor:
        """Hartley transform of fields (..., sites), its own inverse."""
        if self.sites <= DENSE_SITES:
            return fields @ self._hartley0
        return (self._hartley0 @ (fields.unflatten(-1, self.shape) @ self._hartley1)).flatten(-2)

    def forward(self, spins: Tensor) -> Tensor:
        """(chains,) log W_eff of spins (chains, sites, 3)."""
        log_weight, chains, half = self.readout(spins), len(spins), CHANNELS // 2
        spins = spins.permute(2, 0, 1)
        sight = (self.sight @ self._waves)[:, None, None] * self.transform(spins)
        pool = torch.cat((spins[None], self.transform(sight)))
        invariants = torch.cat((pool.square().sum(1), (pool * spins).sum(1))).flatten(1)
        for layer, block in enumerate(self.blocks):
            if layer:
                gates = (block["gate"] @ hidden).unflatten(-1, (chains, -1))
                local = (block["project"] @ pool.flatten(1)).unflatten(-1, pool.shape[1:])
                vectors, partners, axial = local.split(half)
                axial = torch.linalg.cross(spins.expand_as(axial), axial, dim=1)
                propagator = block["propagator"] @ self._waves
                sent = self.transform((1.0 + gates[:2 * half, None]) * torch.cat((vectors, axial)))
                received = self.transform(propagator[:2 * half, None, None] * sent)
                scalars = self.transform(propagator[2 * half:, None] * self.transform(gates[2 * half:]))
                overlaps = (received * torch.cat((partners, axial))).sum(1)
                invariants = torch.cat((*(x.flatten(1) for x in (received.square().sum(1), overlaps, scalars)), hidden))
                pool = torch.cat((pool, received[:half]))
            hidden = silu(block["mix"] @ invariants + block["bias"])
            log_weight = log_weight + (block["energy"] @ hidden).reshape(chains, -1).sum(1)
        return log_weight


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape, dtype=torch.float64))
