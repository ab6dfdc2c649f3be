"""How well the chains of a running job have mixed so far."""

import time
from typing import TYPE_CHECKING

import numpy as np

from hpcslmc.measure.statistics import estimate

if TYPE_CHECKING:
    from hpcslmc.results import Summary
    from hpcslmc.rung import Rung

WATCHED = ("log_weight", "m2_staggered", "m2_uniform")
"""Observables that are looked at during a run: they are measured at every sample, and slow to forget."""
FEWEST_DRAWS = 20
SHARE = 0.01
"""Of the time, at most, that is spent on looking."""


class Convergence:
    """Largest tau and R-hat of the chains on this rank, looked at now and then.

    Parameters
    ----------
    every_s : float
        Seconds between two looks, more where a look takes long.
    """

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self.short = self.text = ""
        self._next = time.monotonic()

    def look(self, rungs: "list[Rung]") -> None:
        """Look again, if it is time."""
        began = time.monotonic()
        draws = rungs[0].bins.draws
        if began < self._next or draws.shape[1] < FEWEST_DRAWS:
            return
        found = []
        for rung in rungs:
            bins, squares = rung.bins, rung.bins.mean_squares.mean(0)
            found += [estimate(bins.draws[:, :, k], bins.size, squares[k]) for k, name in enumerate(bins.names) if name in WATCHED]
        self._say(max(it.tau for it in found), max(it.rhat for it in found), f"this rank's {len(draws)} chains")
        took = time.monotonic() - began
        self._next = began + max(self.every_s, took / SHARE)

    def finish(self, summary: "Summary") -> None:
        """The last word, of all chains and observables."""
        self._say(np.nanmax(summary.columns["tau"]), np.nanmax(summary.columns["rhat"]), "all chains and observables")

    def _say(self, tau: float, rhat: float, of: str) -> None:
        self.short = f"R-hat {rhat:.3f}"
        self.text = f"tau {tau:.2f} samples, R-hat {rhat:.4f} (the largest of {of})"
