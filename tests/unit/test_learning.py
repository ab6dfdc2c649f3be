import math

import pytest
import torch
from helpers import make_diagonalise, make_effective, random_spins
from small_jobs import make_job

from hpcslmc.density import Evaluation
from hpcslmc.effective import MODELS
from hpcslmc.effective.free_electrons import Physics
from hpcslmc.effective.linear import Linear
from hpcslmc.effective.model import Architecture, ShellModel
from hpcslmc.errors import UserError
from hpcslmc.learning.augmentation import Augmentation
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.settings import LearningSection
from hpcslmc.learning.trainer import Trainer
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.physics.field import tangential
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import HMC
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.streams import Stream

CHAINS = 10
SETTINGS = LearningSection(steps=200, batch_size=32, rate=0.02)


def make_trainer(model, target, draws=20, **options) -> Trainer:
    """A trainer on random spins labelled by ``target.evaluate``."""
    data = DataSet(ChainBlock(CHAINS, 0, CHAINS), 5)
    for k in range(draws):
        spins = random_spins(CHAINS, model.sites, seed=k)
        data.add(spins, target.evaluate(spins, forces=True))
    # unchecked: a test wants a rate that no job file may have
    settings = SETTINGS.model_copy(update=options)
    trainer = Trainer(model, data, World(), Stream(1, torch.arange(CHAINS), "batches"), settings)
    trainer.start_round()
    return trainer


def train(trainer: Trainer) -> None:
    while not trainer.round_finished:
        trainer.train_step()
    trainer.finish_round()


class Couplings(ShellModel):
    """The linear model, whose couplings take gradient steps."""

    def forward(self, spins):
        return self.readout(spins)


def linear(couplings, constant=0.0, kind=Couplings):
    lattice = Lattice((4, 4))
    shells = {"shells": [1, 2, 4, 5, 8][: len(couplings)]}
    architecture = Architecture("linear", shells, Physics.of(make_diagonalise((4, 4)).ensemble))
    model = kind(lattice, architecture)
    with torch.no_grad():
        model.couplings.copy_(torch.tensor(couplings))
        model.constant.fill_(constant)
    return model


def test_data_are_in_memory_once():
    """Whatever is added or asked for, and in whatever order."""
    data, steps = (
        DataSet(ChainBlock(2, 0, 2), 2),
        [torch.full((2, 4, 3), float(k), dtype=torch.float64) for k in range(5)],
    )
    for k, spins in enumerate(steps):
        data.add(spins, Evaluation(torch.full((2,), float(k), dtype=torch.float64), spins))
        if k in (0, 3):
            data.stacked()
    stacked = data.stacked()
    assert (
        len(data) == 5
        and torch.equal(stacked[0], torch.stack(steps, 1))
        and stacked[1].tolist() == 2 * [[0.0, 1.0, 2.0, 3.0, 4.0]]
    )
    assert (
        [x.data_ptr() for x in stacked]
        == [x.data_ptr() for x in (*data.stacked(),)]
        == [x.data_ptr() for x in data.state_dict().values()]
    )
    again = DataSet(ChainBlock(2, 0, 2), 2)
    again.load_state_dict(data.state_dict())
    assert len(again) == 5 and [x.data_ptr() for x in again.stacked()] == [
        x.data_ptr() for x in stacked
    ]
    data.clear()
    assert len(data) == 0 and data.state_dict() == {}


def test_split_is_by_chain():
    data = DataSet(ChainBlock(10, 0, 10), 5)
    assert data.validation_chains.tolist() == [4, 9] and data.train_chains_total == 8
    second_rank = DataSet(ChainBlock(10, 5, 5), 5)
    assert second_rank.validation_chains.tolist() == [4] and second_rank.train_chains_total == 8


@pytest.mark.parametrize("fraction", [0.5, 0.3, 0.2, 0.125])
def test_as_many_chains_validate_as_the_rules_of_a_job_count(fraction):
    settings = LearningSection(validation_fraction=fraction)
    for chains in range(8, 40):
        data = DataSet(ChainBlock(chains, 0, chains), settings.validation_interval)
        assert data.validation_chains_total == settings.validation_chains(chains) > 0


@pytest.mark.parametrize("kind", [Couplings, Linear])
def test_least_squares_finds_the_couplings(kind):
    """By log W, or by the forces."""
    target = linear([0.4, -0.3, 0.1], constant=2.0)
    trainer = make_trainer(linear([0.0, 0.0, 0.0], kind=kind), target)
    trainer.start_round(fit_linear=True)
    assert torch.allclose(trainer.model.couplings, target.couplings, atol=1e-10)
    assert float(trainer.model.constant) == pytest.approx(2.0, abs=1e-10)
    assert trainer.validate() < 1e-18


