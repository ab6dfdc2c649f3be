"""Every move is reversible: the rank of an exact draw among the configurations before and after it
is uniform.

From a draw of the weight, made without a Markov chain, a move is repeated some times, and as many
times again from the same draw. Joined at it, the two are one stationary chain, with the draw at any
place of it, if and only if the move leaves the weight invariant and is reversible; self-learning
Monte Carlo needs both of the moves under its model. Gandy and Scott, arXiv:2001.06465 (2020).
"""

import functools
from collections.abc import Callable

import pytest
import torch
from exact_moves import MOVES, make_moves
from helpers import make_diagonalise
from scipy.stats import chisquare
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.sampling import Move, Step
from hpcslmc.streams import Stream
from hpcslmc.weight.diagonalise import Diagonalise

CHAINS, LENGTH, CANDIDATES = 10_000, 8, 40_000
LEAST = 1e-5
"""Smallest chance of a deviation from uniform ranks that passes."""
FUNCTIONS: dict[str, Callable[[Tensor, Evaluation], Tensor]] = {
    "log W": lambda spins, evaluation: evaluation.log_weight,
    "bond": lambda spins, evaluation: (spins[:, 0] * spins[:, 1]).sum(-1),
    "spin": lambda spins, evaluation: spins[:, 0, 2],
}


@functools.cache
def made() -> tuple[Diagonalise, Tensor]:
    """A weight on 2x2 sites, and draws of it (chains, 4, 3) by rejection of uniform candidates."""
    weight = make_diagonalise((2, 2), J=4.0, beta=1.5, mu=-0.5)
    candidates = Stream(21, torch.arange(CANDIDATES), "candidates").directions(4)
    log_weight = weight.log_weight(candidates)
    taken = (
        torch.log(Stream(21, torch.arange(CANDIDATES), "rejection").uniform())
        < log_weight - log_weight.max()
    )
    assert taken.sum() >= CHAINS
    return weight, candidates[taken][:CHAINS]


def values(move: Move, spins: Tensor) -> dict[str, Tensor]:
    """Of each function, (chains, LENGTH): at the spins, and after each of LENGTH - 1 moves."""
    evaluation, kept = move.evaluate(spins), {name: [] for name in FUNCTIONS}
    for k in range(LENGTH):
        for name, function in FUNCTIONS.items():
            kept[name].append(function(spins, evaluation))
        if k < LENGTH - 1:
            step = move.move(spins, evaluation)
            spins, evaluation = step.spins, step.evaluation
    return {name: torch.stack(found, 1) for name, found in kept.items()}


def chances(move: Move) -> dict[str, float]:
    """Chance of as large a deviation from uniform ranks, by function."""
    _, draws = made()
    after, before = values(move, draws), values(move, draws)
    numbers = Stream(22, torch.arange(CHAINS), "places").uniform(2)
    place = (numbers[:, :1] * LENGTH).floor()
    steps = torch.arange(1, LENGTH)
    found = {}
    for name in FUNCTIONS:
        start = after[name][:, :1]
        others = torch.cat(
            (
                torch.where(steps <= LENGTH - 1 - place, after[name][:, 1:], torch.nan),
                torch.where(steps <= place, before[name][:, 1:], torch.nan),
            ),
            1,
        )
        ranks = (others < start).sum(1) + (numbers[:, 1] * ((others == start).sum(1) + 1)).floor()
        found[name] = float(
            chisquare(torch.bincount(ranks.long(), minlength=LENGTH).numpy()).pvalue
        )
    return found


@pytest.mark.parametrize("name", MOVES)
def test_ranks_are_uniform(name):
    found = chances(make_moves(made()[0], CHAINS)[name])
    assert min(found.values()) > LEAST, found


class Turn:
    """Turns all spins about an axis, always the same way.

    Leaves the weight invariant, and is not reversible.
    """

    def evaluate(self, spins: Tensor) -> Evaluation:
        return made()[0].evaluate(spins)

    def move(self, spins: Tensor, evaluation: Evaluation) -> Step:
        turn = torch.linalg.matrix_exp(
            torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -0.2], [0.0, 0.2, 0.0]], dtype=torch.float64)
        )
        return Step(spins @ turn.T, evaluation, torch.ones(CHAINS), torch.ones(CHAINS, 1))


def test_ranks_see_a_move_that_is_not_reversible():
    assert chances(Turn())["spin"] < LEAST


def test_ranks_see_moves_of_another_weight():
    other = make_diagonalise((2, 2), J=4.0, beta=1.2, mu=-0.5)
    assert chances(make_moves(other, CHAINS)["hmc"])["log W"] < LEAST
