"""Densities of the electrons and of the classical energy together.

The classical energy is known: it is added exactly to log W and to log W_eff alike, and only the
electrons' part is ever learned.
"""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from hpcslmc.density import Density, Evaluation
from hpcslmc.physics.classical import ClassicalEnergy


class ClassicalWeight:
    """The classical energy's part of the weight, exp(-beta E_cl).

    Parameters
    ----------
    energy : ClassicalEnergy
    beta : float
    """

    def __init__(self, energy: ClassicalEnergy, beta: float) -> None:
        self.energy, self.beta = energy, beta

    def log_weight(self, spins: Tensor) -> Tensor:
        """Return -beta E_cl (chains,) of spins (chains, sites, 3)."""
        return -self.beta * self.energy.energy(spins)

    def forces(self, spins: Tensor) -> Tensor:
        """Return its gradient (chains, sites, 3)."""
        return -self.beta * self.energy.energy_and_gradient(spins)[1]

    def added(self, spins: Tensor, evaluation: Evaluation, sign: float = 1.0) -> Evaluation:
        """Return an evaluation of the electrons with this part added, or taken off by ``sign``."""
        energy, gradient = self.energy.energy_and_gradient(spins)
        scale = -sign * self.beta
        forces = None if evaluation.forces is None else evaluation.forces + scale * gradient
        log_weight = evaluation.log_weight + scale * energy
        return replace(evaluation, log_weight=log_weight, forces=forces)


class SweepChanges:
    """Changes of the classical part of log W while the sites of every chain are visited in turn.

    Parameters
    ----------
    classical : ClassicalWeight
    spins : (chains, sites, 3) float64
    order : (chains, sites) int64
        Sites in the order of the visits.
    proposals : (chains, sites, 3) float64
        New spins in that order.
    """

    def __init__(
        self, classical: ClassicalWeight, spins: Tensor, order: Tensor, proposals: Tensor
    ) -> None:
        self._classical, self._spins = classical, spins.clone()
        self._order, self._proposals = order, proposals
        self._chain = torch.arange(len(spins), device=spins.device)

    def change(self, visit: int) -> Tensor:
        """Return the change of log W (chains,) if the proposal of a visit is accepted."""
        energy = self._classical.energy
        changed = energy.change(self._spins, self._order[:, visit], self._proposals[:, visit])
        return -self._classical.beta * changed

    def turn(self, visit: int, accepted: Tensor) -> None:
        """Take over the proposals of a visit where they were accepted, (chains,) 0 or 1."""
        place = self._chain, self._order[:, visit]
        kept = accepted[:, None] > 0.0
        self._spins[place] = torch.where(kept, self._proposals[:, visit], self._spins[place])


class WithClassical:
    """A density of the electrons, a learned model, times the classical part of the weight.

    Parameters
    ----------
    electrons : Density
    classical : ClassicalWeight
    """

    def __init__(self, electrons: Density, classical: ClassicalWeight) -> None:
        self.electrons, self.classical = electrons, classical

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate spins (chains, sites, 3); with ``forces`` the gradient too."""
        return self.classical.added(spins, self.electrons.evaluate(spins, forces))


class ExactDensity(Density, Protocol):
    """An exact density, which can use what is known of spins, and complete it."""

    def reweight(self, spins: Tensor, known: Evaluation, forces: bool = False) -> Evaluation:
        """Evaluate spins whose evaluation at another temperature is known."""
        ...

    def with_energy(self, spins: Tensor, known: Evaluation) -> Evaluation:
        """Complete the known evaluation of spins by the electrons' energy and density."""
        ...


class ExactWithClassical(WithClassical):
    """The exact weight of the electrons times the classical part."""

    electrons: ExactDensity

    def reweight(self, spins: Tensor, known: Evaluation, forces: bool = False) -> Evaluation:
        """Evaluate spins whose evaluation at another temperature is known."""
        # of what is known the spectrum alone is used, in which there is no classical part
        return self.classical.added(spins, self.electrons.reweight(spins, known, forces))

    def with_energy(self, spins: Tensor, known: Evaluation) -> Evaluation:
        """Complete the known evaluation of spins by the electrons' energy and density."""
        return self.electrons.with_energy(spins, known)