@pytest.mark.parametrize("force_weight", [0.0, 0.3])
def test_gradient_descent_finds_the_couplings(force_weight):
    target = linear([0.4, -0.3, 0.1], constant=2.0)
    trainer = make_trainer(linear([0.0, 0.0, 0.0]), target, force_weight=force_weight, steps=400)
    before = trainer.validate()
    train(trainer)
    assert trainer.validate() < 1e-4 * before
    assert torch.allclose(trainer.model.couplings, target.couplings, atol=5e-3)
    assert float(trainer.model.constant) == pytest.approx(2.0, abs=1e-2)


@pytest.mark.parametrize("forces", [[True, True], [True, False], [False, True], [False, False]])
def test_configurations_without_forces_teach_log_weight_alone(forces):
    """They come from proposals, and from data of runs that learned from log W alone."""
    target = linear([0.4, -0.3, 0.1])
    data = DataSet(ChainBlock(CHAINS, 0, CHAINS), 5)
    for seed, known in enumerate(forces):
        spins = random_spins(CHAINS, 16, seed=seed)
        data.add(spins, target.evaluate(spins, forces=known))
    gradients = {}
    for weight in (0.0, 0.3):
        model, stream = linear([0.1, 0.2, 0.3]), Stream(1, torch.arange(CHAINS), "batches")
        settings = LearningSection(batch_size=32, force_weight=weight)
        trainer = Trainer(model, data, World(), stream, settings)
        parts = [trainer._gradient(model, *(x[:, k] for x in data.stacked()))[0] for k in range(2)]
        whole, _ = trainer._gradient(model, *(x.flatten(0, 1) for x in data.stacked()))
        assert torch.allclose(whole, sum(parts), rtol=1e-12)
        gradients[weight] = parts
    without, with_forces = gradients.values()
    changed = [not torch.equal(a, b) for a, b in zip(without, with_forces, strict=True)]
    assert changed == forces


def test_attention_learns_what_the_linear_model_cannot():
    weight = make_diagonalise((4, 4), 1.0, 10.0)
    model = make_effective("attention", Lattice((4, 4)), 3, 1)
    model.initialise(Stream(1, torch.zeros(1, dtype=torch.int64), "parameters"))
    trainer = make_trainer(model, weight, draws=60, batch_size=64, steps=300)
    trainer.fit_linear()
    only_linear = linear(trainer.model.couplings.tolist(), float(trainer.model.constant))
    linear_mse = make_trainer(only_linear, weight, draws=60).validate()
    train(trainer)
    assert trainer.validate() < 0.8 * linear_mse


def test_a_round_goes_on_from_its_state():
    target = linear([0.4, -0.3, 0.1])
    whole, first = (make_trainer(linear([0.1, 0.1, 0.1]), target, steps=30) for _ in range(2))
    train(whole)
    for _ in range(13):
        first.train_step()
    second = make_trainer(linear([0.0, 0.0, 0.0]), target, steps=30)
    second.model.load_state_dict(first.model.state_dict())
    second.load_state_dict(first.state_dict())
    train(second)
    assert torch.equal(whole.model.couplings, second.model.couplings)
    assert torch.equal(whole.model.constant, second.model.constant)


def test_forces_are_stored_tangential():
    data = DataSet(ChainBlock(2, 0, 2), 2)
    spins = random_spins(2, 4)
    data.add(spins, Evaluation(torch.zeros(2), forces=random_spins(2, 4, seed=5)))
    _, _, forces = data.stacked()
    assert (forces[:, 0] * spins).sum(-1).abs().max() < 1e-15


def test_a_loss_that_is_not_finite_brings_the_best_parameters_back():
    target = linear([0.4, -0.3, 0.1])
    trainer = make_trainer(linear([0.1, 0.1, 0.1]), target, steps=100)
    for _ in range(20):
        trainer.train_step()
    best = trainer.mse
    with torch.no_grad():
        trainer.model.couplings[0] = math.nan
    trainer.train_step()
    assert "loss was not finite" in trainer.remarks[0] and "step 21 of 100" in trainer.remarks[0]
    assert trainer.validate() == pytest.approx(best)
    train(trainer)
    assert trainer.validate() < 0.1 * best


def test_a_hopeless_rate_ends_the_round_with_the_best_parameters():
    target = linear([0.4, -0.3, 0.1])
    trainer = make_trainer(linear([0.39, -0.3, 0.1]), target, steps=400, rate=1e3)
    before = trainer.validate()
    train(trainer)
    assert (
        "validation error rose" in trainer.remarks[0]
        and "smaller [learning] rate" in trainer.remarks[-1]
    )
    assert len(trainer.remarks) == 4 and trainer.validate() == pytest.approx(before)


