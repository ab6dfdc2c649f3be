"""Whether jobs have the filling that they ask for: cases that are hard to tune, for several seeds.

Runs each case by exact HMC and prints, by temperature, the chemical potential that thermalisation
found and the density that sampling measured. Exit code 1 if a density is further from the filling
than 0.002 and two of its own standard errors.

    python tools/validate/fillings.py [--cases gap band ...] [--seeds 8] [--samples 400]
"""

import argparse
import sys
import time

import torch
from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.statistics import bracket, estimate
from hpcslmc.job.load import make_job
from hpcslmc.simulation.simulation import Simulation

TOLERANCE = 0.002
CASES = {
    "gap": {
        "lattice": {"shape": [4, 4]},
        "hamiltonian": {"J": 16.0},
        "ensemble": {"temperature": 0.1, "filling": 0.5},
    },
    "band": {
        "lattice": {"shape": [3, 4]},
        "hamiltonian": {"J": 2.0, "t": 10.0},
        "ensemble": {"temperature": 1.0, "filling": 0.5},
    },
    "fluctuations": {
        "lattice": {"shape": [4, 4]},
        "ensemble": {"temperature": 0.1, "filling": 0.8},
    },
    "list": {
        "lattice": {"shape": [8, 8]},
        "ensemble": {"temperature": [0.5, 0.3, 0.2, 0.1], "filling": 0.8},
    },
    "ladder": {
        "lattice": {"shape": [6, 6]},
        "hamiltonian": {"J": 2.0},
        "thermalisation": {"moves": 60},
        "ensemble": {"temperature": [0.3, 0.05], "rungs": 6, "filling": 0.8},
        "sampling": {"chains": 32},
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--samples", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(
        "case",
        "seed",
        "T",
        "filling",
        "mu",
        "found in thermalisation",
        "measured",
        "moves",
        "seconds",
    )
    problems = 0
    for name in options.cases:
        for seed in range(1, options.seeds + 1):
            problems += _run(name, seed, options.samples, table)
    Console(width=130, force_terminal=False).print(table)
    print(f"{problems} problems")
    return int(problems > 0)


def _run(name: str, seed: int, samples: int, table: Table) -> int:
    """Run one job, add its rows; returns how many densities are wrong."""
    sections = CASES[name]
    sampling = {"chains": 16} | sections.get("sampling", {})
    sampling |= {"method": "exact", "moves": 1, "samples": samples, "seed": seed}
    job = make_job(sections | {"sampling": sampling})
    simulation, began = Simulation(job), time.process_time()
    simulation.run(lambda: simulation.phase.name != "thermalise")
    moves, seconds = (
        simulation.tuning.thermalisation_end(simulation.tuning.ended),
        time.process_time() - began,
    )
    simulation.run()
    problems = 0
    for rung, filling in zip(simulation.rungs, simulation.tuning.fillings, strict=True):
        found = estimate(rung.bins.draws[:, :, rung.bins.names.index("density")])
        wrong = abs(found.mean - filling.target) > TOLERANCE + 2.0 * found.error
        problems += wrong
        table.add_row(
            name,
            str(seed),
            f"{rung.temperature:.4g}",
            f"{filling.target:g}",
            f"{rung.mu:.5g}",
            bracket(filling.reached, filling.error),
            bracket(found.mean, found.error) + " !" * wrong,
            str(moves),
            f"{seconds:.0f}",
        )
    return problems


if __name__ == "__main__":
    sys.exit(main())
