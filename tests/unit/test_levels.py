"""Several effective models: levels that screen proposals for each other, or guide trajectories."""

import numpy as np
import pytest
import torch
from small_jobs import make_job

from hpcslmc.cli.headline import physics
from hpcslmc.density import Evaluation
from hpcslmc.errors import UserError
from hpcslmc.job.load import load_job
from hpcslmc.job.load import make_job as checked
from hpcslmc.learning import force_fits
from hpcslmc.learning.least_squares import fit_to_forces
from hpcslmc.sampling import HMC, SLMC
from hpcslmc.simulation.build import exact_moves
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


SILENT = TABLES | {"lattice": {"shape": [6, 6]}, "sampling": {"chains": 8, "samples": 4}}


def test_a_job_that_names_no_model_has_two_levels_of_determinants():
    job = checked(SILENT)
    assert [section.model for section in job.levels] == ["determinants", "determinants"]
    few, many = (section.options.acceptances for section in job.levels)
    assert list(few) == sorted(few) and few[-1] < many[0]
    assert [section.options.tries for section in job.levels] == [True, False]
    assert [section.options.precision for section in job.levels] == ["single", "single"]
    assert "determinants" in physics(job)


def test_trajectories_are_in_double_precision_where_it_is_cold():
    cold = checked(SILENT | {"ensemble": {"temperature": 0.004}})
    assert [section.options.precision for section in cold.levels] == ["double", "double"]


@pytest.mark.parametrize(
    ("changes", "models"),
    [
        ({"effective": {"model": "determinants"}}, ["determinants"]),
        ({"effective": {"determinants": 1}}, ["determinants"]),
        ({"sampling": {"chains": 8, "inner_move": "metropolis"}}, ["linear"]),
        ({"sampling": {"chains": 8, "method": "guided"}}, ["linear"]),
    ],
)
def test_a_job_that_says_how_has_one_level(changes, models):
    assert [section.model for section in checked(SILENT | changes).levels] == models


def test_the_model_takes_over_thermalisation():
    simulation = Simulation(checked(SILENT))
    learning = simulation.rungs[0].learning
    count = {"thermalise": 0, "collect": 0}
    while simulation.phase.name != "sample":
        stage = simulation.phase.stage
        simulation.advance()
        if stage in count:
            count[stage] += 1
    assert count["thermalise"] == 10
    assert 32 <= count["collect"] / len(learning.history) <= 40
    assert learning.history[0]["acceptance"] > 0.9
    assert all(model.couplings.any() for model in learning.models)


def test_rounds_try_more_determinants_as_long_as_that_pays(tmp_path):
    """And go on, and come back to the best, after a resume in the middle of a round."""
    strong = {"hamiltonian": {"J": 4.0, "mu": -2.0}, "ensemble": {"temperature": 0.05}}
    job = checked(SILENT | strong)
    whole = Simulation(job)
    whole.run(lambda: whole.phase.name == "learn" and whole.rungs[0].learning.round == 2)
    for _ in range(10):
        whole.advance()
    learning = whole.rungs[0].learning
    assert learning.stage == "collect"
    few = [len(learning.models[0].chosen[0])]
    whole.save(tmp_path / "checkpoint.h5", {})
    resumed = Simulation(job, resume=tmp_path / "checkpoint.h5")
    for simulation in (whole, resumed):
        simulation.run(lambda simulation=simulation: simulation.phase.name == "sample")
    tests = [row["tests"] for row in learning.history]
    best = int(np.argmin(tests))
    assert len(tests) >= 2 and np.isfinite(tests).all()
    assert list(np.argsort(tests[:-1])) == list(range(len(tests) - 1))[::-1]
    assert len(learning.models[0].chosen[0]) == few[0] + best - 1
    words = remarks(whole)
    assert any(f"round {best + 1} is kept" in remark for remark in words)
    assert not any(f"round {k + 1}: " in r for r in words for k in range(len(tests)) if k != best)
    expected = next(r for r in words if "an independent sample is expected" in r)
    assert f"tests: {learning.slmc.inner_moves}, each" in expected
    assert whole.rungs[0].learning.slmc.state_dict() == resumed.rungs[0].learning.slmc.state_dict()
    assert remarks(resumed) == words
    for simulation in (whole, resumed):
        simulation.run()
    assert np.array_equal(whole.rungs[0].bins.draws, resumed.rungs[0].bins.draws)


def test_samples_are_measured_at_random_images():
    """Of the spins and the forces; log W stays what it was, and every operation comes up."""
    rung = Simulation(checked(SILENT)).rungs[0]
    weight, spins, found = rung.weight, rung.chains.spins, set()
    known = weight.evaluate(spins, forces=True)
    for _ in range(20):
        turned, kept = rung.learning.images.of(spins, known)
        exact = weight.evaluate(turned, forces=True)
        assert torch.allclose(kept.log_weight, exact.log_weight, atol=1e-9)
        assert torch.allclose(kept.forces, exact.forces, atol=1e-9)
        images = (spins[:, sites] for sites in rung.learning.images.symmetries)
        found |= {k for k, image in enumerate(images) if (image == turned).all(2).all(1).any()}
    assert found == set(range(8))
    rung.measure(1)
    assert not torch.equal(rung.measured, rung.chains.spins)
    images = torch.stack([spins[:, sites] for sites in rung.learning.images.symmetries])
    assert (images == rung.measured).all(3).all(2).any(0).all()


def test_networks_are_measured_as_they_are():
    assert Simulation(job_of(LEVELS["screening"])).rungs[0].learning.images is None


