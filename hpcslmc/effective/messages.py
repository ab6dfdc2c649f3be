"""Equivariant message passing.

Vectors, axial vectors and scalars sent along propagators of the electrons.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hpcslmc.effective.clifford import cross
from hpcslmc.effective.model import Architecture
from hpcslmc.effective.network import SiteNetwork, mix, total, weights
from hpcslmc.effective.options import MessageOptions
from hpcslmc.physics.lattice import Lattice

HIDDEN = 4
"""Number of hidden units of a site for each channel."""


class Messages(SiteNetwork):
    r"""Linear model plus site energies of what each site hears from the others.

    log W is a sum over closed paths of tr prod (S.sigma) with free propagators between the factors.
    The model keeps the algebra, (S.sigma)(v.sigma) = S.v + i (S x v).sigma, learns the propagators
    and lets a small network on each site sum up the orders. With * a convolution over the lattice,
    C channels c, and learned matrices of channels capital Latin letters:

    .. math::
        v_0 &= S, \quad v_c = K_c * S \\
        h^{(0)} &= {\rm silu}\left(W^{(0)} [|v|^2, S \cdot v] + b^{(0)}\right) \\
        p &= P v, \quad a = S \times A v, \quad g = G h^{(l-1)} \\
        p' &= K^p * (1 + g^p) p, \quad a' = K^a * (1 + g^a) a, \quad s' = K^s * g^s \\
        h^{(l)} &= {\rm silu}\left(W^{(l)} [|p'|^2, |a'|^2, p' \cdot D v, a' \cdot a, s', h^{(l-1)}]
        + b^{(l)}\right) \\ \log W_{\rm eff} &= \log W_{\rm linear} + \sum_i \sum_l e^{(l)} \cdot
        h^{(l)}_i

    and p' joins the vectors v that the next layer starts from. All products are between vectors of
    the same parity, hence invariant under O(3).

    Parameters
    ----------
    lattice : Lattice
    architecture : Architecture
        Its layers are rounds of messages (0 leaves the site energies of h^(0)), its channels are C.

    Notes
    -----
    O(layers (C^2 N + C N^{3/2})) per chain.

    Related networks: Miyazaki, arXiv:2305.03804 (vectors on the Kondo lattice); Nagai and Tomiya,
    arXiv:2306.11527 (learned smearing of spins); Batatia et al., arXiv:2206.07697 (MACE: products
    of messages in place of many layers).
    """

    Options = MessageOptions
    # the electrons' functions have sharp peaks, hence small kernels
    gains: ClassVar[dict[str, float]] = {"kernel": 0.3, "gate": 0.1, "energy": 0.0, "bias": 0.0}

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture)
        channels, functions = architecture.channels, len(self.kernels)
        hidden, vectors = HIDDEN * channels, channels + 1
        self.site = weights(
            kernel=(channels, functions),
            mix=(hidden, 2 * vectors),
            bias=(hidden, 1),
            energy=(1, hidden),
        )
        self.layers = nn.ModuleList(
            weights(
                gate=(3 * channels, hidden),
                project=(3 * channels, vectors + n * channels),
                kernel=(3 * channels, functions),
                mix=(hidden, 5 * channels + hidden),
                bias=(hidden, 1),
                energy=(1, hidden),
            )
            for n in range(architecture.layers)
        )

    def energy(self, spins: Tensor) -> Tensor:
        """Return the sum of all sites' energies, (chains,) float64."""
        channels, convolve = self.architecture.channels, self.kernels.convolve
        site, *layers = (self.cast(block) for block in (self.site, *self.layers))
        spins = spins[None]  # fields are (channels, 3, chains, sites)
        vectors = torch.cat((spins, convolve(site["kernel"], spins)))
        hidden = _hidden(site, [vectors.square().sum(1), (vectors * spins).sum(1)])
        energy = total(site["energy"], hidden)
        for block in layers:
            gates = torch.tensordot(block["gate"], hidden, 1)
            polar, axial, partner = torch.tensordot(block["project"], vectors, 1).split(channels)
            axial = cross(spins, axial)
            gate, signals = gates.split((2 * channels, channels))
            kernels, signal_kernels = block["kernel"].split((2 * channels, channels))
            heard = convolve(kernels, (1.0 + gate[:, None]) * torch.cat((polar, axial)))
            signals = convolve(signal_kernels, signals)
            products = (heard * torch.cat((partner, axial))).sum(1)
            hidden = _hidden(block, [heard.square().sum(1), products, signals, hidden])
            energy = energy + total(block["energy"], hidden)
            if block is not layers[-1]:
                vectors = torch.cat((vectors, heard[:channels]))
        return energy


def _hidden(block: dict[str, Tensor], invariants: list[Tensor]) -> Tensor:
    """Return hidden units (hidden, chains, sites) of invariants (n, chains, sites) each."""
    return silu(mix(block["mix"], torch.cat(invariants), block["bias"]))
