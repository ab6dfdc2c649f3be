"""Equivariant message passing.

Vectors, axial vectors and scalars sent along propagators of the electrons.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hpcslmc.effective.model import Architecture, EffectiveModel
from hpcslmc.effective.momentum import Hartley, shell_waves
from hpcslmc.effective.options import MessageOptions
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream

HIDDEN = 4
"""Number of hidden units of a site for each channel."""


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Return the cross product along axis 1, its components in the order (z, x, y)."""
    return a * b.roll(-1, 1) - a.roll(-1, 1) * b


class Messages(EffectiveModel):
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

    Kernels are learned combinations of fixed functions of momentum: shells of the infinite lattice
    (`shell_waves`), and the free electrons' propagators and bubbles at a few imaginary frequencies
    (`FreeElectrons`), which carry how things depend on the size of the lattice and on temperature.
    Sums over sites are not normalised otherwise, so that a site's energy does not know the size of
    the lattice. The linear model has the shells and the bubbles; its couplings are fitted by least
    squares and left alone by the training.

    Parameters
    ----------
    lattice : Lattice
    architecture : Architecture
        Its layers are rounds of messages (0 leaves the site energies of h^(0)), its channels are C.

    Attributes
    ----------
    precision : torch.dtype
        Of everything but the linear part and the sums over sites. float32 costs half of float64;
        log W_eff is a deterministic function all the same, which is what reversible moves need.

    Notes
    -----
    Convolutions are products in the Hartley basis, (cos + sin)(k x), which is real and diagonalises
    even kernels; O(layers (C^2 N + C N^{3/2})) per chain.

    Related networks: Miyazaki, arXiv:2305.03804 (vectors on the Kondo lattice); Nagai and Tomiya,
    arXiv:2306.11527 (learned smearing of spins); Batatia et al., arXiv:2206.07697 (MACE: products
    of messages in place of many layers).
    """

    Options = MessageOptions
    _coupling_waves: Tensor
    _waves: Tensor

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        channels, electrons = architecture.channels, architecture.electrons
        bubbles = electrons.bubbles(lattice.shape)
        super().__init__(lattice, architecture, len(architecture.shells) + len(bubbles))
        self.couplings.requires_grad_(False)
        self.precision = torch.float32
        self.transform = Hartley(lattice.shape)
        # functions of momentum that couplings and kernels are made of
        waves = shell_waves(lattice.shape, (0, *architecture.shells))
        self.register_buffer(
            "_coupling_waves",
            torch.as_tensor(np.concatenate((waves[1:], bubbles))),
            persistent=False,
        )
        waves = np.concatenate((waves, electrons.propagators(lattice.shape), bubbles))
        self.register_buffer("_waves", torch.as_tensor(waves), persistent=False)

        def weights(**shapes: tuple[int, int]) -> nn.ParameterDict:
            return nn.ParameterDict(
                {
                    name: nn.Parameter(torch.zeros(shape, dtype=torch.float64))
                    for name, shape in shapes.items()
                }
            )

        # parameters of the site energies and of each round of messages
        hidden, vectors = HIDDEN * channels, channels + 1
        self.site = weights(
            kernel=(channels, len(waves)),
            mix=(hidden, 2 * vectors),
            bias=(hidden, 1),
            energy=(1, hidden),
        )
        self.layers = nn.ModuleList(
            weights(
                gate=(3 * channels, hidden),
                project=(3 * channels, vectors + n * channels),
                kernel=(3 * channels, len(waves)),
                mix=(hidden, 5 * channels + hidden),
                bias=(hidden, 1),
                energy=(1, hidden),
            )
            for n in range(architecture.layers)
        )

    def initialise(self, stream: Stream) -> None:
        """Draw random weights, with small kernels and no site energies.

        The electrons' functions have sharp peaks, hence small kernels; without site energies the
        model starts as the linear one.
        """
        gain = {"kernel": 0.3, "project": 1.0, "mix": 1.0, "gate": 0.1, "energy": 0.0, "bias": 0.0}
        with torch.no_grad():
            for block in (self.site, *self.layers):
                for name, parameter in block.items():
                    numbers = stream.normal(*parameter.shape)[0]
                    parameter.copy_(numbers * (gain[name] / math.sqrt(parameter.shape[1])))

    def convolve(self, kernels: Tensor, fields: Tensor) -> Tensor:
        """Smear fields (channels, ..., sites) with kernels of weights (channels, waves)."""
        spectra = (kernels @ self._waves.to(kernels.dtype)).reshape(
            len(kernels), *[1] * (fields.ndim - 2), self.sites
        )
        return self.transform(spectra * self.transform(fields))

    def correlations(self, spins: Tensor) -> Tensor:
        """Return the correlations that the couplings multiply, (chains, couplings).

        Sums over pairs of sites, by shell and by bubble.
        """
        power = self.transform(spins.permute(2, 0, 1)).square().sum(0)
        return 0.5 * power @ self._coupling_waves.T

    def readout(self, spins: Tensor) -> Tensor:
        """Evaluate the linear model of spins (chains, sites, 3): (chains,)."""
        power = self.transform(spins.permute(2, 0, 1)).square().sum(0)
        return (
            0.5 * (power * (self.couplings @ self._coupling_waves)).sum(-1)
            + self.sites * self.constant
        )

    @torch.no_grad()
    def guide(self, spins: Tensor) -> Tensor:
        """Return the forces of the linear model, (chains, sites, 3)."""
        kernel = self.couplings @ self._coupling_waves
        return self.transform(kernel * self.transform(spins.permute(2, 0, 1))).permute(1, 2, 0)

    def forward(self, spins: Tensor) -> Tensor:
        """Evaluate log W_eff (chains,) of spins (chains, sites, 3)."""
        log_weight = self.readout(spins)
        channels = self.architecture.channels
        site, *layers = [
            {name: p.to(self.precision) for name, p in block.items()}
            for block in (self.site, *self.layers)
        ]
        spins = spins.permute(2, 0, 1).to(self.precision)[
            None
        ]  # fields are (channels, 3, chains, sites) from here on

        vectors = torch.cat((spins, self.convolve(site["kernel"], spins)))
        hidden, energy = self._sum_up(site, [vectors.square().sum(1), (vectors * spins).sum(1)])
        log_weight = log_weight + energy
        for block in layers:
            gates = torch.tensordot(block["gate"], hidden, 1)
            polar, axial, partner = torch.tensordot(block["project"], vectors, 1).split(channels)
            axial = cross(spins, axial)
            gate, signals = gates.split((2 * channels, channels))
            kernels, signal_kernels = block["kernel"].split((2 * channels, channels))
            heard = self.convolve(kernels, (1.0 + gate[:, None]) * torch.cat((polar, axial)))
            signals = self.convolve(signal_kernels, signals)
            products = (heard * torch.cat((partner, axial))).sum(1)
            hidden, energy = self._sum_up(block, [heard.square().sum(1), products, signals, hidden])
            log_weight = log_weight + energy
            if block is not layers[-1]:
                vectors = torch.cat((vectors, heard[:channels]))
        return log_weight

    def _sum_up(self, block: dict[str, Tensor], invariants: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return hidden units (hidden, chains, sites), and their energy (chains,) float64.

        ``invariants`` are (n, chains, sites) each.
        """
        inputs = torch.cat(invariants)
        hidden = silu(torch.addmm(block["bias"], block["mix"], inputs.flatten(1))).reshape(
            -1, *inputs.shape[1:]
        )
        totals = hidden.sum(
            -1, dtype=torch.float64
        ).T.contiguous()  # whose order of summation no other chain can change
        return hidden, (block["energy"] * totals).sum(-1)
