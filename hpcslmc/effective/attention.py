"""Equivariant attention of Nagai and Tomiya."""

import math

import torch
from torch import Tensor, nn

from hpcslmc.effective.model import Architecture, ShellModel, normalise
from hpcslmc.effective.options import AttentionOptions
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream


class Attention(ShellModel):
    r"""Linear model evaluated on spins that attention blocks have smeared.

    Block l turns the site vectors S^(l) into S^(l+1):

    .. math::
        S^a_i &= \sum_{n=0}^{n_{\max}} W^a_n \sum_{j \in {\rm shell}_n(i)} S_j, \quad a \in \{Q, K,
        V\} \\ M_{ij} &= {\rm ReLU}(S^Q_i \cdot S^K_j / \sqrt 3) \\ S^{(l+1)}_i &= {\rm
        normalise}\left(S^{(l)}_i + \sum_j M_{ij} S^V_j\right)

    M is a Gram matrix, hence invariant under O(3); the smearings depend on the shell only. Several
    heads have matrices and smearings of their own, and add up.

    Notes
    -----
    3 heads layers (n_max + 1) + n_max + 1 parameters. O(heads layers N^2) per chain.
    Nagai and Tomiya, JPSJ 93, 114007 (2024), arXiv:2306.11527.
    """

    Options = AttentionOptions

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture)
        settings = architecture.settings
        self.heads = settings.get("heads", 1)  # files of earlier versions have neither
        self.renormalise = settings.get("renormalise", True)
        shape = architecture.layers, 3 * self.heads, self.kernel_weights
        self.smearing = nn.Parameter(torch.zeros(shape, dtype=torch.float64))

    def initialise(self, stream: Stream) -> None:
        """Draw random queries and keys, and values so small that blocks begin near identity.

        All sites add up: values of any fixed size would align them on a large lattice, and blocks
        that start so do not learn.
        """
        with torch.no_grad():
            self.smearing.copy_(0.1 * stream.normal(*self.smearing.shape)[0])
            self.smearing[:, 2 * self.heads :] /= self.sites

    def forward(self, spins: Tensor) -> Tensor:
        """Evaluate log W_eff (chains,) of spins (chains, sites, 3)."""
        for weights in self.smearing:
            smeared = self.kernel(weights).flatten(0, 1) @ spins
            smeared = smeared.unflatten(1, (3, self.heads, self.sites))
            query, key, value = smeared.unbind(1)
            attention = torch.relu(query @ key.mT / math.sqrt(3.0))
            spins = spins + (attention @ value).sum(1)
            if self.renormalise:
                spins = normalise(spins)
        return self.readout(spins)
