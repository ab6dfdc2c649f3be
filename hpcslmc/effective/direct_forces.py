"""Forces that a network gives directly, without a log W_eff: a guide of trajectories."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from hpcslmc.density import Evaluation
from hpcslmc.effective.clifford import cross
from hpcslmc.effective.equiformer import of_product, take_in, tensor_product
from hpcslmc.effective.model import Architecture
from hpcslmc.effective.network import VectorNetwork, mix, weights
from hpcslmc.effective.options import ForceOptions
from hpcslmc.effective.scores import normed
from hpcslmc.physics.field import tangential
from hpcslmc.physics.lattice import Lattice


class DirectForces(VectorNetwork):
    r"""Forces of the linear model, and vectors of each site that a network adds to them.

    .. math:: G_i = F_i^{\rm linear} + \sum_c (a_c v_{ic} + b_c S_i \times u_{ic}), \quad
        u, v \leftarrow \text{convolutions of tensor products with the spins}

    in layers of scalars, vectors and axial vectors (`equiformer.tensor_product`). G is no gradient
    of anything, so there is no density that it belongs to: it guides trajectories under another
    model, which kicks by any function of the spins leave exact (`HMC`). That saves the backward
    pass of a gradient. log W_eff is the linear model's.

    Notes
    -----
    O(layers (C^2 N + C N^1.5)). Fu et al., arXiv:2502.12147, compare direct forces with gradients.
    """

    Options = ForceOptions
    is_density = False
    gains: ClassVar[dict[str, float]] = {
        "start": 0.3,
        "kernel": 0.5,
        "bias": 0.0,
        "out": 0.5,
        "forces": 0.0,
    }

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture)
        channels, functions = architecture.channels, len(self.kernels)
        self.layers = nn.ModuleList(
            weights(
                kernel=(channels, functions),
                **of_product("sent", channels),
                **of_product("own", channels),
                out=(3 * channels, channels),
                forces=(2, channels),
            )
            for _ in range(architecture.layers)
        )

    def energy(self, spins: Tensor) -> Tensor:
        """Return zeros (chains,) float64: the forces are of no energy."""
        return spins.new_zeros(spins.shape[1], dtype=torch.float64)

    def with_forces(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """Return log W_eff of the linear model, and tangential forces (chains, sites, 3)."""
        linear = self.kernels.pairs.field(self.couplings, spins)
        seen = self.kernels.pairs.seen(spins)
        direct = self._vectors(seen.permute(2, 0, 1).to(self.precision)).to(spins.dtype)
        forces = linear + self.kernels.pairs.seen(direct.permute(1, 2, 0))
        return self(spins), tangential(forces, spins)

    def _vectors(self, spins: Tensor) -> Tensor:
        """Return what the network adds, (3, chains, sites), for spins like that."""
        spins = spins[None]
        x, v, u = self.start(spins)
        forces = torch.zeros_like(spins)
        for block in map(self.cast, self.layers):
            sent = tensor_product(block, "sent", spins, normed(x), normed(v), normed(u))
            heard = self.kernels.convolve(block["kernel"], torch.cat(sent, 1))
            x, v, u = take_in(block, spins, (x, v, u), heard)
            polar, axial = block["forces"][:, None].unbind(0)
            forces = forces + mix(polar, v) + cross(spins, mix(axial, u))
        return forces[0]

    @torch.no_grad()
    def _with_forces(self, spins: Tensor) -> Evaluation:
        return Evaluation(*self.with_forces(spins))