def test_nothing_finite_to_go_back_to_is_one_sentence():
    with pytest.raises(UserError, match="not finite before any training"):
        make_trainer(linear([math.nan, 0.0, 0.0]), linear([0.4, -0.3, 0.1]))


def test_a_round_without_progress_ends_early():
    target = linear([0.4, -0.3, 0.1])
    trainer = make_trainer(linear([0.4, -0.3, 0.1]), target, steps=400, rate=1e-3)
    while not trainer.round_finished:
        trainer.train_step()
    assert len(trainer.curve) < 11 and trainer.mse == trainer.curve[0]["mse"]


def test_every_point_of_a_trajectory_is_data():
    weight = make_diagonalise((2, 4))
    data = DataSet(ChainBlock(3, 0, 3), 2)
    move = HMC(weight, Stream(1, torch.arange(3), "move"), 1.0, 0.25)
    spins = random_spins(3, 8)
    evaluation = move.evaluate(spins)
    assert move.move(spins, evaluation).visited == ()
    step = move.move(spins, evaluation, keep_visited=True)
    for point in step.visited:
        data.add(*point)
    stored, log_weight, _ = data.stacked()
    assert len(data) == move.steps == 5
    for k in range(5):
        assert torch.allclose(
            weight.evaluate(stored[:, k]).log_weight, log_weight[:, k], atol=1e-12
        )
    accepted = step.acceptance > 0
    assert torch.equal(stored[accepted, -1], step.spins[accepted])


@pytest.mark.parametrize("budget", [None, 25])
def test_learning_stops_when_the_budget_is_spent(budget):
    job = make_job(
        learning={"rounds": 3, "configurations": 10, "steps": 5, "budget": budget and 8 * budget}
    )
    simulation = Simulation(job)
    simulation.run(lambda: simulation.phase.name == "sample")
    learning = simulation.rungs[0].learning
    assert learning.evaluations == learning.history[-1]["evaluations"] / 8 <= (budget or 44)
    assert learning.evaluations > 10


class Fitted(Couplings):
    """A model that is all least squares."""

    def __init__(self, lattice, architecture):
        super().__init__(lattice, architecture)
        couplings = self.couplings.detach()
        del self.couplings
        self.register_buffer("couplings", couplings)


class Frozen(Couplings):
    """Another, whose couplings are a parameter without a gradient."""

    def __init__(self, lattice, architecture):
        super().__init__(lattice, architecture)
        self.couplings.requires_grad_(False)


@pytest.mark.parametrize("kind", [Fitted, Frozen, Linear])
def test_a_model_that_is_all_least_squares_learns_without_an_optimiser(kind, tmp_path):
    """In every round from all data, and across a checkpoint."""
    MODELS["fitted"] = kind
    try:
        effective = {"model": "fitted", "shells": 2}
        job = make_job(effective=effective, learning={"rounds": 2, "configurations": 4})
        whole = Simulation(job)
        fitted = []
        while whole.phase.name != "sample":
            before = whole.rungs[0].learning.stage
            whole.advance()
            learning = whole.rungs[0].learning
            if learning.stage == "train" != before:
                fitted.append(learning.model.couplings.tolist())
                whole.save(tmp_path / f"{len(fitted)}.h5", {})
        assert fitted and all(any(couplings) for couplings in fitted)
        assert learning.history[0]["acceptance"] > 0.1
        resumed = Simulation(job, resume=tmp_path / "1.h5")
        while resumed.phase.name != "sample":
            resumed.advance()
        assert resumed.rungs[0].learning.history == learning.history
        assert torch.equal(resumed.rungs[0].learning.model.couplings, learning.model.couplings)
    finally:
        del MODELS["fitted"]


@pytest.mark.parametrize("kind", [Frozen, Linear])
def test_least_squares_are_all_that_a_model_without_gradient_steps_learns(kind):
    target, model = linear([0.4, -0.3, 0.1]), linear([0.0, 0.0, 0.0], kind=kind)
    trainer = make_trainer(model, target)
    trainer.start_round(fit_linear=True)
    train(trainer)
    assert torch.allclose(model.couplings, target.couplings, atol=1e-9)
    assert trainer.mse < 1e-15 and trainer.state_dict()["moments"] == {}


