"""Reading and writing of results.h5.

HDF5 with the named dimensions of netCDF, which xarray opens. Every group and dataset:
docs/results.md.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np

from hpcslmc.analysis.results import ESTIMATES, ProfileResult, Results, Summary, name_and_unit
from hpcslmc.errors import UserError
from hpcslmc.measure.grid import Axis
from hpcslmc.measure.momenta import is_square
from hpcslmc.storage.files import check_regular, publishing
from hpcslmc.storage.hdf5 import open_hdf5
from hpcslmc.storage.names import RESULTS

FORMAT = "hpcslmc results 4"
BEFORE = "hpcslmc results 3"
"""Previous format, which is read too.

It held the samples' mean squares in place of their variance inside bins.
"""
TEXT = h5py.string_dtype()
PHASES = "cpu_seconds_"
SUMMARY = {  # long names, and units where they are not the observable's own
    "mean": ("mean", "of the observable"),
    "error": ("standard error of the mean", "of the observable"),
    "tau": ("integrated autocorrelation time", "samples"),
    "rhat": ("R-hat over the chains", "1"),
    "ess": ("effective sample size", "1"),
    "ess_bulk": ("effective sample size of the bulk", "1"),
    "ess_tail": ("effective sample size of the tails", "1"),
}
LEARNING = {
    "temperature": ("temperature", "t"),
    "round": ("round of learning", "1"),
    "step": ("gradient step of the round", "1"),
    "loss": ("training loss", "1"),
    "mse": ("validation error of log W, squared", "1"),
    "mse_per_site": ("the same per site", "1"),
    "run": ("merged run", "1"),
    "evaluations": ("exact evaluations so far, all chains", "1"),
    "acceptance": ("acceptance of the exact test", "1"),
    "acceptance_error": ("its standard error", "1"),
    "predicted_erfc": ("acceptance predicted by erfc(s/2)", "1"),
    "predicted_exp": ("acceptance predicted by exp(-s)", "1"),
    "tests": ("exact tests that an independent sample is expected to take", "1"),
}
EXCHANGE = {
    "acceptance": ("accepted share of the swaps with the next temperature", ("pair",)),
    "tried": ("swaps tried", ("chain", "pair")),
    "accepted": ("accepted swaps", ("chain", "pair")),
    "replica": ("replica at this temperature", ("chain", "temperature")),
    "trips": ("journeys from end to end of the replica", ("chain", "temperature")),
}


class _Variables:
    """A group whose datasets have named dimensions; the coordinates lie beside them."""

    def __init__(
        self, group: h5py.Group, coordinates: Mapping[str, tuple[Iterable, str, str]]
    ) -> None:
        self.group = group
        for name, (values, long_name, unit) in coordinates.items():
            self._create(name, values, long_name, unit).make_scale(name)

    def _create(self, name: str, values: Iterable, long_name: str, unit: str) -> h5py.Dataset:
        values = np.asarray(values)
        if values.dtype.kind in "OU":
            values = values.astype(TEXT)
        dataset = self.group.create_dataset(name, data=values)
        dataset.attrs.update(long_name=long_name, units=unit)
        return dataset

    def add(
        self, name: str, values: Iterable, dims: Iterable[str], long_name: str, unit: str = "1"
    ) -> None:
        dataset = self._create(name, values, long_name, unit)
        for axis, dim in enumerate(dims):
            dataset.dims[axis].attach_scale(self.group[dim])


def write(path: Path, results: Results) -> None:
    """Write a results file and publish it by rename."""
    with publishing(path) as part, open_hdf5(part, "w") as file:
        file.attrs.update(
            {"format": FORMAT, "job": results.job, "bin_size": results.bin_size, **results.versions}
        )
        file.attrs.update(
            {PHASES + phase: seconds for phase, seconds in results.cpu_seconds.items()}
        )
        if results.others:
            file.attrs["merged_jobs"] = np.array(results.others, dtype=TEXT)
        _write_state(file, results)
        _write_draws(file, results)
        _write_summary(file.create_group("summary"), results)
        for name, profile in results.profiles.items():
            _write_profile(file.create_group(f"profiles/{name}"), profile, results)
        if results.rounds:
            _write_learning(file.create_group("learning"), results)
        if results.exchange:
            _write_exchange(file.create_group("exchange"), results)


def _temperature(results: Results) -> dict[str, tuple]:
    return {"temperature": (results.temperature, "temperature", "t")} if results.is_ladder else {}


def _chain(count: int) -> dict[str, tuple]:
    return {"chain": (np.arange(count), "Markov chain", "1")}


def _write_state(file: h5py.File, results: Results) -> None:
    chains, sites, _ = results.spins.shape[:3]
    ladder = _temperature(results)
    root = _Variables(
        file,
        _chain(chains)
        | {
            "site": (np.arange(sites), _site_order(results), "1"),
            "component": (["x", "y", "z"], "component of the spin", "1"),
        }
        | ladder,
    )
    if not results.is_ladder:
        root.add("temperature", results.temperature, (), "temperature", "t")
    root.add("mu", results.mu, ladder, "chemical potential", "t")
    if results.lengths is not None:
        root.add("lengths", results.lengths, ("chain",), "draws of the chain")
    root.add(
        "spins", results.spins, ("chain", "site", "component", *ladder), "last spin configuration"
    )


def _site_order(results: Results) -> str:
    square = is_square(results.lattice)
    return "site x * Ly + y" if square else "site: last direction and then sublattice fastest"


def _write_draws(file: h5py.File, results: Results) -> None:
    chains, draws = next(iter(results.draws.values())).shape[:2]
    ladder = _temperature(results)
    kept = _Variables(
        file.create_group("draws"),
        _chain(chains) | {"draw": (np.arange(draws), "draw", "1")} | ladder,
    )
    variances = _Variables(file.create_group("bin_variances"), _chain(chains) | ladder)
    for name, values in results.draws.items():
        long_name, unit = name_and_unit(results.labels[name])
        kept.add(name, values, ("chain", "draw", *ladder), long_name, unit)
        variances.add(
            name,
            results.bin_variances[name],
            ("chain", *ladder),
            f"variance of {long_name} in a bin",
            "1" if unit == "1" else f"({unit})^2",
        )


def _write_summary(group: h5py.Group, results: Results) -> None:
    summary, ladder = results.summary, _temperature(results)
    table = _Variables(
        group, {"observable": (summary.names, "name of the observable", "1")} | ladder
    )
    dims = ("observable", *ladder)
    table.add("label", list(summary.labels.values()), ("observable",), "observable with its unit")
    table.add(
        "unit",
        [name_and_unit(label)[1] for label in summary.labels.values()],
        ("observable",),
        "unit of mean and error",
    )
    table.add("doubts", summary.doubts, dims, "why the error cannot be trusted")
    for column, values in summary.columns.items():
        table.add(column, values, dims, *SUMMARY[column])


def _write_profile(group: h5py.Group, profile: ProfileResult, results: Results) -> None:
    ladder, (long_name, unit) = _temperature(results), name_and_unit(profile.label)
    axes = {name: (axis.values, name, axis.unit) for name, axis in profile.axes.items()}
    variables = _Variables(group, _chain(len(profile.chains)) | axes | ladder)
    variables.add(
        "chains",
        profile.chains,
        ("chain", *axes, *ladder),
        f"{long_name}, mean of each chain",
        unit,
    )
    variables.add("measurements", profile.measurements, ("chain",), "measurements of each chain")
    variables.add("mean", profile.mean, (*axes, *ladder), long_name, unit)
    variables.add("error", profile.error, (*axes, *ladder), f"{long_name}, standard error", unit)
    group.attrs.update(label=profile.label, axes=np.array(list(axes), dtype=TEXT))


def _write_learning(group: h5py.Group, results: Results) -> None:
    for name, table in (("curve", results.curve), ("rounds", results.rounds)):
        rows = len(table["round"])
        variables = _Variables(group.create_group(name), {"row": (np.arange(rows), "row", "1")})
        for column, values in table.items():
            variables.add(column, values, ("row",), *LEARNING[column])
    _Variables(group, {"remark": (np.arange(len(results.remarks)), "remark", "1")}).add(
        "remarks", np.array(results.remarks, dtype=object), ("remark",), "what the user should know"
    )


def _write_exchange(group: h5py.Group, results: Results) -> None:
    found = results.exchange
    chains, pairs = found["accepted"].shape
    variables = _Variables(
        group,
        _chain(chains)
        | {"pair": (np.arange(pairs), "pair of a temperature and the next", "1")}
        | _temperature(results),
    )
    for name, (long_name, dims) in EXCHANGE.items():
        variables.add(
            name,
            results.exchange_acceptance if name == "acceptance" else found[name],
            dims,
            long_name,
        )


def read(path: Path | str) -> Results:
    """Read the results in a file, or in the output directory of a run.

    Raises
    ------
    UserError
        If there are none of this format.
    """
    file_path = Path(path) / RESULTS if os.path.isdir(path) else Path(path)
    try:
        check_regular(file_path)
        with open_hdf5(file_path, "r") as file:
            if file.attrs.get("format") not in (FORMAT, BEFORE):
                raise UserError(
                    f"{file_path} was written by another version of the program, not as {FORMAT}: "
                    "run its job's command again, "
                    "which writes it anew from the checkpoint."
                )
            return _read(file)
    except OSError as error:
        raise UserError(
            f"{path}: there are no results to read ({file_path}: "
            f"{error.strerror or str(error).splitlines()[0]})."
        ) from None
    except (KeyError, ValueError) as error:
        raise UserError(f"{file_path} is damaged: {error}.") from None


def _read(file: h5py.File) -> Results:
    def columns(name: str, without: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
        return (
            {key: item[()] for key, item in file[name].items() if key not in without}
            if name in file
            else {}
        )

    attributes = dict(file.attrs)
    seconds = {
        key.removeprefix(PHASES): float(attributes.pop(key))
        for key in list(attributes)
        if key.startswith(PHASES)
    }
    job, bin_size, others = (
        attributes.pop("job"),
        int(attributes.pop("bin_size")),
        list(attributes.pop("merged_jobs", ())),
    )
    del attributes["format"]
    summary = file["summary"]
    labels = dict(zip(summary["observable"].asstr()[()], summary["label"].asstr()[()], strict=True))
    names = [name for name in labels if name in file["draws"]]
    results = Results(
        job=job,
        others=others,
        versions=attributes,
        cpu_seconds=seconds,
        bin_size=bin_size,
        temperature=np.asarray(file["temperature"][()]),
        mu=np.asarray(file["mu"][()]),
        draws={name: file["draws"][name][()] for name in names},
        bin_variances={name: _bin_variance(file, name) for name in names},
        labels={name: labels[name] for name in names},
        spins=file["spins"][()],
        profiles={name: _read_profile(group) for name, group in file.get("profiles", {}).items()},
        curve=columns("learning/curve", ("row",)),
        rounds=columns("learning/rounds", ("row",)),
        remarks=list(file["learning/remarks"].asstr()[()]) if "learning" in file else [],
        exchange=columns("exchange", ("chain", "pair", "temperature", "acceptance")),
        lengths=file["lengths"][()] if "lengths" in file else None,
    )
    # known already: what the file says of the draws it holds
    doubts = np.asarray(summary["doubts"].asstr()[()], dtype=object)
    results.__dict__["summary"] = Summary(
        labels, {column: summary[column][()] for column in ESTIMATES}, doubts
    )
    return results


def _bin_variance(file: h5py.File, name: str) -> np.ndarray:
    """Return the variance of an observable's samples within their bin, (chain[, temperature])."""
    if "bin_variances" in file:
        return file["bin_variances"][name][()]
    squares = np.nanmean(np.square(file["draws"][name][()]), 1)  # a short chain ends in nan
    return np.maximum(0.0, file["mean_squares"][name][()] - squares)


def _read_profile(group: h5py.Group) -> ProfileResult:
    axes = {name: Axis(group[name][()], group[name].attrs["units"]) for name in group.attrs["axes"]}
    return ProfileResult(group.attrs["label"], axes, group["chains"][()], group["measurements"][()])
