"""Means, errors and convergence of several Markov chains (arviz-stats)."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """An observable's mean over all chains and what it is worth.

    Attributes
    ----------
    mean, error : float
        Mean and its standard error, from the effective sample size.
    tau : float
        Integrated autocorrelation time in samples: 2 tau samples are worth one independent one (1/2 if
        uncorrelated).
    rhat : float
        Rank-normalised split R-hat over the chains; 1 when they agree.
    ess : float
        Effective sample size, the number of independent samples with the same error.
    """

    mean: float
    error: float
    tau: float
    rhat: float
    ess: float


def estimate(draws: np.ndarray, bin_size: int = 1, mean_square: float | None = None) -> Estimate:
    """Estimate from binned draws (chains, draws) of one observable.

    Parameters
    ----------
    draws : (chains, draws) float64
    bin_size : int
        Samples averaged into each draw.
    mean_square : float
        Mean square of the samples; only bins of several samples need it, to know the samples' variance.

    Notes
    -----
    Vehtari, Gelman, Simpson, Carpenter, Buerkner, Bayesian Anal. 16, 667 (2021), through arviz-stats.
    A quantity that does not fluctuate beyond rounding has no autocorrelation: error 0, tau and R-hat nan.
    """
    from arviz_stats.base import array_stats

    mean = float(draws.mean())
    if draws.std() <= 1e-12 * max(1.0, abs(mean)):
        return Estimate(mean, 0.0, math.nan, math.nan, math.nan)
    axes = {"chain_axis": 0, "draw_axis": 1}
    error = float(array_stats.mcse(draws, method="mean", **axes))
    variance = draws.var() if bin_size == 1 else mean_square - mean**2
    ess = variance / error**2
    return Estimate(
        mean=mean,
        error=error,
        tau=draws.size * bin_size / (2.0 * ess),
        rhat=float(array_stats.rhat(draws, method="rank", **axes)),
        ess=ess,
    )


def bracket(mean: float, error: float) -> str:
    """A mean with its error in brackets, as in -1.69560(5): digits are set by the error, two when it starts with 1."""
    if not (math.isfinite(error) and error > 0.0):
        return f"{mean:.6g}"
    exponent = math.floor(math.log10(error))
    if error / 10.0**exponent < 1.95:
        exponent -= 1
    digits = round(error / 10.0**exponent)
    if exponent >= 0:
        return f"{round(mean / 10.0**exponent) * 10**exponent}({digits * 10**exponent})"
    return f"{mean:.{-exponent}f}({digits})"
