"""The electrons' density of states."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


class DensityOfStates:
    r"""Density of states per site, both spins: a histogram of all eigenvalues of h(S).

    .. math:: \rho(E) = \frac1N \left\langle \sum_n \delta(E - E_n) \right\rangle, \qquad \int \rho(E)\, dE = 2

    Parameters
    ----------
    spectrum : callable
        All eigenvalues, (chains, 2 sites) ascending, of spins (chains, sites, 3).
    bound : float
        No eigenvalue is beyond it, whatever the spins (``Hamiltonian.bound``).
    energies : int
        Bins of energy in [-bound, bound].
    every : int
        Samples between two measurements.

    Notes
    -----
    One diagonalisation a chain for each measurement, O(N^3), whatever the method of the weight.
    """

    name, label, grid_label = "density_of_states", "density of states / N [1/t]", "energy [t]"

    def __init__(self, spectrum: Callable[[Tensor], Tensor], bound: float, energies: int, every: int) -> None:
        self.spectrum, self.bound, self.every = spectrum, bound, every
        self.width = 2.0 * bound / energies
        self.grid = (np.arange(energies) + 0.5) * self.width - bound

    def measure(self, spins: Tensor) -> Tensor:
        """(chains, energies) float64 of spins (chains, sites, 3)."""
        chains, sites, _ = spins.shape
        index = ((self.spectrum(spins) + self.bound) / self.width).long().clamp_(0, len(self.grid) - 1)
        counts = torch.zeros(chains, len(self.grid), dtype=torch.float64, device=spins.device)
        counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.float64))
        return counts / (sites * self.width)
