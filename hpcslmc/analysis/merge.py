"""Merging of several runs of the same physics into one."""

from collections.abc import Mapping

import numpy as np

from hpcslmc.analysis.results import ProfileResult, Results
from hpcslmc.errors import UserError

SHARED = (
    "lattice",
    "hamiltonian",
    "classical",
    "ensemble.exchange",
    "measure",
    "sampling.bin_size",
)
"""Sections and keys of a job that merged runs have to share.

Temperature and chemical potential are compared beside them.
"""

TUNABLE = {
    "temperature": ("ensemble.temperature", "ensemble.rungs"),
    "mu": ("hamiltonian.mu", "ensemble.filling"),
}
"""Attributes of results, with the keys that fix and those that tune them in thermalisation."""


def merge(runs: Mapping[str, Results]) -> Results:
    """Merge runs of the same physics: their chains side by side, every sample of the same weight.

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
        for seed in (job.sampling.seed for job in (run.parsed_job, *run.other_jobs)):
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

    lengths = np.concatenate([run.valid.sum(1) for run in everything])
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
        # with those of quantities derived by modules that are not imported
        labels={name: label for run in everything for name, label in run.summary.labels.items()},
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
    """Join the draws (chain, draw[, temperature]) of several runs, shorter chains ending in nan."""
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
    """Join the learning of several runs in one table, with a column ``run`` counted from 1.

    Of the columns that all have.
    """
    tables, number = [], 1
    for run in runs:
        if table := getattr(run, which):
            tables.append(
                table
                | {"run": number - 1 + table.get("run", np.ones(len(table["round"]), dtype=int))}
            )
        number += 1 + len(run.others)
    return (
        {
            column: np.concatenate([table[column] for table in tables])
            for column in tables[0]
            if all(column in table for table in tables)
        }
        if tables
        else {}
    )


def _check_same(one: str, first: Results, other: str, second: Results) -> None:
    """Refuse runs whose chains sample different things.

    Their jobs may say so, or their thermalisation may have found other temperatures or mu.
    """
    before, after = first.parsed_job.keys(), second.parsed_job.keys()
    shared = [key for key in before | after if key in SHARED or key.split(".")[0] in SHARED]
    different = [
        f"{key} ({before.get(key)!r} and {after.get(key)!r})"
        for key in shared  # an interval by name may be of one job alone
        if before.get(key) != after.get(key) and key != TUNABLE["mu"][0]
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
    """Tell why runs that were tuned to different values are not merged, and what to do instead."""
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
