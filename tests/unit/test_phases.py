"""The chains of a run, and the phases that carry them on."""

import pytest
import torch
from helpers import random_spins
from small_jobs import make_job

from hpcslmc.density import Evaluation
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.world import World
from hpcslmc.sampling import HMC, Chains, Metropolis, make_move
from hpcslmc.simulation import words
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.streams import Stream


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_energies_of_chains_that_stay_are_kept():
    """A move without energies makes those of the chains that it has moved unknown."""
    known = Evaluation(numbers(1, 2, 3), energy=numbers(4, 5, 6), density=numbers(7, 8, 9))
    chains = Chains(random_spins(3, 4), known, numbers(1, 1, 1), effective=known)
    spins, changed = random_spins(3, 4, seed=1), torch.tensor([True, False, True])
    moved = chains.moved(spins, Evaluation(numbers(0, 2, 0)), changed)
    assert moved.spins is spins and moved.effective is None
    assert torch.equal(moved.evaluation.energy.isnan(), changed)
    assert moved.evaluation.energy[1] == 5.0 and moved.evaluation.density[1] == 8.0
    fresh = Evaluation(numbers(0, 0, 0), energy=numbers(1, 1, 1), density=numbers(2, 2, 2))
    assert chains.moved(spins, fresh, changed).evaluation is fresh
    nothing = Chains(spins, Evaluation(numbers(1, 2, 3)), numbers(1, 1, 1))
    assert (
        nothing.moved(spins, Evaluation(numbers(1, 2, 3)), changed).evaluation.energy.isnan().all()
    )


def test_one_rank_plays_every_part():
    ranks = Ranks.of(World(), 6, ranks_per_chain=2)
    assert (ranks.job.size, ranks.chains.size, ranks.weight.size, ranks.device) == (1, 1, 1, "cpu")
    assert ranks.block.indices().tolist() == list(range(6))


@pytest.mark.parametrize("method", ["exact", "slmc", "guided"])
def test_phases_come_in_order(method):
    simulation, seen = Simulation(make_job(method=method)), []
    assert words.progress(simulation)[:2] == ("thermalise", 0)

    def note() -> None:
        label, done, total = words.progress(simulation)
        assert label.startswith(simulation.phase.name) and 0 <= done <= total
        if simulation.phase.name not in seen:
            seen.append(simulation.phase.name)

    simulation.run(note)
    learned = {"exact": [], "slmc": ["learn"], "guided": ["learn", "tune"]}[method]
    assert seen == ["thermalise", *learned, "sample"] and simulation.finished
    assert words.progress(simulation) == ("sample", 6, 6)
    assert set(simulation.cpu_seconds()) == {"thermalise", "learn", "tune", "sample"}


def test_a_run_is_left_when_the_caller_says_so():
    simulation = Simulation(make_job(method="exact"))
    simulation.run(lambda: simulation.phase.done == 3)
    assert words.progress(simulation)[:2] == ("thermalise", 3)
    simulation.run(lambda: True)
    assert simulation.phase.done == 4 and not simulation.finished


def test_moves_take_over_from_their_kind_alone():
    stream, other = (Stream(1, torch.arange(2), name) for name in ("one", "other"))
    for name, kind in (("hmc", HMC), ("metropolis", Metropolis)):
        move, before = make_move(name, None, stream), make_move(name, None, other)
        parameter = "length" if kind is HMC else "width"
        setattr(before, parameter, 0.7)
        before.tunings = 5
        move.take_over(before)
        assert (getattr(move, parameter), move.tunings, move.stream) == (0.7, 5, other)
    with pytest.raises(TypeError):
        make_move("hmc", None, stream).take_over(make_move("metropolis", None, other))
    with pytest.raises(TypeError):
        make_move("metropolis", None, stream).take_over(make_move("hmc", None, other))


def test_a_move_tells_where_tuning_may_leave_it():
    stream = Stream(1, torch.arange(2), "move")
    fixed, found = HMC(None, stream, 0.7), HMC(None, stream, guide=lambda spins: spins)
    assert fixed.limits()["length"] == (0.7, 0.7) and fixed.limits()["misguided"] == (False, False)
    assert found.limits()["length"] == (0.01, 2.0) and found.limits()["misguided"] == (False, True)
    assert fixed.describe() == "" and found.describe() == "0.2 (2)"
    fixed.follow(found)
    assert fixed.length == 0.7
    found.follow(fixed)
    assert found.length == 0.7
    for move in (fixed, found, Metropolis(None, stream, 0.5)):
        assert move.limits().keys() == move.state_dict().keys() - {"tunings", "stream"}
