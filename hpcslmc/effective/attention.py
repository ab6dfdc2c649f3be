"""Equivariant attention of Nagai and Tomiya."""

import math

import torch
from torch import Tensor, nn

from hpcslmc.effective.model import Architecture, ShellModel, normalise
from hpcslmc.effective.options import BlockOptions
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream


class Attention(ShellModel):
    r"""Linear model evaluated on spins that attention blocks have smeared.

    Block l turns the site vectors S^(l) into S^(l+1):

    .. math::
        S^a_i &= \sum_{n=0}^{n_{\max}} W^a_n \sum_{j \in {\rm shell}_n(i)} S_j, \quad a \in \{Q, K,
        V\} \\ M_{ij} &= {\rm ReLU}(S^Q_i \cdot S^K_j / \sqrt 3) \\ S^{(l+1)}_i &= {\rm
        normalise}\left(S^{(l)}_i + \sum_j M_{ij} S^V_j\right)

    M is a Gram matrix, hence invariant under O(3); the smearings depend on the shell only.

    Notes
    -----
    3 layers (n_max + 1) + n_max + 1 parameters. O(layers N^2) per chain.
    Nagai and Tomiya, JPSJ 93, 114007 (2024), arXiv:2306.11527.
    """

    Options = BlockOptions

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture)
        layers, shells = architecture.layers, architecture.shells
        self.smearing = nn.Parameter(torch.zeros(layers, 3, len(shells) + 1, dtype=torch.float64))

    def initialise(self, stream: Stream) -> None:
        """Draw random queries and keys, and values so small that blocks begin near identity."""
        with torch.no_grad():
            self.smearing.copy_(0.1 * stream.normal(*self.smearing.shape)[0])
            self.smearing[:, 2] *= 0.1

    def forward(self, spins: Tensor) -> Tensor:
        """Evaluate log W_eff (chains,) of spins (chains, sites, 3)."""
        for weights in self.smearing:
            smeared = self.kernel(weights).flatten(0, 1) @ spins
            query, key, value = smeared.split(self.sites, dim=1)
            attention = torch.relu(query @ key.transpose(1, 2) / math.sqrt(3.0))
            spins = normalise(spins + attention @ value)
        return self.readout(spins)
