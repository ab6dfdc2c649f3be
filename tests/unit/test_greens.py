import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import make_diagonalise, random_spins

from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.sampling import Metropolis
from hpcslmc.streams import Stream
from hpcslmc.weight import greens
from hpcslmc.weight.greens import GreensFunctions
from hpcslmc.weight.nodes import matsubara_nodes

SHAPES = [(2, 2), (2, 6), (3, 5), (4, 6)]
PARAMETERS = list(itertools.product((0.5, 1.0, 4.0, 16.0), (0.0, -1.5), (5.0, 20.0, 100.0)))
CHAINS = 3


def make_pair(shape: tuple[int, int], J: float = 1.0, mu: float = 0.0, beta: float = 20.0):
    """Green's functions, and the same weight by diagonalisation."""
    dense = make_diagonalise(shape, J, beta, mu)
    return GreensFunctions(Ensemble(dense.hamiltonian, beta, mu)), dense


def check_sweep(shape: tuple[int, int], J: float, mu: float, beta: float) -> None:
    """Decisions, log W and spins of a sweep, against diagonalisation before and after each visit.

    Thresholds lie 1e-9 below and above the exact changes of log W, which have to be as accurate.
    """
    functions, dense = make_pair(shape, J, mu, beta)
    spins = random_spins(CHAINS, shape[0] * shape[1])
    order = Stream(3, torch.arange(CHAINS), "sites").uniform(spins.shape[1]).argsort(dim=1)
    proposals = random_spins(CHAINS, spins.shape[1], 5)
    expected, thresholds = torch.zeros(order.shape), torch.zeros_like(order, dtype=torch.float64)
    expected[0::2, 0::2], expected[1::2, 1::2] = 1.0, 1.0
    visited, log_weight = spins, dense.log_weight(spins)
    for k in range(spins.shape[1]):
        site = order[:, k, None, None].expand(-1, 1, 3)
        changed = visited.scatter(1, site, proposals[:, k, None])
        changed_log_weight, accept = dense.log_weight(changed), expected[:, k] > 0.0
        exact = changed_log_weight - log_weight
        thresholds[:, k] = exact + torch.where(accept, -1e-9, 1e-9)
        visited = torch.where(accept[:, None, None], changed, visited)
        log_weight = torch.where(accept, changed_log_weight, log_weight)
    swept = functions.sweep(spins, dense.log_weight(spins), order, proposals, thresholds)
    assert torch.equal(swept[0], visited)
    assert (swept[1] - log_weight).abs().max() < 1e-9
    assert torch.equal(swept[2], expected.double())


