"""Ranks that share the exact weight of their chains."""

import pytest
from helpers import make_diagonalise, random_spins
from small_jobs import make_job, run

from hpcslmc.errors import UserError
from hpcslmc.parallel import World
from hpcslmc.weight import make_weight


@pytest.mark.parametrize("method", ["blocks", "matsubara", "scalapack"])
def test_a_group_finds_what_one_rank_finds(world, agree, method):
    dense, spins = make_diagonalise((4, 6), 1.0, 20.0, -0.5), random_spins(3, 24)
    weight, exact = make_weight(method, dense.hamiltonian, 20.0, -0.5, world), dense.evaluate(spins, forces=True)
    agree((weight.log_weight(spins) - exact.log_weight).abs().max() < 1e-8, "log W")
    if method != "scalapack":
        shared = weight.evaluate(spins, forces=True)
        agree((shared.forces - exact.forces).abs().max() < 1e-8, "forces")
        agree((shared.energy - exact.energy).abs().max() < 1e-9, "energy")
        agree((shared.density - exact.density).abs().max() < 1e-9, "density")
        everywhere = world.communicator.allgather(shared.log_weight.numpy().tobytes())
        agree(len(set(everywhere)) == 1, "bits differ in the group")


@pytest.mark.parametrize("method", ["blocks", "matsubara"])
def test_a_job_in_groups_has_the_chains_of_one_rank(world, agree, method):
    copy, group = world.split(2)
    together, alone = run(make_job(method), copy, group), run(make_job(), World())
    mine = slice(together.block.first, together.block.first + together.block.count)
    agree(abs(together.bins.draws - alone.bins.draws[mine]).max() < 1e-6, "draws")
    agree((together.spins - alone.spins[mine]).abs().max() < 1e-6, "spins")


def test_more_ranks_than_shifts_is_one_sentence():
    class Crowd(World):
        size = 50

    with pytest.raises(UserError, match="ranks_per_chain = 50"):
        make_weight("blocks", make_diagonalise((4, 4)).hamiltonian, 5.0, 0.0, Crowd())
