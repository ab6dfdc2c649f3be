r"""Few positive Matsubara-like nodes that stand for all Matsubara frequencies.

.. math:: \log\cosh\frac{\beta e}{2} = \sum_{n \ge 0} \log\left(1 + \frac{e^2}{\omega_n^2}\right)
          \approx \sum_{k=1}^{K} a_k \log\left(1 + \frac{e^2}{w_k^2}\right), \qquad \omega_n =
          (2n+1)\pi/\beta

Everything inside this module is in units of 1/beta: x = beta e, nodes beta w_k, range beta R.
"""

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hpcslmc.physics.ensemble import Ensemble

MAX_NODES = 40
ENERGY_FREQUENCIES = math.pi * np.array((0.989, 1.006, 2.986, 3.86, 5.87))
"""Frequencies, times beta, that the energy needs at half filling beside the nodes of log W.

Close to where these are Matsubara frequencies. Found by hand for beta R = 160.
"""
FIT_POINTS = 400
CERTIFY_POINTS = 20_000
# residuals are small differences of large logarithms; plain double where a platform has no more
EXTENDED = np.longdouble


@dataclass(frozen=True)
class MatsubaraNodes:
    r"""Nodes w_k and weights a_k of the compressed Matsubara sum.

    .. math::

        \log(1 + e^{-\beta e}) = -\beta e / 2 + \log 2 + \sum_k a_k \log(1 + e^2 / w_k^2), \qquad
              f(e) = \frac12 - \frac1\beta \sum_k \frac{2 a_k e}{e^2 + w_k^2}

    Attributes
    ----------
    frequencies : (K,) float64
        w_k > 0, ascending, in units of energy; the smallest are Matsubara frequencies to many
        digits.
    weights : (K,) float64
        a_k > 0.
    error : float
        Largest error of the first formula on \|e\| <= R, with the rounding of its evaluation.
    derivative_error : float
        Largest error of the second formula (the Fermi function) on \|e\| <= R.
    """

    frequencies: np.ndarray
    weights: np.ndarray
    error: float
    derivative_error: float


@dataclass(frozen=True)
class EnergySum:
    r"""Energy from the same logarithms as log W, and a few more.

    .. math::

        \frac{\beta e}{2} \tanh\frac{\beta e}{2} \approx \sum_k c_k \log\left(1
            + \frac{e^2}{w_k^2}\right)

    Attributes
    ----------
    frequencies : (M,) float64
        w_k beside the nodes, in units of energy.
    node_weights : (K,) float64
        c_k of the nodes.
    weights : (M,) float64
        c_k of the others. These are of either sign.
    error : float
        Largest error of the formula on \|e\| <= R.
    """

    frequencies: np.ndarray
    node_weights: np.ndarray
    weights: np.ndarray
    error: float


def energy_sum(
    nodes: MatsubaraNodes,
    beta: float,
    radius: float,
    more: np.ndarray = ENERGY_FREQUENCIES,
) -> EnergySum:
    r"""Find the energy's sum over nodes that were found for log W.

    Parameters
    ----------
    nodes : MatsubaraNodes
    beta, radius : float
        As for ``matsubara_nodes``.
    more : (M,) float64
        Frequencies beside the nodes, times beta.

    Notes
    -----
    The left side is the derivative d/d log(beta) of that of log W's formula; it has poles at the
    Matsubara frequencies, where the nodes have logarithms: two more logarithms close to the first
    of them and three between the next make it up. Weights by linear least squares.
    tools/study/matsubara_nodes.py measures errors up to 5e-8, at all beta R up to 1.3e4, and
    weights up to 3e4, which magnify rounding. A few milliseconds.
    """
    frequencies = np.append(beta * nodes.frequencies, more)
    x = grid(beta * radius, FIT_POINTS).astype(float)
    logs = np.log1p((x[:, None] / frequencies) ** 2)
    scale = np.linalg.norm(logs, axis=0)
    weights = np.linalg.lstsq(logs / scale, 0.5 * x * np.tanh(0.5 * x), rcond=1e-14)[0] / scale
    x = grid(beta * radius, CERTIFY_POINTS).astype(float)
    error = np.abs(
        0.5 * x * np.tanh(0.5 * x) - np.log1p((x[:, None] / frequencies) ** 2) @ weights
    ).max()
    count = len(nodes.frequencies)
    return EnergySum(more / beta, weights[:count], weights[count:], float(error))


def model_nodes(ensemble: "Ensemble") -> MatsubaraNodes:
    """Find nodes for an ensemble's log W, the same for every method, to ``model_tolerance``.

    Raises
    ------
    ValueError
        As ``matsubara_nodes``: beta R is beyond 1.3e4.
    """
    beta, radius = ensemble.beta, ensemble.bound
    return matsubara_nodes(beta, radius, model_tolerance(beta * radius, 2 * ensemble.sites))


