"""Networks of site energies on top of a linear model: what they share."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hpcslmc.effective.clifford import dot
from hpcslmc.effective.kernels import Kernels
from hpcslmc.effective.model import Architecture, EffectiveModel
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream


class SiteNetwork(EffectiveModel):
    r"""Linear model plus energies of the sites, which a network finds for each.

    .. math:: \log W_{\rm eff} = \log W_{\rm linear} + \sum_i e_i(S)

    Sums over sites are not normalised, so that a site's energy does not know the size of the
    lattice. The linear model has shells and bubbles; its couplings are fitted by least squares and
    left alone by the training. A subclass defines ``energy`` and makes its parameters with
    ``weights``.

    Parameters
    ----------
    lattice : Lattice
    architecture : Architecture
    dressed : bool
        As of `Kernels`.

    Attributes
    ----------
    kernels : Kernels
    gains : dict of str to float
        Standard deviation of the starting parameters by name, times the root of their inputs'
        number; 1 if it is not named.
    precision : torch.dtype
        Of everything but the linear part and the sums over sites. float32 costs half of float64;
        log W_eff is a deterministic function all the same, which is what reversible moves need.
    """

    gains: ClassVar[Mapping[str, float]] = {"energy": 0.0, "bias": 0.0}
    precision = torch.float32

    def __init__(self, lattice: Lattice, architecture: Architecture, dressed: bool = False) -> None:
        kernels = Kernels(lattice, architecture, dressed)
        super().__init__(lattice, architecture, len(kernels.pairs))
        self.couplings.requires_grad_(False)
        self.kernels = kernels

    @abstractmethod
    def energy(self, spins: Tensor) -> Tensor:
        """Return the sum of all sites' energies, (chains,) float64.

        ``spins`` are (3, chains, sites) in the network's precision.
        """

    def initialise(self, stream: Stream) -> None:
        """Draw random weights, and no site energies: the model starts as the linear one."""
        with torch.no_grad():
            for block in self.modules():
                if isinstance(block, nn.ParameterDict):
                    for name, parameter in block.items():
                        scale = self.gains.get(name, 1.0) / math.sqrt(parameter.shape[1])
                        parameter.copy_(stream.normal(*parameter.shape)[0] * scale)

    def rescale(self, factor: float) -> None:
        """Multiply all sites' energies by a factor."""
        for block in self.modules():
            if isinstance(block, nn.ParameterDict) and "energy" in block:
                block["energy"].data.mul_(factor)

    def correlations(self, spins: Tensor) -> Tensor:
        """Return the correlations that the couplings multiply, (chains, couplings).

        Sums over pairs of sites, by shell and by bubble.
        """
        return self.kernels.pairs.sums(spins)

    @torch.no_grad()
    def guide(self, spins: Tensor) -> Tensor:
        """Return the forces of the linear model, (chains, sites, 3)."""
        return self.kernels.pairs.field(self.couplings, spins)

    def forward(self, spins: Tensor) -> Tensor:
        """Evaluate log W_eff (chains,) of spins (chains, sites, 3)."""
        pairs = self.kernels.pairs
        spins = pairs.seen(spins)
        products = pairs.products(spins) * (self.couplings @ pairs.waves)
        linear = 0.5 * products.sum(-1) + self.sites * self.constant
        return linear + self.energy(spins.permute(2, 0, 1).to(self.precision))

    def cast(self, block: nn.Module) -> dict[str, Tensor]:
        """Return a block's parameters by name, in the network's precision."""
        return {name: parameter.to(self.precision) for name, parameter in block.named_parameters()}


class VectorNetwork(SiteNetwork):
    r"""A network of scalars x, vectors v and axial vectors u, C channels each.

    .. math:: v = K * S, \quad x = {\rm silu}(W [|v|^2, S \cdot v] + b), \quad u = 0

    to begin with, and electrons among random spins in its kernels.
    """

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture, dressed=True)
        channels = architecture.channels
        self.site = weights(
            start=(channels, len(self.kernels)), mix=(channels, 2 * channels), bias=(channels, 1)
        )

    def start(self, spins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return x, v and u, (channels, components, chains, sites), of spins (1, 3, ...)."""
        site = self.cast(self.site)
        v = self.kernels.convolve(site["start"], spins)
        x = mix(site["mix"], torch.cat((dot(v, v), dot(v, spins))), site["bias"])
        return silu(x), v, torch.zeros_like(v)


def weights(**shapes: tuple[int, int]) -> nn.ParameterDict:
    """Make a block of parameters, (outputs, inputs) each, at zero."""
    return nn.ParameterDict(
        {
            name: nn.Parameter(torch.zeros(shape, dtype=torch.float64))
            for name, shape in shapes.items()
        }
    )


def mix(weight: Tensor, fields: Tensor, bias: Tensor | None = None) -> Tensor:
    """Mix the channels of fields (in, ...) by weights (out, in); bias (out, 1) is added."""
    inputs = fields.flatten(1)
    mixed = weight @ inputs if bias is None else torch.addmm(bias, weight, inputs)
    return mixed.view(len(weight), *fields.shape[1:])


def total(weight: Tensor, hidden: Tensor) -> Tensor:
    """Return the energy (chains,) float64 of hidden units (hidden, chains, sites)."""
    # in an order of summation that no other chain can change
    totals = hidden.sum(-1, dtype=torch.float64).T.contiguous()
    return (weight * totals).sum(-1)
