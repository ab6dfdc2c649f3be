"""What a run says of itself is of the chains of all ranks."""

import numpy as np
from small_jobs import make_job, run

from hpcslmc.parallel.world import World
from hpcslmc.simulation.convergence import Convergence
from hpcslmc.simulation.phases import RECENT


def test_acceptance_and_convergence_are_those_of_all_chains(world, agree):
    job = make_job(method="exact", exact_move="metropolis", samples=RECENT + 20)
    together, alone = run(job, world), run(job, World())
    together.phase.agree()
    draws = alone.rungs[0].bins.draws
    agree(
        abs(together.phase.acceptance - draws[:, -RECENT:, -1].mean()) < 1e-9,
        f"acceptance {together.phase.acceptance}",
    )
    agree(together.phase.idle == 0, f"{together.phase.idle} idle chains")
    looks = Convergence(), Convergence()
    looks[0].look(together.rungs, world)
    looks[1].look(alone.rungs, World())
    agree(
        looks[0].text == (looks[1].text if world.is_root else "")
        and (not world.is_root or "all 8 chains" in looks[0].text),
        looks[0].text,
    )


def test_chains_that_stand_still_are_counted_on_all_ranks(world, agree):
    simulation = run(make_job(samples=8, ensemble={"temperature": [0.3, 0.1]}), world)
    mine = simulation.ranks.block.indices()
    for rung in simulation.rungs:
        rung.bins.draws[:, :, rung.bins.names.index("m2_uniform")] = np.linspace(
            0.1, 0.2, rung.bins.draws.shape[1]
        )
        rung.bins.draws[:, :, -1] = np.where(np.isin(mine, (1, 6)), 0.0, 1.0)[:, None]
    simulation.phase.agree()
    agree(simulation.phase.idle == 4, f"{simulation.phase.idle} idle chains")
