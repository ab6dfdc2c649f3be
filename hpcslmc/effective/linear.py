"""Linear effective model: Heisenberg couplings by neighbour shell."""

import numpy as np
import torch
from torch import Tensor

from hpcslmc.effective.model import Architecture, ForceFitted, ShellModel
from hpcslmc.effective.options import LinearOptions
from hpcslmc.physics.lattice import Lattice


class Linear(ShellModel, ForceFitted):
    r"""Classical Heisenberg model with one coupling for each shell.

    .. math::

        \log W_{\rm eff}(S)
            = \sum_{n=1}^{n_{\max}} K_n \sum_{\langle ij \rangle_n} S_i \cdot S_j + {\rm const}

    The couplings are fitted by least squares to exact forces, of which tens of configurations hold
    as much as hundreds of values of log W do.

    Notes
    -----
    n_max + 1 parameters, the constant counted. O(N^2) per chain.
    Liu, Shen, Qi, Meng, Fu, PRB 95, 241104 (2017).
    """

    Options = LinearOptions
    guiding = None

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture)
        self.couplings.requires_grad_(False)

    def forward(self, spins: Tensor) -> Tensor:
        """Evaluate log W_eff (chains,) of spins (chains, sites, 3)."""
        return self.readout(spins)

    def correlation_forces(self, spins: Tensor) -> Tensor:
        """Return the gradients of all correlations, (chains, couplings, sites, 3)."""
        shells = torch.eye(self.kernel_weights, dtype=spins.dtype, device=spins.device)
        return torch.stack([self.kernel(one) @ spins for one in shells[self.kinds :]], 1)

    @property
    def selections(self) -> list[list[np.ndarray]]:
        """All shells."""
        return [[np.arange(len(self.couplings))]]

    @property
    def wanted_acceptances(self) -> list[float]:
        """Any: there is nothing to choose."""
        return [0.0]

    @property
    def chosen_in_words(self) -> str:
        """The couplings, nearest shells first."""
        return "couplings " + ", ".join(f"{K:.3g}" for K in self.couplings.tolist())
