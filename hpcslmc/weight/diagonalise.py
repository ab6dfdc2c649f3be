"""Exact fermion weight by batched dense diagonalisation."""

from dataclasses import replace

import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.weight.method import ExactWeight


def thermodynamics(levels: Tensor, beta: float, mu: float, sites: int) -> Evaluation:
    r"""Return log W, energy and density from the eigenvalues.

    .. math:: \log W = \sum_n \log\left(1 + e^{-\beta (E_n - \mu)}\right), \quad
        f(E) = \left(1 + e^{\beta (E - \mu)}\right)^{-1}

    Parameters
    ----------
    levels : (chains, 2 sites) float64
        All E_n.
    beta, mu : float
    sites : int

    Returns
    -------
    Evaluation
        log W, energy, density and the spectrum; no forces.
    """
    x = beta * (levels - mu)
    occupation = torch.special.expit(-x)
    return Evaluation(
        log_weight=torch.logaddexp(torch.zeros_like(x), -x).sum(-1),
        energy=(occupation * levels).sum(-1) / sites,
        density=occupation.sum(-1) / sites,
        spectrum=levels,
    )


class Diagonalise(ExactWeight):
    r"""Exact weight from all eigenvalues of h(S).

    .. math:: \log W(S) = \sum_n \log\left(1 + e^{-\beta (E_n - \mu)}\right)

    Notes
    -----
    The ranks of a group would all do the same. O(N^3) per chain; forces need eigenvectors too,
    about four times the cost. Accurate to a few units of rounding per eigenvalue. Nagai and Tomiya,
    JPSJ 93, 114007 (2024).
    """

    shares_ranks = False

    def spectrum(self, spins: Tensor) -> Tensor:
        """Return all eigenvalues E_n of h(S), ascending.

        (chains, 2 sites) float64 of spins (chains, sites, 3).
        """
        return torch.linalg.eigvalsh(self.hamiltonian.dense(spins))

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate spins (chains, sites, 3).

        Returns log W, energy, density, and with ``forces`` the gradient.
        """
        if forces:
            levels, states = torch.linalg.eigh(self.hamiltonian.dense(spins))
        else:
            levels, states = self.spectrum(spins), None
        evaluation = thermodynamics(levels, self.beta, self.mu, self.ensemble.sites)
        return (
            evaluation
            if states is None
            else replace(evaluation, forces=self._forces(states, levels))
        )

    def reweight(self, spins: Tensor, known: Evaluation, forces: bool = False) -> Evaluation:
        """Evaluate from the known spectrum where no forces are wanted, else as ``evaluate``."""
        if forces or known.spectrum is None:
            return self.evaluate(spins, forces)
        return thermodynamics(known.spectrum, self.beta, self.mu, self.ensemble.sites)

    def _forces(self, states: Tensor, levels: Tensor) -> Tensor:
        r"""Return forces d log W / d S_i = -beta d tr[V(S_i) f_ii] / d S_i.

        f is the Fermi function of h.
        """
        occupation = self.ensemble.occupation(levels)
        up, down = states[:, 0::2, :], states[:, 1::2, :]
        filled = occupation[:, None, :]
        flip = (filled * up.conj() * down).sum(-1)
        # the block's trace, the density, exerts no force: half the difference stands for both
        half = 0.5 * (filled * (up.abs().square() - down.abs().square())).sum(-1)
        diagonal = torch.complex(half, torch.zeros_like(half))
        blocks = torch.stack((diagonal, flip.conj(), flip, -diagonal), -1).unflatten(-1, (2, 2))
        return self.hamiltonian.site_forces(blocks, -self.beta)
