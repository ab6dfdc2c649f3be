r"""Optical conductivity by Kubo's formula, the Drude weight, and the hopping energy.

A vector potential A multiplies hops along a displacement d by exp(i A.d). For A along x, with J =
-dH/dA, the current, and K = -d^2 H/dA^2, the hopping energy of bonds by the square of their length
along x, both summed over the lattice of volume V, and at fixed spins,

.. math::
    \sigma(\omega > 0) &= \frac{\pi}{V} \sum_{E_n > E_m} \frac{f_m - f_n}{E_n - E_m} |J_{mn}|^2\,
    \delta(\omega - E_n + E_m) \\ D &= \frac1V \Big[ \langle -K \rangle - 2 \sum_{E_n > E_m}
    \frac{f_m - f_n}{E_n - E_m} |J_{mn}|^2 \Big], \qquad \int_0^\infty \sigma\, d\omega + \frac\pi2
    D = \frac\pi2 \frac{\langle -K \rangle}{V}

so that the whole conductivity is pi D delta(omega) + sigma, even in omega: pairs of degenerate
levels belong to D. Everything is averaged over all Cartesian directions (of the tensor alone it is
not) and then over the spins, which are slow. Units: e = hbar = 1 and lengths as in the lattice
vectors: V = N on chains, square and cubic lattices. A side of two sites of a square lattice has
J = 0.

Scalapino, White, Zhang, PRB 47, 7995 (1993); for double exchange Calderon, Verges, Brey, PRB 59,
4170 (1999).
"""

import itertools
import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.electrons import Electrons, SpectralObservable
from hpcslmc.measure.grid import Axis
from hpcslmc.measure.observables import Needs
from hpcslmc.measure.profiles import EnergyBins
from hpcslmc.physics.hamiltonian import Bonds

DEGENERATE = 1e-9
"""Levels closer than that fraction of the spectrum's bound are degenerate."""


def hop(bonds: Bonds, waves: Tensor, scale: float, back: bool = False) -> Tensor:
    """Return T M of bonds, or its adjoint, times a factor, on waves (chains, bonds, 2, states)."""
    amplitude = scale * (bonds.amplitude.conjugate() if back else bonds.amplitude)
    if bonds.matrix is not None:
        matrix = bonds.matrix.conj().T if back else bonds.matrix
        waves = torch.as_tensor(matrix, device=waves.device) @ waves
    return amplitude * waves


def hopping_energy(electrons: Electrons, levels: Tensor, states: Tensor) -> Tensor:
    """Return the hopping energy <K> per site and direction, (chains,) float64.

    Levels and states are as ``SpectralEvaluation.eigensystem`` gives them.
    """
    lattice = electrons.hamiltonian.lattice
    waves = states.unflatten(1, (-1, 2))
    ahead = torch.zeros_like(waves)
    for bonds, start, end in electrons.bonds:
        # a bond counts in each direction by the square of its length there
        length2 = sum(step * step for step in bonds.displacement)
        ahead[:, start] -= hop(bonds, waves[:, end], length2)
    hops = (waves.real * ahead.real + waves.imag * ahead.imag).sum((1, 2))
    both_ways = 2.0 / lattice.dimension
    return both_ways / lattice.sites * (electrons.occupation(levels) * hops).sum(-1)


def current(electrons: Electrons, states: Tensor, direction: int) -> Tensor:
    """Return -i <m|J|n> of the current along a Cartesian direction, (chains, levels, levels)."""
    waves = states.unflatten(1, (-1, 2))
    carried = torch.zeros_like(waves)
    for bonds, start, end in electrons.bonds:
        if along := bonds.displacement[direction]:
            carried[:, end] += hop(bonds, waves[:, start], along, back=True)
            carried[:, start] -= hop(bonds, waves[:, end], along)
    return states.mH @ carried.flatten(1, 2)


