"""Combinations of a job's options are refused, or run to their end and measure what they say."""

import itertools

import pytest
import torch
from job_combinations import (
    EXACT,
    MEASUREMENTS,
    METHODS,
    MOVES,
    chosen_job,
    covering,
    differences,
    prepare,
    problems,
    run,
    small_job,
)

from hpcslmc.cli.headline import layout
from hpcslmc.errors import UserError
from hpcslmc.parallel.world import MPIWorld

EVERYTHING = dict.fromkeys((f"measure.{name}" for name in MEASUREMENTS), 1)
SHORT = {"sampling.trajectory": 0.3}
"""Rounding grows along long trajectories."""
SAME = 1e-6
"""Largest difference between chains by different methods; their data differ by rounding."""
REFUSED = {  # options that are refused together, and what the sentence has to say
    frozenset({("sampling.method", "exact"), ("learning.keep_data", True)}): "nothing is learned",
    **{
        frozenset({("weight.method", "scalapack"), other}): "gives no forces"
        for other in (
            ("sampling.method", "slmc"),
            ("sampling.method", "guided"),
            ("sampling.exact_move", "hmc"),
            ("learning.keep_data", True),
        )
    },
    frozenset(
        {("weight.method", "diagonalise"), ("sampling.ranks_per_chain", 2)}
    ): "a weight that ranks can share",
    **{
        frozenset({("learning.replay", True), other}): "of one temperature"
        for other in (
            ("ensemble", "list"),
            ("ensemble", "list apart"),
            ("ensemble", "rungs"),
            ("ensemble.filling", 0.9),
        )
    },
}


@pytest.fixture(scope="module")
def world():
    """One rank of MPI, which scalapack cannot do without."""
    return MPIWorld()


@pytest.fixture(scope="module")
def diagonalised(world):
    """The run by diagonalisation of each move, for comparison."""
    return {
        name: run(
            small_job(
                {f"sampling.{key}": value for key, value in move.items()}
                | {"weight.method": "diagonalise"}
                | EVERYTHING
                | SHORT
            ),
            world,
        )
        for name, move in MOVES.items()
    }


@pytest.mark.parametrize(("method", "move"), list(itertools.product(METHODS, MOVES)))
def test_every_method_with_every_move_measures_everything(method, move, world, diagonalised):
    changes = (
        {f"sampling.{key}": value for key, value in MOVES[move].items()}
        | {"weight.method": method}
        | EVERYTHING
        | SHORT
    )
    if method == "scalapack" and move != "exact metropolis":
        with pytest.raises(UserError, match="gives no forces, which learning and exact_move"):
            small_job(changes)
        return
    simulation = run(small_job(changes), world)
    assert problems(simulation) == []
    assert simulation.rungs[0].profiles and differences(simulation, diagonalised[move]) < SAME


def test_any_two_options_run_together_or_are_refused(tmp_path, world):
    prepare(tmp_path)
    choices, refused = covering(2, tmp_path)
    assert {frozenset(pair) for pair in refused} == set(REFUSED)
    for pair, sentence in refused.items():
        assert REFUSED[frozenset(pair)] in sentence, sentence
    for choice in choices:
        job = chosen_job(choice, tmp_path)
        simulation = run(job, world, tmp_path if choice["interrupted"] else None)
        assert problems(simulation) == [], choice
        if choice["interrupted"]:
            assert differences(simulation, run(job, world)) == 0.0, choice


@pytest.mark.validate
@pytest.mark.timeout(7200)
def test_any_three_options_run_together(tmp_path, world):
    prepare(tmp_path)
    choices, _ = covering(3, tmp_path)
    for choice in choices:
        interrupted = tmp_path if choice["interrupted"] else None
        assert problems(run(chosen_job(choice, tmp_path), world, interrupted)) == [], choice


def test_what_is_wrong_is_found(world):
    """A run that has measured another energy, no number, or nothing."""
    simulation = run(small_job({"sampling.method": "exact"} | EVERYTHING), world)
    rung = simulation.rungs[0]
    assert problems(simulation) == []
    rung.bins.draws[1, -1, rung.bins.names.index("energy")] += 2.0 * EXACT * 2.0
    assert any(
        problem.startswith("T = 0.5: energy of chain 1 is") for problem in problems(simulation)
    )
    rung.bins.draws[2, 3, rung.bins.names.index("density")] = float("nan")
    assert "T = 0.5: draws of density are not finite" in problems(simulation)
    rung.profiles[0].count = 0
    assert "no structure_factor" in problems(simulation)
    rung.chains.evaluation.log_weight.add_(2.0 * EXACT)
    assert any(
        "log_weight of the last configuration is wrong" in problem
        for problem in problems(simulation)
    )


@pytest.mark.parametrize("method", ["diagonalise", "scalapack"])
def test_sweeps_end_where_they_have_no_frequencies(method, world):
    """A chemical potential out of their reach leaves no sweeps of another one behind."""
    job = small_job(
        {
            "ensemble.temperature": 0.00035,
            "weight.method": method,
            "sampling.method": "exact",
            "sampling.exact_move": "metropolis",
        }
    )
    simulation = run(job, world)
    rung = simulation.rungs[0]
    assert rung.exact.local is not None
    rung.set_ensemble(0.00035, -3.0)
    assert rung.exact.local is None
    rung.thermalise()
    assert torch.isfinite(rung.chains.evaluation.log_weight).all()


def test_one_rank_is_in_no_groups(world):
    """A job for groups may be run by one rank alone, which says so."""
    job = small_job({"weight.method": "blocks", "sampling.ranks_per_chain": 2})
    assert (
        layout(job, world, "blocks", "cpu", 1)
        == "exact weight by blocks; 4 chains on 1 rank, cpu, 1 thread a rank"
    )
