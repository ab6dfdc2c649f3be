"""What a run found: the draws of all chains, their summary, profiles, the learning history."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpcslmc.config import Job
from hpcslmc.errors import UserError
from hpcslmc.lattice import Lattice
from hpcslmc.measure.bins import standing_still
from hpcslmc.measure.derived import derived_quantities
from hpcslmc.measure.grid import Axis
from hpcslmc.measure.statistics import (
    Estimate,
    attempted,
    bracket,
    derived_estimate,
    estimate,
    there,
)

if TYPE_CHECKING:
    import xarray

    from hpcslmc.measure.profiles import ProfileSums
    from hpcslmc.simulation import Simulation

NAME = "results.h5"
MISSED = "missed: "
"""Begins a doubt about what was to be reached, not about an error."""
MISSED_ERRORS, MISSED_SHARE = 3.0, 0.002
"""Standard errors, and share of the filling, by which the density may differ from it without a
word.
"""
ESTIMATES = ("mean", "error", "tau", "rhat", "ess", "ess_bulk", "ess_tail")
"""Columns of the summary, as in ``Estimate``."""
SHARED = (
    "lattice",
    "hamiltonian.t",
    "hamiltonian.J",
    "ensemble.exchange",
    "measure",
    "sampling.bin_size",
)
"""Sections and keys of a job that runs have to share before their chains are put together,
beside temperature and chemical potential.
"""
TUNABLE = {
    "temperature": ("ensemble.temperature", "ensemble.rungs"),
    "mu": ("hamiltonian.mu", "ensemble.filling"),
}
"""Attributes of results, the keys that fix them, and those by which thermalisation tunes them
instead.
"""


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
        """(*axes[, temperature]) float64, standard error of the mean of independent chains; nan for
        a single one.

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
        """([temperature]) float64 of an observable."""
        return self.columns[column][self.names.index(name)]


@dataclass(frozen=True)
class Results:
    """Everything in results.h5. Runs at a list of temperatures have a last axis more,
    ``temperature``.

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
    others : list of str
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
        """Whether there is an axis of temperatures."""
        return self.temperature.ndim > 0

    @property
    def there(self) -> np.ndarray:
        """(chain, draw) bool, which draws there are."""
        return there(self.draws["acceptance"], self.lengths)

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
    def other_jobs(self) -> list[Job]:
        """The jobs of the further runs that were merged with it."""
        return [_parse(job) for job in self.others]

    @cached_property
    def summary(self) -> Summary:
        """Means, errors and convergence, worked out from the draws; what fails is nan, with a
        doubt that says why.
        """
        lattice, rows, labels = Lattice(self.parsed_job.lattice.shape), {}, dict(self.labels)
        for at in np.ndindex(self.temperature.shape):
            series = {name: draws[:, :, *at] for name, draws in self.draws.items()}
            estimates = {name: attempted(partial(self._estimate, name, at)) for name in series}
            quantities = derived_quantities(
                series, lattice, 1.0 / float(self.temperature[at]), float(self.mu[at])
            )
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
            for name, found in (estimates | derived).items():
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
        """The estimate of an observable at a temperature."""
        variance = float(np.average(self.bin_variances[name][:, *at], 0, self.there.sum(1)))
        return estimate(self.draws[name][:, :, *at], self.bin_size, variance, self.lengths)

    def dataset(self) -> "xarray.Dataset":
        """The draws as an xarray dataset with dimensions chain, draw and, of a list of
        temperatures, temperature.
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


