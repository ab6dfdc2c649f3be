"""Exact weights that are no numbers."""

import numpy as np
import pytest
import torch
from helpers import make_diagonalise, random_spins
from small_jobs import make_job

from hpcslmc.density import Evaluation
from hpcslmc.errors import Failure
from hpcslmc.sampling import Metropolis
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.streams import Stream
from hpcslmc.weight import GreensFunctions
from hpcslmc.weight.checked import Guarded, GuardedSweeps


class Broken:
    """An exact weight that fails in one way for one row."""

    def __init__(self, bad: torch.Tensor, way: str) -> None:
        self.bad, self.way, self.exact = bad, way, make_diagonalise((4, 4))

    def evaluate(self, spins, forces=False):
        evaluation = self.exact.evaluate(spins, forces)
        hit = (spins == self.bad).all(-1).all(-1)
        if self.way == "factorisation" and hit.any():
            raise torch.linalg.LinAlgError("failed to converge")
        log_weight, gradient = evaluation.log_weight.clone(), evaluation.forces
        if self.way == "log W":
            log_weight[hit] = torch.nan
        if self.way == "forces" and forces:
            gradient = gradient.clone()
            gradient[hit, 3, 1] = torch.inf
        return Evaluation(log_weight, gradient)


@pytest.mark.parametrize("way", ["log W", "forces", "factorisation"])
def test_the_chain_is_named_and_its_configuration_kept(tmp_path, way):
    spins = random_spins(4, 16)
    guarded = Guarded(Broken(spins[2], way), torch.arange(8, 12), tmp_path)
    with pytest.raises(Failure, match="chain 10 failed"):
        guarded.evaluate(spins, forces=True)
    assert np.array_equal(
        np.load(tmp_path / "failed_chain_10.npy", allow_pickle=False), spins[2].numpy()
    )


def test_a_failed_sweep_names_its_chain_too(tmp_path):
    exact = make_diagonalise((4, 4))
    spins, local = random_spins(4, 16), GreensFunctions(exact.ensemble)
    wrong = exact.log_weight(spins)
    wrong[1] += 0.5
    move = Metropolis(
        exact,
        Stream(1, torch.arange(4), "move"),
        0.5,
        GuardedSweeps(local, Guarded(exact, torch.arange(8, 12), tmp_path)),
    )
    with pytest.raises(Failure, match="chain 9 failed"):
        move.move(spins, Evaluation(wrong))
    assert np.array_equal(
        np.load(tmp_path / "failed_chain_9.npy", allow_pickle=False), spins[1].numpy()
    )


def test_in_a_group_nothing_is_tried_again(tmp_path):
    spins = random_spins(4, 16)
    guarded = Guarded(Broken(spins[2], "factorisation"), torch.arange(8, 12), tmp_path, alone=False)
    with pytest.raises(Failure, match="chain 8-11 failed"):
        guarded.evaluate(spins, forces=True)
    assert np.load(tmp_path / "failed_chain_8-11.npy", allow_pickle=False).shape == (4, 16, 3)


def test_what_is_fine_passes_unchanged(tmp_path):
    spins, exact = random_spins(4, 16), make_diagonalise((4, 4))
    guarded = Guarded(exact, torch.arange(4), tmp_path)
    for forces in (False, True):
        one, other = guarded.evaluate(spins, forces), exact.evaluate(spins, forces)
        assert torch.equal(one.log_weight, other.log_weight) and (one.forces is None) == (
            other.forces is None
        )
    assert list(tmp_path.iterdir()) == []


def test_a_simulation_asks_through_the_guard(tmp_path, monkeypatch):
    job = make_job()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    start = Simulation(job).rungs[0].chains.spins
    simulation = Simulation(job)
    simulation.rungs[0].weight.density = Broken(start[5], "log W")
    with pytest.raises(Failure, match="chain 5 failed"):
        simulation.advance()
    assert (tmp_path / "out/failed_chain_5.npy").exists()
