"""Power laws of an error in compute or data, and how well exponents are known."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

DRAWS = 200
NEGLIGIBLE = 0.01
"""Share of the smallest error below which a floor counts as none."""


class PowerLaw(NamedTuple):
    r"""A fit of errors L at scales C.

    .. math:: L(C) = L_\infty + F (C / C_0)^{-g}

    Attributes
    ----------
    floor, factor, exponent, scale : float
        L_inf, F, g and C_0.
    """

    floor: float
    factor: float
    exponent: float
    scale: float

    def __call__(self, scales: np.ndarray) -> np.ndarray:
        return self.floor + self.factor * (scales / self.scale) ** -self.exponent


class Fitted(NamedTuple):
    """A power law and its uncertainty by bootstrap.

    Attributes
    ----------
    law : PowerLaw
    exponent_error : float
        Standard error: of the draws, and of a straight line through what the law leaves.
    floor_range : (float, float)
        Between which 90 % of the draws lie.
    deviation : float
        Root mean square of what the law leaves of the errors' logarithms.
    laws : list of PowerLaw
        Of all draws.
    """

    law: PowerLaw
    exponent_error: float
    floor_range: tuple[float, float]
    deviation: float
    laws: list[PowerLaw]

    def words(self, smallest: float) -> str:
        """The exponent and the floor, or that there may be none."""
        low, high = self.floor_range
        none = low < NEGLIGIBLE * smallest
        floor = f"L_inf < {high:.1e}, consistent with 0" if none else f"L_inf {low:.1e}..{high:.1e}"
        exponent = f"exponent {self.law.exponent:.2f} +- {self.exponent_error:.2f}"
        return f"{exponent}, {floor}, off by {self.deviation:.0%}"


def fit(scales: np.ndarray, errors: np.ndarray) -> PowerLaw:
    """Least squares of the logarithms, all points alike; the floor is not negative."""
    scale, logarithms = float(np.exp(np.log(scales).mean())), np.log(errors)

    def law(parameters: np.ndarray) -> PowerLaw:
        return PowerLaw(parameters[0] * errors.min(), np.exp(parameters[1]), parameters[2], scale)

    found = least_squares(
        lambda parameters: np.log(law(parameters)(scales)) - logarithms,
        [0.1, logarithms.mean(), 0.5],
        bounds=([0.0, -np.inf, 0.0], [1.0, np.inf, 5.0]),
    )
    return law(found.x)


def bootstrap(
    points: Sequence[np.ndarray],
    choose: Callable[[list[np.ndarray]], tuple[np.ndarray, np.ndarray]],
) -> Fitted:
    """Fit a power law, and fit it again to trainings drawn with replacement.

    Parameters
    ----------
    points : sequence of (trainings, ...)
        Results of trainings that differ in their random numbers alone, for each scale and size.
    choose : callable
        Scales and errors to be fitted, of such points.
    """
    numbers = np.random.default_rng(1)
    laws = [
        fit(*choose([some[numbers.integers(len(some), size=len(some))] for some in points]))
        for _ in range(DRAWS)
    ]
    floors = np.quantile([law.floor for law in laws], (0.05, 0.95))
    scales, errors = choose(list(points))
    law = fit(scales, errors)
    left, places = np.log(law(scales) / errors), np.log(scales)
    of_slope = math.sqrt(np.sum(left**2) / (len(left) - 2) / len(left)) / np.std(places)
    error = math.hypot(np.std([law.exponent for law in laws]), of_slope)
    deviation = float(np.sqrt(np.mean(left**2)))
    return Fitted(law, error, (floors[0], floors[1]), deviation, laws)
