"""Convergence of the chains of a running job so far."""

import math
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hpcslmc.analysis.statistics import attempted, estimate, largest
from hpcslmc.parallel.world import World

if TYPE_CHECKING:
    from hpcslmc.analysis.results import Summary
    from hpcslmc.simulation.rung import Rung

WATCHED = ("log_weight", "m2_staggered", "m2_uniform")
"""Observables that are looked at during a run.

They are measured at every sample, and slow to forget.
"""
FEWEST_DRAWS = 20
MOST_NUMBERS, FEWEST_BLOCKS = 2**16, 100
"""Draws of an observable, over all chains and temperatures, beyond which blocks are averaged.

For a look only; the second is the fewest blocks of a chain.
"""
ENORMOUS = 1000
"""R-hat beyond which its size means nothing: chains that do not move at all."""
SHARE = 0.01
"""Largest share of the time that is spent on looking."""
EVERY_S = 1.0
"""Seconds between two looks, more where a look takes long."""


class Convergence:
    """Largest tau and R-hat of all chains, looked at now and then."""

    def __init__(self) -> None:
        self.short = self.text = ""
        self._next = time.monotonic()

    @property
    def due(self) -> bool:
        """True if it is time to look again, by this rank's clock."""
        return time.monotonic() >= self._next

    def look(self, rungs: "list[Rung]", world: World) -> None:
        """Look at the chains of all ranks, on the root. Collective."""
        if world.is_root:
            import arviz_stats.base  # noqa: F401  which takes seconds once, and is no look
        began = time.monotonic()
        chains, draws = world.size * len(rungs[0].bins.draws), rungs[0].bins.draws.shape[1]
        if draws < FEWEST_DRAWS:
            return
        length = max(1, draws // max(FEWEST_BLOCKS, MOST_NUMBERS // (chains * len(rungs))))
        found = []
        for rung in rungs:
            bins = rung.bins
            watched = [bins.names.index(name) for name in WATCHED if name in bins.names]
            means, inside = _blocks(bins.draws[:, :, watched], length)
            blocks = world.gather(means)
            variances = world.gather(inside + bins.variances[:, watched])
            if blocks is not None and variances is not None:  # on the root
                found += [
                    attempted(
                        partial(
                            estimate, blocks[:, :, k], bins.size * length, variances[:, k].mean()
                        )
                    )
                    for k in range(len(watched))
                ]
        if found:
            whose = f"{chains} chains" if chains > 1 else "the chain"
            self._say(
                largest(it.tau for it in found),
                largest(it.rhat for it in found),
                f"log W and |m|^2 of {'all ' * (chains > 1)}{whose}, after {draws * bins.size} "
                "samples",
            )
            self.short += f" of {whose}" if self.short else ""
        self._next = time.monotonic() + max(EVERY_S, (time.monotonic() - began) / SHARE)

    def finish(self, summary: "Summary") -> None:
        """Report the convergence of all chains and observables at the end."""
        self._say(
            largest(summary.columns["tau"].flat),
            largest(summary.columns["rhat"].flat),
            "all chains and observables",
        )

    def _say(self, tau: float, rhat: float, of: str) -> None:
        """Put tau and R-hat into ``short`` and ``text``, as far as they are known.

        A single chain has no R-hat, nor has what does not fluctuate.
        """
        large = rhat >= ENORMOUS
        self.short = f"R-hat above {ENORMOUS}" if large else f"R-hat {rhat:.3f}"
        self.short = "" if math.isnan(rhat) else self.short
        known = [
            text
            for number, text in (
                (tau, f"tau {tau:.2f} samples"),
                (rhat, self.short if large else f"R-hat {rhat:.4f}"),
            )
            if not math.isnan(number)
        ]
        self.text = f"{', '.join(known)} (the largest of {of})" if known else ""


def _blocks(draws: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Average the last draws (chains, draws, observables) over blocks of ``length``.

    Returns
    -------
    means : (chains, blocks, observables) float64
    inside : (chains, observables) float64
        Variance of the draws about the mean of their block.
    """
    count = draws.shape[1] // length
    blocks = draws[:, draws.shape[1] - count * length :]
    blocks = blocks.reshape(len(draws), count, length, draws.shape[2])
    return blocks.mean(2), blocks.var(2).mean(1)