@pytest.mark.parametrize(("J", "mu", "beta"), PARAMETERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_change_of_a_sweep_against_diagonalisation(shape, J, mu, beta):
    check_sweep(shape, J, mu, beta)


@pytest.mark.parametrize("patch_sites", [1, 3, 16])
def test_every_change_in_patches_of_other_sizes(monkeypatch, patch_sites):
    monkeypatch.setattr(greens, "PATCH_SITES", patch_sites)
    check_sweep((2, 6), 4.0, -1.5, 100.0)


@pytest.mark.parametrize("patch_sites", [1, 5, 16, 64])
@pytest.mark.parametrize(
    ("shape", "J", "mu", "beta"),
    [
        ((2, 2), 1.0, 0.0, 20.0),
        ((2, 6), 16.0, -1.5, 20.0),
        ((3, 5), 4.0, -1.5, 100.0),
        ((4, 6), 0.5, 0.0, 100.0),
        ((5, 5), 1.0, 0.7, 20.0),
    ],
)
def test_sweeps_are_those_by_evaluations(monkeypatch, shape, J, mu, beta, patch_sites):
    monkeypatch.setattr(greens, "PATCH_SITES", patch_sites)
    monkeypatch.setattr(greens, "DRIFT_LIMIT", 1e-8)
    functions, dense = make_pair(shape, J, mu, beta)
    moves = [
        Metropolis(dense, Stream(2, torch.arange(CHAINS), "sweep"), 0.7, local)
        for local in (None, functions)
    ]
    states = [random_spins(CHAINS, shape[0] * shape[1])] * 2
    evaluations = [dense.evaluate(states[0])] * 2
    for _ in range(3):
        steps = [
            move.move(*given)
            for move, given in zip(moves, zip(states, evaluations, strict=True), strict=True)
        ]
        states, evaluations = [step.spins for step in steps], [step.evaluation for step in steps]
        assert torch.equal(steps[0].acceptance, steps[1].acceptance)
        assert (states[0] - states[1]).abs().max() < 1e-9
        assert (evaluations[1].log_weight - dense.log_weight(states[1])).abs().max() < 1e-8
        assert evaluations[1].energy is None and evaluations[1].forces is None
    assert 0.0 < float(steps[0].acceptance.mean()) < 1.0


def one_sweep(
    functions: GreensFunctions, dense, chains: int = CHAINS, log_weight_error: float = 0.0
):
    spins = random_spins(chains, dense.hamiltonian.lattice.sites)
    evaluation = dense.evaluate(spins)
    evaluation.log_weight[-1] += log_weight_error
    return Metropolis(dense, Stream(2, torch.arange(chains), "sweep"), 0.7, functions).move(
        spins, evaluation
    )


def test_batches_change_nothing(monkeypatch):
    functions, dense = make_pair((4, 6))
    together = one_sweep(functions, dense, 5)
    matrices = 2 * len(matsubara_nodes(20.0, dense.hamiltonian.bound).frequencies) * 48**2 * 16
    for work in (1, 2 * matrices):
        monkeypatch.setitem(greens.WORK_BYTES, "cpu", work)
        apart = one_sweep(functions, dense, 5)
        assert torch.equal(together.acceptance, apart.acceptance)
        assert torch.allclose(together.spins, apart.spins, rtol=0, atol=1e-12)
        assert torch.allclose(
            together.evaluation.log_weight, apart.evaluation.log_weight, rtol=0, atol=1e-10
        )


def test_a_wrong_log_weight_or_another_weight_stops_the_sweep():
    functions, dense = make_pair((3, 5))
    one_sweep(functions, dense, log_weight_error=1e-7)
    for error in (1e-5, float("nan")):
        with pytest.raises(FloatingPointError, match="log W differ"):
            one_sweep(functions, dense, log_weight_error=error)
    with pytest.raises(FloatingPointError, match="another weight"):
        one_sweep(make_pair((3, 5), beta=21.0)[0], dense)


@pytest.mark.parametrize("patch_sites", [1, 3, 16])
def test_corrupted_green_functions_stop_the_sweep(monkeypatch, patch_sites):
    """An error of one Green's function in one visit is found at the end of the sweep."""
    monkeypatch.setattr(greens, "PATCH_SITES", patch_sites)
    visit = greens.Patch.visit

    def corrupted(self, site, block, threshold):
        if site == patch_sites // 2:
            self.greens[0, 0, 2 * site, 2 * site] += 1e-3
        return visit(self, site, block, threshold - 100.0)

    monkeypatch.setattr(greens.Patch, "visit", corrupted)
    with pytest.raises(FloatingPointError, match="lost their precision"):
        one_sweep(*make_pair((4, 5)))


class Rank(World):
    """A rank of a group that is played by threads."""

    def __init__(self, rank: int, barrier: threading.Barrier, board: list) -> None:
        self.rank, self.size, self._barrier, self._board = rank, len(board), barrier, board

    def sum_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        self._board[self.rank] = tensor
        self._barrier.wait(timeout=60)
        total = sum(self._board)
        self._barrier.wait(timeout=60)
        return total


@pytest.mark.parametrize("size", [2, 3, 12])
def test_ranks_of_a_group_share_the_frequencies(size):
    """12 ranks are more than there are frequencies."""
    functions, dense = make_pair((3, 5))
    alone = one_sweep(functions, dense)
    barrier, board = threading.Barrier(size), [None] * size
    ranks = [
        GreensFunctions(Ensemble(dense.hamiltonian, 20.0, 0.0), Rank(rank, barrier, board))
        for rank in range(size)
    ]
    with ThreadPoolExecutor(size) as pool:
        steps = list(pool.map(lambda rank: one_sweep(rank, dense), ranks))
    for step in steps:
        assert torch.equal(step.spins, steps[0].spins) and torch.equal(
            step.evaluation.log_weight, steps[0].evaluation.log_weight
        )
        assert torch.equal(step.acceptance, alone.acceptance)
        assert torch.allclose(step.spins, alone.spins, rtol=0, atol=1e-12)
        assert torch.allclose(
            step.evaluation.log_weight, alone.evaluation.log_weight, rtol=0, atol=1e-10
        )
