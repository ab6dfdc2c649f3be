"""Observables that are functions (of energy, of momentum).

Averaged for each chain, not kept draw by draw.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.grid import Axis, Grid
from hpcslmc.measure.observables import Needs


class Profile(Protocol):
    """A function on a fixed grid, for each chain.

    Attributes
    ----------
    name, label : str
        Name in results.h5, and as a physicist writes it, with its unit.
    needs : Needs
    grid : Grid
    every : int
        Samples between two measurements.
    """

    name: str
    label: str
    needs: Needs
    grid: Grid
    every: int

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """Return (chains, *grid) float64 of spins (chains, sites, 3) and their exact evaluation.

        Collective over the group of ranks that shares the chains.
        """
        ...


class EnergyBins:
    """Histogram of energies by weights.

    Parameters
    ----------
    low, high : float
        Its ends, in units of t; what lies beyond one is counted at it.
    count : int
    """

    def __init__(self, low: float, high: float, count: int) -> None:
        self.low, self.count, self.width = low, count, (high - low) / count
        self.axis = Axis(low + (np.arange(count) + 0.5) * self.width, "t")

    def density(self, energies: Tensor, weights: Tensor) -> Tensor:
        """Return the weight per energy, (..., count) float64, of weights (..., points).

        The energies expand to the shape of the weights.
        """
        index = (
            ((energies - self.low) / self.width).long().clamp_(0, self.count - 1).expand_as(weights)
        )
        sums = torch.zeros(
            *weights.shape[:-1], self.count, dtype=torch.float64, device=weights.device
        )
        return sums.scatter_add_(-1, index, weights / self.width)


class ProfileSums:
    """Running sums of one profile over the samples of this rank's chains.

    Parameters
    ----------
    profile : Profile
    chains : int
        Chains of this rank.
    """

    def __init__(self, profile: Profile, chains: int) -> None:
        self.profile, self.count = profile, 0
        self._sum = torch.zeros(
            chains, *(len(axis.values) for axis in profile.grid.values()), dtype=torch.float64
        )

    def add(self, sample: int, spins: Tensor, evaluation: Evaluation) -> dict[str, int]:
        """Add sample number ``sample`` (1, 2, ...) of every chain, if it is due.

        Collective over the group.

        Returns
        -------
        dict of str to int
            The profile, with the first of this rank's chains in which it is not finite; empty if
            it is.
        """
        if sample % self.profile.every:
            return {}
        values = self.profile.measure(spins, evaluation).cpu()
        self._sum += values
        self.count += 1
        strange = (~values.isfinite()).flatten(1).any(1).nonzero()
        return {self.profile.name: int(strange[0])} if len(strange) else {}

    @property
    def chain_means(self) -> np.ndarray:
        """(chains, *grid) float64."""
        return self._sum.numpy() / max(1, self.count)

    def chain_state(self) -> dict:
        """Return what belongs to chains: arrays with the chain as first axis."""
        return {"sum": self._sum}

    def state_dict(self) -> dict:
        """Return what is the same for all chains."""
        return {"count": self.count}

    def load(self, chain_state: dict, state: dict) -> None:
        """Restore both states."""
        self._sum, self.count = chain_state["sum"], state["count"]