def transitions(electrons: Electrons, levels: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Energies and strengths of all transitions.

    Returns
    -------
    energies : (chains, pairs) float64
        E_n - E_m for all ordered pairs of levels.
    strengths : (chains, pairs) float64
        (f_m - f_n) / (E_n - E_m) |J_mn|^2 / V, mean over all directions; 0 unless E_n > E_m.
    """
    lattice = electrons.hamiltonian.lattice
    squares = torch.zeros(states.shape, dtype=torch.float64, device=levels.device)
    for direction in range(lattice.dimension):
        currents = current(electrons, states, direction)
        squares += currents.real.square() + currents.imag.square()
    return _strengths(electrons, levels, squares, 1.0 / lattice.dimension / lattice.volume)


def _strengths(
    electrons: Electrons, levels: Tensor, products: Tensor, factor: float
) -> tuple[Tensor, Tensor]:
    """Return E_n - E_m, and factor (f_m - f_n) / (E_n - E_m) times products; 0 unless E_n > E_m."""
    energies = levels[:, None, :] - levels[:, :, None]
    upwards = energies > DEGENERATE * electrons.hamiltonian.bound
    occupation = electrons.occupation(levels)
    strengths = products * (occupation[:, :, None] - occupation[:, None, :]) * factor
    return energies.flatten(1), torch.where(upwards, strengths / energies, 0.0).flatten(1)


class HoppingEnergy(SpectralObservable):
    """Electrons' hopping energy <K> per site and direction.

    Half the kinetic energy per site on the square lattice with hops to the nearest neighbours.

    All eigenvectors, O(N^3).
    """

    name, label, needs = "hopping_energy", "hopping energy / N, one direction [t]", Needs.STATES

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return self.electrons.at(spins, evaluation).of_states(
            partial(hopping_energy, self.electrons)
        )


class DrudeWeight(SpectralObservable):
    """Drude weight D, the strength of pi D delta(omega) in the conductivity.

    Free electrons have -<K> / V.

    It is sum_n f(E_n) E_n'' / V for levels that move under a uniform vector potential (Kohn, Phys.
    Rev. 133, A171, 1964), and may be negative on a small periodic lattice. All eigenvectors and two
    products of matrices, O(N^3).
    """

    name, label, needs = "drude_weight", "Drude weight D [t]", Needs.STATES

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return self.electrons.at(spins, evaluation).of_states(self._weight)

    def _weight(self, levels: Tensor, states: Tensor) -> Tensor:
        _, strengths = transitions(self.electrons, levels, states)
        sites_by_volume = self.lattice.sites / self.lattice.volume
        hops = hopping_energy(self.electrons, levels, states)
        return -sites_by_volume * hops - 2.0 * strengths.sum(-1)


class OpticalConductivity:
    """Regular part of the optical conductivity, in units of e^2 / hbar.

    Mean over all Cartesian directions.

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


class ConductivityTensor(OpticalConductivity):
    """Regular part of the optical conductivity by directions, in units of e^2 / hbar.

    The symmetric part of the real tensor, whose trace is the number of directions times
    ``OpticalConductivity``, with Re J_mn^i J_nm^j in the place of |J_mn|^2. (For the Hall part see
    ``HallConductivity``.) Measured where the job names it.
    """

    name, label = "conductivity_tensor", "conductivity tensor [e^2/hbar]"

    def __init__(self, electrons: Electrons, energies: int, every: int) -> None:
        super().__init__(electrons, energies, every)
        directions = Axis(np.arange(electrons.hamiltonian.lattice.dimension), "1")
        self.grid = {"row": directions, "column": directions, **self.grid}

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains, d, d, energies) float64 of spins (chains, sites, 3)."""
        return self.electrons.at(spins, evaluation).of_states(self._tensor)

    def _tensor(self, levels: Tensor, states: Tensor) -> Tensor:
        lattice = self.electrons.hamiltonian.lattice
        currents = [current(self.electrons, states, i) for i in range(lattice.dimension)]
        tensor = levels.new_empty(len(levels), len(currents), len(currents), self.bins.count)
        for i, j in itertools.combinations_with_replacement(range(len(currents)), 2):
            products = (currents[i] * currents[j].conj()).real
            gaps, strengths = _strengths(self.electrons, levels, products, 1.0 / lattice.volume)
            tensor[:, i, j] = tensor[:, j, i] = math.pi * self.bins.density(gaps, strengths)
        return tensor
