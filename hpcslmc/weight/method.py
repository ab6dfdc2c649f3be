"""The protocol of exact weights."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian


class ExactWeight(ABC):
    """Exact log W(S) by some method.

    Every method states its accuracy and agrees with ``diagonalise``.

    Parameters
    ----------
    ensemble : Ensemble
    group : World, optional
        The ranks that share the work of each evaluation; this one alone if not given.

    Attributes
    ----------
    gives_forces : bool
        Whether ``evaluate`` has forces. Without them a job may only make Metropolis moves.
    shares_ranks : bool
        Whether the ranks of a group may evaluate it together. False refuses jobs with several
        ranks per chain.
    """

    gives_forces: ClassVar[bool] = True
    shares_ranks: ClassVar[bool] = True

    def __init__(self, ensemble: Ensemble, group: World | None = None) -> None:
        self.ensemble = ensemble
        self.group = group or World()

    @property
    def hamiltonian(self) -> Hamiltonian:
        """h(S) of the electrons."""
        return self.ensemble.hamiltonian

    @property
    def beta(self) -> float:
        """Inverse temperature in units of 1/t."""
        return self.ensemble.beta

    @property
    def mu(self) -> float:
        """Chemical potential in units of t."""
        return self.ensemble.mu

    @abstractmethod
    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate log W of spins (chains, sites, 3), with ``forces`` also d log W / d S.

        Energy and density come with it where they cost nothing more.

        Collective over the group of ranks that the weight was made with, if any.
        """

    def reweight(self, spins: Tensor, known: Evaluation, forces: bool = False) -> Evaluation:
        """Evaluate spins whose evaluation at another temperature is known, as ``evaluate`` does.

        Cheap where the known evaluation has their spectrum.
        """
        return self.evaluate(spins, forces)

    def with_energy(self, spins: Tensor, known: Evaluation) -> Evaluation:
        """Complete the known evaluation of spins (chains, sites, 3) by their energy and density.

        Collective over the group.
        """
        full = self.evaluate(spins, forces=True)
        return replace(known, energy=full.energy, density=full.density)

    def log_weight(self, spins: Tensor) -> Tensor:
        """Evaluate log W, (chains,) float64, of spins (chains, sites, 3)."""
        return self.evaluate(spins).log_weight

    def log_weight_and_forces(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate log W and d log W / d S_i, (chains,) and (chains, sites, 3) float64."""
        evaluation = self.evaluate(spins, forces=True)
        assert evaluation.forces is not None, "asked for"
        return evaluation.log_weight, evaluation.forces
