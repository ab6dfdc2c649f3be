"""Tuning of the ensemble in thermalisation.

Temperatures of a ladder, chemical potentials of a filling.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import erfcinv, expit

from hpcslmc.autocorrelation import mean_variance
from hpcslmc.job.schema import Job
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import Exchange
from hpcslmc.simulation.build import required
from hpcslmc.streams import Stream

if TYPE_CHECKING:
    from hpcslmc.simulation.rung import Rung

TUNED = 0.8
"""Share of the moves of thermalisation over which it changes the ensemble..."""
TUNINGS = 12
"""...that many times, at equal distances; as often again as the wanted accuracy takes."""
SPACING = 0.4
"""Share of the moves over which the temperatures of a ladder are spaced.

More if they are uneven then.
"""
LONGEST_SPACING = 3
"""Most moves for the spacing, in units of those of thermalisation."""
LONGEST_FILLING = 30
"""Most moves for the filling, in units of those of thermalisation."""
UNEVEN = 0.35
"""Largest unevenness of a ladder that is left as it is, as of ``unevenness``."""
FILLING_ERROR = 6e-4
"""Standard error of the density that ends its tuning, in units of the filling.

A third of 0.2 per cent.
"""
LONGEST_STEP = 0.25
"""Largest change of the chemical potential at once, in units of the largest energy."""
SLOPE_ERROR = 0.5
"""Uncertainty of the compressibility that fluctuations give, in units of it."""
CLEARLY = 5.0
"""Standard errors by which a density differs from another without doubt."""
REACH = 40.0
"""Distance from the spectrum's ends within which the chemical potential lies, in temperatures."""
MODEL_SIDE, MODEL_COPIES = 12, 4
"""Largest side, and number of configurations, of the lattice for the first chemical potential."""


def spaced_evenly(temperatures: Sequence[float], acceptance: Sequence[float]) -> list[float]:
    """Return temperatures with the same ends between which exchange should be equally frequent.

    Parameters
    ----------
    temperatures : (rungs,) sequence of float
    acceptance : (rungs - 1,) sequence of float
        Mean probability that a swap of each pair is accepted.

    Notes
    -----
    Distances erfc^-1(acceptance) add up along the ladder to a function of log T that depends little
    on where its rungs are; the new ones lie at equal distances of it. For close rungs the distance
    is that of the rejections of Syed, Bouchard-Cote, Deligiannidis, Doucet, J. R. Stat. Soc. B 84,
    321 (2022), section 5; it goes on growing where hardly a swap is accepted.
    """
    barrier = np.concatenate(([0.0], np.cumsum(_distances(acceptance))))
    places = np.linspace(0.0, barrier[-1], len(barrier))
    spaced = np.exp(np.interp(places, barrier, np.log(temperatures)))
    return [temperatures[0], *spaced[1:-1].tolist(), temperatures[-1]]


def unevenness(acceptance: Sequence[float]) -> float:
    """Return the spread of the distances between neighbouring temperatures.

    It is the largest less the smallest, over their mean.
    """
    distances = _distances(acceptance)
    return float(np.ptp(distances) / distances.mean())


def _distances(acceptance: Sequence[float]) -> np.ndarray:
    return erfcinv(np.clip(acceptance, 1e-6, 0.99))


def random_spin_levels(hamiltonian: Hamiltonian, seed: int) -> np.ndarray:
    """Return eigenvalues of h(S) for random spins.

    The lattice has at most ``MODEL_SIDE`` x ``MODEL_SIDE`` cells, or about as many in other
    dimensions.

    Their density of states is close enough to that of the job's own lattice to start a chemical
    potential from.

    Returns
    -------
    (levels,) float64
    """
    own = hamiltonian.lattice
    most = round(MODEL_SIDE ** (2.0 / own.dimension))
    lattice = Lattice(tuple(min(side, most) for side in own.shape), own.crystal)
    spins = Stream(seed, torch.arange(MODEL_COPIES), "filling").directions(lattice.sites)
    return torch.linalg.eigvalsh(hamiltonian.on_lattice(lattice).dense(spins)).flatten().numpy()


