"""Means, errors and convergence of several independent Markov chains."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hpcslmc.autocorrelation import mean_variance, valid_draws
from hpcslmc.errors import described_error

SHORTEST_CHAIN = 50
"""Fewest autocorrelation times of a chain: a shorter one may still remember its start."""
LARGEST_RHAT = 1.05
"""Largest R-hat of converged chains; those of ``SHORTEST_CHAIN`` correlation times stay below it.
"""
FEWEST_SAMPLES = 100
"""Fewest effective samples for an error known within about 10 %."""
BIN_LENGTH = 2
"""Autocorrelation times in a bin of the jackknife.

Its bias is that of the bins, its error counts their neighbours too.
"""
FEWEST_BINS = 20
"""Fewest bins of the jackknife for an error known within about 20 %."""
UNKNOWN = "unknown: "
"""Prefix of a doubt that says why there is no estimate at all."""


@dataclass(frozen=True)
class Estimate:
    """Mean of a quantity over all chains, its error and its convergence.

    Attributes
    ----------
    mean, error : float
        Mean and its standard error.
    tau : float
        Integrated autocorrelation time in samples: 2 tau samples are worth one independent one (1/2
        if uncorrelated).
    rhat : float
        Rank-normalised split R-hat over the chains, of the bulk or of the tails, whichever is
        larger; 1 when they agree.
    ess : float
        Effective sample size, the number of independent samples with the same error.
    ess_bulk, ess_tail : float
        The same of the draws' ranks and of their 5 % and 95 % quantiles, in draws.
    samples : int
        Samples of each chain.
    bins : int or None
        Bins of the jackknife, for a derived quantity.
    unknown : str
        Why there is no estimate; mean and error are nan then.
    """

    mean: float
    error: float
    tau: float = math.nan
    rhat: float = math.nan
    ess: float = math.nan
    ess_bulk: float = math.nan
    ess_tail: float = math.nan
    samples: int = 0
    bins: int | None = None
    unknown: str = ""

    @property
    def doubts(self) -> list[str]:
        """Reasons why the error cannot be trusted, in a few words each; empty if it can."""
        if self.unknown:
            return [UNKNOWN + self.unknown]
        found = (
            []
            if math.isfinite(self.mean + self.error) or self.bins == 1
            else [f"{UNKNOWN}mean or error is no number"]
        )
        if self.samples < SHORTEST_CHAIN * self.tau:
            found.append(f"chain too short: {self.samples / self.tau:.0f} tau")
        if self.rhat > LARGEST_RHAT:
            found.append(f"R-hat {self.rhat:.2f}: chains disagree")
        sizes = (
            (self.ess, "samples"),
            (self.ess_bulk, "draws of the bulk"),
            (self.ess_tail, "draws of the tails"),
        )
        size, of_what = min(sizes)
        if size < FEWEST_SAMPLES:
            found.append(f"only {size:.0f} effective {of_what}")
        if self.bins is not None and self.bins < FEWEST_BINS:
            found.append(f"only {self.bins} bins for the jackknife")
        return found


def fluctuates(draws: np.ndarray) -> bool:
    """Tell whether draws differ by more than rounding."""
    return bool(draws.std() > 1e-12 * max(1.0, abs(draws.mean())))


@np.errstate(
    divide="ignore", invalid="ignore", over="ignore"
)  # chains that never move: an infinite R-hat says so
def estimate(
    draws: np.ndarray,
    bin_size: int = 1,
    bin_variance: float = 0.0,
    lengths: np.ndarray | None = None,
) -> Estimate:
    """Estimate from binned draws (chains, draws) of one observable. Every draw has the same weight.

    Parameters
    ----------
    draws : (chains, draws) float64
    bin_size : int
        Samples averaged into each draw.
    bin_variance : float
        Variance of the samples about the mean of their bin, averaged over bins; with that of the
        draws it is the samples' variance.
    lengths : (chains,) int
        Draws of each chain, if they differ.

    Notes
    -----
    R-hat and effective sample sizes of bulk and tails: Vehtari, Gelman, Simpson, Carpenter,
    Buerkner, Bayesian Anal. 16, 667 (2021), through arviz-stats. Its error of the mean is 10 to 20
    % too large for chains of a few tens of tau, so the error and tau are those of
    ``mean_variance``. They are made for chains of one length: of several, R-hat is that of pieces
    as long as the shortest, and the effective sample sizes are added over the chains of each
    length. A quantity that does not fluctuate beyond rounding has no autocorrelation: error 0, tau
    and R-hat nan. One that is not finite in some draw has no estimate. R-hat of a single chain is
    nan.
    """
    from arviz_stats.base import array_stats

    known = valid_draws(draws, lengths)
    counts = known.sum(1)
    numbers, shortest = draws[known], int(counts.min())
    samples = shortest * bin_size
    if not np.isfinite(numbers).all():
        return Estimate(
            math.nan,
            math.nan,
            samples=samples,
            unknown=_not_finite(known & ~np.isfinite(draws), numbers.size),
        )
    mean = float(numbers.mean())
    if not fluctuates(numbers):
        return Estimate(mean, 0.0, samples=samples)
    axes = {"chain_axis": 0, "draw_axis": 1}
    variance_of_mean = mean_variance(draws, lengths)
    ess = float((numbers.var() + bin_variance) / variance_of_mean)
    # group chains of equal length, and cut all to pieces as long as the shortest
    alike = [draws[counts == count, :count] for count in np.unique(counts)]
    pieces = np.concatenate(
        [x[:, : x.shape[1] // shortest * shortest].reshape(-1, shortest) for x in alike]
    )
    return Estimate(
        mean=mean,
        error=math.sqrt(variance_of_mean),
        tau=numbers.size * bin_size / (2.0 * ess),
        rhat=float(array_stats.rhat(pieces, method="rank", **axes)),
        ess=ess,
        ess_bulk=sum(float(array_stats.ess(x, method="bulk", **axes)) for x in alike),
        ess_tail=sum(float(array_stats.ess(x, method="tail", prob=0.05, **axes)) for x in alike),
        samples=samples,
    )


def _not_finite(where: np.ndarray, size: int) -> str:
    """Describe which of so many draws are not finite, from their mask (chains, draws) bool."""
    chains = np.flatnonzero(where.any(1))
    named = ", ".join(map(str, chains[:3])) + (
        f" and {len(chains) - 3} more" if len(chains) > 3 else ""
    )
    word = "chain" if len(chains) == 1 else "chains"
    return f"not finite in {where.sum()} of {size} draws, {word} {named}"


def jackknife(
    function: Callable[[np.ndarray], np.ndarray],
    draws: np.ndarray,
    bins: int,
    lengths: np.ndarray | None = None,
) -> tuple[float, float, int]:
    r"""Return a function of several means, free of its leading bias, and its standard error.

    .. math:: \hat\theta_b = \frac{N}{n_b} \theta - \Big(\frac{N}{n_b} - 1\Big) \theta_b, \qquad
        \hat\theta = \sum_b \frac{n_b}{N} \hat\theta_b

    where theta is the function of the means of all N draws, and theta_b that of those without the
    n_b draws of bin b, a stretch of one chain. A bin leaves with its draws of all observables
    together, which keeps their correlations. The error is that of the mean of the pseudo-values
    theta^_b, by ``mean_variance``, since neighbouring bins of a chain are still a little
    correlated.

    Parameters
    ----------
    function : callable
        (...,) of means (observables, ...).
    draws : (observables, chains, draws) float64
    bins : int
        Bins that each of the longest chains is cut into; shorter ones in proportion.
    lengths : (chains,) int
        Draws of each chain, if they differ.

    Returns
    -------
    mean, error : float
    count : int
        Bins of all chains.

    Notes
    -----
    Tukey, Ann. Math. Stat. 29, 614 (1958); bins of several sizes: Busing, Meijer, van der Leeden,
    Stat. Comput. 9, 3 (1999). One bin in all leaves the error unknown, nan.
    """
    draws_of = valid_draws(draws[0], lengths).sum(1)
    bins_of = np.maximum(1, np.rint(bins * draws_of / draws_of.max()).astype(int))
    sums, sizes = np.zeros((len(draws), len(draws_of), bins)), np.zeros((len(draws_of), bins))
    for length in np.unique(draws_of):
        rows = draws_of == length
        parts = np.array_split(draws[:, rows, :length], bins_of[rows][0], axis=2)
        sums[:, rows, : len(parts)] = np.stack([part.sum(2) for part in parts], 2)
        sizes[rows, : len(parts)] = [part.shape[2] for part in parts]
    total, size, known = sums.sum((1, 2)), sizes.sum(), valid_draws(sizes, bins_of)
    whole = function(total / size)
    if known.sum() == 1:
        return float(whole), math.nan, 1
    without = function((total[:, None] - sums[:, known]) / (size - sizes[known]))
    pseudo, weight = np.zeros_like(sizes), sizes * known.sum() / size
    pseudo[known] = whole + (size / sizes[known] - 1.0) * (whole - without)
    mean = float((weight * pseudo)[known].mean())
    return mean, math.sqrt(mean_variance(weight * (pseudo - mean), bins_of)), int(known.sum())


def derived_estimate(
    function: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    draws: Mapping[str, np.ndarray],
    estimates: Mapping[str, Estimate],
    bin_size: int = 1,
    lengths: np.ndarray | None = None,
    negative: str = "",
) -> Estimate:
    """Estimate a function of several observables' means by jackknife.

    Bins are ``BIN_LENGTH`` autocorrelation times long.

    Parameters
    ----------
    function : callable
        The quantity, of the means by name; works on arrays of them.
    draws : mapping of str to (chains, draws) float64
        The observables that it needs.
    estimates : mapping of str to Estimate
        Theirs; the largest tau and R-hat and the smallest effective sample sizes of them are the
        quantity's.
    bin_size : int
        Samples averaged into each draw.
    lengths : (chains,) int
        Draws of each chain, if they differ.
    negative : str
        Why there is no estimate where the function is negative; empty where it may be.
    """
    names = list(draws)
    if unknown := [name for name in names if estimates[name].unknown]:
        return Estimate(math.nan, math.nan, unknown=f"made of {unknown[0]}, which is unknown")
    series = np.stack([draws[name] for name in names])
    inputs = [estimates[name] for name in names if estimates[name].error > 0.0]
    tau = max((estimate.tau for estimate in inputs), default=math.nan)
    counts = valid_draws(series[0], lengths).sum(1)
    longest, samples = int(counts.max()), int(counts.min()) * bin_size
    bins = max(1, int(longest * bin_size / (BIN_LENGTH * max(0.5, tau)))) if inputs else 1
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        whole = function(dict(zip(names, series[:, valid_draws(series[0], lengths)].mean(1))))
        mean, error, count = jackknife(
            lambda means: function(dict(zip(names, means))), series, min(bins, longest), lengths
        )
    if negative and min(float(whole), float(mean)) < 0.0:
        return Estimate(math.nan, math.nan, samples=samples, unknown=negative)
    return Estimate(
        mean,
        error if inputs else 0.0,
        tau=tau,
        rhat=max((estimate.rhat for estimate in inputs), default=math.nan),
        ess=min((estimate.ess for estimate in inputs), default=math.nan),
        ess_bulk=min((estimate.ess_bulk for estimate in inputs), default=math.nan),
        ess_tail=min((estimate.ess_tail for estimate in inputs), default=math.nan),
        samples=samples,
        bins=count if inputs else None,
    )


def attempted(analysis: Callable[[], Estimate]) -> Estimate:
    """Return the result of an analysis; if it fails, an estimate that is unknown, and why.

    An error in it must not lose a run.
    """
    try:
        return analysis()
    except Exception as error:
        return Estimate(math.nan, math.nan, unknown=described_error(error).replace(";", ","))


def largest(values: Iterable[float]) -> float:
    """Return the largest of several numbers, those that are nan left out; nan if all are."""
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def bracket(mean: float, error: float) -> str:
    """Write a mean with its error in brackets, as in -1.69560(5).

    Digits are set by the error, two when it starts with 1.
    """
    if not (math.isfinite(error) and error > 0.0):
        return f"{mean:.6g}"
    exponent = math.floor(math.log10(error))
    if error / 10.0**exponent < 1.95:
        exponent -= 1
    digits = round(error / 10.0**exponent)
    if exponent >= 0:
        return f"{round(mean / 10.0**exponent) * 10**exponent}({digits * 10**exponent})"
    return f"{mean:.{-exponent}f}({digits})"