def model_tolerance(reach: float, size: int) -> float:
    """Return the error that each of ``size`` eigenvalues may have: 5e-9 in all, and 1e-11 each.

    Never below three roundings of ``reach`` = beta R, which tools/study/matsubara_nodes.py finds
    nodes for up to 1.3e4.
    """
    return min(1e-11, max(5e-9 / size, 3.0 * np.finfo(float).eps * reach))


@functools.cache
def matsubara_nodes(beta: float, radius: float, tolerance: float = 1e-11) -> MatsubaraNodes:
    r"""Return as few nodes as were found that reach the tolerance for all \|e\| <= radius.

    Parameters
    ----------
    beta : float
        Inverse temperature.
    radius : float
        Bound R of the spectrum of h - mu.
    tolerance : float
        Largest error of log(1 + exp(-beta e)), per eigenvalue.

    Returns
    -------
    MatsubaraNodes

    Raises
    ------
    ValueError
        The tolerance is out of reach: below the rounding of the sum itself, 2.2e-16 beta R, or beta
        R beyond 1.3e4, where the search finds no nodes.

    Notes
    -----
    In u = e^2 the derivative of the sum is a Stieltjes function, sum_n 1 / (u + omega_n^2), so the
    best K nodes form a Gauss-type quadrature: they lie between the Matsubara frequencies, their
    weights are positive (nothing cancels), and 2K conditions are met by K nodes, half as many as by
    selecting among Matsubara frequencies. The lowest m frequencies are kept as they are, with
    weight 1 (the best nodes agree with them to so many digits that fitting them is
    ill-conditioned); the others and their weights are fitted by Gauss-Newton steps in (log a, log
    w), from K to K + 1 by stretching the ladder found at K. Deterministic.

    A further node divides the error by about exp(pi^2 / log(0.18 beta R)) (30, 7, 4 at beta R =
    100, 1000, 10^4), so K grows as log(1/tolerance) log(beta R). Measured by
    tools/study/matsubara_nodes.py at the default tolerance: K = 1, 2, 5, 7, 10, 14, 17, 21, 25
    at beta R = 0.1, 1, 10, 30, 100, 300, 1000, 3000, 10^4; adding up the sum in double
    precision costs 1e-16 beta R per eigenvalue. 0.1 s at beta R = 100, 1 s at 10^4 (2.6 s at
    worst).

    The error is measured, not proven: on a grid with over a hundred points for each of its at most
    2K oscillations, in extended precision where the platform has it. The fit allows about 1e-15
    beta R; 3e-13 can be had up to beta R = 1000. The tolerance limits the first error alone. That
    of the Fermi function was found below 2e-9 for beta R < 1, 3e-10 for 1..10, 1.3e-10 for 10..100
    and 2e-11 above, at the default tolerance.
    """
    reach = beta * radius
    if not (math.isfinite(reach) and reach > 0 and tolerance > 0):
        raise ValueError(
            f"nodes need positive beta, radius and tolerance, not {beta}, {radius}, {tolerance}"
        )
    if tolerance < np.finfo(float).eps * reach:
        raise ValueError(
            f"a tolerance of {tolerance:g} is below the rounding of the Matsubara sum at beta * "
            f"radius = {reach:g}"
        )
    best, in_vain = None, 0
    for fixed in range(0 if reach < 50 else 1, 7):
        found = _grow(reach, tolerance, fixed, MAX_NODES if best is None else len(best[0]) - 1)
        if found is not None:
            best, in_vain = found, 0
        elif best is not None:
            in_vain += 1
            if in_vain == 3:
                break
    if best is None:
        raise ValueError(
            f"no {MAX_NODES} Matsubara nodes were found with a tolerance of {tolerance:g} at beta "
            f"* radius = {reach:g}"
        )
    w, a, error, derivative_error = best
    return MatsubaraNodes(w / beta, a, error, derivative_error)


def log_cosh(x: np.ndarray) -> np.ndarray:
    """Return log cosh(x / 2) of x >= 0, to full relative accuracy at both ends."""
    small = 0.5 * np.log1p(np.sinh(0.5 * np.minimum(x, 1.0)) ** 2)
    return np.where(x < 1.0, small, 0.5 * x + np.log1p(np.exp(-x)) - np.log(x.dtype.type(2.0)))


def grid(reach: float, points: int) -> np.ndarray:
    """Return a grid (points - 1,) in (0, reach].

    Uniform below pi, geometric above, dense towards the end, as the error oscillates.
    """
    fraction = np.sin(np.linspace(0.0, math.pi / 2, points)[1:])
    return (math.pi * np.sinh(math.asinh(reach / math.pi) * fraction)).astype(EXTENDED)


def _certify(w: np.ndarray, a: np.ndarray, reach: float) -> tuple[float, float]:
    """Return the largest errors of log cosh and of the Fermi function, rounding included."""
    error = derivative_error = 0.0
    for x in np.array_split(grid(reach, CERTIFY_POINTS), 20):
        error = max(error, np.abs(log_cosh(x) - np.log1p((x[:, None] / w) ** 2) @ a).max())
        fermi = 2.0 * x * (1.0 / (x[:, None] ** 2 + w**2) @ a)
        derivative_error = max(derivative_error, np.abs(0.5 * np.tanh(0.5 * x) - fermi).max())
    return float(error + np.finfo(float).eps * log_cosh(np.array(reach))), float(derivative_error)