def potential_of(filling: float, levels: np.ndarray, beta: float) -> float:
    """Return the chemical potential at which electrons on the given levels have a filling.

    The filling is in electrons per site, 0 to 2.
    """
    ends = levels.min() - REACH / beta, levels.max() + REACH / beta
    return float(brentq(lambda mu: 2.0 * expit(beta * (mu - levels)).mean() - filling, *ends))


def fixed_spin_compressibility(levels: np.ndarray, beta: float, mu: float) -> np.ndarray:
    """Return d(electrons per site) / d mu of electrons on given levels (..., levels).

    (...), 2 beta <f (1 - f)>.
    """
    return 2.0 * beta * (expit(beta * (mu - levels)) * expit(beta * (levels - mu))).mean(-1)


@dataclass
class Filling:
    r"""Search for the chemical potential of a filling, at one temperature, from measured densities.

    Intervals of moves at potentials mu_j gave mean densities n_j. The next potential solves, on the
    last half of the intervals,

    .. math:: n_j = n^* + \kappa (\mu_j - \mu^*) + \textrm{noise}, \qquad
        \kappa \approx \left.\frac{\partial n}{\partial\mu}\right|_S + \beta N\, \textrm{var}(n)

    for mu*. kappa is the measured compressibility, of the electrons at fixed spins and of the
    fluctuating spins, corrected by the slope of the intervals themselves (a Gaussian prior of
    relative width ``SLOPE_ERROR``). As every interval counts alike, noise averages out as in
    stochastic approximation.

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
        # of the densities in this interval, and of their squares
        self._sums = np.zeros((self.chains, 2))
        self._moves = 0

    @property
    def settled(self) -> bool:
        """Tell whether the density is known well enough to be the filling."""
        return (
            self.error <= FILLING_ERROR * self.target
            and abs(self.reached - self.target) <= self.error
        )

    def add(self, density: torch.Tensor) -> None:
        """Count the densities (chains,) after a move."""
        numbers = density.cpu().numpy()
        self._sums += np.stack((numbers, np.square(numbers)), 1)
        self._moves += 1

    def end_interval(self) -> np.ndarray:
        """Close an interval, and return the densities of each chain, (chains, 2).

        They are the mean density and the mean squared one.
        """
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
        found = float(
            np.clip(
                mu[-1] + np.clip(wanted - mu[-1], -longest_step, longest_step), -furthest, furthest
            )
        )
        found = self._bracketed(found, means.mean(0), spread)
        self.reached = float(n.mean() + slope * (found - mu.mean()))
        if densities.shape[1] >= 4:  # fewer say nothing of the autocorrelation
            at_mean = densities - slope * (mu - mu.mean())
            misfit = at_mean.mean(0).var(ddof=2) / len(mu)
            self.error = float(
                np.sqrt(max(mean_variance(at_mean), misfit) + (found - mu.mean()) ** 2 / known)
            )
        return found

    def _bracketed(self, found: float, densities: np.ndarray, spread: float) -> float:
        """Return a potential between those that gave clearly too few and too many electrons.

        Only the last three quarters of the intervals count.

        The density rises with the potential, but the first intervals may not know its equilibrium
        yet.
        """
        start = self.first + (len(self.points) - self.first) // 4
        mu, n = np.array(self.points[start:])[:, 0], densities[start:]
        few = max(mu[n < self.target - CLEARLY * spread], default=-np.inf)
        many = min(mu[n > self.target + CLEARLY * spread], default=np.inf)
        if np.isfinite(many - few) and few < many and not few < found < many:
            return float(0.5 * (few + many))
        return found

    def chain_state(self) -> dict:
        """Return the state of each chain: arrays with the chain as first axis."""
        return {"means": self.means, "sums": self._sums}

    def state_dict(self) -> dict:
        """Return the state that all chains share."""
        return {
            "points": self.points,
            "moves": self._moves,
            "first": self.first,
            "reached": self.reached,
            "error": self.error,
        }

    def load(self, chain_state: dict, state: dict) -> None:
        """Restore both states."""
        self.means, self._sums = (np.array(chain_state[name].numpy()) for name in ("means", "sums"))
        self.points, self._moves, self.first = (
            [list(point) for point in state["points"]],
            state["moves"],
            state["first"],
        )
        self.reached, self.error = state["reached"], state["error"]


class EnsembleTuning:
    """Search for a ladder's temperatures and a filling's potentials, in thermalisation.

    Moves come in intervals of equal length. The ladder is spaced after 1, 3, 6, 10, ... of them,
    until exchange is even; the potentials are corrected after each of the first, later whenever
    there are 8 per cent more, until the densities are known well enough. Both are frozen then, and
    as many moves follow as were planned to.

    Parameters
    ----------
    job : Job
    ranks : Ranks
    hamiltonian : Hamiltonian
    moves : int
        Exact moves of thermalisation, if nothing is tuned.

    Attributes
    ----------
    fillings : list of Filling
        One for each temperature, where the job asks for a filling.
    spaced : bool
        Whether the temperatures are final.
    ended : int or None
        Moves of thermalisation after which the ensemble was frozen.
    """

    def __init__(self, job: Job, ranks: Ranks, hamiltonian: Hamiltonian, moves: int) -> None:
        self.ranks, self.hamiltonian, self.moves = ranks, hamiltonian, moves
        self.mu, filling = job.hamiltonian.mu, job.ensemble.filling
        self.fillings: list[Filling] = []
        if filling is not None:
            self._levels = random_spin_levels(hamiltonian, job.sampling.seed)
            self.fillings = [Filling(filling, ranks.block.count) for _ in job.ensemble.temperatures]
        self.spaced = job.ensemble.rungs is None
        self.ended: int | None = 0 if self.spaced and filling is None else None
        self._interval = max(1, round(TUNED * self.moves / TUNINGS))
        self._planned = int(TUNED * self.moves) // self._interval * self._interval

    def first_potential(self, temperature: float) -> float:
        """Return the job's chemical potential, or a first guess of that of its filling.

        The guess is that for electrons among random spins.
        """
        if not self.fillings:
            return self.mu
        return potential_of(self.fillings[0].target, self._levels, 1.0 / temperature)

    def thermalisation_end(self, ended: int) -> int:
        """Return the moves of thermalisation if tuning ended after so many.

        The job's, or as many more as tuning took.
        """
        return self.moves + max(0, ended - self._planned)

    def expected_moves(self, done: int) -> int:
        """Return the moves that thermalisation will take.

        It is an estimate from the errors of the densities after ``done`` of them.
        """
        if self.ended is not None:
            return self.thermalisation_end(self.ended)
        ratios = [
            f.error / (FILLING_ERROR * f.target) for f in self.fillings if math.isfinite(f.error)
        ]
        needed = int(done * max(1.0, *ratios) ** 2) if ratios else 0
        return min(max(self.moves, needed, done + 1), LONGEST_FILLING * self.moves)

    def after_move(self, done: int, rungs: "Sequence[Rung]", swaps: Exchange | None) -> bool:
        """Note what the chains show after ``done`` moves, and tune by it if it is time. Collective.

        Returns
        -------
        bool
            Whether thermalisation is over.
        """
        if self.ended is None:
            for filling, rung in zip(self.fillings, rungs, strict=bool(self.fillings)):
                rung.complete_energies()
                filling.add(required(rung.chains.evaluation.density))
            if done % self._interval == 0:
                self._end_interval(done, rungs, swaps)
        return self.ended is not None and done == self.thermalisation_end(self.ended)

    def _end_interval(self, done: int, rungs: "Sequence[Rung]", swaps: Exchange | None) -> None:
        """Tune by an interval of moves if it is time, and freeze what is found. Collective."""
        number = done // self._interval
        self._note_densities(rungs)
        temperatures, potentials = [rung.temperature for rung in rungs], [rung.mu for rung in rungs]
        space = not self.spaced and _is_triangular(number)
        if self.fillings and (space or _is_due(number)):
            potentials = self._next_potentials(rungs)
        if space:
            spaced = self._next_temperatures(done, temperatures, required(swaps))
            if self.fillings and spaced != temperatures:
                potentials = _interpolated(spaced, temperatures, potentials)
                for filling in self.fillings:
                    filling.restart()
            temperatures = spaced
        for rung, temperature, mu in zip(rungs, temperatures, potentials, strict=True):
            if (temperature, mu) != (rung.temperature, rung.mu):
                rung.set_ensemble(temperature, mu)
        settled = self.spaced and all(filling.settled for filling in self.fillings)
        if done >= self._planned and (settled or done >= LONGEST_FILLING * self.moves):
            self.ended = done

    def _note_densities(self, rungs: "Sequence[Rung]") -> None:
        """Note each rung's mean density and compressibility in the interval that has ended.

        Collective.
        """
        sites = self.hamiltonian.lattice.sites
        for filling, rung in zip(self.fillings, rungs, strict=bool(self.fillings)):
            spectrum, beta = rung.chains.evaluation.spectrum, 1.0 / rung.temperature
            levels = self._levels[None] if spectrum is None else spectrum.cpu().numpy()
            slopes = np.broadcast_to(
                fixed_spin_compressibility(levels, beta, rung.mu), self.ranks.block.count
            )
            n, n2, of_electrons = self._chain_means(
                np.column_stack((filling.end_interval(), slopes))
            )
            filling.points.append([rung.mu, of_electrons + beta * sites * max(0.0, n2 - n * n)])

    def _next_potentials(self, rungs: "Sequence[Rung]") -> list[float]:
        """Return chemical potentials that should give the filling. Collective."""
        bound, potentials = self.hamiltonian.bound, []
        for filling, rung in zip(self.fillings, rungs, strict=True):
            means = required(self.ranks.chains.broadcast(self.ranks.chains.gather(filling.means)))
            furthest = bound + REACH * rung.temperature
            potentials.append(filling.next(means, LONGEST_STEP * bound, furthest))
        return potentials

    def _next_temperatures(
        self, done: int, temperatures: list[float], swaps: Exchange
    ) -> list[float]:
        """Return temperatures that should exchange evenly, the present ones where they do.

        Collective.
        """
        likely = self._chain_means(swaps.likely / np.maximum(swaps.tried, 1))
        even = done >= SPACING * self.moves and unevenness(likely) <= UNEVEN
        self.spaced = even or done >= LONGEST_SPACING * self.moves
        if not even:
            temperatures = spaced_evenly(temperatures, likely)
            swaps.forget()
        return temperatures

    def _chain_means(self, numbers: np.ndarray) -> list[float]:
        """Return means over all chains of numbers (chains, ...). Collective.

        They have the same bits for any number of ranks.
        """
        gathered = self.ranks.chains.gather(numbers)
        means = None if gathered is None else gathered.mean(0).tolist()
        return required(self.ranks.chains.broadcast(means))

    def chain_state(self) -> dict:
        """Return the state of each chain: arrays with the chain as first axis."""
        return {str(k): filling.chain_state() for k, filling in enumerate(self.fillings)}

    def state_dict(self) -> dict:
        """Return the state that all chains share."""
        fillings = {str(k): filling.state_dict() for k, filling in enumerate(self.fillings)}
        return {
            "spaced": self.spaced,
            "ended": -1 if self.ended is None else self.ended,
            "fillings": fillings,
        }

    def load(self, chain_state: dict, state: dict) -> None:
        """Restore both states."""
        self.spaced, self.ended = state["spaced"], None if state["ended"] < 0 else state["ended"]
        for k, filling in enumerate(self.fillings):
            filling.load(chain_state[str(k)], state["fillings"][str(k)])


def _is_triangular(number: int) -> bool:
    """Tell whether a number is triangular: 1, 3, 6, 10, ....

    The times between two of them grow as what is found gets finer.
    """
    return math.isqrt(8 * number + 1) ** 2 == 8 * number + 1


def _is_due(number: int) -> bool:
    """Tell whether potentials are tuned after so many intervals.

    At first after every one, later when there are 8 per cent more.
    """
    return number <= TUNINGS or int(math.log(number, 1.08)) > int(math.log(number - 1, 1.08))


def _interpolated(at: list[float], places: list[float], values: list[float]) -> list[float]:
    """Return a function of the temperature between its known values."""
    order = np.argsort(places)
    return np.interp(at, np.array(places)[order], np.array(values)[order]).tolist()