def test_the_equations_of_all_levels_and_rounds_are_worked_out_once(monkeypatch):
    made, equations = [], force_fits.equations
    monkeypatch.setattr(
        force_fits, "equations", lambda *given: made.append(given) or equations(*given)
    )
    simulation = Simulation(checked(SILENT | {"hamiltonian": {"J": 4.0, "mu": -2.0}}))
    simulation.run(lambda: simulation.phase.name == "sample")
    assert len(made) == 1
    learning = simulation.rungs[0].learning
    found = learning.model.couplings.clone()
    fit_to_forces(learning.model, *made[0][1:3], learning.world)
    assert torch.equal(learning.model.couplings, found)


def test_an_order_that_becomes_another_one_counts_as_slow():
    """Where the structure factor goes from one momentum to another, and its square is the same."""
    simulation = Simulation(checked(SILENT))
    learning = simulation.rungs[0].learning
    waves = torch.cos(torch.pi * torch.arange(6))
    spins = torch.zeros(2, 8, 6, 6, 3, dtype=torch.float64)
    spins[0, ..., 2], spins[1, ..., 2] = waves[:, None], waves[None, :]
    random, chains = torch.Generator().manual_seed(0), torch.arange(8)
    which = torch.randint(2, (8,), generator=random)
    for _ in range(64):
        log_weight = torch.randn(8, generator=random, dtype=torch.float64)
        learning.data.add(spins[which, chains].flatten(1, 2), Evaluation(log_weight))
        which = which ^ (torch.rand(8, generator=random) < 0.1)
    assert 2.5 < learning._autocorrelation_time(64) < 10.0  # 4.5, from few draws


def test_no_more_are_tried_where_all_proposals_are_accepted():
    simulation = Simulation(checked(SILENT | {"ensemble": {"temperature": 0.5}}))
    simulation.run(lambda: simulation.phase.name == "sample")
    assert len(simulation.rungs[0].learning.history) == 1


def test_given_models_are_balanced_before_the_first_proposal(tmp_path):
    first = Simulation(checked(SILENT))
    first.run(lambda: first.phase.name == "sample")
    first.keep_learned(tmp_path, {})
    levels = [{"start_from": str(tmp_path / name)} for name in ("level_0.h5", "model.h5")]
    again = Simulation(checked(SILENT | {"effective": levels, "learning": {"rounds": 0}}))
    again.run(lambda: again.phase.name == "learn")
    learning = again.rungs[0].learning
    assert learning.stage == "collect" and not learning.tries
    few, many = learning.models
    trajectory = learning.slmc.inner.inner.steps * few.relative_costs.with_forces
    assert learning.slmc.inner.inner_moves == max(
        1, min(64, round(many.relative_costs.alone / trajectory))
    )
    again.run(lambda: again.phase.name == "sample")
    assert not any("is kept" in remark for remark in remarks(again))


def test_a_job_with_given_moves_tries_nothing():
    levels = [{"model": "determinants", "tries": True}, DETERMINANTS]
    simulation = Simulation(job_of(levels, moves=2))
    simulation.run()
    assert len(simulation.rungs[0].learning.history) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"effective": {"model": "linear"}},
        {"effective": {"model": "messages"}},
        {"ensemble": {"temperature": [0.2, 0.1]}},
        {"ensemble": {"temperature": 0.1, "filling": 0.9}},
        {"learning": {"configurations": 4}},
        {"learning": {"budget": 100}},
        {"sampling": {"chains": 8, "method": "exact"}},
        {"sampling": {"chains": 8, "exact_move": "metropolis"}},
    ],
)
def test_thermalisation_is_exact_where_the_ensemble_is_tuned_or_learning_is_given(changes):
    assert exact_moves(checked(SILENT | changes)) == 50
    assert exact_moves(checked(SILENT)) == 10


@pytest.mark.parametrize(("cost", "tau", "before"), [(0.5, 2.0, 1), (0.1, 4.0, 2), (3.0, 9.0, 1)])
def test_moves_between_tests_cost_least_for_an_independent_sample(cost, tau, before):
    step = Simulation(job_of(LEVELS["guiding"])).rungs[0].learning.slmc
    step.inner_moves = before
    step.balance(cost, tau)
    rho = ((2.0 * tau - 1.0) / (2.0 * tau + 1.0)) ** (1.0 / before)

    def spent(moves: int) -> float:
        """Exact tests of an independent sample, by the sum over all lags."""
        lags = rho ** (moves * np.arange(1, 4000))
        return (1.0 + moves * cost) * (1.0 + 2.0 * lags.sum())

    assert step.inner_moves == min(range(1, 65), key=spent)


def test_moves_between_tests_take_the_time_of_one_until_more_is_known():
    step = Simulation(job_of(LEVELS["guiding"])).rungs[0].learning.slmc
    step.balance(0.3)
    assert step.inner_moves == 3
    step.balance(0.3, tau=0.5)  # no correlation is seen, but a little would not be seen either
    assert step.inner_moves == 3
    step.balance(0.3, tau=1e9)
    assert step.inner_moves == 64


def test_the_cost_of_a_move_is_that_of_all_levels_below():
    simulation = Simulation(checked(SILENT))
    simulation.run(lambda: simulation.phase.name == "sample")
    learning = simulation.rungs[0].learning
    screened, (few, many) = learning.slmc.inner, learning.models
    trajectory = screened.inner.steps * few.relative_costs.with_forces
    cost = many.relative_costs.alone + screened.inner_moves * trajectory
    assert any(f"each at {cost:.2g} of the cost" in remark for remark in learning.remarks)
    assert screened.inner_moves == max(1, min(64, round(many.relative_costs.alone / trajectory)))
