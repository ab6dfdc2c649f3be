"""The determinant model: how close it comes to log W, on which lattice, and what it costs."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import make_effective, random_spins
from small_jobs import make_job

from hpcslmc.effective import Architecture, Physics, make_model, on_lattice
from hpcslmc.effective.options import CANDIDATES, DeterminantOptions
from hpcslmc.learning.least_squares import fit_to_forces
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.field import tangential
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import HMC
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.simulation.words import remarks
from hpcslmc.streams import Stream
from hpcslmc.weight import make_weight

CHAINS = 24


def make(ensemble: Ensemble, **options):
    lattice = ensemble.hamiltonian.lattice
    settings = DeterminantOptions(**options).settings(lattice)
    return make_model(Architecture("determinants", settings, Physics.of(ensemble)), lattice)


def configurations(ensemble: Ensemble, moves: int = 24) -> list[tuple]:
    """Spins, log W and tangential forces of the training chains, and of those that validate."""
    weight = make_weight("blocks", ensemble, World())
    move = HMC(weight, Stream(1, torch.arange(CHAINS), "exact"))
    spins = Stream(1, torch.arange(CHAINS), "start").directions(ensemble.sites)
    evaluation, kept = move.evaluate(spins), []
    for k in range(moves):
        step = move.move(spins, evaluation)
        spins, evaluation = step.spins, step.evaluation
        move.tune(step.tuning.mean(0).tolist())
        if k >= moves - 8:
            forces = evaluation.known_forces
            kept.append(
                (
                    spins,
                    evaluation.log_weight,
                    forces - (forces * spins).sum(-1, keepdim=True) * spins,
                )
            )
    validates = torch.arange(CHAINS) % 4 == 3
    return [
        tuple(torch.cat([parts[which] for parts in column]) for column in zip(*kept, strict=True))
        for which in (~validates, validates)
    ]


def error_per_site(model, spins: torch.Tensor, log_weight: torch.Tensor) -> float:
    return float((log_weight - model.evaluate(spins).log_weight).var() / model.sites)


def test_few_determinants_come_close_to_log_w():
    """On the 6x6 benchmark, and with the same coefficients on 8x8."""
    errors, fitted = {}, {}
    ensemble = Ensemble(Hamiltonian(Lattice((6, 6)), 1.0, 1.0), 20.0, 0.0)
    training, validation = configurations(ensemble)
    for number in (1, 2):
        model = fitted[number] = make(ensemble, determinants=number)
        found = fit_to_forces(model, [(model, training)], validation, World())
        errors[number] = error_per_site(model, *validation[:2])
        assert np.count_nonzero(found.couplings[: len(CANDIDATES)]) == number
        assert found.mse / model.sites == pytest.approx(errors[number], rel=0.05)
    assert errors[1] < 2e-5 and errors[2] < 3e-7, errors
    large = Ensemble(Hamiltonian(Lattice((8, 8)), 1.0, 1.0), 20.0, 0.0)
    spins, log_weight, _ = configurations(large)[1]
    assert error_per_site(on_lattice(fitted[2], Lattice((8, 8))), spins, log_weight) < 1e-5


def test_the_fewest_determinants_that_are_good_enough_are_taken():
    ensemble = Ensemble(Hamiltonian(Lattice((4, 4)), 1.0, 4.0), 20.0, -2.0)
    training, validation = configurations(ensemble)
    model = make(ensemble)
    found = fit_to_forces(model, [(model, training)], validation, World())
    taken = np.count_nonzero(found.couplings[: len(CANDIDATES)])
    assert found.acceptance >= model.wanted_acceptances[0]
    for fewer in range(taken):
        best = fit_to_forces(
            make(ensemble, determinants=fewer), [(model, training)], validation, World()
        )
        assert best.acceptance < model.wanted_acceptances[0]


def test_a_list_of_acceptances_is_of_none_one_and_more():
    ensemble = Ensemble(Hamiltonian(Lattice((4, 4)), 1.0, 1.0), 20.0, -2.0)
    training, validation = configurations(ensemble, moves=12)
    best = [
        fit_to_forces(
            make(ensemble, determinants=n), [(make(ensemble), training)], validation, World()
        )
        for n in (0, 1)
    ]
    none, one = (found.acceptance for found in best)
    assert none < one
    for wanted, taken in (((0.9 * none, 0.999), 0), (((none + 1.0) / 2, 0.9 * one), 1)):
        model = make(ensemble, acceptance=wanted)
        fit_to_forces(model, [(model, training)], validation, World())
        assert len(model.chosen[0]) == taken


def test_no_determinants_are_taken_where_couplings_are_enough():
    ensemble = Ensemble(Hamiltonian(Lattice((4, 4)), 1.0, 1.0), 1.0, 0.3)
    training, validation = configurations(ensemble, moves=12)
    model = make(ensemble)
    found = fit_to_forces(model, [(model, training)], validation, World())
    assert not model.chosen[0].size and found.acceptance >= model.wanted_acceptances[0]
    evaluation = model.evaluate(validation[0], forces=True)
    assert float((validation[1] - evaluation.log_weight).var()) == pytest.approx(found.mse, rel=0.1)
    one = make(ensemble, determinants=1)
    fit_to_forces(one, [(one, training)], validation, World())
    assert 0.0 < model.relative_costs.with_forces < one.relative_costs.with_forces


def test_given_frequencies_are_all_used():
    ensemble = Ensemble(Hamiltonian(Lattice((4, 4)), 1.0, 1.0), 5.0, 0.3)
    training, validation = configurations(ensemble, moves=12)
    model = make(ensemble, frequencies=(1.0, 5.0))
    fit_to_forces(model, [(model, training)], validation, World())
    frequencies, coefficients = model.chosen
    assert frequencies == pytest.approx(np.array([1.0, 5.0]) * math.pi / 5.0)
    assert coefficients.all() and len(coefficients) == 2


def test_forces_of_a_sum_of_determinants_are_reproduced():
    """A target that the model contains is found to rounding."""
    ensemble = Ensemble(Hamiltonian(Lattice((3, 4)), 1.0, 2.0), 10.0, -0.7)
    target, model = make(ensemble, frequencies=(1.0, 4.0)), make(ensemble, frequencies=(1.0, 4.0))
    with torch.no_grad():
        target.couplings.copy_(torch.tensor([0.7, 1.9, 0.3, -0.2, 0.1, 0.05]))
    spins = random_spins(12, 12)
    exact = target.evaluate(spins, forces=True)
    forces = exact.forces - (exact.forces * spins).sum(-1, keepdim=True) * spins
    data = (spins, exact.log_weight, forces)
    found = fit_to_forces(model, [(model, data)], data, World())
    assert torch.allclose(model.couplings, target.couplings, atol=1e-6)
    assert found.mse < 1e-12


def test_configurations_without_forces_teach_nothing():
    ensemble = Ensemble(Hamiltonian(Lattice((3, 4)), 1.0, 2.0), 10.0, -0.7)
    training, validation = configurations(ensemble, moves=9)
    found = []
    for forces in (training[2], torch.cat((training[2], torch.zeros_like(training[2])))):
        model, copies = make(ensemble, frequencies=(1.0, 4.0)), len(forces) // len(training[0])
        data = (training[0].repeat(copies, 1, 1), training[1].repeat(copies), forces)
        found.append(fit_to_forces(model, [(model, data)], validation, World()))
    assert np.array_equal(found[0].couplings, found[1].couplings)


def test_without_coupling_to_the_spins_nothing_is_learned_and_nothing_fails():
    ensemble = Ensemble(Hamiltonian(Lattice((4, 4)), 1.0, 0.0), 10.0, 0.0)
    training, validation = configurations(ensemble, moves=9)
    model = make(ensemble)
    found = fit_to_forces(model, [(model, training)], validation, World())
    assert found.acceptance == pytest.approx(1.0) and np.isfinite(found.couplings).all()


def test_only_chosen_frequencies_are_worked_out(monkeypatch):
    model = make_effective("determinants", Lattice((4, 4)), 2, 0)
    asked = []
    elimination = model.elimination()
    log_dets = elimination.log_dets
    monkeypatch.setattr(
        elimination,
        "log_dets",
        lambda spins, frequencies: asked.append(len(frequencies)) or log_dets(spins, frequencies),
    )
    spins = random_spins(2, 16)
    for couplings in ([0.0, 2.0, 0.1, 0.1], [1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.1, 0.0]):
        with torch.no_grad():
            model.couplings.copy_(torch.tensor(couplings))
        assert torch.allclose(
            model.evaluate(spins).log_weight, model.correlations(spins) @ model.couplings
        )
    assert asked == [1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("length", "J", "mu", "temperature"),
    [(6, 1.0, 0.0, 0.05), (17, 8.0, -4.5, 0.05), (8, 4.0, -2.0, 0.02), (8, 1.0, 0.0, 0.0045)],
)
def test_single_precision_is_close_and_as_reversible(length, J, mu, temperature):
    """A turned trajectory meets the same forces, and comes back to rounding in double precision."""
    lattice, chains = Lattice((length, length)), torch.arange(3)
    ensemble = Ensemble(Hamiltonian(lattice, 1.0, J), 1.0 / temperature, mu)
    double, single = (
        make(ensemble, frequencies=(1.2, 6.0), precision=precision)
        for precision in ("double", "single")
    )
    for model in (double, single):
        with torch.no_grad():
            model.couplings[:2] = torch.tensor([1.5, 4.0])
    spins = Stream(1, chains, "spins").directions(lattice.sites)
    exact, close = (model.evaluate(spins, forces=True) for model in (double, single))
    alone = single.evaluate(spins).log_weight
    assert (close.log_weight - exact.log_weight).abs().max() < 2e-6 * lattice.sites
    assert torch.allclose(alone, close.log_weight, rtol=0, atol=2e-6 * lattice.sites)
    assert (close.forces - exact.forces).norm() < 1e-4 * exact.forces.norm()
    assert not torch.equal(close.forces, exact.forces)
    move = HMC(single, Stream(1, chains, "moves"), 1.0, 0.25)
    time, there, evaluation = torch.full((3, 1, 1), move.time), spins, close
    start = momenta = tangential(Stream(1, chains, "momenta").normal(lattice.sites, 3), spins)
    for turn in (1.0, -1.0):
        momenta = turn * momenta
        for shares in move.schedule:
            there, momenta, evaluation, _ = move._step(
                there, momenta, evaluation, None, time, shares
            )
    assert (there - spins).abs().max() < 1e-12 and (momenta + start).abs().max() < 1e-12
    assert (evaluation.log_weight - close.log_weight).abs().max() < 1e-9


def test_the_guide_is_the_gradient_of_its_pairs():
    model = make_effective("determinants", Lattice((4, 4)), 2, 0)
    with torch.no_grad():
        model.guiding.copy_(torch.tensor([0.3, -0.2]))
    spins = random_spins(2, 16)
    gradients = model.correlation_forces(spins)[:, 2:]
    expected = torch.einsum("n,cnij->cij", model.guiding, gradients)
    assert torch.allclose(model.guide(spins), expected, atol=1e-13)


@pytest.mark.parametrize("exact_move", ["hmc", "metropolis"])
def test_a_job_learns_in_one_round_and_says_what_was_chosen(exact_move, tmp_path):
    job = make_job(
        effective={"model": "determinants", "shells": 3},
        learning={"rounds": 3, "configurations": 6},
        exact_move=exact_move,
    )
    whole = Simulation(job)
    whole.run(lambda: whole.phase.name == "learn" and whole.phase.stage == "train")
    whole.save(tmp_path / "checkpoint.h5", {})
    resumed = Simulation(job, resume=tmp_path / "checkpoint.h5")
    for simulation in (whole, resumed):
        simulation.run()
    learning = whole.rungs[0].learning
    assert [row["round"] for row in learning.history] == [1]
    assert learning.history[0]["acceptance"] > 0.9
    assert any("pi T" in remark for remark in remarks(whole))
    assert np.array_equal(whole.rungs[0].bins.draws, resumed.rungs[0].bins.draws)
    assert remarks(whole) == remarks(resumed)


def test_options():
    lattice = Lattice((4, 4))
    options = DeterminantOptions(shells=2, frequencies=(1.0, 4.0))
    settings = options.settings(lattice)
    assert DeterminantOptions.of(settings) == options
    assert options.numbers == (2,) and options.candidates == (1.0, 4.0)
    assert DeterminantOptions(determinants=2).numbers == (2,)
    assert DeterminantOptions().numbers == (0, 1, 2, 3)
    for number, selections in itertools.zip_longest(
        (0, 1, 2, 3), make(Ensemble(Hamiltonian(lattice, 1.0, 1.0), 5.0, 0.0), shells=2).selections
    ):
        assert len(selections) == math.comb(len(CANDIDATES), number)
