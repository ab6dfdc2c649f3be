"""The electrons' density of states and spectral function."""

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.grid import Axis
from hpcslmc.measure.observables import Needs
from hpcslmc.measure.profiles import EnergyBins
from hpcslmc.measure.zone import Zone


class DensityOfStates:
    r"""Density of states per site, both spins: a histogram of all eigenvalues of h(S).

    .. math::

        \rho(E) = \frac1N \left\langle \sum_n \delta(E - E_n) \right\rangle, \qquad
            \int \rho(E)\, dE = 2

    Parameters
    ----------
    electrons : Electrons
        Has to know a spectrum.
    energies : int
        Bins of energy in [-bound, bound].
    every : int
        Samples between two measurements.

    Notes
    -----
    One diagonalisation a chain for each measurement, O(N^3), whatever the method of the weight.
    """

    name, label, needs = "density_of_states", "density of states / N [1/t]", Needs.LEVELS

    def __init__(self, electrons: Electrons, energies: int, every: int) -> None:
        self.electrons, self.every = electrons, every
        self.bins = EnergyBins(-electrons.hamiltonian.bound, electrons.hamiltonian.bound, energies)
        self.grid = {"energy": self.bins.axis}

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains, energies) float64 of spins (chains, sites, 3)."""
        levels = self.electrons.at(spins, evaluation).levels
        return self.bins.density(levels, torch.full_like(levels, 1.0 / spins.shape[1]))


class SpectralFunction:
    r"""Electrons' spectral function, both spins, over the whole Brillouin zone.

    .. math::

        A(k, \omega)
            = \Big\langle \sum_{n, a} |\langle k a | n \rangle|^2 \delta(\omega - E_n) \Big\rangle,
        \qquad \langle r | k \rangle = \frac{e^{i k.r}}{\sqrt N}

    With several sites a cell r are their true positions, which unfolds the bands to as many
    reciprocal cells as it takes A to repeat. Where hops or a field act on the electrons' spin, up
    and down along z are kept apart, in an axis of their own. Energies count from 0, not from mu. At
    every k its integral is 2, with one site a cell its first moment 2 epsilon_k, and the mean over
    k is the density of states; 2 delta(omega - epsilon_k) for free electrons.

    Parameters
    ----------
    electrons : Electrons
    energies : int
        Bins of energy in [-bound, bound].
    every : int
        Samples between two measurements.

    Notes
    -----
    All eigenvectors, O(N^3), and a Fourier transform of each; 8 N ``energies`` bytes a chain to
    keep the sums. Furukawa, J. Phys. Soc. Jpn. 64, 2734 (1995).
    """

    name, label, needs = "spectral_function", "A(k, omega) [1/t]", Needs.STATES

    def __init__(self, electrons: Electrons, energies: int, every: int) -> None:
        self.electrons, self.every = electrons, every
        hamiltonian = electrons.hamiltonian
        self.bins = EnergyBins(-hamiltonian.bound, hamiltonian.bound, energies)
        self._zone = Zone(hamiltonian.lattice, hamiltonian.couplings.twist)
        self._by_spin = not hamiltonian.couplings.is_scalar
        spin = {"spin": Axis(np.array([0.5, -0.5]), "1")} if self._by_spin else {}
        self.grid = {**self._zone.axes("k"), **spin, "energy": self.bins.axis}

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains, *zone[, spin], energies) float64 of spins (chains, sites, 3)."""
        return self.electrons.at(spins, evaluation).of_states(self._function)

    def _function(self, levels: Tensor, states: Tensor) -> Tensor:
        waves = self._zone.transform(states.unflatten(1, (-1, 2)))
        weights = waves.real.square() + waves.imag.square()
        weights = weights if self._by_spin else weights.sum(-2)
        return self.bins.density(
            levels.view(-1, *(1,) * (weights.dim() - 2), levels.shape[-1]), weights
        )
