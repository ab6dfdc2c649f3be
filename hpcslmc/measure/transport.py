r"""Optical conductivity by Kubo's formula, the Drude weight, and the hopping energy.

A vector potential along x multiplies hops to +x by exp(i A). With J = -dH/dA, the current, and K =
-d^2 H/dA^2, the hopping energy of bonds along x, both summed over the lattice, and at fixed spins,

.. math::
    \sigma(\omega > 0) &= \frac{\pi}{N} \sum_{E_n > E_m} \frac{f_m - f_n}{E_n - E_m} |J_{mn}|^2\,
    \delta(\omega - E_n + E_m) \\ D &= \frac1N \Big[ \langle -K \rangle - 2 \sum_{E_n > E_m}
    \frac{f_m - f_n}{E_n - E_m} |J_{mn}|^2 \Big], \qquad \int_0^\infty \sigma\, d\omega + \frac\pi2
    D = \frac\pi2 \frac{\langle -K \rangle}{N}

so that the whole conductivity is pi D delta(omega) + sigma, even in omega: pairs of degenerate
levels belong to D. Everything is averaged over the directions x and y and then over the spins,
which are slow. Units: e = hbar = a = 1. A side of two sites has J = 0.

Scalapino, White, Zhang, PRB 47, 7995 (1993); for double exchange Calderon, Verges, Brey, PRB 59,
4170 (1999).
"""

import math
from functools import partial

import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.electrons import Electrons, SpectralObservable
from hpcslmc.measure.observables import Needs
from hpcslmc.measure.profiles import EnergyBins

DEGENERATE = 1e-9
"""Levels closer than that fraction of the spectrum's bound are degenerate."""


def hopping_energy(electrons: Electrons, levels: Tensor, states: Tensor) -> Tensor:
    """Return the hopping energy <K> per site and direction, (chains,) float64.

    Levels and states are as ``SpectralEvaluation.eigensystem`` gives them.
    """
    hamiltonian = electrons.hamiltonian
    waves = states.unflatten(1, (-1, 2))
    ahead = torch.zeros_like(waves)
    for bonds, start, end in electrons.bonds:
        # a bond counts in each direction by the square of its length there
        length2 = sum(step * step for step in bonds.displacement)
        ahead[:, start] -= length2 * bonds.amplitude * waves[:, end]
    hops = (waves.real * ahead.real + waves.imag * ahead.imag).sum((1, 2))
    return 1.0 / hamiltonian.lattice.sites * (electrons.occupation(levels) * hops).sum(-1)


def transitions(electrons: Electrons, levels: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Energies and strengths of all transitions.

    Returns
    -------
    energies : (chains, pairs) float64
        E_n - E_m for all ordered pairs of levels.
    strengths : (chains, pairs) float64
        (f_m - f_n) / (E_n - E_m) |J_mn|^2 / N, mean over x and y; 0 unless E_n > E_m.
    """
    hamiltonian = electrons.hamiltonian
    waves = states.unflatten(1, (-1, 2))
    strengths = torch.zeros(states.shape, dtype=torch.float64, device=levels.device)
    for direction in (0, 1):
        carried = torch.zeros_like(waves)  # the current times i
        for bonds, start, end in electrons.bonds:
            if along := bonds.displacement[direction]:
                carried[:, end] += along * bonds.amplitude * waves[:, start]
                carried[:, start] -= along * bonds.amplitude * waves[:, end]
        currents = states.mH @ carried.flatten(1, 2)
        strengths += currents.real.square() + currents.imag.square()
    energies = levels[:, None, :] - levels[:, :, None]
    upwards = energies > DEGENERATE * hamiltonian.bound
    occupation = electrons.occupation(levels)
    strengths *= occupation[:, :, None] - occupation[:, None, :]
    strengths *= 0.5 / hamiltonian.lattice.sites
    return energies.flatten(1), torch.where(upwards, strengths / energies, 0.0).flatten(1)


class HoppingEnergy(SpectralObservable):
    """Electrons' hopping energy <K> per site and direction, half the kinetic energy per site.

    All eigenvectors, O(N^3).
    """

    name, label, needs = "hopping_energy", "hopping energy / N, one direction [t]", Needs.STATES

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return self.electrons.at(spins, evaluation).of_states(
            partial(hopping_energy, self.electrons)
        )


class DrudeWeight(SpectralObservable):
    """Drude weight D, the strength of pi D delta(omega) in the conductivity.

    Free electrons have -<K> per site.

    It is sum_n f(E_n) E_n'' / N for levels that move under a uniform vector potential (Kohn, Phys.
    Rev. 133, A171, 1964), and may be negative on a small periodic lattice. All eigenvectors and two
    products of matrices, O(N^3).
    """

    name, label, needs = "drude_weight", "Drude weight D [t]", Needs.STATES

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return self.electrons.at(spins, evaluation).of_states(self._weight)

    def _weight(self, levels: Tensor, states: Tensor) -> Tensor:
        _, strengths = transitions(self.electrons, levels, states)
        return -hopping_energy(self.electrons, levels, states) - 2.0 * strengths.sum(-1)


class OpticalConductivity:
    """Regular part of the optical conductivity, mean over x and y, in units of e^2 / hbar.

    The Drude peak is not in it. With it (``DrudeWeight``) the sum rule holds bin by bin: no
    broadening.

    Parameters
    ----------
    electrons : Electrons
    energies : int
        Bins of frequency from 0 to twice the bound of the spectrum.
    every : int
        Samples between two measurements.

    Notes
    -----
    All eigenvectors and two products of matrices, O(N^3).
    """

    name, label, needs = "optical_conductivity", "optical conductivity [e^2/hbar]", Needs.STATES

    def __init__(self, electrons: Electrons, energies: int, every: int) -> None:
        self.electrons, self.every = electrons, every
        self.bins = EnergyBins(0.0, 2.0 * electrons.hamiltonian.bound, energies)
        self.grid = {"omega": self.bins.axis}

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains, energies) float64 of spins (chains, sites, 3)."""
        return self.electrons.at(spins, evaluation).of_states(
            lambda *eigensystem: (
                math.pi * self.bins.density(*transitions(self.electrons, *eigensystem))
            )
        )