def collect(simulation: "Simulation", versions: Mapping[str, str]) -> Results | None:
    """What a simulation has found so far, on the root. Collective."""
    world, rungs, seconds = simulation.world, simulation.rungs, simulation.cpu_seconds()
    ladder = simulation.job.ensemble.is_ladder

    def stacked(arrays: list[np.ndarray]) -> np.ndarray | None:
        """The chains of all ranks, of all temperatures on the last axis."""
        return world.gather(np.stack(arrays, -1) if ladder else arrays[0])

    draws = stacked([rung.bins.draws for rung in rungs])
    variances = stacked([rung.bins.variances for rung in rungs])
    spins = stacked([rung.spins.cpu().numpy() for rung in rungs])
    profiles = [
        stacked([rung.profiles[k].chain_means for rung in rungs])
        for k in range(len(rungs[0].profiles))
    ]
    exchange = (
        {
            name: world.gather(getattr(simulation.swaps, name))
            for name in ("accepted", "replica", "trips")
        }
        if simulation.swaps
        else {}
    )
    if not world.is_root:
        return None
    if exchange:
        exchange["tried"] = np.tile(simulation.swaps.tried, (len(spins), 1))
    names = rungs[0].bins.names
    labels = {name: name for name in names} | {o.name: o.label for o in rungs[0].observables}
    return Results(
        job=simulation.job.toml(),
        versions=dict(versions),
        cpu_seconds=seconds,
        bin_size=rungs[0].bins.size,
        temperature=np.array(
            [rung.temperature for rung in rungs] if ladder else rungs[0].temperature
        ),
        mu=np.array([rung.mu for rung in rungs] if ladder else rungs[0].mu),
        draws={name: draws[:, :, k] for k, name in enumerate(names)},
        labels=labels,
        bin_variances={name: variances[:, k] for k, name in enumerate(names)},
        spins=spins,
        profiles={
            sums.profile.name: _profile(sums, means)
            for sums, means in zip(rungs[0].profiles, profiles, strict=True)
            if sums.count
        },
        curve=_history(simulation, "curve"),
        rounds=_history(simulation, "history"),
        remarks=simulation.remarks,
        exchange=exchange,
    )


def _profile(sums: "ProfileSums", chains: np.ndarray) -> ProfileResult:
    return ProfileResult(
        sums.profile.label, dict(sums.profile.grid), chains, np.full(len(chains), sums.count)
    )


def _history(simulation: "Simulation", which: str) -> dict[str, np.ndarray]:
    """A table of the learning of all temperatures, column by column."""
    if not simulation.learns:
        return {}
    rows = [
        {"temperature": rung.temperature, **row}
        for rung in simulation.rungs
        for row in getattr(rung.learning, which)
    ]
    return {column: np.array([row[column] for row in rows]) for column in rows[0]}


def write_results(path: Path, simulation: "Simulation", versions: Mapping[str, str]) -> None:
    """Write results.h5 and publish it by rename. Collective: the root gathers and writes."""
    from hpcslmc.results_file import write

    results = collect(simulation, versions)
    simulation.world.on_root(lambda: write(path, results))


def merge(runs: Mapping[str, Results]) -> Results:
    """Several runs of the same physics as one: their chains side by side, every sample of the same
    weight.

    Parameters
    ----------
    runs : mapping of str to Results
        By a name to be used in messages.

    Raises
    ------
    UserError
        If they are of different physics, hold other observables, or have chains in common. One
        sentence names what differs.
    """
    (first_name, first), *rest = runs.items()
    for name, run in rest:
        _check_same(first_name, first, name, run)
    seen: dict[int, str] = {}
    for name, run in runs.items():
        for seed in (_parse(text).sampling.seed for text in (run.job, *run.others)):
            if seed in seen:
                raise UserError(
                    f"{seen[seed]} and {name} have the same chains (sampling.seed = {seed}): merge "
                    "runs with seeds of their own."
                )
            seen[seed] = name
    everything = list(runs.values())

    def joined(pick: str) -> dict[str, np.ndarray]:
        return {
            key: np.concatenate([getattr(run, pick)[key] for run in everything])
            for key in getattr(first, pick)
        }

    lengths = np.concatenate([run.there.sum(1) for run in everything])
    return Results(
        job=first.job,
        others=[text for run in everything for text in (run.job, *run.others)][1:],
        versions=first.versions,
        cpu_seconds={
            phase: sum(run.cpu_seconds[phase] for run in everything) for phase in first.cpu_seconds
        },
        bin_size=first.bin_size,
        temperature=first.temperature,
        mu=first.mu,
        draws={
            name: _side_by_side([run.draws[name] for run in everything]) for name in first.draws
        },
        bin_variances=joined("bin_variances"),
        labels=first.labels,
        spins=np.concatenate([run.spins for run in everything]),
        profiles={
            name: _joined_profile([run.profiles[name] for run in everything])
            for name in first.profiles
            if all(name in run.profiles for run in everything)
        },
        curve=_histories(everything, "curve"),
        rounds=_histories(everything, "rounds"),
        remarks=[f"{name}: {remark}" for name, run in runs.items() for remark in run.remarks],
        exchange=joined("exchange"),
        lengths=lengths if np.ptp(lengths) else None,
    )


