"""A job of seconds, run in this process."""

from collections.abc import Mapping
from pathlib import Path

from hpcslmc.analysis import results_file
from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.world import World
from hpcslmc.simulation.collect import collect
from hpcslmc.simulation.simulation import Simulation

KAGOME = {
    "lattice": {"name": "kagome", "shape": [2, 3]},
    "hamiltonian": {"t": [1.0, 0.2], "J": {"A": 2.0, "B": 1.5, "C": 2.0}, "mu": -1.0},
    "classical": {
        "exchange": [0.05],
        "field": [0.0, 0.1, 0.2],
        "easy_axis": 0.1,
        "bonds": [{"from": "A", "to": "A", "cell": [0, 1], "dm": [0.1, 0.0, 0.05]}],
    },
}
"""A system of its own sections, with couplings of every kind that keep O(3)."""
RASHBA = {
    "lattice": {"shape": [3, 4], "twist": [0.2, 0.0]},
    "hamiltonian": {
        "t": [],
        "J": 2.0,
        "mu": -1.0,
        "bonds": [
            {"cell": [1, 0], "value": "1.0+0.1i", "matrix": [[1.0, -0.3], [0.3, 1.0]]},
            {"cell": [0, 1], "value": 1.0, "matrix": [[1.0, "0.3i"], ["0.3i", 1.0]]},
        ],
    },
}
"""Hopping that depends on spin, complex, and a phase at the boundary."""


def make_job(
    weight: str = "diagonalise",
    learning: dict | None = None,
    ensemble: dict | None = None,
    effective: dict | None = None,
    system: dict | None = None,
    **sampling,
) -> Job:
    """Every phase on a 4x4 lattice, or another ``system``, 8 chains."""
    return resolve(
        Job.model_validate(
            {
                **(system or {"lattice": {"shape": [4, 4]}}),
                "ensemble": ensemble or {"temperature": 0.1},
                "weight": {"method": weight},
                "effective": effective or {"model": "attention", "layers": 1, "shells": 3},
                "thermalisation": {"moves": 10 if ensemble else 6},
                "learning": {
                    "rounds": 1,
                    "configurations": 3,
                    "steps": 100,
                    "batch_size": 16,
                    **(learning or {}),
                },
                "sampling": {"chains": 8, "samples": 6, "moves": 1, **sampling},
            }
        )
    )


def ranks_of(world: World, job: Job) -> Ranks:
    """The roles of a job's ranks. Collective."""
    return Ranks.of(world, job.sampling.chains, job.sampling.ranks_per_chain)


def run(job: Job, world: World) -> Simulation:
    """The simulation at the job's end. Collective."""
    simulation = Simulation(job, ranks_of(world, job))
    simulation.run()
    return simulation


def write_results(path: Path, simulation: Simulation, versions: Mapping[str, str]) -> None:
    """Gather the results of a simulation and write them to a file. Collective."""
    results = collect(simulation, versions)
    simulation.ranks.chains.on_root(lambda: results_file.write(path, results))
