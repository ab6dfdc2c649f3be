"""How well the chains of a running job have mixed so far."""

import math
import time
from functools import partial
from typing import TYPE_CHECKING

from hpcslmc.measure.statistics import attempted, estimate, largest

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
            bins, variances = rung.bins, rung.bins.variances.mean(0)
            found += [attempted(partial(estimate, bins.draws[:, :, k], bins.size, variances[k]))
                      for k, name in enumerate(bins.names) if name in WATCHED]
        whose = "this rank's chain" if len(draws) == 1 else f"this rank's {len(draws)} chains"
        self._say(largest(it.tau for it in found), largest(it.rhat for it in found), whose)
        took = time.monotonic() - began
        self._next = began + max(self.every_s, took / SHARE)

    def finish(self, summary: "Summary") -> None:
        """The last word, of all chains and observables."""
        self._say(
            largest(summary.columns["tau"].flat),
            largest(summary.columns["rhat"].flat),
            "all chains and observables",
        )

    def _say(self, tau: float, rhat: float, of: str) -> None:
        """What is known of both: a single chain has no R-hat, and what does not fluctuate
        neither.
        """
        self.short = f"R-hat {rhat:.3f}" if not math.isnan(rhat) else ""
        known = [
            text
            for number, text in ((tau, f"tau {tau:.2f} samples"), (rhat, f"R-hat {rhat:.4f}"))
            if not math.isnan(number)
        ]
        self.text = f"{', '.join(known)} (the largest of {of})" if known else ""
