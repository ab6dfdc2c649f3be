import math

import pytest
import torch
from helpers import make_diagonalise, random_spins

from hpcslmc.effective import make_model
from hpcslmc.errors import UserError
from hpcslmc.evaluation import Evaluation
from hpcslmc.lattice import Lattice
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.trainer import Trainer
from hpcslmc.parallel import ChainBlock, World
from hpcslmc.streams import Stream

CHAINS = 10


def make_trainer(model, target, draws=20, **options) -> Trainer:
    """A trainer on random spins labelled by ``target.evaluate``."""
    data = DataSet(ChainBlock(CHAINS, 0, CHAINS), 0.2)
    for k in range(draws):
        spins = random_spins(CHAINS, model.sites, seed=k)
        data.add(spins, target.evaluate(spins, forces=True))
    options = {"steps": 200, "batch_size": 32, "rate": 0.02, "force_weight": 0.0} | options
    trainer = Trainer(model, data, World(), Stream(1, torch.arange(CHAINS), "batches"), **options)
    trainer.start_round()
    return trainer


def train(trainer: Trainer) -> None:
    while not trainer.round_finished:
        trainer.train_step()
    trainer.finish_round()


def linear(couplings, constant=0.0):
    model = make_model("linear", Lattice((4, 4)), len(couplings), 0)
    with torch.no_grad():
        model.couplings.copy_(torch.tensor(couplings))
        model.constant.fill_(constant)
    return model


def test_split_is_by_chain():
    data = DataSet(ChainBlock(10, 0, 10), 0.2)
    assert data.validation_chains.tolist() == [4, 9] and data.train_chains_total == 8
    second_rank = DataSet(ChainBlock(10, 5, 5), 0.2)
    assert second_rank.validation_chains.tolist() == [4] and second_rank.train_chains_total == 8


def test_least_squares_finds_the_couplings():
    target = linear([0.4, -0.3, 0.1], constant=2.0)
    trainer = make_trainer(linear([0.0, 0.0, 0.0]), target)
    trainer.fit_linear()
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


def test_attention_learns_what_the_linear_model_cannot():
    weight = make_diagonalise((4, 4), 1.0, 10.0)
    model = make_model("attention", Lattice((4, 4)), 3, 1)
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
    data = DataSet(ChainBlock(2, 0, 2), 0.5)
    spins = random_spins(2, 4)
    data.add(spins, Evaluation(torch.zeros(2), forces=random_spins(2, 4, seed=5)))
    _, _, forces = data.stacked()
    assert (forces[:, 0] * spins).sum(-1).abs().max() < 1e-15


def test_divergence_is_one_sentence():
    target = linear([math.nan, 0.0, 0.0])
    with pytest.raises(UserError, match=r"\[learning\] rate"):
        make_trainer(linear([0.0, 0.0, 0.0]), target).train_step()
