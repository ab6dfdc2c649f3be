"""Exact configurations that studies learn from, and proposals of what has learned from them."""

import argparse

import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.effective import EffectiveModel
from hpcslmc.learning.data import DataSet
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import HMC, SLMC, SLMCStep, make_move
from hpcslmc.streams import Stream
from hpcslmc.weight import choose_method, make_weight
from hpcslmc.weight.method import ExactWeight


def add_point(parser: argparse.ArgumentParser, length: int) -> None:
    """Options of a square lattice, its couplings and the temperature."""
    parser.add_argument("--length", type=int, default=length)
    parser.add_argument("--J", type=float, default=1.0)
    parser.add_argument("--mu", type=float, default=0.0)
    parser.add_argument("--T", type=float, default=0.05)


def ensemble_of(options: argparse.Namespace) -> Ensemble:
    """The ensemble that these options name."""
    lattice = Lattice((options.length, options.length))
    return Ensemble(Hamiltonian(lattice, 1.0, options.J), 1.0 / options.T, options.mu)


def exact_weight(ensemble: Ensemble) -> ExactWeight:
    """The exact weight that a job would choose."""
    method, _ = choose_method(ensemble, "cpu", 1, True)
    return make_weight(method, ensemble, World())


def exact_data(
    ensemble: Ensemble, chains: int, configurations: int
) -> tuple[DataSet, HMC, Tensor, Evaluation]:
    """Every point of exact trajectories, the moves, and where the chains end."""
    numbers = torch.arange(chains)
    data = DataSet(ChainBlock.of(World(), chains), 5)
    exact = make_move("hmc", exact_weight(ensemble), Stream(1, numbers, "exact"))
    spins = Stream(1, numbers, "start").directions(ensemble.sites)
    evaluation = exact.evaluate(spins)
    for _ in range(30):
        step = exact.move(spins, evaluation)
        spins, evaluation = step.spins, step.evaluation
        exact.tune(step.tuning.mean(0).tolist())
    while len(data) < configurations:
        step = exact.move(spins, evaluation, keep_visited=True)
        for point in step.visited:
            data.add(*point)
        spins, evaluation = step.spins, step.evaluation
    return data, exact, spins, evaluation


def propose(
    model: EffectiveModel,
    weight: ExactWeight,
    length: float,
    spins: Tensor,
    trajectories: int,
    tests: int,
) -> tuple[HMC, list[SLMCStep]]:
    """Steps of self-learning from given spins, and the moves under W_eff that they are made of.

    As many steps before those that are returned tune the moves, whose trajectories start from a
    length; of the former the last is returned too, first of all.
    """
    chains = torch.arange(len(spins))
    inner = make_move("hmc", model, Stream(1, chains, "inner"), guide=model.guide)
    inner.length = length
    slmc = SLMC(weight, inner, Stream(1, chains, "test"), trajectories)
    steps, evaluation = [], weight.evaluate(spins)
    for k in range(2 * tests):
        step = slmc.move(spins, evaluation)
        if k < tests:
            slmc.tune(step.tuning.mean(0).tolist())
        if k >= tests - 1:
            steps.append(step)
        spins, evaluation = step.spins, step.evaluation
    return inner, steps
