"""Trajectories found in thermalisation and learning, which sampling leaves alone."""

import pytest
import torch
from small_jobs import make_job, run

from hpcslmc.parallel.world import World
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.simulation.words import remarks
from hpcslmc.storage.models import save_model


def advance_to(simulation: Simulation, phase: str) -> None:
    simulation.run(lambda: simulation.phase.name == phase)


def test_every_phase_starts_from_the_length_that_the_one_before_has_found():
    simulation = Simulation(make_job(method="guided"))
    (rung,) = simulation.rungs
    inner = rung.learning.slmc.inner
    advance_to(simulation, "learn")
    assert inner.length == rung.exact.length != 0.2
    advance_to(simulation, "tune")
    assert rung.guided.length == rung.guided.step_size / 2.0 == inner.length != rung.exact.length
    advance_to(simulation, "sample")
    found = [(move.length, move.step_size) for move in (rung.exact, inner, rung.guided)]
    assert found[2] != found[1]
    assert f"{found[2][0]:.3g} ({rung.guided.steps})" in remarks(simulation)[-1]
    simulation.run()
    assert found == [(move.length, move.step_size) for move in (rung.exact, inner, rung.guided)]


def test_inner_moves_find_their_length_where_exact_ones_have_none():
    (rung,) = run(make_job(exact_move="metropolis"), World()).rungs
    assert rung.learning.slmc.inner.length != 0.2


def test_trajectories_under_the_determinant_model_are_long():
    effective = {"model": "determinants", "shells": 3}
    (rung,) = run(make_job(effective=effective), World()).rungs
    assert 1.75 <= rung.learning.slmc.inner.length <= 2.0
    assert rung.exact.length < 1.5  # thermalisation and its length are as for every model


def test_every_temperature_has_a_length_of_its_own():
    simulation = run(make_job(ensemble={"temperature": [0.5, 0.1]}, method="exact"), World())
    warm, cold = (rung.exact.length for rung in simulation.rungs)
    assert warm != cold
    assert f"{warm:.3g} (" in remarks(simulation)[-1] and f"{cold:.3g} (" in remarks(simulation)[-1]


def test_a_length_that_the_job_gives_stays_and_is_no_news():
    simulation = run(make_job(method="guided", trajectory=0.7), World())
    (rung,) = simulation.rungs
    assert {rung.exact.length, rung.learning.slmc.inner.length, rung.guided.length} == {0.7}
    assert not any("trajectories" in remark for remark in remarks(simulation))


def start_from(tmp_path, factor: float, **sampling):
    """A job that starts from the linear model of another, its forces multiplied."""
    learned = (
        run(make_job(effective={"model": "linear", "layers": None, "shells": 3}), World())
        .rungs[0]
        .learning.model
    )
    with torch.no_grad():
        learned.couplings.mul_(factor)
    save_model(tmp_path / "model.h5", learned, {})
    return make_job(effective={"start_from": str(tmp_path)}, learning={"rounds": 0}, **sampling)


@pytest.mark.parametrize("method", ["slmc", "guided"])
def test_a_guide_that_is_worse_than_none_is_given_up_for_good(tmp_path, method):
    job = start_from(tmp_path, -3.0, method=method)
    simulation, path = Simulation(job), tmp_path / "checkpoint.h5"
    (rung,) = simulation.rungs
    assert rung.exact.guide is not None
    simulation.advance()
    assert rung.exact.guide is None and rung.exact.misguided
    simulation.save(path, {})
    resumed = Simulation(job, resume=path)
    simulation.run()
    resumed.run()
    assert (
        torch.equal(resumed.rungs[0].chains.spins, rung.chains.spins)
        and resumed.rungs[0].exact.misguided
    )
    told = [remark for remark in remarks(simulation) if "forces" in remark]
    assert len(told) == (2 if method == "guided" else 1) and told == [
        remark for remark in remarks(resumed) if "forces" in remark
    ]
    if method == "guided":
        assert rung.guided.guide is None and rung.guided.steps > 1


def test_a_good_guide_stays(tmp_path):
    simulation = run(start_from(tmp_path, 1.0, method="guided"), World())
    (rung,) = simulation.rungs
    assert rung.exact.guide is not None and rung.guided.guide is not None
    assert not any("forces" in remark for remark in remarks(simulation))
