import pytest
import torch
from helpers import make_diagonalise, make_effective, random_spins

from hpcslmc.density import Evaluation
from hpcslmc.effective import MODELS
from hpcslmc.physics.field import tangential
from hpcslmc.sampling import HMC, SLMC, Metropolis
from hpcslmc.streams import Stream


def stream(name: str, chains: int = 6) -> Stream:
    return Stream(2, torch.arange(chains), name)


def test_reversibility_needs_no_good_guide():
    """Forces of another system guide as well as any.

    Only the size of the errors depends on them.
    """
    assert_reversible_and_of_second_order(make_diagonalise((3, 4), 4.0, 3.0))


def test_leapfrog_is_reversible_and_of_second_order():
    assert_reversible_and_of_second_order(None)


def assert_reversible_and_of_second_order(other) -> None:
    weight, spins = make_diagonalise((3, 4), 2.0, 5.0), random_spins(6, 12)
    guide = other and (lambda spins: other.evaluate(spins, True).forces)
    move = HMC(weight, stream("hmc"), 1.0, 0.1, guide)

    def trajectory(spins, momenta, steps):
        time, evaluation = (
            torch.full((6, 1, 1), 1.0 / steps, dtype=torch.float64),
            weight.evaluate(spins, True),
        )
        guiding = guide and guide(spins)
        for _ in range(steps):
            spins, momenta, evaluation, guiding = move._step(
                spins, momenta, evaluation, guiding, time
            )
        return spins, momenta

    momenta = tangential(stream("p").normal(12, 3), spins)
    errors = []
    for steps in (20, 40):
        moved, turned = trajectory(spins, momenta, steps)
        back, against = trajectory(moved, -turned, steps)
        assert torch.allclose(back, spins, atol=1e-11) and torch.allclose(
            against, -momenta, atol=1e-11
        )
        assert (moved * turned).sum(-1).abs().max() < 1e-12
        change = (
            weight.log_weight(moved)
            - weight.log_weight(spins)
            - 0.5 * (turned.square() - momenta.square()).sum((1, 2))
        )
        errors.append(change.abs().mean())
    assert 3.0 < errors[0] / errors[1] < 5.0


def test_a_good_guide_saves_evaluations():
    """Guided by its own forces, a trajectory of one evaluation is accepted like one of six."""
    weight, spins = make_diagonalise((3, 4), 2.0, 5.0), random_spins(6, 12)
    guided = HMC(
        weight, stream("hmc"), 1.5, 1.5, guide=lambda spins: weight.evaluate(spins, True).forces
    )
    plain, coarse = HMC(weight, stream("hmc"), 1.5, 0.25), HMC(weight, stream("hmc"), 1.5, 1.5)
    assert (guided.steps, plain.steps, coarse.steps) == (1, 6, 1)
    evaluation = weight.evaluate(spins, True)
    fine, one = plain.move(spins, evaluation), guided.move(spins, evaluation)
    assert torch.allclose(fine.spins, one.spins, atol=1e-12) and torch.equal(
        fine.acceptance, one.acceptance
    )
    assert not torch.allclose(fine.spins, coarse.move(spins, evaluation).spins, atol=1e-2)


def test_moves_keep_spins_on_the_sphere_and_evaluations_true():
    weight, spins = make_diagonalise((3, 4), 2.0, 5.0), random_spins(6, 12)
    model = make_effective("attention", weight.hamiltonian.lattice, 3, 1)
    model.initialise(Stream(1, torch.zeros(1, dtype=torch.int64), "parameters"))
    moves = [
        HMC(weight, stream("hmc"), 1.5, 0.2),
        Metropolis(weight, stream("metropolis"), 0.5),
        SLMC(weight, HMC(model, stream("inner"), 1.5, 0.5), stream("test"), 2),
        SLMC(weight, Metropolis(model, stream("inner"), 1.0), stream("test"), 2),
    ]
    for move in moves:
        state, evaluation = spins, move.evaluate(spins)
        for _ in range(5):
            step = move.move(state, evaluation)
            state, evaluation = step.spins, step.evaluation
            assert ((step.acceptance >= 0.0) & (step.acceptance <= 1.0)).all()
        exact = weight.evaluate(state)
        assert (state.norm(dim=-1) - 1.0).abs().max() < 1e-14
        assert not torch.equal(state, spins)
        assert torch.allclose(evaluation.log_weight, exact.log_weight, atol=1e-10)
        assert torch.allclose(evaluation.energy, exact.energy, atol=1e-12)


