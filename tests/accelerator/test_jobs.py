"""Jobs give the bits of the CPU on the simulated accelerator, which has the kernels of the CPU."""

from pathlib import Path

import numpy as np
import pytest
from simulated_accelerator import set_devices

from hpcslmc.analysis.results import Results
from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.world import World
from hpcslmc.simulation.collect import collect
from hpcslmc.simulation.simulation import Simulation

SMALL = {
    "lattice": {"shape": [4, 4]},
    "hamiltonian": {"mu": -0.3},
    "ensemble": {"temperature": 0.2},
    "weight": {"method": "diagonalise"},
    "effective": {"model": "attention", "layers": 1, "shells": 3},
    "thermalisation": {"moves": 3},
    "learning": {
        "validation_fraction": 0.25,
        "rounds": 1,
        "configurations": 3,
        "steps": 12,
        "batch_size": 8,
    },
    "sampling": {"chains": 4, "samples": 8, "moves": 1, "bin_size": 2},
}
ALL_PROFILES = (
    "structure_factor",
    "correlations",
    "density_of_states",
    "spectral_function",
    "optical_conductivity",
)


def make_job(changes: dict[str, dict]) -> Job:
    return resolve(
        Job.model_validate(
            {name: SMALL.get(name, {}) | changes.get(name, {}) for name in SMALL | changes}
        )
    )


JOBS = {
    "attention": {},
    "linear": {"effective": {"model": "linear", "layers": None}},
    "cnn": {"effective": {"model": "cnn"}, "sampling": {"inner_move": "metropolis"}},
    "messages": {
        "effective": {"model": "messages", "channels": 2},
        "weight": {"method": "blocks"},
    },
    "ladder": {
        "hamiltonian": {},
        "ensemble": {"temperature": [0.5, 0.2], "exchange": 2},
        "sampling": {"method": "exact", "exact_move": "hmc"},
    },
    "guided": {
        "effective": {"model": "linear", "layers": None},
        "weight": {"method": "blocks"},
        "sampling": {"method": "guided"},
    },
    "half filling by PETSc": {
        "hamiltonian": {"mu": 0.0},
        "weight": {"method": "matsubara"},
        "sampling": {"method": "exact", "exact_move": "hmc"},
    },
    "sweeps by Green's functions": {
        "weight": {"method": "blocks"},
        "sampling": {"method": "exact", "exact_move": "metropolis"},
    },
    "all profiles": {
        "sampling": {"method": "exact"},
        "measure": dict.fromkeys(("fluctuations", "drude_weight", *ALL_PROFILES), 2),
    },
}


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
