import numpy as np
import pytest
import torch
from helpers import make_diagonalise, random_spins, unevaluated
from small_jobs import make_job, run

from hpcslmc.analysis.results import ProfileResult
from hpcslmc.errors import UserError
from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job
from hpcslmc.measure.density_of_states import DensityOfStates
from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.grid import Axis
from hpcslmc.measure.profiles import ProfileSums
from hpcslmc.parallel.world import World


def test_density_of_states_against_a_histogram():
    weight, spins = make_diagonalise((4, 6), 2.0), random_spins(3, 24)
    profile = DensityOfStates(Electrons(weight.ensemble, weight.spectrum), 37, 1)
    density = profile.measure(spins, unevaluated(spins))
    assert torch.equal(profile.measure(spins, weight.evaluate(spins)), density)
    for chain, levels in enumerate(weight.spectrum(spins).numpy()):
        counts, edges = np.histogram(levels, bins=37, range=(-5.0, 5.0))
        assert np.allclose(density[chain], counts / (24 * 10.0 / 37))
        assert np.allclose(profile.grid["energy"].values, 0.5 * (edges[1:] + edges[:-1]))
    assert torch.allclose(
        density.sum(1) * profile.bins.width, torch.full((3,), 2.0, dtype=torch.float64)
    )


def test_levels_on_the_bound_are_counted():
    weight = make_diagonalise((4, 4), 2.0)
    # its extreme levels are the bound
    ferromagnet = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(1, 16, 3)
    profile = DensityOfStates(Electrons(weight.ensemble, weight.spectrum), 10, 1)
    assert float(
        profile.measure(ferromagnet, unevaluated(ferromagnet)).sum()
    ) * profile.bins.width == pytest.approx(2.0)


def test_sums_average_what_is_due_and_survive_a_restart():
    class Index:
        name, grid, every = "index", {"x": Axis(np.arange(2.0), "a")}, 3

        def measure(self, spins, evaluation):
            return spins

    sums = ProfileSums(Index(), 4)
    values = torch.arange(48.0, dtype=torch.float64).reshape(6, 4, 2)
    for sample in range(1, 5):
        sums.add(sample, values[sample - 1], None)
    resumed = ProfileSums(Index(), 4)
    resumed.load(sums.chain_state(), sums.state_dict())
    for sample in (5, 6):
        resumed.add(sample, values[sample - 1], None)
    assert resumed.count == 2
    assert np.array_equal(resumed.chain_means, values[[2, 5]].mean(0).numpy())
    result = ProfileResult("", {}, resumed.chain_means, np.full(4, resumed.count))
    mean, error = result.mean, result.error
    assert np.allclose(mean, resumed.chain_means.mean(0)) and np.allclose(
        error, resumed.chain_means.std(0, ddof=1) / 2.0
    )


def test_sums_on_a_grid_of_two_axes():
    class Plane:
        name, grid, every = (
            "plane",
            {"x": Axis(np.arange(2.0), "a"), "y": Axis(np.arange(3.0), "a")},
            1,
        )

        def measure(self, spins, evaluation):
            return spins

    sums = ProfileSums(Plane(), 4)
    values = torch.arange(48.0, dtype=torch.float64).reshape(2, 4, 2, 3)
    for sample in (1, 2):
        sums.add(sample, values[sample - 1], None)
    result = ProfileResult("", {}, sums.chain_means, np.ones(len(sums.chain_means)))
    mean, error = result.mean, result.error
    assert np.array_equal(mean, values.mean((0, 1))) and error.shape == (2, 3)
    assert np.isnan(ProfileResult("", {}, sums.chain_means[:1], np.ones(1)).error).all()


def test_a_job_measures_it_at_its_interval():
    job = make_job()
    simulation = run(
        job.model_copy(update={"measure": job.measure.model_copy(update={"density_of_states": 2})}),
        World(),
    )
    *_, sums = simulation.rungs[0].profiles
    assert (sums.profile.name, sums.count) == ("density_of_states", 3)
    assert np.allclose(sums.chain_means.sum(1) * sums.profile.bins.width, 2.0)


def test_an_interval_longer_than_the_run_is_one_sentence():
    table = make_job().model_dump(mode="json")
    table["measure"]["density_of_states"] = 7
    with pytest.raises(UserError, match=r"\[measure\] density_of_states = 7"):
        resolve(Job.model_validate(table))
