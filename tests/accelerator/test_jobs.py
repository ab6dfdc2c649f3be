"""Jobs give the bits of the CPU on the simulated accelerator, which has the kernels of the CPU."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from accelerator_jobs import JOBS, make_job
from simulated_accelerator import Counts, counts, memory, set_devices

from hpcslmc import Lattice, learned_model
from hpcslmc.analysis.results import Results
from hpcslmc.job.schema import Job
from hpcslmc.parallel.memory import Batches
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.world import World
from hpcslmc.simulation.collect import collect
from hpcslmc.simulation.simulation import Simulation


def on(device: str, job: Job) -> Ranks:
    return Ranks.of(World(), job.sampling.chains, device=device)


def finish(simulation: Simulation) -> Results:
    simulation.run(lambda: simulation.phase.agree())
    return collect(simulation, {})


def assert_same(one: Results, other: Results) -> None:
    assert one.draws.keys() == other.draws.keys() and one.profiles.keys() == other.profiles.keys()
    for name, draws in one.draws.items():
        assert np.array_equal(draws, other.draws[name], equal_nan=True), name
    for name, profile in one.profiles.items():
        assert np.array_equal(profile.mean, other.profiles[name].mean), name


@pytest.mark.parametrize("changes", JOBS.values(), ids=JOBS)
def test_a_job_gives_the_bits_of_the_cpu(device, changes):
    job = make_job(changes)
    there = Simulation(job, on(device, job))
    assert str(there.rungs[0].chains.spins.device) == device
    assert_same(finish(there), finish(Simulation(job)))
    assert str(there.rungs[0].chains.spins.device) == device


def test_a_diluted_lattice_gives_the_bits_of_the_cpu(device, tmp_path):
    with h5py.File(tmp_path / "sites.h5", "w") as file:
        file["spin"] = np.arange(16) % 4 > 0
        file["J"] = np.linspace(1.0, 2.0, 16)
        file["potential"] = np.linspace(-0.2, 0.2, 16)
    sites = {"site_file": str(tmp_path / "sites.h5"), "mu": -0.3}
    job = make_job({"hamiltonian": sites, "effective": {"model": "auto", "layers": None}})
    assert_same(finish(Simulation(job, on(device, job))), finish(Simulation(job)))


@pytest.mark.parametrize("phase", ["learn", "sample"])
def test_a_checkpoint_of_an_accelerator_is_resumed_with_and_without_one(device, tmp_path, phase):
    job, path = make_job({}), Path(tmp_path, "checkpoint.h5")
    whole = finish(Simulation(job))
    simulation = Simulation(job, on(device, job))
    simulation.run(lambda: simulation.phase.name == phase)
    for _ in range(4):  # into the phase
        simulation.advance()
    simulation.save(path, {})
    assert_same(finish(Simulation(job, on(device, job), path)), whole)
    set_devices(0)
    assert_same(finish(Simulation(job, resume=path)), whole)


def test_a_sample_is_copied_once_for_the_exact_test_and_once_for_the_bins(device):
    job = make_job({})
    simulation = Simulation(job, on(device, job))
    simulation.run(lambda: simulation.phase.name == "sample")
    simulation.advance()
    before = counts()
    simulation.advance()
    assert counts() - before == Counts(to_device=0, to_host=2, waits=2)


@pytest.mark.parametrize("mu", [0.0, -0.3])
def test_energies_by_determinants_are_copied_no_more_often_away_from_half_filling(device, mu):
    job = make_job(JOBS["messages"] | {"hamiltonian": {"mu": mu}})
    simulation = Simulation(job, on(device, job))
    simulation.run(lambda: simulation.phase.name == "sample")
    simulation.advance()
    before = counts()
    simulation.advance()
    assert counts() - before == Counts(to_device=0, to_host=3, waits=4)


def test_a_model_learned_on_an_accelerator_is_read_without_one(device, tmp_path):
    job = make_job({})
    simulation = Simulation(job, on(device, job))
    simulation.run(lambda: simulation.phase.name == "sample")
    simulation.keep_learned(tmp_path, {})
    set_devices(0)
    found = learned_model(tmp_path, Lattice((4, 4))).state_dict()
    for name, value in simulation.rungs[0].learning.model.state_dict().items():
        assert torch.equal(found[name], value.cpu()), name


@pytest.mark.parametrize(
    ("kind", "free"), [("attention", 120_000), ("sweeps by Green's functions", 500_000)]
)
def test_a_job_that_does_not_fit_into_memory_at_once_runs_in_batches(
    device, capsys, monkeypatch, kind, free
):
    monkeypatch.setattr(Batches, "said", False)
    job = make_job(JOBS[kind])
    whole = finish(Simulation(job))
    with memory(free):
        parts = finish(Simulation(job, on(device, job)))
    assert capsys.readouterr().err.count("the accelerator's memory does not hold") == 1
    for name, draws in whole.draws.items():
        assert np.allclose(draws, parts.draws[name], rtol=1e-6, atol=1e-6, equal_nan=True), name
