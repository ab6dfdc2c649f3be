"""Combinations of options in jobs whose ranks share the exact weight of their chains."""

import tempfile
from pathlib import Path

import pytest
from job_combinations import (
    MEASUREMENTS,
    MOVES,
    chosen_job,
    covering,
    differences,
    prepare,
    problems,
    run,
    small_job,
)

from hpcslmc.parallel.world import World

EVERYTHING = dict.fromkeys((f"measure.{name}" for name in MEASUREMENTS), 1) | {
    "sampling.trajectory": 0.3
}
GROUPED = [(method, move) for method in ("blocks", "matsubara") for move in MOVES] + [
    ("auto", "exact hmc"),
    ("scalapack", "exact metropolis"),
]
OTHERS = [
    {},
    {"ensemble.temperature": [1.0, 0.5], "hamiltonian.mu": -0.7},
    {"lattice.shape": [3, 4]},
    {"ensemble.filling": 0.9},
]
"""Half filling at one temperature; doped at two; odd sides; a filling that is tuned."""


@pytest.mark.parametrize(
    ("number", "method", "move"), [(k, *both) for k, both in enumerate(GROUPED)]
)
def test_a_group_measures_everything(world, agree, number, method, move):
    changes = (
        {f"sampling.{key}": value for key, value in MOVES[move].items()}
        | EVERYTHING
        | OTHERS[number % len(OTHERS)]
    )
    together = run(
        small_job(changes | {"weight.method": method, "sampling.ranks_per_chain": 2}), world
    )
    found = problems(together)
    agree(not found, str(found))
    alone = run(small_job(changes | {"weight.method": "diagonalise"}), World())
    difference = differences(together, alone)
    agree(difference < 1e-6, f"chains differ by {difference}")


@pytest.mark.parametrize("changes", OTHERS, ids=str)
def test_eigenvalues_of_a_group_after_sweeps(world, agree, changes):
    """Green's functions leave no energies behind; all of scalapack's come from its eigenvalues."""
    metropolis = {
        "weight.method": "scalapack",
        "sampling.method": "exact",
        "sampling.exact_move": "metropolis",
    }
    simulation = run(
        small_job(metropolis | EVERYTHING | changes | {"sampling.ranks_per_chain": 2}), world
    )
    found = problems(simulation)
    agree(not found, str(found))
    agree(
        (simulation.rungs[0].exact.local is not None) == (simulation.lattice.sites >= 16), "sweeps"
    )


@pytest.mark.validate
@pytest.mark.timeout(3600)
def test_any_two_options_run_together_in_groups(world, agree):
    copy, group = world.split(2)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(world.broadcast(made))
        world.on_root(lambda: prepare(folder))
        choices, _ = covering(2, folder, {"sampling.ranks_per_chain": 2})
        # all ranks at one place in their groups hold all chains, and write checkpoints together
        mine = folder / f"copy{group.rank}"
        copy.on_root(mine.mkdir)
        for choice in choices:
            interrupted = mine if choice["interrupted"] else None
            found = problems(run(chosen_job(choice, folder), world, interrupted))
            agree(not found, f"{choice}: {found}")
        world.barrier()
