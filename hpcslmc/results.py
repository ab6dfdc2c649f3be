"""results.h5: the raw draws of all chains, the learning history, and the summary of both."""

import os
from pathlib import Path

import h5py
import numpy as np

from hpcslmc.measure.derived import derived_quantities
from hpcslmc.measure.profiles import ProfileSums, mean_and_error
from hpcslmc.measure.statistics import Estimate, derived_estimate, estimate
from hpcslmc.simulation import Simulation

FORMAT = "hpcslmc results 1"


def write_results(path: Path, simulation: Simulation, versions: dict[str, str]) -> None:
    """Write results.h5 and publish it by rename. Collective: the root gathers the draws and writes.

    Groups
    ------
    draws/NAME : (chain, draw) float64, one dataset per observable, attribute ``label``
    mean_squares/NAME : (chain,) float64, mean square of the samples, for their variance where a draw bins several
    profiles/NAME/{mean, error} : (*grid,), profiles/NAME/chains : (chain, *grid) float64, means of each chain
    summary/{mean, error, tau, rhat, ess, ess_bulk, ess_tail} : (observable,), of observables, then of what is derived from them
    summary/doubts : (observable,) text, why an error cannot be trusted; empty if it can
    spins : (chain, site, 3) float64, the last configuration of each chain
    temperature, mu : ()
    profiles/NAME/grid/AXIS : (point,) float64, attribute ``units``
    summary/{observable, label} : (observable,) text
    learning/curve/COLUMN, learning/rounds/COLUMN, learning/remarks : (point,), (round,), (remark,) text
    exchange/{acceptance, tried} : (temperature - 1,), exchange/{replica, trips} : (chain, temperature)

    For a list of temperatures all datasets down to ``temperature, mu`` have a last axis more, ``temperature``; a
    row of the learning history says which it is of.

    The file's attributes hold the resolved job (TOML), versions, bin size, format, and the processor time of
    all ranks by phase, ``cpu_seconds_PHASE``.
    """
    world, rungs, seconds = simulation.world, simulation.rungs, simulation.cpu_seconds()

    def stacked(arrays: list[np.ndarray]) -> np.ndarray | None:
        """The chains of all ranks, of all temperatures on the last axis."""
        return world.gather(np.stack(arrays, -1) if simulation.job.ensemble.is_ladder else arrays[0])

    draws = stacked([rung.bins.draws for rung in rungs])
    squares = stacked([rung.bins.mean_squares for rung in rungs])
    spins = stacked([rung.spins.cpu().numpy() for rung in rungs])
    profiles = [stacked([rung.profiles[k].chain_means for rung in rungs]) for k in range(len(rungs[0].profiles))]
    swaps = simulation.swaps and {name: world.gather(getattr(simulation.swaps, name)) for name in ("accepted", "replica", "trips")}
    if world.is_root:
        beside = path.with_suffix(".part")
        with h5py.File(beside, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["job"] = simulation.job.toml()
            file.attrs["bin_size"] = rungs[0].bins.size
            file.attrs.update(versions)
            file.attrs.update({f"cpu_seconds_{phase}": s for phase, s in seconds.items()})
            for name in ("temperature", "mu"):
                values = [getattr(rung, name) for rung in rungs]
                file[name] = values if simulation.job.ensemble.is_ladder else values[0]
            _write_draws(file, simulation, draws, squares)
            file["spins"] = spins
            for sums, means in zip(rungs[0].profiles, profiles, strict=True):
                if sums.count:
                    _write_profile(file.create_group(f"profiles/{sums.profile.name}"), sums, means)
            if simulation.learns:
                _write_learning(file, simulation)
            if swaps:
                tried = simulation.swaps.tried
                file["exchange/acceptance"] = swaps["accepted"].sum(0) / np.maximum(tried * len(swaps["accepted"]), 1)
                file["exchange/tried"], file["exchange/replica"], file["exchange/trips"] = tried, swaps["replica"], swaps["trips"]
        os.replace(beside, path)
    world.barrier()


def _write_learning(file: h5py.File, simulation: Simulation) -> None:
    file["learning/remarks"] = np.array(simulation.remarks, dtype=h5py.string_dtype())
    for name, rows in (("curve", "curve"), ("rounds", "history")):
        table = [{"temperature": rung.temperature, **row} for rung in simulation.rungs for row in getattr(rung.learning, rows)]
        for column in table[0]:
            file[f"learning/{name}/{column}"] = np.array([row[column] for row in table])


def _write_draws(file: h5py.File, simulation: Simulation, draws: np.ndarray, squares: np.ndarray) -> None:
    bins, labels = simulation.rungs[0].bins, {o.name: o.label for o in simulation.rungs[0].observables}
    axes = {"chain": np.arange(draws.shape[0]), "draw": np.arange(draws.shape[1])}
    for axis, values in axes.items():
        file[axis] = values
    if simulation.job.ensemble.is_ladder:
        axes["temperature"] = file["temperature"][()]
    for axis in axes:
        file[axis].make_scale(axis)
    for k, name in enumerate(bins.names):
        dataset = file.create_dataset(f"draws/{name}", data=draws[:, :, k])
        dataset.attrs["label"] = labels.get(name, name)
        for axis, scale in enumerate(axes):
            dataset.dims[axis].attach_scale(file[scale])
        file[f"mean_squares/{name}"] = squares[:, k]
    _write_summary(file, simulation, draws, squares, labels)


def _write_summary(file: h5py.File, simulation: Simulation, draws: np.ndarray, squares: np.ndarray, labels: dict[str, str]) -> None:
    bins, means = simulation.rungs[0].bins, squares.mean(0)
    rows: dict[str, list[Estimate]] = {}
    for rung, at in zip(simulation.rungs, np.ndindex(draws.shape[3:]), strict=True):
        series = {name: draws[:, :, k, *at] for k, name in enumerate(bins.names)}
        estimates = {name: estimate(series[name], bins.size, means[k, *at]) for k, name in enumerate(bins.names)}
        quantities = derived_quantities(bins.names, simulation.lattice, 1.0 / rung.temperature, rung.mu)
        derived = {q.name: derived_estimate(q.value, {name: series[name] for name in q.inputs}, estimates, bins.size) for q in quantities}
        labels = labels | {q.name: q.label for q in quantities}
        for name, it in (estimates | derived).items():
            rows.setdefault(name, []).append(it)
    text, shape = h5py.string_dtype(), (len(rows), *draws.shape[3:])
    file["summary/observable"] = np.array(list(rows), dtype=text)
    file["summary/label"] = np.array([labels.get(name, name) for name in rows], dtype=text)
    file["summary/doubts"] = np.array(["; ".join(it.doubts) for row in rows.values() for it in row], dtype=text).reshape(shape)
    for quantity in ("mean", "error", "tau", "rhat", "ess", "ess_bulk", "ess_tail"):
        file[f"summary/{quantity}"] = np.array([[getattr(it, quantity) for it in row] for row in rows.values()]).reshape(shape)


def _write_profile(group: h5py.Group, sums: ProfileSums, chain_means: np.ndarray) -> None:
    for name, axis in sums.profile.grid.items():
        group[f"grid/{name}"] = axis.values
        group[f"grid/{name}"].attrs["units"] = axis.unit
    group["chains"] = chain_means
    group["mean"], group["error"] = mean_and_error(chain_means)
    group.attrs.update(label=sums.profile.label, axes=list(sums.profile.grid), measurements=sums.count)
