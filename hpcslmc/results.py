"""results.h5: the raw draws of all chains, the learning history, and the summary of both."""

import os
from pathlib import Path

import h5py
import numpy as np

from hpcslmc.measure.profiles import ProfileSums, mean_and_error
from hpcslmc.measure.statistics import estimate
from hpcslmc.parallel import World
from hpcslmc.simulation import Simulation

FORMAT = "hpcslmc results 1"


def write_results(path: Path, simulation: Simulation, versions: dict[str, str]) -> None:
    """Write results.h5 and publish it by rename. Collective: the root gathers the draws and writes.

    Groups
    ------
    draws/NAME : (chain, draw) float64, one dataset per observable, attribute ``label``
    mean_squares/NAME : (chain,) float64, mean square of the samples, for their variance where a draw bins several
    profiles/NAME/{grid, mean, error} : (point,), profiles/NAME/chains : (chain, point) float64, means of each chain
    summary/{observable, mean, error, tau, rhat, ess} : (observable,)
    learning/curve/COLUMN, learning/rounds/COLUMN, learning/remarks : (point,), (round,), (remark,) text
    spins : (chain, site, 3) float64, the last configuration of each chain

    The file's attributes hold the resolved job (TOML), versions, bin size and format.
    """
    world: World = simulation.world
    draws = world.gather(simulation.bins.draws)
    squares = world.gather(simulation.bins.mean_squares)
    spins = world.gather(simulation.spins.cpu().numpy())
    profiles = [(sums, world.gather(sums.chain_means)) for sums in simulation.profiles]
    if world.is_root:
        beside = path.with_suffix(".part")
        with h5py.File(beside, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["job"] = simulation.job.toml()
            file.attrs["bin_size"] = simulation.bins.size
            file.attrs.update(versions)
            _write_draws(file, simulation, draws, squares)
            file["spins"] = spins
            for sums, means in profiles:
                _write_profile(file.create_group(f"profiles/{sums.profile.name}"), sums, means)
            if simulation.learning and simulation.learning.history:
                file["learning/remarks"] = np.array(simulation.learning.remarks, dtype=h5py.string_dtype())
                for name, rows in (("curve", simulation.learning.curve), ("rounds", simulation.learning.history)):
                    for column in rows[0]:
                        file[f"learning/{name}/{column}"] = np.array([row[column] for row in rows])
        os.replace(beside, path)
    world.barrier()


def _write_draws(file: h5py.File, simulation: Simulation, draws: np.ndarray, squares: np.ndarray) -> None:
    names = simulation.bins.names
    labels = {o.name: o.label for o in simulation.observables}
    file["chain"] = np.arange(draws.shape[0])
    file["draw"] = np.arange(draws.shape[1])
    for axis in ("chain", "draw"):
        file[axis].make_scale(axis)
    for k, name in enumerate(names):
        dataset = file.create_dataset(f"draws/{name}", data=draws[:, :, k])
        dataset.attrs["label"] = labels.get(name, name)
        for axis, scale in enumerate(("chain", "draw")):
            dataset.dims[axis].attach_scale(file[scale])
        file[f"mean_squares/{name}"] = squares[:, k]
    estimates = [estimate(draws[:, :, k], simulation.bins.size, squares[:, k].mean()) for k in range(len(names))]
    file["summary/observable"] = np.array(names, dtype=h5py.string_dtype())
    for quantity in ("mean", "error", "tau", "rhat", "ess"):
        file[f"summary/{quantity}"] = np.array([getattr(e, quantity) for e in estimates])


def _write_profile(group: h5py.Group, sums: ProfileSums, chain_means: np.ndarray) -> None:
    group["grid"], group["chains"] = sums.profile.grid, chain_means
    group["mean"], group["error"] = mean_and_error(chain_means)
    group.attrs.update(label=sums.profile.label, grid_label=sums.profile.grid_label, measurements=sums.count)
