"""Jobs with every network of site energies: resumed, as one of several levels, taken up again."""

import numpy as np
import pytest
import torch
from small_jobs import make_job, run

from hpcslmc.effective import MODELS
from hpcslmc.effective.network import SiteNetwork
from hpcslmc.errors import UserError
from hpcslmc.parallel.world import World
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.storage.models import load_model

NETWORKS = [name for name in MODELS if issubclass(MODELS[name], SiteNetwork)]


DENSITIES = [name for name in NETWORKS if MODELS[name].is_density]


def section(name: str) -> dict:
    return {"model": name, "shells": 3, "layers": 1, "channels": 4}


def resumed_to_the_bit(job, folder):
    """Run a job whole, and again with a break in its training; both draw the same."""
    whole, first = Simulation(job), Simulation(job)
    whole.run()
    first.run(lambda: first.phase.name == "train" and first.phase.done == 5)
    first.save(folder / "checkpoint.h5", {})
    resumed = Simulation(job, resume=folder / "checkpoint.h5")
    resumed.run()
    assert np.array_equal(resumed.rungs[0].bins.draws, whole.rungs[0].bins.draws)
    return whole


@pytest.mark.parametrize(
    ("name", "augment"), [*((name, False) for name in DENSITIES), ("transformer", True)]
)
def test_a_job_resumes_to_the_bit(name, augment, tmp_path):
    learning = {"force_weight": 0.5, "steps": 10, "rounds": 2, "augment": augment}
    job = make_job(effective=section(name), learning=learning)
    whole = resumed_to_the_bit(job, tmp_path)
    assert whole.rungs[0].learning.history[-1]["acceptance"] > 0.0


@pytest.mark.parametrize("name", DENSITIES)
def test_a_network_is_one_of_several_levels_and_is_taken_up_again(name, tmp_path):
    levels = [section(name), {"model": "determinants", "determinants": 1}]
    first = run(make_job(effective=levels, learning={"steps": 10}), World())
    first.keep_learned(tmp_path, {})
    assert load_model(str(tmp_path / "level_0.h5")).architecture.name == name
    given = {"start_from": str(tmp_path / "level_0.h5")}
    again = Simulation(make_job(effective=given, learning={"rounds": 0}))
    ((mine,), (theirs, _)) = (simulation.rungs[0].learning.models for simulation in (again, first))
    for parameter, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(parameter, other)
    again.run()
    assert np.isfinite(again.rungs[0].bins.draws).all()


GUIDED = [section("direct_forces") | {"guides": True}, {"model": "determinants", "determinants": 1}]


def test_direct_forces_guide_across_a_checkpoint_and_are_taken_up_again(tmp_path):
    learning_of = {"force_weight": 0.5, "steps": 100, "rate": 0.01}
    job = make_job(effective=GUIDED, learning=learning_of)
    whole = resumed_to_the_bit(job, tmp_path)
    learning = whole.rungs[0].learning
    assert not learning.slmc.inner.misguided
    trainer = learning.trainers[0]
    assert trainer.mse < 0.3 * trainer.curve[0]["mse"]  # of the linear model's forces
    whole.keep_learned(tmp_path, {})
    given = [{"start_from": str(tmp_path / "level_0.h5"), "guides": True}, GUIDED[1]]
    run(make_job(effective=given, learning=learning_of), World())
    with pytest.raises(UserError, match="guides = true"):
        make_job(effective=given[0] | {"guides": None})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"effective": section("direct_forces")}, "forces of no density"),
        ({"effective": [GUIDED[1], section("direct_forces")]}, "forces of no density"),
        ({"effective": [section("direct_forces"), GUIDED[1]]}, "forces of no density"),
        ({"effective": GUIDED, "learning": {"force_weight": 0.0}}, "learns from forces alone"),
    ],
)
def test_direct_forces_are_refused_as_a_density(changes, words):
    with pytest.raises(UserError, match=words):
        make_job(**changes)
