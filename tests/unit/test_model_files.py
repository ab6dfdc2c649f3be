"""Learned models on disk, and jobs that start from them."""

import h5py
import pytest
import torch
from helpers import make_effective, random_spins
from small_jobs import make_job

from hpcslmc.config import Job, resolve
from hpcslmc.effective import MODELS, make_model
from hpcslmc.effective.files import load_model, save_model
from hpcslmc.errors import UserError
from hpcslmc.lattice import Lattice
from hpcslmc.parallel import World
from hpcslmc.simulation import Simulation
from hpcslmc.streams import Stream


def learned(name: str, shape: tuple[int, int] = (4, 4)):
    model = make_effective(name, Lattice(shape), 3, 2)
    numbers = Stream(5, torch.zeros(1, dtype=torch.int64), name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.05 * numbers.normal(*parameter.shape)[0])
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_as_it_was(name, tmp_path):
    model = learned(name)
    save_model(tmp_path / "model.h5", model, {"hpcslmc": "0"})
    architecture, parameters = load_model(str(tmp_path))
    again = make_model(architecture, Lattice((4, 4)))
    again.precision = torch.float64
    again.load_state_dict(parameters)
    spins = random_spins(3, 16)
    assert torch.equal(again(spins), model(spins))


def test_a_job_starts_from_a_model_of_another_size(tmp_path):
    model = learned("messages")
    save_model(tmp_path / "model.h5", model, {})
    small = make_job()
    tables = small.model_dump()
    tables["lattice"]["shape"] = (4, 6)
    tables["effective"] = {"start_from": str(tmp_path)}
    tables["learning"]["rounds"] = 0
    job = resolve(Job.model_validate(tables))
    assert (job.effective.model, job.effective.shells, job.effective.layers, job.effective.channels) == ("messages", 3, 2, 4)
    simulation = Simulation(job, World())
    while simulation.phase != "sample":
        simulation.advance()
    (entry,) = simulation.rungs[0].learning.history
    assert entry["round"] == 0 and entry["evaluations"] == 3 * 8 and 0.0 <= entry["acceptance"] <= 1.0
    assert simulation.rungs[0].learning.slmc.inner.step_size != 0.2
    simulation.advance()
    assert simulation.done == 1
    for name, value in simulation.rungs[0].learning.model.named_parameters():
        assert torch.equal(value, model.state_dict()[name])
    with pytest.raises(UserError, match=r"\[effective\] layers = 5: the model of start_from has 2"):
        resolve(Job.model_validate({**tables, "effective": {"start_from": str(tmp_path), "layers": 5}}))


def test_bad_files_are_one_sentence(tmp_path):
    path = tmp_path / "model.h5"
    save_model(path, learned("linear"), {})
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(UserError, match="cannot read"):
        load_model(str(path))
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["couplings"]
    tables = make_job().model_dump() | {"effective": {"start_from": str(path)}}
    with pytest.raises(UserError, match="couplings do not fit"):
        Simulation(resolve(Job.model_validate(tables)), World())
    with h5py.File(path, "r+") as file:
        file.attrs["architecture"] = '{"name": "linear"}'
    with pytest.raises(UserError, match="damaged"):
        load_model(str(path))
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "something else"
    with pytest.raises(UserError, match="not a model"):
        load_model(str(path))
