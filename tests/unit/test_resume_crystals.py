"""Jobs on crystals and with couplings of every kind: checkpoints, and the same bits after them."""

import numpy as np
import pytest
from small_jobs import KAGOME, RASHBA, make_job

from hpcslmc.simulation.simulation import Simulation

LADDER = {"temperature": [1.0, 0.6], "filling": 0.9}
JOBS = {
    "kagome": {"system": KAGOME},
    "kagome, messages": {
        "system": KAGOME,
        "effective": {"model": "messages", "channels": 4, "shells": 3},
        "learning": {"steps": 20},
    },
    "kagome, ladder": {
        "system": KAGOME,
        "ensemble": LADDER,
        "effective": {"model": "linear", "shells": 2},
    },
    "kagome, exact metropolis": {
        "system": KAGOME,
        "method": "exact",
        "exact_move": "metropolis",
    },
    "rashba": {"system": RASHBA},
}


@pytest.mark.parametrize("kind", JOBS)
def test_a_job_goes_on_from_any_checkpoint_with_the_same_bits(kind, tmp_path):
    job = make_job(**{"effective": {"model": "auto"}, **JOBS[kind]})
    whole, kept = Simulation(job), []

    def keep() -> None:
        path = tmp_path / f"{len(kept)}.h5"
        whole.save(path, {})
        kept.append((whole.stage, path))

    whole.run(keep)
    stages = list(dict.fromkeys(stage for stage, _ in kept))
    assert len(stages) >= 2
    for wanted in stages:
        middle = [path for stage, path in kept if stage == wanted]
        again = Simulation(job, resume=middle[len(middle) // 2])
        again.run()
        for one, other in zip(whole.rungs, again.rungs, strict=True):
            assert np.array_equal(one.bins.draws, other.bins.draws, equal_nan=True)
            assert bool((one.chains.spins == other.chains.spins).all())
