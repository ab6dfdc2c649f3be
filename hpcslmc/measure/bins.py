"""Bins: consecutive samples of a chain averaged into one stored draw."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


class Bins:
    """Binned time series of all observables of this rank's chains.

    Parameters
    ----------
    names : list of str
        Observables.
    chains : int
        Chains of this rank.
    size : int
        Samples per bin.
    intervals : mapping of str to int, optional
        Samples between two measurements of an observable, 1 for those without one. Each divides ``size``: a bin then holds as many
        measurements of it as any other, and the draws of all observables belong to the same stretches of the chain.
    """

    def __init__(self, names: list[str], chains: int, size: int, intervals: Mapping[str, int] | None = None) -> None:
        self.names, self.size = names, size
        self._intervals = np.array([(intervals or {}).get(name, 1) for name in names], dtype=np.int64)
        if (size % self._intervals).any():
            raise ValueError(f"bins of {size} samples cannot hold measurements every {self._intervals.tolist()} samples")
        self._bins = np.empty((chains, 0, len(names)))
        self._filled = 0
        self._partial = np.zeros((2, chains, len(names)))  # sums of the samples and of their squares
        self._squares = np.zeros((chains, len(names)))
        self._samples_in_partial = 0

    @property
    def due(self) -> list[str]:
        """Observables that the next sample has to come with."""
        return [self.names[k] for k in self._due()]

    def _due(self) -> np.ndarray:
        return np.flatnonzero((self._samples_in_partial + 1) % self._intervals == 0)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """One sample of every chain: a (chains,) tensor for each name that is due."""
        due = self._due()
        if len(due):
            sample = torch.stack([values[self.names[k]] for k in due], 1).cpu().numpy()
            self._partial[:, :, due] += sample, np.square(sample)
        self._samples_in_partial += 1
        if self._samples_in_partial == self.size:
            if self._filled == self._bins.shape[1]:
                grown = np.empty((len(self._bins), max(64, 2 * self._filled), len(self.names)))
                grown[:, :self._filled] = self._bins
                self._bins = grown
            self._bins[:, self._filled] = self._partial[0] * self._intervals / self.size
            self._squares += self._partial[1] * self._intervals
            self._filled += 1
            self._partial[:] = 0.0
            self._samples_in_partial = 0

    @property
    def draws(self) -> np.ndarray:
        """(chains, draws, observables) float64, the complete bins."""
        return self._bins[:, :self._filled]

    @property
    def mean_squares(self) -> np.ndarray:
        """(chains, observables) float64, mean square of the samples in the complete bins."""
        return self._squares / max(1, self._filled * self.size)

    def chain_state(self) -> dict:
        """What belongs to chains: arrays with the chain as first axis."""
        return {"complete": self.draws, "squares": self._squares, "partial": self._partial.swapaxes(0, 1)}

    def state_dict(self) -> dict:
        """What is the same for all chains."""
        return {"samples_in_partial": self._samples_in_partial}

    def load(self, chain_state: dict, state: dict) -> None:
        """Restore both states, of arrays or tensors.

        Raises
        ------
        ValueError
            If they are of other chains or observables.
        """
        complete, squares, partial = (np.asarray(chain_state[key]).copy() for key in ("complete", "squares", "partial"))
        if squares.shape != self._squares.shape:
            raise ValueError(f"bins of {squares.shape[0]} chains and {squares.shape[1]} observables, not {self._squares.shape}")
        self._bins, self._filled = complete, complete.shape[1]
        self._squares, self._partial = squares, partial.swapaxes(0, 1)
        self._samples_in_partial = state["samples_in_partial"]
