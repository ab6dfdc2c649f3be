"""The fermions as a learned model may know them before it has seen any data."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice

FREQUENCIES = 5
"""Number of imaginary frequencies that propagators are taken at."""
MOST_ITERATIONS, CONVERGED = 1000, 1e-10
"""Of the self-energy of electrons among random spins; how close is nothing that matters."""
LARGE = 64
"""Side of the lattice that stands for an infinite one where functions of momentum are normalised.
"""


def normalised(
    functions: Callable[[tuple[int, ...]], np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """Return functions of momentum, scaled to a mean square of 1 on a large lattice."""
    scale = np.sqrt(np.square(functions((LARGE, LARGE))).mean(1, keepdims=True))
    return functions(shape) / np.where(scale > 0.0, scale, 1.0)


@dataclass(frozen=True)
class FreeElectrons:
    """Electrons without spins to scatter from.

    Parameters
    ----------
    t, mu : float
        Hopping and chemical potential.
    beta : float
        Inverse temperature.
    """

    t: float
    mu: float
    beta: float

    @classmethod
    def of(cls, ensemble: Ensemble) -> "FreeElectrons":
        """Return the electrons of an ensemble without their spins."""
        (first, *_) = ensemble.hamiltonian.couplings.hops
        return cls(first.amplitude.real, ensemble.mu, ensemble.beta)

    @property
    def frequencies(self) -> np.ndarray:
        """(5,) float64, imaginary frequencies in equal ratios.

        They run from the lowest Matsubara frequency pi / beta to 4 t, where the bands end.
        """
        lowest = math.pi / self.beta
        widest = max(4.0 * abs(self.t), 2.0 * lowest)
        return np.geomspace(lowest, widest, FREQUENCIES)

    def propagators(self, shape: tuple[int, ...]) -> np.ndarray:
        r"""Return Re g_w(k) and Im g_w(k) at the momenta of a lattice, (10, sites) float64.

        .. math:: g_w(k) = 1 / (i w + \mu - e_k)

        Scaled to a mean square of 1 on a large lattice, by factors that do not depend on this one.
        """
        return normalised(self._propagators, shape)

    def bubbles(self, shape: tuple[int, ...]) -> np.ndarray:
        r"""Return the coupling of two spins in second order at each frequency, (5, sites) float64.

        Scaled as ``propagators``.

        .. math:: b_w(q) = {\rm Re} \frac1N \sum_k g_w(k) g_w(k + q) - b_0

        with b_0 the part that acts between a spin and itself. The sum runs over the momenta of the
        lattice: how the coupling depends on its size is in it.
        """
        return normalised(self._bubbles, shape)

    def bands(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return e_k at the momenta of a lattice, (Lx, Ly) float64."""
        return Hamiltonian(Lattice(shape), self.t, 0.0).bands.reshape(shape)

    def _green(self, shape: tuple[int, ...]) -> np.ndarray:
        frequencies = 1j * self.frequencies[:, None, None]
        return 1.0 / (frequencies + self.mu - self.bands(shape))

    def _propagators(self, shape: tuple[int, ...]) -> np.ndarray:
        green = self._green(shape).reshape(FREQUENCIES, -1)
        return np.concatenate((green.real, green.imag))

    def _bubbles(self, shape: tuple[int, ...]) -> np.ndarray:
        hops = np.fft.ifft2(self._green(shape))  # even in r: g(k) = g(-k)
        bubbles = np.fft.fft2(hops**2).real.reshape(FREQUENCIES, -1)
        return bubbles - bubbles.mean(1, keepdims=True)


@dataclass(frozen=True)
class Physics:
    """Parameters that log W of a configuration depends on, besides the lattice.

    Parameters
    ----------
    electrons : FreeElectrons
    J : float
        Their coupling to the spins.
    """

    electrons: FreeElectrons
    J: float

    @classmethod
    def of(cls, ensemble: Ensemble) -> "Physics":
        """Return the parameters of an ensemble."""
        return cls(FreeElectrons.of(ensemble), ensemble.hamiltonian.couplings.J[0])

    def dressed_propagators(self, shape: tuple[int, ...]) -> np.ndarray:
        r"""Return Re g_w(k) and Im g_w(k) of electrons among random spins, (10, sites) float64.

        .. math:: g_w(k) = 1 / (i w + \mu - e_k - \Sigma(i w))

        Scaled as those of free electrons. What is left of the spins scatters less: an expansion in
        the number of spins on a line converges faster, and at large J at all.
        """
        return normalised(self._dressed, shape)

    def _dressed(self, shape: tuple[int, ...]) -> np.ndarray:
        levels = (
            self.levels_among_spins(self.electrons.frequencies)[:, None]
            - self.electrons.bands(shape).flatten()
        )
        dressed = 1.0 / levels
        return np.concatenate((dressed.real, dressed.imag))

    def levels_among_spins(self, frequencies: np.ndarray) -> np.ndarray:
        r"""Return i w + \mu - \Sigma(i w) at imaginary frequencies (n,) in units of energy.

        In the coherent-potential approximation of electrons among random spins.

        A site with a spin in the effective medium scatters nothing on average: with V = +-J/2

        .. math:: \langle t \rangle = \left\langle \frac{V - \Sigma}{1 - (V - \Sigma) g}
            \right\rangle = 0, \quad g = \frac1N \sum_k \frac{1}{i w + \mu - \Sigma - e_k}

        Soven, Phys. Rev. 156, 809 (1967).
        """
        bands = self.electrons.bands((LARGE, LARGE)).flatten()
        free = 1j * frequencies + self.electrons.mu
        potentials = Hamiltonian(Lattice((2, 2)), self.electrons.t, self.J).site_levels[:, :1]
        sigma = np.full(len(free), -0.5j * abs(potentials).max())
        for _ in range(MOST_ITERATIONS):
            local = np.mean(1.0 / ((free - sigma)[:, None] - bands), 1)
            scattered = ((potentials - sigma) / (1.0 - (potentials - sigma) * local)).mean(0)
            sigma = sigma + 0.5 * scattered / (1.0 + scattered * local)
            if abs(scattered).max() < CONVERGED:
                break
        return free - sigma

    def ensemble(self, lattice: Lattice, device: torch.device | str = "cpu") -> Ensemble:
        """Return the ensemble on a lattice."""
        hamiltonian = Hamiltonian(lattice, self.electrons.t, self.J, device)
        return Ensemble(hamiltonian, self.electrons.beta, self.electrons.mu)
