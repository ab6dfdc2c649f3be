"""The same job on any number of ranks gives the same chains up to rounding."""

import numpy as np
import pytest
from small_jobs import KAGOME, make_job, ranks_of, run

from hpcslmc.parallel.world import World
from hpcslmc.simulation.simulation import Simulation

ON_KAGOME = {"system": KAGOME, "effective": {"model": "auto"}}
FILLED = {"temperature": [1.0, 0.6], "filling": 0.9}
LADDER = {"temperature": [0.3, 0.1], "rungs": 3, "filling": 0.9}


@pytest.mark.parametrize(
    "sampling, ensemble",
    [
        ({}, None),
        (ON_KAGOME, None),
        ({**ON_KAGOME, "effective": {"model": "linear", "shells": 2}}, FILLED),
        ({**ON_KAGOME, "method": "exact", "exact_move": "metropolis"}, None),
        ({"inner_move": "metropolis"}, None),
        ({"method": "guided"}, None),
        ({"method": "exact"}, None),
        ({"method": "exact", "exact_move": "metropolis"}, None),
        ({}, LADDER),
        ({"method": "guided"}, LADDER),
        ({"method": "exact"}, LADDER),
    ],
)
def test_chains_do_not_depend_on_the_layout(world, agree, sampling, ensemble):
    together, alone = (
        run(make_job(ensemble=ensemble, **sampling), world),
        run(make_job(ensemble=ensemble, **sampling), World()),
    )
    mine = together.ranks.block.indices()
    for here, there in zip(together.rungs, alone.rungs, strict=True):
        agree(
            abs(here.temperature - there.temperature) < 1e-9 and abs(here.mu - there.mu) < 1e-9,
            "ensembles differ",
        )
        apart = np.abs(here.bins.draws - there.bins.draws[mine]).max()
        agree(apart < 1e-7, f"draws differ by {apart}")
        spins = float((here.chains.spins - there.chains.spins[mine]).abs().max())
        agree(spins < 1e-7, f"spins differ by {spins}")
    if ensemble:
        agree(np.array_equal(together.swaps.replica, alone.swaps.replica[mine]), "exchanges differ")
    if together.learns:
        one, other = together.rungs[0].learning, alone.rungs[0].learning
        parameters = max(
            float((one.model.state_dict()[k] - v).abs().max())
            for k, v in other.model.state_dict().items()
        )
        agree(parameters < 1e-10, f"parameters differ by {parameters}")
        agree(
            np.allclose(one.history[0]["mse"], other.history[0]["mse"], rtol=1e-9), "validation MSE"
        )


def test_differing_parameters_are_noticed(world, agree):
    from hpcslmc.learning.validation import check_identical

    simulation = Simulation(make_job(), ranks_of(world, make_job()))
    check_identical(simulation.rungs[0].learning.model, world)
    if world.rank == 1:
        simulation.rungs[0].learning.model.constant += 1e-16
    with pytest.raises(RuntimeError, match="differ"):
        check_identical(simulation.rungs[0].learning.model, world)
    agree(True)
