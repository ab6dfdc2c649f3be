"""Several effective models: levels that screen proposals for each other, or guide trajectories."""

import numpy as np
import pytest
import torch
from small_jobs import make_job

from hpcslmc.cli.headline import physics
from hpcslmc.errors import UserError
from hpcslmc.job.load import load_job
from hpcslmc.job.load import make_job as checked
from hpcslmc.sampling import HMC, SLMC
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.simulation.words import remarks
from hpcslmc.storage.models import load_model

MESSAGES = {"model": "messages", "shells": 3, "channels": 2}
DETERMINANTS = {"model": "determinants", "determinants": 1}
GUIDE = {"model": "linear", "shells": 3, "guides": True}
TABLES = {"lattice": {"shape": [4, 4]}, "ensemble": {"temperature": 0.1}}
LEVELS = {
    "screening": [MESSAGES, DETERMINANTS],
    "guiding": [GUIDE, DETERMINANTS],
    "both": [GUIDE, MESSAGES, DETERMINANTS],
}


def job_of(levels: list[dict], **sampling):
    learning = {"rounds": 2, "configurations": 4, "steps": 20, "force_weight": 0.5}
    return make_job(effective=levels, learning=learning, **{"moves": None} | sampling)


def test_a_job_file_of_several_models(tmp_path):
    job = job_of(LEVELS["both"])
    (tmp_path / "job.toml").write_text(job.toml())
    assert load_job(str(tmp_path / "job.toml")) == job
    assert job.toml().count("[[effective]]") == 3
    assert [section.model for section in job.levels] == ["linear", "messages", "determinants"]
    assert job.finest.model == "determinants"
    assert job.keys()["effective.2.channels"] == 2
    assert "linear (3 shells), then messages" in physics(job)


@pytest.mark.parametrize(
    ("levels", "sampling", "words"),
    [
        ([MESSAGES, DETERMINANTS], {"method": "guided"}, ["several models", 'method = "slmc"']),
        ([MESSAGES, DETERMINANTS], {"inner_move": "metropolis"}, ["several models", "inner_move"]),
        ([MESSAGES, DETERMINANTS | {"guides": True}], {}, ["guides = true", "first"]),
        ([GUIDE], {}, ["guides = true", "first"]),
        ([MESSAGES, {"model": "determinant"}], {}, ["did you mean 'determinants'"]),
        ([MESSAGES, {"model": "determinants", "layers": 2}], {}, ["layers belongs to"]),
        ([MESSAGES, {"modle": "determinants"}], {}, ["modle"]),
        ([MESSAGES, {"start_from": 3}], {}, ["(table 2) start_from = 3"]),
        ([], {}, ["effective"]),
    ],
)
def test_what_makes_no_sense_is_one_sentence(levels, sampling, words):
    with pytest.raises(UserError) as raised:
        checked(TABLES | {"effective": levels, "sampling": sampling})
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize("name", LEVELS)
def test_every_level_has_its_moves(name):
    learning = Simulation(job_of(LEVELS[name])).rungs[0].learning
    move, found = learning.slmc.inner, []
    while isinstance(move, SLMC):
        found.append(type(move.weight).__name__)
        move = move.inner
    assert isinstance(move, HMC)
    found.append(type(move.density).__name__)
    assert (
        found
        == {
            "screening": ["Determinants", "Messages"],
            "guiding": ["Determinants"],
            "both": ["Determinants", "Messages"],
        }[name]
    )
    if name != "screening":
        spins = Simulation(job_of(LEVELS[name])).rungs[0].chains.spins
        guide = learning.models[0].evaluate(spins, forces=True).forces
        assert torch.equal(move.guide(spins), guide)


@pytest.mark.parametrize("name", LEVELS)
def test_all_levels_learn_and_a_resumed_run_has_the_same_bits(name, tmp_path):
    job = job_of(LEVELS[name])
    whole, kept = Simulation(job), []
    while not whole.finished:
        stage = whole.phase.stage
        whole.advance()
        if whole.phase.stage != stage or whole.phase.name == "sample":
            kept.append(tmp_path / f"{len(kept)}.h5")
            whole.save(kept[-1], {})
    learning = whole.rungs[0].learning
    assert all(model.couplings.any() for model in learning.models)
    assert any("between exact tests" in remark for remark in remarks(whole))
    for path in (kept[1], kept[2], kept[-3]):
        resumed = Simulation(job, resume=path)
        resumed.run()
        assert np.array_equal(resumed.rungs[0].bins.draws, whole.rungs[0].bins.draws)
        assert remarks(resumed) == remarks(whole)


def test_levels_start_from_the_models_of_a_run(tmp_path):
    first = Simulation(job_of(LEVELS["screening"]))
    first.run()
    first.keep_learned(tmp_path, {})
    files = [tmp_path / "level_0.h5", tmp_path / "model.h5"]
    names = [load_model(str(path)).architecture.name for path in files]
    assert names == ["messages", "determinants"]
    levels = [{"start_from": str(path)} for path in files]
    again = Simulation(make_job(effective=levels, learning={"rounds": 0}))
    for model, other in zip(
        again.rungs[0].learning.models, first.rungs[0].learning.models, strict=True
    ):
        assert torch.equal(model.couplings, other.couplings)
    again.run()
    assert again.rungs[0].learning.history[0]["acceptance"] > 0.5
