"""Tuning of the ensemble in thermalisation: temperatures of a ladder, chemical potentials of a filling."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import erfcinv, expit

from hpcslmc.hamiltonian import Hamiltonian
from hpcslmc.lattice import Lattice
from hpcslmc.measure.statistics import mean_variance
from hpcslmc.streams import Stream

TUNED = 0.8
"""Share of the moves of thermalisation over which it changes the ensemble..."""
TUNINGS = 12
"""...that many times, at equal distances; as often again as the wanted accuracy takes."""
SPACING = 0.4
"""Share of the moves over which the temperatures of a ladder are spaced, more if they are uneven then."""
LONGEST_SPACING = 3
"""Times the moves of thermalisation that the spacing takes at most."""
LONGEST_FILLING = 30
"""Times the moves of thermalisation that the filling takes at most."""
UNEVEN = 0.35
"""Spread of the distances between neighbouring temperatures, in units of their mean, that is no longer mended."""
FILLING_ERROR = 6e-4
"""Standard error of the density that ends its tuning, in units of the filling: a third of 0.2 per cent."""
LONGEST_STEP = 0.25
"""Most that the chemical potential changes at once, in units of the largest energy."""
SLOPE_ERROR = 0.5
"""Uncertainty of the compressibility that fluctuations give, in units of it."""
CLEARLY = 5.0
"""Standard errors by which a density differs from another without doubt."""
REACH = 40.0
"""Temperatures beyond the ends of the spectrum within which the chemical potential of any filling lies."""
MODEL_SIDE, MODEL_COPIES = 12, 4
"""Largest side of the lattice, and number of its configurations, from which the first chemical potential comes."""


def spaced_evenly(temperatures: Sequence[float], acceptance: Sequence[float]) -> list[float]:
    """Return temperatures with the same ends between which exchange should be equally frequent.

    Parameters
    ----------
    temperatures : (rungs,) sequence of float
    acceptance : (rungs - 1,) sequence of float
        Mean probability that a swap of each pair is accepted.

    Notes
    -----
    Distances erfc^-1(acceptance) add up along the ladder to a function of log T that depends little on where its rungs are; the
    new ones lie at equal distances of it. For close rungs the distance is that of the rejections of Syed, Bouchard-Cote,
    Deligiannidis, Doucet, J. R. Stat. Soc. B 84, 321 (2022), section 5; it goes on growing where hardly a swap is accepted.
    """
    barrier = np.concatenate(([0.0], np.cumsum(_distances(acceptance))))
    places = np.linspace(0.0, barrier[-1], len(barrier))
    spaced = np.exp(np.interp(places, barrier, np.log(temperatures)))
    return [temperatures[0], *spaced[1:-1].tolist(), temperatures[-1]]


def unevenness(acceptance: Sequence[float]) -> float:
    """Return the spread of the distances between neighbouring temperatures, largest less smallest over their mean."""
    distances = _distances(acceptance)
    return float(np.ptp(distances) / distances.mean())


def _distances(acceptance: Sequence[float]) -> np.ndarray:
    return erfcinv(np.clip(acceptance, 1e-6, 0.99))


def random_spin_levels(hamiltonian: Hamiltonian, seed: int) -> np.ndarray:
    """Return eigenvalues of h(S) for random spins, on a lattice of at most ``MODEL_SIDE`` x ``MODEL_SIDE`` sites.

    Their density of states is close enough to that of the job's own lattice to start a chemical potential from.

    Returns
    -------
    (levels,) float64
    """
    lattice = Lattice(tuple(min(side, MODEL_SIDE) for side in hamiltonian.lattice.shape))
    spins = Stream(seed, torch.arange(MODEL_COPIES), "filling").directions(lattice.sites)
    small = Hamiltonian(lattice, hamiltonian.t, hamiltonian.J)
    return torch.linalg.eigvalsh(small.dense(spins)).flatten().numpy()


def potential_of(filling: float, levels: np.ndarray, beta: float) -> float:
    """Return the chemical potential at which electrons on the given levels have a filling (electrons per site, 0 to 2)."""
    ends = levels.min() - REACH / beta, levels.max() + REACH / beta
    return float(brentq(lambda mu: 2.0 * expit(beta * (mu - levels)).mean() - filling, *ends))


def fixed_spin_compressibility(levels: np.ndarray, beta: float, mu: float) -> np.ndarray:
    """Return d(electrons per site) / d mu of electrons on given levels (..., levels): (...), 2 beta <f (1 - f)>."""
    return 2.0 * beta * (expit(beta * (mu - levels)) * expit(beta * (levels - mu))).mean(-1)


@dataclass
class Filling:
    r"""Search for the chemical potential of a filling, from the densities that moves measure at one temperature.

    Intervals of moves at potentials mu_j gave mean densities n_j. The next potential solves, on the last half of the
    intervals,

    .. math:: n_j = n^* + \kappa (\mu_j - \mu^*) + \textrm{noise}, \qquad
        \kappa \approx \left.\frac{\partial n}{\partial\mu}\right|_S + \beta N\, \textrm{var}(n)

    for mu*. kappa is the measured compressibility, of the electrons at fixed spins and of the fluctuating spins, corrected by
    the slope of the intervals themselves (a Gaussian prior of relative width ``SLOPE_ERROR``). As every interval counts alike, noise
    averages out as in stochastic approximation.

    Parameters
    ----------
    target : float
        Electrons per site.
    chains : int
        Chains of this rank.

    Attributes
    ----------
    points : list of [float, float]
        Chemical potential and compressibility of each interval.
    means : (chains, intervals) float64
        Density of each chain, averaged over each interval.
    first : int
        First interval at the present temperature.
    reached, error : float
        Density that is expected at the present potential, and its standard error.
    """

    target: float
    chains: int
    points: list[list[float]] = field(default_factory=list)
    first: int = 0
    reached: float = np.nan
    error: float = np.nan

    def __post_init__(self) -> None:
        self.means = np.zeros((self.chains, 0))
        self._sums = np.zeros((self.chains, 2))  # of the densities in this interval, and of their squares
        self._moves = 0

    @property
    def settled(self) -> bool:
        """Whether the density is known well enough to be the filling."""
        return self.error <= FILLING_ERROR * self.target and abs(self.reached - self.target) <= self.error

    def add(self, density: torch.Tensor) -> None:
        """Count the densities (chains,) after a move."""
        numbers = density.cpu().numpy()
        self._sums += np.stack((numbers, np.square(numbers)), 1)
        self._moves += 1

    def end_interval(self) -> np.ndarray:
        """Close an interval; returns the mean density and the mean squared one of each chain, (chains, 2)."""
        ended = self._sums / self._moves
        self.means = np.column_stack((self.means, ended[:, 0]))
        self._sums, self._moves = np.zeros_like(self._sums), 0
        return ended

    def restart(self) -> None:
        """Forget what was measured: the temperature has changed."""
        self.first = len(self.points)

    def next(self, means: np.ndarray, longest_step: float, furthest: float) -> float:
        """Return the chemical potential to go on with, and know what is expected there.

        Parameters
        ----------
        means : (all chains, intervals) float64
            ``means`` of all ranks.
        longest_step, furthest : float
            Most that the potential changes, and its largest absolute value.
        """
        start = self.first + (len(self.points) - self.first) // 2
        mu, compressibilities = np.array(self.points[start:]).T
        densities = means[:, start:]
        n, kappa = densities.mean(0), max(compressibilities.mean(), 1e-9)
        # the slope of the intervals, as far as it is known better than by fluctuations
        spread = max(float(np.sqrt(densities.var(0).mean() / len(densities))), 1e-9)
        noise = spread**2
        prior = 1.0 / (SLOPE_ERROR * kappa) ** 2
        known = prior + np.square(mu - mu.mean()).sum() / noise
        slope = (prior * kappa + ((mu - mu.mean()) * (n - n.mean())).sum() / noise) / known
        slope = float(np.clip(slope, 0.1 * kappa, 10.0 * kappa))
        wanted = mu.mean() + (self.target - n.mean()) / slope
        found = float(np.clip(mu[-1] + np.clip(wanted - mu[-1], -longest_step, longest_step), -furthest, furthest))
        found = self._bracketed(found, means.mean(0), spread)
        self.reached = float(n.mean() + slope * (found - mu.mean()))
        if densities.shape[1] >= 4:  # fewer say nothing of the autocorrelation
            at_mean = densities - slope * (mu - mu.mean())
            misfit = at_mean.mean(0).var(ddof=2) / len(mu)
            self.error = float(np.sqrt(max(mean_variance(at_mean), misfit) + (found - mu.mean()) ** 2 / known))
        return found

    def _bracketed(self, found: float, densities: np.ndarray, spread: float) -> float:
        """Return a potential between those that gave clearly too few and too many electrons in the last three quarters of the intervals.

        The density rises with the potential, but the first intervals may not know its equilibrium yet.
        """
        start = self.first + (len(self.points) - self.first) // 4
        mu, n = np.array(self.points[start:])[:, 0], densities[start:]
        few = max(mu[n < self.target - CLEARLY * spread], default=-np.inf)
        many = min(mu[n > self.target + CLEARLY * spread], default=np.inf)
        if np.isfinite(many - few) and few < many and not few < found < many:
            return float(0.5 * (few + many))
        return found

    def chain_state(self) -> dict:
        """What belongs to chains: arrays with the chain as first axis."""
        return {"means": self.means, "sums": self._sums}

    def state_dict(self) -> dict:
        """What is the same for all chains."""
        return {"points": self.points, "moves": self._moves, "first": self.first, "reached": self.reached, "error": self.error}

    def load(self, chain_state: dict, state: dict) -> None:
        """Restore both states."""
        self.means, self._sums = (np.array(chain_state[name].numpy()) for name in ("means", "sums"))
        self.points, self._moves, self.first = [list(point) for point in state["points"]], state["moves"], state["first"]
        self.reached, self.error = state["reached"], state["error"]
