"""Learned models on disk, and jobs that start from them."""

import json
from dataclasses import replace

import h5py
import pytest
import torch
from helpers import make_effective, random_spins
from small_jobs import make_job, run

from hpcslmc.effective import MODELS, Architecture, FreeElectrons, Physics, make_model
from hpcslmc.errors import UserError
from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job
from hpcslmc.parallel.world import World
from hpcslmc.physics.catalogue import CATALOGUE
from hpcslmc.physics.couplings import Couplings
from hpcslmc.physics.lattice import Lattice
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.simulation.words import remarks
from hpcslmc.storage.models import load_model, save_model
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
    learned_before = load_model(str(tmp_path))
    again = make_model(learned_before.architecture, Lattice((4, 4)))
    again.precision = torch.float64
    again.load_state_dict(learned_before.parameters)
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
    assert (
        job.effective.model,
        job.effective.shells,
        job.effective.layers,
        job.effective.channels,
    ) == ("messages", 3, 2, 4)
    simulation = Simulation(job)
    simulation.run(lambda: simulation.phase.name == "sample")
    (entry,) = simulation.rungs[0].learning.history
    assert (
        entry["round"] == 0 and entry["evaluations"] == 3 * 8 and 0.0 <= entry["acceptance"] <= 1.0
    )
    assert simulation.rungs[0].learning.slmc.inner.step_size != 0.2
    simulation.advance()
    assert simulation.phase.done == 1
    for name, value in simulation.rungs[0].learning.model.named_parameters():
        assert torch.equal(value, model.state_dict()[name])
    with pytest.raises(UserError, match=r"\[effective\] layers = 5: the model of start_from has 2"):
        resolve(
            Job.model_validate({**tables, "effective": {"start_from": str(tmp_path), "layers": 5}})
        )


