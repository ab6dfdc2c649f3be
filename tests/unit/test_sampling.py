import numpy as np
import pytest
import torch
from helpers import make_diagonalise, make_effective, random_spins

from hpcslmc.density import Evaluation
from hpcslmc.effective import MODELS
from hpcslmc.physics.field import tangential
from hpcslmc.sampling import HMC, SLMC, Metropolis
from hpcslmc.sampling.hmc import LEAPFROG, corrected_leapfrog
from hpcslmc.streams import Stream


def stream(name: str, chains: int = 6) -> Stream:
    return Stream(2, torch.arange(chains), name)


def trajectory(weight, guide, spins, momenta, steps):
    """Where a trajectory of length 1 ends, and its momenta there."""
    whole = sum(step.flow for step in steps)
    move = HMC(weight, stream("hmc"), 1.0, 1.0 / whole if len(steps) > 1 else 2.0, guide)
    time = torch.full((len(spins), 1, 1), 1.0 / whole, dtype=torch.float64)
    evaluation, guiding = weight.evaluate(spins, True), guide and guide(spins)
    for shares in steps:
        spins, momenta, evaluation, guiding = move._step(
            spins, momenta, evaluation, guiding, time, shares
        )
    return spins, momenta


def error_of(weight, spins, momenta, moved, turned) -> float:
    """Mean size of what a trajectory gains of -H."""
    kinetic = 0.5 * (turned.square() - momenta.square()).sum((1, 2))
    change = weight.log_weight(moved) - weight.log_weight(spins) - kinetic
    return float(change.abs().mean())


@pytest.mark.parametrize("guided", [False, True])
def test_trajectories_are_reversible_and_of_second_order(guided):
    """Forces of another system guide as well as any: only the errors' size depends on them."""
    weight, spins = make_diagonalise((3, 4), 2.0, 5.0), random_spins(6, 12)
    other = make_diagonalise((3, 4), 4.0, 3.0)
    guide = (lambda spins: other.evaluate(spins, True).forces) if guided else None
    momenta = tangential(stream("p").normal(12, 3), spins)
    errors = []
    for steps in (1, 20, 40):
        moved, turned = trajectory(weight, guide, spins, momenta, corrected_leapfrog(steps))
        back, against = trajectory(weight, guide, moved, -turned, corrected_leapfrog(steps))
        assert torch.allclose(back, spins, atol=1e-11)
        assert torch.allclose(against, -momenta, atol=1e-11)
        assert (moved * turned).sum(-1).abs().max() < 1e-12
        errors.append(error_of(weight, spins, momenta, moved, turned))
    assert 3.0 < errors[1] / errors[2] < 5.0


@pytest.mark.parametrize("evaluations", [1, 2, 3, 8])
def test_kicks_and_flows_take_the_same_time_and_read_the_same_from_both_ends(evaluations):
    steps = corrected_leapfrog(evaluations)
    assert len(steps) == evaluations
    move = HMC(None, stream("hmc"), 1.0, 1.0 / sum(step.flow for step in steps))
    assert move.steps == evaluations or evaluations == 1
    flows = sum(step.flow for step in steps)
    assert sum(step.before + step.after for step in steps) == pytest.approx(flows)
    assert [step[::-1] for step in reversed(steps)] == [tuple(step) for step in steps]


def test_corrected_ends_keep_the_energy_of_an_oscillator():
    """Up to terms of third order in the phase of a step, of which leapfrog is off by the second."""

    def error(steps, phase: float) -> float:
        """Largest relative change of the energy in a trajectory."""
        carried = np.eye(2)
        for step in steps:
            before, after = (
                np.array([[1.0, 0.0], [-kick * phase, 1.0]]) for kick in (step.before, step.after)
            )
            carried = after @ np.array([[1.0, step.flow * phase], [0.0, 1.0]]) @ before @ carried
        return float(np.linalg.norm(carried, 2) ** 2 - 1.0)

    def largest(steps_of, phase: float) -> float:
        return max(error(steps_of(evaluations), phase) for evaluations in range(2, 40))

    coarse, fine = largest(corrected_leapfrog, 0.2), largest(corrected_leapfrog, 0.1)
    assert coarse < 0.02 * largest(lambda evaluations: [LEAPFROG] * evaluations, 0.2)
    assert 7.0 < coarse / fine < 9.0


def test_corrected_ends_err_less_than_leapfrog():
    weight, spins = make_diagonalise((3, 4), 2.0, 5.0), random_spins(6, 12)
    momenta = tangential(stream("p").normal(12, 3), spins)
    own, leapfrog = (
        error_of(weight, spins, momenta, *trajectory(weight, None, spins, momenta, kicks))
        for kicks in (corrected_leapfrog(8), [LEAPFROG] * 8)
    )
    assert own < 0.5 * leapfrog


def test_a_good_guide_saves_evaluations():
    """Guided by its own forces, a trajectory of one evaluation ends where leapfrog of four does."""
    weight, spins = make_diagonalise((3, 4), 2.0, 5.0), random_spins(6, 12)
    momenta = tangential(stream("p").normal(12, 3), spins)

    def own(spins):
        return weight.evaluate(spins, True).forces

    guided, fine, coarse = (
        trajectory(weight, guide, spins, momenta, kicks)
        for guide, kicks in ((own, [LEAPFROG]), (None, [LEAPFROG] * 4), (None, [LEAPFROG]))
    )
    assert all(torch.allclose(*pair, atol=1e-12) for pair in zip(guided, fine, strict=True))
    assert not torch.allclose(coarse[0], fine[0], atol=1e-2)


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


def test_a_trajectory_that_is_screened_is_tested_once_for_all_errors():
    """Under the weight itself, whose error is zero, the trajectory's own is what is left."""
    weight, spins = make_diagonalise((3, 3), 2.0, 20.0), random_spins(40, 9)
    evaluation, taken = weight.evaluate(spins), {}
    for screens in (False, True):
        inner = HMC(weight, stream("inner", 40), 1.5, 0.7)
        step = SLMC(weight, inner, stream("test", 40), 1, screens=screens).move(spins, evaluation)
        taken[screens] = float(step.acceptance.mean())
        moved = (step.spins != spins).any(2).any(1)
        assert 0.1 < float(step.inner_acceptance.mean()) < 0.9
        assert step.error_change.abs().max() < 1e-9
        assert torch.equal(moved, (step.acceptance if screens else step.inner_acceptance) > 0.0)
    assert taken[False] == 1.0 and 0.1 < taken[True] < 0.9


def test_tuning_reaches_the_target():
    weight, spins = make_diagonalise((4, 4), 4.0, 60.0), random_spins(6, 16)
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
        # a trajectory has a whole number of evaluations, rather too many than too few
        assert target - 0.1 < sum(acceptances[80:]) / 40 < target + 0.2


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
    chains, sites = 256, 20
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
