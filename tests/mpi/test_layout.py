"""The same job on any number of ranks gives the same chains up to rounding."""

import numpy as np
import pytest
from small_jobs import make_job, run

from hpcslmc.parallel import World
from hpcslmc.simulation import Simulation


@pytest.mark.parametrize("sampling", [{}, {"inner_move": "metropolis"}, {"method": "exact"},
                                      {"method": "exact", "exact_move": "metropolis"}])
def test_chains_do_not_depend_on_the_layout(world, agree, sampling):
    together, alone = run(make_job(**sampling), world), run(make_job(**sampling), World())
    mine = slice(together.block.first, together.block.first + together.block.count)
    apart = np.abs(together.bins.draws - alone.bins.draws[mine]).max()
    agree(apart < 1e-7, f"draws differ by {apart}")
    spins = float((together.spins - alone.spins[mine]).abs().max())
    agree(spins < 1e-7, f"spins differ by {spins}")
    if together.learning:
        one, other = together.learning, alone.learning
        parameters = max(float((one.model.state_dict()[k] - v).abs().max()) for k, v in other.model.state_dict().items())
        agree(parameters < 1e-10, f"parameters differ by {parameters}")
        agree(np.allclose(one.history[0]["mse"], other.history[0]["mse"], rtol=1e-9), "validation MSE")


def test_differing_parameters_are_noticed(world, agree):
    from hpcslmc.learning.trainer import check_identical

    simulation = Simulation(make_job(), world)
    check_identical(simulation.learning.model, world)
    if world.rank == 1:
        simulation.learning.model.constant += 1e-16
    with pytest.raises(RuntimeError, match="differ"):
        check_identical(simulation.learning.model, world)
    agree(True)
