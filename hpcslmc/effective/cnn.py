"""Convolutional comparison to attention: local smearing only."""

import torch
from torch import Tensor, nn

from hpcslmc.effective.model import Architecture, ShellModel, normalise
from hpcslmc.effective.options import BlockOptions
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream


class CNN(ShellModel):
    r"""Attention with its matrix replaced by the identity.

    .. math::

        S^{(l+1)}_i
            = {\rm normalise}\left(S^{(l)}_i
              + \sum_n W_n \sum_{j \in {\rm shell}_n(i)} S^{(l)}_j\right)

    Notes
    -----
    (layers + 1) (n_max + 1) parameters. O(layers N^2) per chain. Kept for comparison: stacking it
    helps little.
    """

    Options = BlockOptions

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture)
        shape = architecture.layers, self.kernel_weights
        self.smearing = nn.Parameter(torch.zeros(shape, dtype=torch.float64))

    def initialise(self, stream: Stream) -> None:
        """Draw random weights small enough that the blocks start near the identity."""
        with torch.no_grad():
            self.smearing.copy_(0.01 * stream.normal(*self.smearing.shape)[0])

    def forward(self, spins: Tensor) -> Tensor:
        """Evaluate log W_eff (chains,) of spins (chains, sites, 3)."""
        for weights in self.smearing:
            spins = normalise(spins + self.kernel(weights) @ spins)
        return self.readout(spins)