@pytest.mark.parametrize("kind", [Couplings, Linear])
def test_forces_of_few_configurations_hold_as_much_as_many_weights(kind):
    """The couplings of three configurations a chain predict log W of others as well as those of 60.

    Forces do; log W alone, of which there are hardly more than couplings, does not.
    """
    weight = make_diagonalise((4, 4), 1.0, 4.0)
    errors = []
    for draws in (3, 60):
        trainer = make_trainer(linear([0.0] * 5, kind=kind), weight, draws=draws)
        trainer.start_round(fit_linear=True)
        others = make_trainer(trainer.model, weight, draws=80)
        errors.append(others.mse)
    assert (errors[0] < 1.1 * errors[1]) == (kind is Linear)


def test_labels_of_augmented_configurations_are_exact():
    """By diagonalisation, for all rows of a batch; and no image is the configuration itself."""
    weight = make_diagonalise((3, 4), J=1.7, beta=3.0, mu=-0.4)
    model = make_effective("linear", Lattice((3, 4)), 2, 0)
    trainer = make_trainer(model, weight, draws=3, augment=True)
    originals = trainer.data.stacked()[0].flatten(0, 1)
    for _ in range(3):
        spins, log_weight, forces = trainer._batch()
        exact = weight.evaluate(spins, forces=True)
        assert torch.allclose(exact.log_weight, log_weight, rtol=0, atol=1e-10)
        assert torch.allclose(tangential(exact.forces, spins), forces, rtol=0, atol=1e-10)
        assert (spins[:, None] - originals).abs().amax((2, 3)).min() > 1e-3


def test_augmentation_draws_all_of_the_group_evenly():
    """Orthogonal matrices of both signs with a Haar measure's moments, all permutations alike."""
    lattice, draws = Lattice((4, 4)), 4000
    symmetries = Augmentation(Hamiltonian(lattice)).draw(
        Stream(3, torch.arange(2), "augmentation"), draws
    )
    rotations = symmetries.rotations.flatten(0, 1)
    unit = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(rotations @ rotations.mT, unit.expand_as(rotations), atol=1e-12)
    error = 1.0 / math.sqrt(len(rotations))
    assert abs(torch.linalg.det(rotations).mean()) < 4.0 * error
    assert rotations.mean(0).abs().max() < 4.0 * error
    assert (rotations.square().mean(0) - 1.0 / 3.0).abs().max() < 4.0 * error
    counts = symmetries.sources.flatten(0, 1).unique(dim=0, return_counts=True)[1]
    assert len(counts) == 8 * lattice.sites
    expected = len(rotations) / len(counts)
    assert (counts - expected).abs().max() < 6.0 * math.sqrt(expected)


def test_forces_alone_teach_a_network_and_energies_its_scale():
    """Of energies, of which nothing is learned but one scale, the couplings and the constant."""
    model = make_effective("messages", Lattice((4, 4)), 3, 1)
    teacher = make_effective("messages", Lattice((4, 4)), 3, 1)
    numbers = Stream(5, torch.zeros(1, dtype=torch.int64), "teacher")
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.copy_(0.3 * numbers.normal(*parameter.shape)[0])
        model.load_state_dict(teacher.state_dict())
        model.rescale(0.25)
        model.couplings.zero_()
        model.constant.fill_(3.0)
    data = DataSet(ChainBlock.of(World(), 10), 5)
    for seed in range(8):
        spins = random_spins(10, 16, seed=seed)
        data.add(spins, teacher.evaluate(spins, forces=True))
    settings = LearningSection(steps=1, energy_weight=0.0, force_weight=1.0, rate=1e-9)
    streams = Stream(1, torch.arange(10), "batches")
    trainer = Trainer(model, data, World(), streams, settings)
    trainer.start_round()
    before = trainer.mse
    trainer.train_step()
    trainer.finish_round()
    assert before > 1e-3 and trainer.mse < 1e-12
    spins = random_spins(5, 16, seed=99)
    assert torch.allclose(model(spins), teacher(spins), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "effective",
    [
        {"model": "auto"},
        {"model": "linear"},
        [{"model": "direct_forces", "shells": 2, "guides": True}, {"model": "determinants"}],
    ],
)
def test_a_log_weight_without_forces_is_learned_as_constant(effective):
    free = {"lattice": {"shape": [4, 4]}, "hamiltonian": {"J": 0.0}}
    learning = {"steps": 5, "force_weight": 0.5}
    simulation = Simulation(make_job(system=free, effective=effective, learning=learning))
    simulation.run()
    learning = simulation.rungs[0].learning
    assert all(not model.couplings.any() for model in learning.models)
    assert learning.history[-1]["acceptance"] == 1.0 and learning.history[-1]["mse"] < 1e-20
