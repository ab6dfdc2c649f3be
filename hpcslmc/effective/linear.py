"""Linear effective model: Heisenberg couplings by neighbour shell."""

from torch import Tensor

from hpcslmc.effective.model import ShellModel


class Linear(ShellModel):
    r"""Classical Heisenberg model with one coupling for each shell.

    .. math::

        \log W_{\rm eff}(S)
            = \sum_{n=1}^{n_{\max}} K_n \sum_{\langle ij \rangle_n} S_i \cdot S_j + {\rm const}

    Notes
    -----
    n_max + 1 parameters, the constant counted. O(N^2) per chain.
    Liu, Shen, Qi, Meng, Fu, PRB 95, 241104 (2017).
    """

    def forward(self, spins: Tensor) -> Tensor:
        """Evaluate log W_eff (chains,) of spins (chains, sites, 3)."""
        return self.readout(spins)
