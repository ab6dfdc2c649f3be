"""Bins: consecutive samples of a chain averaged into one stored draw."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def standing_still(acceptance: np.ndarray, m2_uniform: np.ndarray) -> np.ndarray:
    """Mask of idle chains, (chains[, temperature]) bool: no proposal that moves a spin is accepted.

    Judged by draws (chains, draws[, temperature]).

    Draws behind the end of a chain are nan.
    """
    return (np.nan_to_num(acceptance) == 0.0).all(1) | (
        np.nanmax(m2_uniform, 1) == np.nanmin(m2_uniform, 1)
    )


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
        Samples between two measurements of an observable, 1 for those without one. Each divides
        ``size``: a bin then holds as many measurements of it as any other, and the draws of all
        observables belong to the same stretches of the chain.
    """

    def __init__(
        self, names: list[str], chains: int, size: int, intervals: Mapping[str, int] | None = None
    ) -> None:
        self.names, self.size = names, size
        self._intervals = np.array(
            [(intervals or {}).get(name, 1) for name in names], dtype=np.int64
        )
        if (size % self._intervals).any():
            raise ValueError(
                f"bins of {size} samples cannot hold measurements every {self._intervals.tolist()} "
                "samples"
            )
        self._latest = np.full((chains, len(names)), np.nan)
        self._bins = np.empty((chains, 0, len(names)))
        self._filled = 0
        # sums of the samples, and of their squared deviations from their mean
        self._partial = np.zeros((2, chains, len(names)))
        self._deviations = np.zeros((chains, len(names)))
        self._samples_in_partial = 0

    @property
    def due(self) -> list[str]:
        """Observables that the next sample has to come with."""
        return [self.names[k] for k in self._due()]

    def _due(self) -> np.ndarray:
        return np.flatnonzero((self._samples_in_partial + 1) % self._intervals == 0)

    @np.errstate(
        invalid="ignore", over="ignore"
    )  # an observable of one's own may be no number, which is data
    def add(self, values: Mapping[str, Tensor]) -> dict[str, int]:
        """Add one sample of every chain, a (chains,) tensor for each name that is due.

        Returns
        -------
        dict of str to int
            Observables that are not finite, each with the first of this rank's chains in which
            it is not.
        """
        due, strange = self._due(), {}
        if len(due):
            sample = torch.stack([values[self.names[k]] for k in due], 1).cpu().numpy()
            strange = {
                self.names[due[column]]: int(chain)
                for chain, column in reversed(np.argwhere(~np.isfinite(sample)))
            }
            self._latest[:, due] = sample
            self._partial[0, :, due] += sample.T
            self._partial[1, :, due] += self._deviation(sample.T, due)
        self._samples_in_partial += 1
        if self._samples_in_partial == self.size:
            if self._filled == self._bins.shape[1]:
                grown = np.empty((len(self._bins), max(64, 2 * self._filled), len(self.names)))
                grown[:, : self._filled] = self._bins
                self._bins = grown
            self._bins[:, self._filled] = self._partial[0] * self._intervals / self.size
            self._deviations += self._partial[1] * self._intervals
            self._filled += 1
            self._partial[:] = 0.0
            self._samples_in_partial = 0
        return strange

    def _deviation(self, sample: np.ndarray, due: np.ndarray) -> np.ndarray:
        """Squared deviation that a sample (due, chains), in the sums already, adds to its bin's.

        Welford, Technometrics 4, 419 (1962): no difference of large numbers, however little the
        samples fluctuate.
        """
        count = ((self._samples_in_partial + 1) // self._intervals[due])[
            :, None
        ]  # measurements in the bin
        return np.square(count * sample - self._partial[0, :, due]) / np.maximum(
            count * (count - 1), 1
        )

    def latest(self, name: str) -> np.ndarray:
        """(chains,) float64, an observable as it was measured last, nan before."""
        return self._latest[:, self.names.index(name)]

    @property
    def draws(self) -> np.ndarray:
        """(chains, draws, observables) float64, the complete bins."""
        return self._bins[:, : self._filled]

    @property
    def variances(self) -> np.ndarray:
        """(chains, observables) float64, variance of samples about the mean of their bin.

        Averaged over the complete bins.
        """
        return self._deviations / max(1, self._filled * self.size)

    @property
    def idle(self) -> np.ndarray:
        """(chains,) bool, mask of chains that stand still in all complete bins, at least two."""
        if self._filled < 2:
            return np.zeros(len(self._bins), dtype=bool)
        names = ("acceptance", "m2_uniform")
        return standing_still(*(self.draws[:, :, self.names.index(name)] for name in names))

    def chain_state(self) -> dict:
        """State that belongs to chains: arrays with the chain as first axis."""
        return {
            "complete": self.draws,
            "deviations": self._deviations,
            "partial": self._partial.swapaxes(0, 1),
        }

    def state_dict(self) -> dict:
        """State that is the same for all chains."""
        return {"samples_in_partial": self._samples_in_partial}

    def load(self, chain_state: dict, state: dict) -> None:
        """Restore both states, of arrays or tensors.

        Raises
        ------
        ValueError
            If they are of other chains or observables.
        """
        complete, deviations, partial = (
            np.asarray(chain_state[key]).copy() for key in ("complete", "deviations", "partial")
        )
        if deviations.shape != self._deviations.shape:
            raise ValueError(
                f"bins of {deviations.shape[0]} chains and {deviations.shape[1]} observables, "
                f"not {self._deviations.shape}"
            )
        self._bins, self._filled = complete, complete.shape[1]
        self._deviations, self._partial = deviations, partial.swapaxes(0, 1)
        self._samples_in_partial = state["samples_in_partial"]


def left_over(samples: int, size: int) -> str:
    """Remark on the last samples that fill no bin; empty where all do."""
    rest = samples % size
    if not rest:
        return ""
    return (
        f"[sampling] samples = {samples} in bins of {size}: the last {rest} fill no bin and enter "
        "no mean of an observable; "
        f"samples = {samples - rest} or {samples - rest + size} leaves none over"
    )
