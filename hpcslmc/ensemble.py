"""What thermalisation finds out about the ensemble: where the temperatures of a ladder lie, and the chemical potential of a filling."""

from collections.abc import Sequence

import numpy as np

TUNED = 0.8
"""Share of the moves of thermalisation over which it changes the ensemble..."""
TUNINGS = 12
"""...that many times, at equal distances."""
SPACING = 0.4
"""Share of the moves over which the temperatures of a ladder are spaced, where they are to be."""
LONGEST_STEP = 0.5
"""Most that the chemical potential changes at once, in units of t."""
COMPRESSIBILITY = 0.3
"""d(electrons per site) / d mu before it is known, in units of 1 / t."""
MEMORY = 4
"""Points that the chemical potential is worked out from."""


def spaced_evenly(temperatures: Sequence[float], acceptance: Sequence[float]) -> list[float]:
    """Temperatures with the same ends between which exchange should be equally frequent.

    Parameters
    ----------
    temperatures : (rungs,) sequence of float
    acceptance : (rungs - 1,) sequence of float
        Measured share of accepted swaps of each pair.

    Notes
    -----
    Rejections add up along the ladder to a function of log T that depends little on where its rungs are; the new ones lie at equal
    distances of it. Syed, Bouchard-Cote, Deligiannidis, Doucet, J. R. Stat. Soc. B 84, 321 (2022), section 5.
    """
    rejections = np.maximum(1.0 - np.asarray(acceptance), 0.01)
    barrier = np.concatenate(([0.0], np.cumsum(rejections)))
    spaced = np.exp(np.interp(np.linspace(0.0, barrier[-1], len(barrier)), barrier, np.log(temperatures)))
    return [temperatures[0], *spaced[1:-1].tolist(), temperatures[-1]]


class Filling:
    """Finds the chemical potential of a filling from measured densities.

    Parameters
    ----------
    target : float
        Electrons per site.

    Attributes
    ----------
    points : list of (float, float)
        Chemical potentials and what they gave.
    """

    def __init__(self, target: float) -> None:
        self.target = target
        self.points: list[tuple[float, float]] = []

    def next(self, mu: float, density: float) -> float:
        """The chemical potential to go on with, after a density was measured at mu: on the straight line through the last points."""
        self.points.append((mu, density))
        x, y = np.array(self.points[-MEMORY:]).T
        spread = np.square(x - x.mean()).sum()
        slope = ((x - x.mean()) * (y - y.mean())).sum() / spread if spread > 1e-6 else COMPRESSIBILITY
        slope = float(np.clip(slope, 0.1 * COMPRESSIBILITY, 10.0 * COMPRESSIBILITY))
        found = x.mean() + (self.target - y.mean()) / slope
        return float(mu + np.clip(found - mu, -LONGEST_STEP, LONGEST_STEP))
