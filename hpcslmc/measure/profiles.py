"""Observables that are functions (of energy, of momentum): averaged for each chain, not kept draw by draw."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Profile(Protocol):
    """A function on a fixed grid, for each chain.

    Attributes
    ----------
    name, label : str
        Name in results.h5, and as a physicist writes it, with its unit.
    grid : (points,) float64
    grid_label : str
        What the grid is, with its unit.
    every : int
        Samples between two measurements.
    """

    name: str
    label: str
    grid: np.ndarray
    grid_label: str
    every: int

    def measure(self, spins: Tensor) -> Tensor:
        """(chains, points) float64 of spins (chains, sites, 3). Collective over the group of ranks that shares the chains."""
        ...


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
        self._sum = torch.zeros(chains, len(profile.grid), dtype=torch.float64)

    def add(self, sample: int, spins: Tensor) -> None:
        """Sample number ``sample`` (1, 2, ...) of every chain, if it is due. Collective over the group."""
        if sample % self.profile.every == 0:
            self._sum += self.profile.measure(spins).cpu()
            self.count += 1

    @property
    def chain_means(self) -> np.ndarray:
        """(chains, points) float64."""
        return self._sum.numpy() / max(1, self.count)

    def chain_state(self) -> dict:
        """What belongs to chains: arrays with the chain as first axis."""
        return {"sum": self._sum}

    def state_dict(self) -> dict:
        """What is the same for all chains."""
        return {"count": self.count}

    def load(self, chain_state: dict, state: dict) -> None:
        """Restore both states."""
        self._sum, self.count = chain_state["sum"], state["count"]


def mean_and_error(chain_means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over chains (chains, points) and its standard error (points,); chains are independent. nan for a single chain."""
    chains = len(chain_means)
    error = chain_means.std(axis=0, ddof=1) / np.sqrt(chains) if chains > 1 else np.full(chain_means.shape[1], np.nan)
    return chain_means.mean(axis=0), error