def _grow(
    reach: float, tolerance: float, fixed: int, largest: int
) -> tuple[np.ndarray, np.ndarray, float, float] | None:
    """Find the fewest nodes above ``fixed`` exact Matsubara frequencies.

    None if more than ``largest`` are needed.
    """
    x = grid(reach, FIT_POINTS)
    exact = (2.0 * np.arange(fixed) + 1.0) * math.pi
    target = log_cosh(x) - np.log1p((x[:, None] / exact) ** 2).sum(axis=1)
    w, a = np.array([1.5 * reach + (2 * fixed + 1) * math.pi]), np.array([0.5 * reach + 1.0])
    smallest = math.inf
    while fixed + len(w) <= largest:
        fit, w, a = _fit(w, a, x, target)
        if fit < tolerance:
            nodes, weights = np.append(exact, w), np.append(np.ones(fixed), a)
            error, derivative_error = _certify(nodes, weights, reach)
            if error <= tolerance:
                return nodes, weights, error, derivative_error
        if fit > 10.0 * smallest:  # rounding has taken over: another node no longer helps
            return None
        smallest = min(smallest, fit)
        w, a = _stretch(w, a, fixed)
    return None


def _stretch(w: np.ndarray, a: np.ndarray, fixed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a start with one more node: the same smooth ladder, sampled more finely."""
    count = len(w)
    if count == 1:
        return np.array([(2 * fixed + 1) * math.pi, 1.2 * w[0]]), np.array([1.0, a[0]])
    order = np.argsort(w)
    new = np.linspace(0.0, count - 1.0, count + 1)
    logs = np.log(np.stack((w[order], a[order])))
    w, a = np.exp(
        spline(logs, new) if count >= 4 else [np.interp(new, np.arange(count), row) for row in logs]
    )
    return w, a * count / (count + 1)


def spline(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Evaluate cubic splines through the rows of y (rows, knots) at 0, 1, 2, ..., at x.

    The third derivative does not jump at the outermost inner knots.

    As scipy's CubicSpline, which takes every rank 0.3 s and 20 MB to import.
    """
    knots = y.shape[1]
    system = 4.0 * np.eye(knots) + np.eye(knots, k=1) + np.eye(knots, k=-1)
    right = np.zeros((knots, len(y)))
    right[1:-1] = 6.0 * np.diff(y, 2).T
    system[0, :3] = system[-1, -3:] = 1.0, -2.0, 1.0
    second = np.linalg.solve(system, right).T
    left = np.minimum(x.astype(int), knots - 2)
    t, s = x - left, 1.0 - (x - left)
    return (
        s * y[:, left]
        + t * y[:, left + 1]
        + ((s**3 - s) * second[:, left] + (t**3 - t) * second[:, left + 1]) / 6.0
    )


def _fit(
    w: np.ndarray, a: np.ndarray, x: np.ndarray, target: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Fit (log a, log w) by Gauss-Newton: (largest residual, w, a), nodes ascending.

    Full steps first, which may go uphill a few times (insisting on descent creeps along a curved
    valley). Close to the tolerance, steps along ill-determined directions carry noise: they are
    damped more and more from the best point.
    """
    damping, uphill, best = 1e-13, 0, math.inf
    best_w, best_a = w, a
    system: tuple[np.ndarray, ...] = ()  # of the present point; the first pass makes it
    best_system = system
    for _ in range(200):
        logs = np.log1p((x[:, None] / w) ** 2)
        residual = (target - logs @ a).astype(float)
        largest = np.abs(residual).max()
        improved = largest < 0.97 * best
        if not improved and (damping > 1e-13 or uphill == 3):
            if damping > 1e-6:
                break
            damping *= 30.0
            w, a, system = best_w, best_a, best_system
        else:
            jacobian = np.hstack((logs * a, 2.0 * a * np.expm1(-logs))).astype(float)
            scale = np.linalg.norm(jacobian, axis=0)
            u, s, vt = np.linalg.svd(jacobian / scale, full_matrices=False)
            system = u.T @ residual, s, vt, scale
            uphill = 0 if improved else uphill + 1
        if improved:
            best, best_w, best_a, best_system = largest, w, a, system
        projected, s, vt, scale = system
        step = vt.T @ (projected * s / (s**2 + (damping * s[0]) ** 2)) / scale
        # multiplied rather than added to logarithms, whose own rounding would show in the largest
        # weights
        a_factor, w_factor = np.exp(step * min(1.0, 0.5 / np.abs(step).max())).reshape(2, -1)
        a, w = a * a_factor, w * w_factor
    order = np.argsort(best_w)
    return float(best), best_w[order], best_a[order]
