"""Results of a run: draws of all chains, their summary, profiles, the learning history."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from hpcslmc.analysis.statistics import (
    Estimate,
    attempted,
    bracket,
    derived_estimate,
    estimate,
)
from hpcslmc.autocorrelation import valid_draws
from hpcslmc.job.schema import Job
from hpcslmc.measure.bins import standing_still
from hpcslmc.measure.grid import Axis
from hpcslmc.measure.registry import derived_quantities
from hpcslmc.physics.lattice import Lattice

if TYPE_CHECKING:
    import xarray


MISSED = "missed: "
"""Prefix of a doubt about what was to be reached, not about an error."""
MISSED_ERRORS, MISSED_SHARE = 3.0, 0.002
"""Standard errors, and share of the filling, up to which a missed filling is no doubt."""
UNDEFINED = "its definition is not imported, as --import does"
"""Doubt about a quantity derived by a module of the user's own that is not imported."""
ESTIMATES = ("mean", "error", "tau", "rhat", "ess", "ess_bulk", "ess_tail")
"""Columns of the summary, as in ``Estimate``."""


@dataclass(frozen=True)
class ProfileResult:
    """A function that was measured.

    Attributes
    ----------
    label : str
    axes : dict of str to Axis
        In the order of the dimensions.
    chains : (chain, *axes[, temperature]) float64
        Means of each chain.
    measurements : (chain,) int
        Of each chain.
    """

    label: str
    axes: dict[str, Axis]
    chains: np.ndarray
    measurements: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(*axes[, temperature]) float64, mean over all measurements."""
        return np.average(self.chains, 0, self.measurements)

    @property
    def error(self) -> np.ndarray:
        """(*axes[, temperature]) float64, standard error of the mean; nan for a single chain.

        Chains are independent.

        A chain's mean has a variance in inverse proportion to its measurements.
        """
        chains = len(self.chains)
        if chains == 1:
            return np.full(self.chains.shape[1:], np.nan)
        return np.sqrt(
            np.average(np.square(self.chains - self.mean), 0, self.measurements) / (chains - 1)
        )


@dataclass(frozen=True)
class Summary:
    """Estimates of all observables, and after them of what is derived from them.

    Attributes
    ----------
    labels : dict of str to str
        By observable, as a physicist writes it, with its unit.
    columns : dict of str to (observable[, temperature]) float64
        By the names of ``ESTIMATES``.
    doubts : (observable[, temperature]) str
        Why an error cannot be trusted; empty if it can.
    """

    labels: dict[str, str]
    columns: dict[str, np.ndarray]
    doubts: np.ndarray

    @property
    def names(self) -> list[str]:
        """Names of all observables, in order."""
        return list(self.labels)

    def of(self, name: str, column: str = "mean") -> np.ndarray:
        """Return the column of an observable, ([temperature]) float64."""
        return self.columns[column][self.names.index(name)]


@dataclass(frozen=True)
class Results:
    """Everything in results.h5.

    Runs at a list of temperatures have a last axis more, ``temperature``.

    Attributes
    ----------
    job : str
        The resolved job (TOML); of several merged runs the first.
    others : list of str
        Jobs of the further runs that were merged with it.
    versions : dict of str to str
    cpu_seconds : dict of str to float
        Processor time of all ranks by phase.
    bin_size : int
        Samples averaged into a draw.
    temperature, mu : ([temperature]) float64
    draws : dict of str to (chain, draw[, temperature]) float64
        A chain that is shorter than others ends in nan.
    bin_variances : dict of str to (chain[, temperature]) float64
        Variance of the samples about the mean of their bin, averaged over the bins; 0 where a
        draw is a sample.
    labels : dict of str to str
        Of all draws, and of derived quantities that may be undefined here.
    spins : (chain, site, 3[, temperature]) float64
        The last configurations.
    profiles : dict of str to ProfileResult
    curve, rounds : dict of str to (row,) array
        Learning history, column by column; empty if nothing was learned. Of merged runs, ``run``
        counts them from 1.
    remarks : list of str
    exchange : dict of str to array
        ``accepted`` and ``tried`` (chain, pair) swaps of neighbouring temperatures, ``replica`` and
        ``trips`` (chain, temperature).
        lengths : (chain,) int or None
        Draws of each chain, where merged runs differ in it.
    """

    job: str
    versions: dict[str, str]
    cpu_seconds: dict[str, float]
    bin_size: int
    temperature: np.ndarray
    mu: np.ndarray
    draws: dict[str, np.ndarray]
    bin_variances: dict[str, np.ndarray]
    labels: dict[str, str]
    spins: np.ndarray
    profiles: dict[str, ProfileResult]
    curve: dict[str, np.ndarray] = field(default_factory=dict)
    rounds: dict[str, np.ndarray] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    exchange: dict[str, np.ndarray] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    lengths: np.ndarray | None = None

    @property
    def is_ladder(self) -> bool:
        """True if there is an axis of temperatures."""
        return self.temperature.ndim > 0

    @property
    def valid(self) -> np.ndarray:
        """(chain, draw) bool, mask of the draws that a chain has."""
        return valid_draws(self.draws["acceptance"], self.lengths)

    @property
    def exchange_acceptance(self) -> np.ndarray:
        """(pair,) float64, accepted share of the swaps; nan where none was tried."""
        if not self.exchange:
            return np.full(max(0, self.temperature.size - 1), np.nan)
        tried = self.exchange["tried"].sum(0)
        return np.where(tried > 0, self.exchange["accepted"].sum(0) / np.maximum(tried, 1), np.nan)

    @property
    def idle(self) -> np.ndarray:
        """([temperature]) int, chains in which no proposal that moved a spin was accepted."""
        return standing_still(self.draws["acceptance"], self.draws["m2_uniform"]).sum(0)

    @cached_property
    def parsed_job(self) -> Job:
        """The job that ran."""
        return _parse(self.job)

    @cached_property
    def lattice(self) -> Lattice:
        """The lattice of the spins."""
        return self.parsed_job.lattice.make()

    @cached_property
    def other_jobs(self) -> list[Job]:
        """The jobs of the further runs that were merged with it."""
        return [_parse(job) for job in self.others]

    @cached_property
    def summary(self) -> Summary:
        """Means, errors and convergence, worked out from the draws.

        What fails is nan, with a doubt that says why.
        """
        named = self.parsed_job.measure.named
        rows: dict[str, list[Estimate]] = {}
        labels = dict(self.labels)
        for at in np.ndindex(self.temperature.shape):
            series = {name: draws[:, :, *at] for name, draws in self.draws.items()}
            estimates = {name: attempted(partial(self._estimate, name, at)) for name in series}
            quantities = derived_quantities(
                series, self.lattice, 1.0 / float(self.temperature[at]), float(self.mu[at])
            )
            quantities = [q for q in quantities if named.get(q.name) != 0]
            derived = {
                q.name: attempted(
                    partial(
                        derived_estimate,
                        q.value,
                        {name: series[name] for name in q.inputs},
                        estimates,
                        self.bin_size,
                        self.lengths,
                        q.negative,
                    )
                )
                for q in quantities
            }
            labels |= {q.name: q.label for q in quantities}
            undefined = {
                name: Estimate(math.nan, math.nan, unknown=UNDEFINED)
                for name in self.labels
                if name not in series and name not in derived
            }
            for name, found in (estimates | derived | undefined).items():
                rows.setdefault(name, []).append(found)
        summary = _summary(rows, labels, self.temperature.shape)
        if (filling := self.parsed_job.ensemble.filling) is not None and "density" in rows:
            row = list(rows).index("density")
            for at, found in zip(np.ndindex(self.temperature.shape), rows["density"], strict=True):
                missed = missed_filling(filling, found.mean, found.error)
                summary.doubts[row, *at] = "; ".join(
                    filter(None, (missed, summary.doubts[row, *at]))
                )
        return summary

    def _estimate(self, name: str, at: tuple[int, ...]) -> Estimate:
        """Return the estimate of an observable at a temperature."""
        every_chain: tuple[slice | int, ...] = (slice(None), *at)
        every_draw: tuple[slice | int, ...] = (slice(None), slice(None), *at)
        variance = float(np.average(self.bin_variances[name][every_chain], 0, self.valid.sum(1)))
        return estimate(self.draws[name][every_draw], self.bin_size, variance, self.lengths)

    def dataset(self) -> "xarray.Dataset":
        """Return the draws as an xarray dataset.

        Its dimensions are chain, draw and, of a list of temperatures, temperature.
        """
        import xarray

        chains, draws = next(iter(self.draws.values())).shape[:2]
        coordinates = {"chain": np.arange(chains), "draw": np.arange(draws)} | (
            {"temperature": self.temperature} if self.is_ladder else {}
        )
        dims = tuple(coordinates)
        described = {
            name: dict(zip(("long_name", "units"), name_and_unit(label)))
            for name, label in self.labels.items()
        }
        return xarray.Dataset(
            {name: (dims, x, described[name]) for name, x in self.draws.items()},
            coordinates,
            {"job": self.job},
        )


def missed_filling(filling: float, density: float, error: float) -> str:
    """Return how a measured density differs from the filling that was asked for.

    Empty unless it does by more than ``MISSED_ERRORS`` standard errors or ``MISSED_SHARE``.
    """
    off = abs(density - filling)
    if off > MISSED_ERRORS * error or off > MISSED_SHARE * filling:
        return f"{MISSED}{bracket(density, error)} electrons a site, not the {filling:g} asked for"
    return ""


def _summary(
    rows: Mapping[str, list[Estimate]], labels: Mapping[str, str], shape: tuple[int, ...]
) -> Summary:
    shape = (len(rows), *shape)
    columns = {
        key: np.array([[getattr(it, key) for it in row] for row in rows.values()]).reshape(shape)
        for key in ESTIMATES
    }
    doubts = np.array(
        [["; ".join(it.doubts) for it in row] for row in rows.values()], dtype=object
    ).reshape(shape)
    return Summary({name: labels[name] for name in rows}, columns, doubts)


def _parse(job: str) -> Job:
    return Job.model_validate(tomllib.loads(job))


def name_and_unit(label: str) -> tuple[str, str]:
    """Split a label such as "Drude weight D [t]" into its text and its unit ("1" without one)."""
    name, _, unit = label.partition(" [")
    return name, unit.removesuffix("]") or "1"