def test_bad_files_are_one_sentence(tmp_path):
    path = tmp_path / "model.h5"
    save_model(path, learned("linear"), {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot read"):
        load_model(str(path))
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["couplings"]
    tables = make_job().model_dump() | {"effective": {"start_from": str(path)}}
    with pytest.raises(UserError, match="couplings do not fit"):
        Simulation(resolve(Job.model_validate(tables)))
    with h5py.File(path, "r+") as file:
        file.attrs["architecture"] = '{"name": "linear"}'
    with pytest.raises(UserError, match="damaged"):
        load_model(str(path))
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "something else"
    with pytest.raises(UserError, match="not a model"):
        load_model(str(path))


def table_from(path, temperature: object = 0.1, J: float = 1.0, **ensemble: object) -> dict:
    """A job that samples by a model as it is."""
    tables = make_job().model_dump()
    tables["hamiltonian"]["J"] = J
    tables["ensemble"] = {"temperature": temperature, **ensemble}
    tables["thermalisation"]["moves"] = 12
    return tables | {
        "effective": {"start_from": str(path)},
        "learning": tables["learning"] | {"rounds": 0},
    }


def remarks_after_thermalisation(tables: dict) -> list[str]:
    simulation = Simulation(resolve(Job.model_validate(tables)))
    simulation.run(lambda: simulation.phase.name != "thermalise")
    return [remark for remark in remarks(simulation) if "start_from" in remark]


def test_a_model_of_other_physics_is_told(tmp_path):
    save_model(tmp_path / "model.h5", learned("linear"), {})
    electrons = load_model(str(tmp_path)).architecture.electrons
    assert remarks_after_thermalisation(table_from(tmp_path, 1.0 / electrons.beta)) == []
    (remark,) = remarks_after_thermalisation(table_from(tmp_path, 0.5, J=2.0))
    assert f"was learned at T = {1.0 / electrons.beta:.6g} (here 0.5), J = 1 (here 2)" in remark
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        del file.attrs["J"]  # as in files of earlier versions
    assert remarks_after_thermalisation(table_from(tmp_path, 1.0 / electrons.beta, J=2.0)) == []


def test_values_of_single_sites_are_told(tmp_path):
    plain = learned("linear")
    physics = plain.architecture.physics
    impure = replace(physics, site_J=(1.0,) * 15 + (0.0,))
    other = replace(physics, site_J=(0.0,) + (1.0,) * 15)
    save_model(tmp_path / "plain.h5", plain, {})
    plain.architecture = replace(plain.architecture, physics=impure)
    save_model(tmp_path / "impure.h5", plain, {})
    found = {name: load_model(str(tmp_path / f"{name}.h5")) for name in ("plain", "impure")}
    words = {
        name: [one.unlike(of) for of in (physics, impure, other)] for name, one in found.items()
    }
    told = "other values of single sites"
    assert words == {"plain": ["", told, told], "impure": [told, "", told]}
    with h5py.File(tmp_path / "plain.h5", "r+") as file:
        del file.attrs["sites"]  # as in files of earlier versions
    assert load_model(str(tmp_path / "plain.h5")).unlike(impure) == ""


def test_a_run_writes_the_coupling_into_its_model(tmp_path):
    simulation = Simulation(make_job(method="guided"))
    simulation.keep_learned(tmp_path, {})
    assert load_model(str(tmp_path)).J == 1.0


def test_a_ladder_gives_each_temperature_its_nearest_model(tmp_path):
    for k, temperature in enumerate(("0.4", "0.1", "0.025")):
        model = learned("linear")
        with torch.no_grad():
            model.couplings.fill_(k)
        (tmp_path / f"T{temperature}").mkdir()
        save_model(tmp_path / f"T{temperature}/model.h5", model, {})
    (tmp_path / "Tuned").mkdir()
    simulation = Simulation(
        resolve(Job.model_validate(table_from(tmp_path, [0.3, 0.19, 0.06, 0.04])))
    )
    assert [rung.learning.model.couplings[0].item() for rung in simulation.rungs] == [
        0.0,
        1.0,
        1.0,
        2.0,
    ]
    with pytest.raises(UserError, match="cannot read"):
        load_model(str(tmp_path))


def test_a_tuned_job_that_is_resumed_keeps_the_model_it_started_from(tmp_path):
    """Its models are built again whenever the ensemble is tuned."""
    save_model(tmp_path / "model.h5", learned("linear"), {})
    tables = table_from(tmp_path, 0.1, filling=0.8)
    job = resolve(Job.model_validate(tables | {"thermalisation": {"moves": 24}}))
    whole = Simulation(job)
    for _ in range(3):
        whole.advance()
    whole.save(tmp_path / "checkpoint.h5", {})
    resumed = Simulation(job, resume=tmp_path / "checkpoint.h5")
    for simulation in (whole, resumed):
        simulation.run(lambda: simulation.phase.name == "sample")
    assert torch.equal(
        whole.rungs[0].learning.model.couplings, resumed.rungs[0].learning.model.couplings
    )
    assert remarks(whole) == remarks(resumed) and any(
        "start_from" in remark for remark in remarks(whole)
    )


def test_one_chain_samples_by_a_model_that_is_there(tmp_path):
    save_model(tmp_path / "model.h5", learned("linear"), {})
    tables = table_from(tmp_path)
    tables["sampling"] |= {"chains": 1, "samples": 4}
    simulation = run(resolve(Job.model_validate(tables)), World())
    (row,) = simulation.rungs[0].learning.history
    assert simulation.phase.done == 4 and row["mse"] >= 0.0


def test_a_model_of_another_crystal_says_what_it_was_learned_at(tmp_path):
    crystal = CATALOGUE["kagome"].crystal
    given = {"t": (1.0, 0.2), "J": (2.0, 2.0, 0.5), "potential": (0.1, 0.0, 0.0)}
    couplings = Couplings.make(crystal, **given)
    physics = Physics(FreeElectrons(couplings, -0.5, 10.0), couplings.J)
    lattice = Lattice((2, 2), crystal)
    settings = MODELS["messages"].Options(shells=2).settings(lattice)
    model = make_model(Architecture("messages", settings, physics), lattice)
    save_model(tmp_path / "model.h5", model, {})
    found = load_model(str(tmp_path))
    assert found.architecture.physics == physics
    assert found.unlike(physics) == ""
    colder = FreeElectrons(Couplings.make(crystal, 1.0), -0.5, 20.0)
    assert found.unlike(Physics(colder, 2.0)) == (
        "other hopping, T = 0.1 (here 0.05), J = 2 on A, 2 on B, 0.5 on C (here 2)"
    )
    assert "another crystal" in found.unlike(Physics(FreeElectrons(1.0, -0.5, 10.0), 2.0))
    whole = json.loads(h5py.File(tmp_path / "model.h5").attrs["architecture"])
    hop = whole["electrons"]["couplings"]["hops"][0]
    for part, value in (
        ("hops", [{**hop, "link": [0, 7, [0, 0]]}]),
        ("hops", [hop, hop]),
        ("hops", [{**hop, "amplitude": "nanj"}]),
        ("hops", [{**hop, "link": [0, 1, [0]]}]),
        ("potential", [0.0]),
        ("potential", [0.0, 0.0]),
        ("twist", "none"),
        ("crystal", None),
    ):
        damaged = json.loads(json.dumps(whole))
        damaged["electrons"]["couplings"][part] = value
        with h5py.File(tmp_path / "model.h5", "r+") as file:
            file.attrs["architecture"] = json.dumps(damaged)
        with pytest.raises(UserError, match="is damaged, its architecture .*[^\\n]$"):
            load_model(str(tmp_path))
