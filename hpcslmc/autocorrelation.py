"""Autocorrelation of the draws of several independent Markov chains."""

import math

import numpy as np


def valid_draws(draws: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    """Mask the valid draws (chains, draws): the first ``lengths`` (chains,) int of each chain.

    All are valid if no lengths are given.

    Chains are of several lengths where runs were merged; what lies behind the end of a chain is
    never looked at.
    """
    return (
        np.arange(draws.shape[1])
        < np.broadcast_to(draws.shape[1] if lengths is None else lengths, len(draws))[:, None]
    )


def _power(draws: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return power spectra of each chain (chains, frequencies), about the mean of all, zero-padded.

    Its inverse transform over 2 * draws numbers has the sums of x_i x_(i+t) at lag t.
    """
    centred = np.where(known, draws - draws[known].mean(), 0.0)
    return np.square(np.abs(np.fft.rfft(centred, 2 * draws.shape[1], axis=1)))


def autocovariance(draws: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    r"""Return the autocovariance of draws (chains, draws) about their mean: (draws,) float64.

    .. math::

        \Gamma_t = \frac{1}{N} \sum_{c} \sum_{i < n_c - t} (x_{c,i} - \bar x)(x_{c,i+t} - \bar x),
              \qquad N = \sum_c n_c

    At lags t = 0, 1, ..., by FFT. Chains are independent, and their common mean is known better
    than each one's own. Divided by N at every lag, it holds the weight with which a lag enters the
    variance of the chains' means, 1 - t/n for chains of one length: the sum over all lags is that
    of the chains' means.
    """
    count, known = draws.shape[1], valid_draws(draws, lengths)
    return np.fft.irfft(_power(draws, known).sum(0), 2 * count)[:count] / known.sum()


def autocorrelation_function(
    draws: np.ndarray, known: np.ndarray, lags: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the autocorrelation function and its standard error over the chains, (lags,) each.

    Parameters
    ----------
    draws : (chains, draws) float64
    known : (chains, draws) bool
        Mask of valid draws.
    lags : int
    """
    chains, count = draws.shape
    each = np.fft.irfft(_power(draws, known), 2 * count, axis=1)[:, :lags]
    each = each / each[:, 0].mean()
    rho = each.mean(0)
    deviation = each - rho * each[:, :1]  # of the ratio, to first order
    if chains == 1:
        return rho, np.zeros(lags)
    return rho, deviation.std(0, ddof=1) / np.sqrt(chains)


def mean_variance(draws: np.ndarray, lengths: np.ndarray | None = None) -> float:
    r"""Return the variance of the mean of draws (chains, draws) of independent, reversible chains.

    The chains have ``lengths`` (chains,) draws, if they differ.

    .. math::

        \sigma^2 = \frac1N \Big[ 2 \sum_{m < M} (\Gamma_{2m} + \Gamma_{2m + 1}) - \Gamma_0 \Big]

    Pairs of autocovariances are positive and decrease for a reversible chain: the sum ends before
    the first that is not, and none counts more than the one before. Each autocovariance lacks what
    the common mean fluctuates, which is put back. Noise does not bring the sum below Gamma_0 /
    log10(N).

    Notes
    -----
    Geyer, Statist. Sci. 7, 473 (1992), initial monotone sequence; U. Wolff, Comput. Phys. Commun.
    156, 143 (2004), for several chains and the bias.
    """
    covariance, chains = autocovariance(draws, lengths), valid_draws(draws, lengths).sum(0)
    # draws in all; products in the sum at each lag
    size, terms = (
        int(chains.sum()),
        np.cumsum(chains[::-1])[::-1],
    )
    pairs = covariance[: len(chains) // 2 * 2].reshape(-1, 2).sum(1)
    ends = np.flatnonzero(pairs <= 0.0)
    pairs = np.minimum.accumulate(pairs[: ends[0]] if len(ends) else pairs)
    total = 2.0 * pairs.sum() - covariance[0] if len(pairs) else covariance[0]
    total = max(total, covariance[0] / math.log10(max(10, size)))
    lags = max(1, 2 * len(pairs))
    lacking = (2.0 * terms[:lags].sum() / size - 1.0) / size
    return float(total / size / max(0.5, 1.0 - lacking))


def autocorrelation_time(draws: np.ndarray) -> float:
    """Return the integrated autocorrelation time of draws (chains, draws), at least 1/2."""
    variance = float(draws.var())
    return 0.5 * max(mean_variance(draws) * draws.size / variance, 1.0) if variance else 0.5
