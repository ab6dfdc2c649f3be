"""Exact evaluations kept on disk, and jobs that learn from those of other lattices."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from helpers import make_effective, random_spins
from small_jobs import make_job

from hpcslmc.density import Evaluation
from hpcslmc.effective import MODELS, FreeElectrons, Physics, on_lattice
from hpcslmc.errors import UserError
from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.replay import Replay, write_data
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.physics.catalogue import CATALOGUE
from hpcslmc.physics.couplings import Couplings
from hpcslmc.physics.lattice import Lattice
from hpcslmc.simulation.simulation import Simulation

PHYSICS = Physics(FreeElectrons(1.0, 0.0, 10.0), 1.0)


def variant(shape: tuple[int, int], **learning) -> Job:
    tables = make_job(learning=learning).model_dump()
    tables["lattice"]["shape"] = shape
    tables["effective"] = {"model": "messages", "channels": 2, "shells": 3}
    return resolve(Job.model_validate(tables))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Output directory and simulation of a run that kept its data."""
    folder = tmp_path_factory.mktemp("kept")
    simulation = Simulation(variant((4, 4), keep_data=True, force_weight=0.5))
    simulation.run(lambda: simulation.phase.name == "sample")
    data = [x.clone() for x in simulation.rungs[0].learning.data.stacked()]
    simulation.keep_learned(folder, {"hpcslmc": "0"})
    return folder, simulation, data


def test_data_come_back(kept):
    folder, simulation, (spins, log_weight, forces) = kept
    replay = Replay(str(folder), PHYSICS)
    assert replay.shape == (4, 4) and len(replay) == log_weight.numel()
    rows = np.array([7, 0, 7, 40])
    for found, kept_ in zip(
        replay.read(rows, "cpu"),
        (spins.flatten(0, 1), log_weight.flatten(), forces.flatten(0, 1)),
        strict=True,
    ):
        assert torch.allclose(found, kept_[torch.as_tensor(rows)], atol=3e-6)
    assert torch.equal(replay.read(rows, "cpu")[1], log_weight.flatten()[torch.as_tensor(rows)])
    assert len(simulation.rungs[0].learning.data) == 0 and (folder / "model.h5").exists()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_on_another_lattice_has_the_same_parameters(name):
    model = make_effective(name, Lattice((4, 4)), 3, 2)
    twin = on_lattice(model, Lattice((4, 6)))
    assert all(a is b for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    twin.constant += 1.0
    assert float(model.constant) == 0.0 and twin(random_spins(2, 24)).shape == (2,)


def test_replayed_data_are_learned(kept):
    """The error on the other lattice falls when its data are replayed, and hardly without."""
    folder, _, (spins, log_weight, _) = kept
    found = {}
    for replay in ((), (str(folder),)):
        simulation = Simulation(variant((4, 6), replay=replay, force_weight=0.5))
        simulation.run(lambda: simulation.phase.name == "sample")
        twin = on_lattice(simulation.rungs[0].learning.model, Lattice((4, 4)))
        error = log_weight.flatten() - twin.evaluate(spins.flatten(0, 1)).log_weight
        found[bool(replay)] = float(error.var())
    assert found[True] < 0.3 * found[False], found


def test_a_run_with_replays_resumes_to_the_bit(kept, tmp_path):
    job = variant((4, 6), replay=(str(kept[0]),), force_weight=0.5)
    whole, first = Simulation(job), Simulation(job)
    first.run(lambda: first.rungs[0].learning.trainer.step == 37)
    first.save(tmp_path / "checkpoint.h5", {})
    second = Simulation(job, resume=tmp_path / "checkpoint.h5")
    whole.run()
    second.run()
    assert torch.equal(whole.rungs[0].chains.spins, second.rungs[0].chains.spins)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            whole.rungs[0].learning.model.parameters(),
            second.rungs[0].learning.model.parameters(),
            strict=True,
        )
    )


def test_what_is_no_data_or_of_other_physics_is_refused(kept, tmp_path):
    with pytest.raises(UserError, match=r"\[learning\] replay: cannot read .*missing"):
        Replay(str(tmp_path / "missing.h5"), PHYSICS)
    with pytest.raises(UserError, match=r"of other physics \(J = 1 \(here 2\)\): the couplings"):
        Replay(str(kept[0]), Physics(PHYSICS.electrons, 2.0))
    with pytest.raises(UserError, match="no data of this program"):
        Replay(str(kept[0] / "model.h5"), PHYSICS)
    with h5py.File(tmp_path / "data.h5", "w") as file, h5py.File(kept[0] / "data.h5") as good:
        file.attrs.update(good.attrs)
        file["spins"], file["log_weight"], file["forces"] = (
            np.zeros((3, 16, 3)),
            np.zeros(4),
            np.zeros((3, 16, 3)),
        )
    with pytest.raises(UserError, match="damaged: its arrays do not fit"):
        Replay(str(tmp_path), PHYSICS)


def test_data_of_a_crystal_come_back(tmp_path):
    crystal = CATALOGUE["kagome"].crystal
    couplings = Couplings.make(crystal, (1.0, -0.2), (2.0, 2.0, 0.0))
    physics = Physics(FreeElectrons(couplings, -1.0, 10.0), couplings.J)
    data = DataSet(ChainBlock(3, 0, 3), 3)
    spins = random_spins(3, 18)
    data.add(spins, Evaluation(spins.sum((1, 2))))
    write_data(tmp_path / "data.h5", data, (2, 3), physics, {}, World())
    replay = Replay(str(tmp_path), physics)
    assert replay.lattice.crystal == crystal and replay.shape == (2, 3)
    assert torch.allclose(replay.read(np.arange(3), "cpu")[0], spins, atol=1e-6)
    other = Physics(FreeElectrons(Couplings.make(crystal, 1.0), -1.0, 10.0), couplings.J)
    with pytest.raises(UserError, match=r"of other physics \(other hopping\)"):
        Replay(str(tmp_path), other)
    diluted = replace(physics, site_J=(1.0,) * 18)
    with pytest.raises(UserError, match=r"of other physics \(other values of single sites\)"):
        Replay(str(tmp_path), diluted)