def test_slmc_with_the_exact_weight_as_model_always_accepts():
    weight, spins = make_diagonalise((3, 3), 2.0, 5.0), random_spins(6, 9)
    slmc = SLMC(weight, HMC(weight, stream("inner"), 1.5, 0.3), stream("test"), 3)
    evaluation = slmc.evaluate(spins)
    for _ in range(3):
        step = slmc.move(spins, evaluation)
        spins, evaluation = step.spins, step.evaluation
        assert (step.acceptance == 1.0).all()
        assert step.error_change.abs().max() < 1e-9


def test_tuning_reaches_the_target():
    weight, spins = make_diagonalise((4, 4), 1.0, 20.0), random_spins(6, 16)
    for move, target in (
        (HMC(weight, stream("hmc"), 1.5, 0.02), 0.8),
        (Metropolis(weight, stream("metropolis"), 20.0), 0.5),
    ):
        evaluation, acceptances = move.evaluate(spins), []
        for k in range(120):
            step = move.move(spins, evaluation)
            spins, evaluation = step.spins, step.evaluation
            acceptances.append(float(step.acceptance.mean()))
            if k < 80:
                move.tune(step.tuning.mean(0).tolist())
        # an HMC step divides the trajectory, so its sizes are discrete
        assert abs(sum(acceptances[80:]) / 40 - target) < 0.18


class Field:
    """Spins in a strong magnetic field: each swings about it with the angular frequency sqrt(h)."""

    def __init__(self, h: float) -> None:
        self.h = h

    def evaluate(self, spins: torch.Tensor, forces: bool = False) -> Evaluation:
        force = self.h * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(spins)
        return Evaluation((spins * force).sum((1, 2)), force if forces else None)


@pytest.mark.parametrize("h", [20.0, 300.0, 4000.0])
def test_tuning_finds_the_length_of_trajectories(h):
    """1 - rho of log W is sin^2(phi) for the phase phi = sqrt(h) length, on average over the spread
    of phi; tau length is least at 1.35.
    """
    chains, sites = 64, 20
    move = HMC(Field(h), stream("hmc", chains))
    spins = random_spins(chains, sites)
    evaluation, lengths = move.evaluate(spins), []
    for _ in range(160):
        step = move.move(spins, evaluation)
        spins, evaluation = step.spins, step.evaluation
        move.tune(step.tuning.mean(0).tolist())
        lengths.append(move.length)
    phases = torch.tensor(lengths[60:]) * h**0.5
    assert abs(float(phases.mean()) - 1.35) < 0.1
    assert float(phases.std()) < 0.2


def test_a_length_that_is_given_stays():
    move = HMC(Field(300.0), stream("hmc"), 0.5)
    spins = random_spins(6, 20)
    for _ in range(10):
        move.tune(move.move(spins, move.evaluate(spins)).tuning.mean(0).tolist())
    assert move.length == 0.5 and move.step_size != 0.2


@pytest.mark.parametrize("name", MODELS)
def test_what_a_step_leaves_of_the_model_is_the_model_at_its_spins(name):
    """To the bit, as a resumed run evaluates it anew."""
    weight = make_diagonalise((4, 4))
    model = make_effective(name, weight.hamiltonian.lattice, 3, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                0.1 * Stream(3, torch.zeros(1, dtype=torch.int64), name).normal(*parameter.shape)[0]
            )
    slmc = SLMC(
        weight,
        HMC(model, Stream(1, torch.arange(8), "inner"), 1.5, 0.5),
        Stream(1, torch.arange(8), "test"),
        2,
    )
    spins = random_spins(8, 16)
    evaluation, effective = slmc.evaluate(spins), None
    for _ in range(6):
        step = slmc.move(spins, evaluation, effective=effective)
        spins, evaluation, effective = step.spins, step.evaluation, step.effective
        anew = slmc.inner.evaluate(spins)
        assert torch.equal(anew.log_weight, effective.log_weight) and torch.equal(
            anew.forces, effective.forces
        )
    assert 0.0 < float(step.inner_acceptance.mean())