def _side_by_side(draws: list[np.ndarray]) -> np.ndarray:
    """Draws (chain, draw[, temperature]) of several runs, the shorter chains ending in nan."""
    longest = max(x.shape[1] for x in draws)
    return np.concatenate(
        [
            np.pad(
                x,
                [(0, 0), (0, longest - x.shape[1])] + [(0, 0)] * (x.ndim - 2),
                constant_values=np.nan,
            )
            for x in draws
        ]
    )


def _joined_profile(profiles: list[ProfileResult]) -> ProfileResult:
    first = profiles[0]
    return ProfileResult(
        first.label,
        first.axes,
        *(
            np.concatenate([getattr(it, key) for it in profiles])
            for key in ("chains", "measurements")
        ),
    )


def _histories(runs: list[Results], which: str) -> dict[str, np.ndarray]:
    """Learning of several runs in one table, with a column ``run`` counted from 1."""
    tables, number = [], 1
    for run in runs:
        if table := getattr(run, which):
            tables.append(
                table
                | {"run": number - 1 + table.get("run", np.ones(len(table["round"]), dtype=int))}
            )
        number += 1 + len(run.others)
    return (
        {column: np.concatenate([table[column] for table in tables]) for column in tables[0]}
        if tables
        else {}
    )


def _check_same(one: str, first: Results, other: str, second: Results) -> None:
    """Refuse runs whose chains sample different things, whether their jobs say so or their
    thermalisation has found it.
    """
    before, after = first.parsed_job.keys(), second.parsed_job.keys()
    different = [
        f"{key} ({before[key]!r} and {after[key]!r})"
        for key in before
        if before[key] != after[key] and (key in SHARED or key.split(".")[0] in SHARED)
    ]
    tuned = []
    for name, (fixed, tuning) in TUNABLE.items():
        a, b = getattr(first, name), getattr(second, name)
        if np.array_equal(a, b):
            continue
        if before[tuning] is None and after[tuning] is None:
            different += (
                [f"{fixed} ({before[fixed]!r} and {after[fixed]!r})"]
                if before[fixed] != after[fixed]
                else []
            )
        else:
            tuned.append(name)
    if not different and tuned:
        raise UserError(_tuned_apart(one, first, other, second, tuned))
    if not different and (alone := first.draws.keys() ^ second.draws.keys()):
        different.append(f"their observables ({', '.join(sorted(alone))} of one alone)")
    if different:
        raise UserError(
            f"{one} and {other} cannot be merged, as they differ in {', '.join(different)}."
        )


def _tuned_apart(one: str, first: Results, other: str, second: Results, tuned: list[str]) -> str:
    """Why runs that were tuned to different values are not merged, and what to do instead."""
    found = " and ".join(
        f"{name} ({getattr(first, name).tolist()} and {getattr(second, name).tolist()})"
        for name in tuned
    )
    more = (
        "for more statistics give one of these jobs more samples, or more chains in a run of "
        "its own"
    )
    if not np.ptp(first.mu):  # a job file has one chemical potential for all temperatures
        values = {"temperature": first.temperature.tolist(), "mu": float(first.mu.flat[0])}
        keys = [
            f"{fixed} = {values[name]} in place of {tuning}"
            for name, (fixed, tuning) in TUNABLE.items()
            if first.parsed_job.keys()[tuning] is not None
        ]
        more += (
            f", or run further seeds at the values of {one}: {' and '.join(keys)}" if keys else ""
        )
    return (
        f"{one} and {other} cannot be merged, as thermalisation tuned their {found} apart: {more}."
    )
