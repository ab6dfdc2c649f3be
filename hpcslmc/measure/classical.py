"""Energy of the classical spins by themselves, and thermodynamics of electrons and spins together.

Measured where the spins have an energy of their own; the electrons' energy keeps its name.
"""

import numpy as np
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.derived import Means, SpecificHeat, SpecificHeatAtFixedDensity
from hpcslmc.measure.electrons import SpectralObservable
from hpcslmc.measure.observables import Needs


class ElectronsLogWeight(SpectralObservable):
    """log W / N of the electrons alone, where the spins have an energy of their own."""

    name, label, needs = "log_weight", "electrons' log W / N", Needs.SPINS

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        classical = self.electrons.beta * self.electrons.classical(spins)
        return evaluation.log_weight / spins.shape[1] + classical


class ClassicalEnergyOfSpins(SpectralObservable):
    """E_cl / N, exchange, fields and anisotropies of the classical spins."""

    name, label, needs = "classical_energy", "classical energy / N [t]", Needs.SPINS

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return self.electrons.classical(spins)


class TotalEnergy(SpectralObservable):
    """Energy of electrons and classical spins per site, e + E_cl / N."""

    name, label, needs = "total_energy", "total energy / N [t]", Needs.ENERGIES

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        assert evaluation.energy is not None, "``Needs.ENERGIES`` has made sure of it"
        return evaluation.energy + self.electrons.classical(spins)


class TotalEnergy2(TotalEnergy):
    """Square of the total energy per site, for the specific heat."""

    name, label = "total_energy2", "(total energy / N)^2 [t^2]"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return super().measure(spins, evaluation).square()


class TotalEnergyDensity(TotalEnergy):
    """Product of total energy and electrons per site, for the specific heat."""

    name, label = "total_energy_density", "total energy / N x electrons / N [t]"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        assert evaluation.density is not None, "``Needs.ENERGIES`` has made sure of it"
        return super().measure(spins, evaluation) * evaluation.density


OBSERVABLES = (ClassicalEnergyOfSpins, TotalEnergy, TotalEnergy2, TotalEnergyDensity)
"""Observables that there are where the spins have an energy of their own."""
TOTAL = {
    "energy": "total_energy",
    "energy2": "total_energy2",
    "energy_density": "total_energy_density",
}
"""Names of total energies by those of the electrons' that they replace in derivatives."""


def _electronic(means: Means) -> Means:
    """Return means under the names that formulas of the electrons alone have for them."""
    return {**means, **{name: means[total] for name, total in TOTAL.items()}}


class TotalSpecificHeat(SpecificHeat):
    """Specific heat of electrons and spins per site at fixed mu, d<e + E_cl / N>/dT."""

    name, label = "total_specific_heat", "specific heat d<e + e_cl>/dT / N at fixed mu"
    inputs = tuple(TOTAL.get(name, name) for name in SpecificHeat.inputs)

    def value(self, means: Means) -> np.ndarray:
        return super().value(_electronic(means))


class TotalSpecificHeatAtFixedDensity(SpecificHeatAtFixedDensity):
    """Specific heat of electrons and spins per site at fixed electrons per site."""

    name = "total_specific_heat_fixed_density"
    label = "specific heat d<e + e_cl>/dT / N at fixed n"
    inputs = tuple(TOTAL.get(name, name) for name in SpecificHeatAtFixedDensity.inputs)

    def value(self, means: Means) -> np.ndarray:
        return super().value(_electronic(means))


DERIVED = {
    SpecificHeat.name: TotalSpecificHeat,
    SpecificHeatAtFixedDensity.name: TotalSpecificHeatAtFixedDensity,
}
"""Derivatives of the total energy, by the names of those of the electrons' that they replace."""
