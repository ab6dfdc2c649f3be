"""An accelerator against the CPU: jobs, then log W and the determinant model with their speed.

    python tools/bench/accelerator.py [--lengths 16 32 64] [--chains 4 64]

A small job of every model, sampler and kind of crystal is run to its end on both devices, and from
the middle of its sampling on the other one. Then log W and the determinant model of the same spins,
with forces: largest relative difference, and time for all chains on the accelerator and on the
CPU's threads.
Exit code 1 if anything differs by more than rounding allows.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from timing import medians

from hpcslmc.api import exact_weight, random_spins
from hpcslmc.density import Density, Evaluation
from hpcslmc.effective import Architecture, EffectiveModel, Physics, make_model
from hpcslmc.effective.options import DeterminantOptions
from hpcslmc.errors import UserError
from hpcslmc.job.load import make_job
from hpcslmc.job.schema import Job
from hpcslmc.parallel.hardware import device, prepare_process
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.plugins import MODELS
from hpcslmc.simulation.build import required
from hpcslmc.simulation.collect import collect
from hpcslmc.simulation.simulation import Simulation

CONSOLE = Console(width=140, force_terminal=False)
ROUNDING, ROUNDING_SINGLE = 1e-9, 1e-4
"""Largest difference of evaluations, relative to the largest value, and of those in single
precision."""
SINGLE = "determinants, single"
"""Name of the model in single precision."""
GROWN = 1e-4
"""Largest difference of a small job's draws: moves and training let rounding grow."""
TEMPERATURE, MU = 0.05, -0.3
SMALL = {
    "lattice": {"shape": [4, 4]},
    "hamiltonian": {"J": 1.0, "mu": MU},
    "ensemble": {"temperature": 0.2},
    "thermalisation": {"moves": 3},
    "sampling": {"chains": 8, "samples": 8},
}
LEARNING = {"rounds": 1, "configurations": 4, "steps": 12, "validation_fraction": 0.25}
SAMPLERS: dict[str, dict] = {
    "two levels": {
        "effective": [{"model": "determinants", "determinants": k} for k in (1, 2)],
        "learning": LEARNING,
    },
    "exact HMC": {"sampling": {"chains": 8, "samples": 8, "method": "exact"}},
    "exact Metropolis": {
        "sampling": {"chains": 8, "samples": 8, "method": "exact", "exact_move": "metropolis"}
    },
    "guided": {
        "effective": {"model": "linear", "shells": 3},
        "learning": LEARNING,
        "sampling": {"chains": 8, "samples": 8, "method": "guided"},
    },
    "half filling": {"hamiltonian": {"J": 1.0}, "weight": {"method": "matsubara"}},
}
CRYSTALS: dict[str, dict] = {
    "kagome": {
        "lattice": {"name": "kagome", "shape": [2, 3]},
        "classical": {"exchange": [0.1], "field": [0.0, 0.1, 0.2], "easy_axis": 0.1},
    },
    "lieb, spins on A": {"lattice": {"name": "lieb", "shape": [3, 3], "spins": ["A"]}},
    "cubic": {
        "lattice": {"name": "cubic", "shape": [2, 2, 3]},
        "hamiltonian": {"J": 8.0, "mu": -8.0},
        "measure": {"conductivity_tensor": 2, "structure_factor": 2},
    },
    "spin-orbit, twisted": {
        "lattice": {"shape": [4, 3], "twist": [0.2, 0.0]},
        "hamiltonian": {
            "mu": -1.0,
            "bonds": [{"cell": [1, 1], "value": "0.1i", "matrix": [[1.0, -0.3], [0.3, 1.0]]}],
        },
        "measure": {"hall_conductivity": 1, "spectral_function": 2},
    },
}
CRYSTAL = {"effective": {"model": "determinants"}, "learning": LEARNING}


def relative(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference, relative to the largest value; of values that are both not known, 0."""
    difference = np.abs(one - other)[~(np.isnan(one) & np.isnan(other))]
    return float(difference.max(initial=0.0) / max(np.nanmax(np.abs(other)), 1.0))


def simulation_on(where: str, job: Job, resume: Path | None = None) -> Simulation:
    """A job in memory on one device."""
    return Simulation(job, Ranks.of(World(), job.sampling.chains, device=where), resume)


def draws_of(simulation: Simulation) -> dict[str, np.ndarray]:
    """Run to the end, and return all draws."""
    simulation.run(lambda: simulation.phase.agree())
    return required(collect(simulation, {})).draws


def stopped(where: str, job: Job, path: Path) -> dict[str, np.ndarray]:
    """Draws of a whole job, which leaves a checkpoint of the middle of its sampling on the way."""
    simulation = simulation_on(where, job)
    simulation.run(lambda: simulation.phase.name == "sample")
    for _ in range(3):
        simulation.advance()
    simulation.save(path, {})
    return draws_of(simulation)


def compare_job(where: str, job: Job, folder: Path) -> tuple[list[float], list[float]]:
    """Seconds on both devices; differences of the whole job and of both resumed on the other."""
    found, seconds = [], []
    for number, name in enumerate((where, "cpu")):
        start = time.perf_counter()
        found.append(stopped(name, job, folder / f"{number}.h5"))
        seconds.append(time.perf_counter() - start)
    on_cpu = draws_of(simulation_on("cpu", job, folder / "0.h5"))
    on_device = draws_of(simulation_on(where, job, folder / "1.h5"))
    differ = [
        max(relative(draws[key], found[1][key]) for key in draws)
        for draws in (found[0], on_cpu, on_device)
    ]
    return seconds, differ


def jobs() -> dict[str, Job]:
    """A job of every model, with the settings of short learning, of every sampler and crystal."""
    found = {}
    for name in MODELS:
        model = {"model": name, "shells": 3}
        guided = [model | {"guides": True}, {"model": "determinants", "determinants": 1}]
        levels, learning = model, LEARNING
        if not MODELS[name].is_density:
            levels, learning = guided, LEARNING | {"force_weight": 0.5}
        found[name] = make_job(SMALL | {"effective": levels, "learning": learning})
    more = SAMPLERS | {name: CRYSTAL | changes for name, changes in CRYSTALS.items()}
    return found | {name: make_job(SMALL | changes) for name, changes in more.items()}


def compare_jobs(where: str, jobs: dict[str, Job]) -> float:
    """Run every small job on both devices and across; the largest difference of all."""
    table = Table(
        *("job", f"{where} / s", "CPU / s", "differ", "resumed on the CPU", f"resumed on {where}"),
        title="Small jobs: largest relative difference of any draw",
    )
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, job in jobs.items():
            try:
                seconds, differ = compare_job(where, job, Path(folder))
            except UserError as error:
                table.add_row(name, "", "", f"not run: {error}")
                continue
            worst = max(worst, *differ)
            table.add_row(
                name,
                *(f"{one:.2f}" for one in seconds),
                *(f"{one:.1e}" for one in differ),
            )
    CONSOLE.print(table)
    return worst


def densities(length: int, where: str) -> dict[str, Density]:
    """Log W and determinant models of two frequencies, on a device."""
    lattice = Lattice((length, length))
    hamiltonian = Hamiltonian(lattice, 1.0, 1.0, device=where)
    ensemble = Ensemble(hamiltonian, 1.0 / TEMPERATURE, MU)

    def model(precision: Literal["double", "single"]) -> EffectiveModel:
        settings = DeterminantOptions(determinants=2, precision=precision).settings(lattice)
        made = make_model(Architecture("determinants", settings, Physics.of(ensemble)), lattice)
        with torch.no_grad():
            made.couplings[:2] = 1.0
        return made.to(where)

    return {
        "log W": exact_weight(hamiltonian, TEMPERATURE, MU, "blocks"),
        "determinants": model("double"),
        SINGLE: model("single"),
    }


def call(density: Density, spins: torch.Tensor) -> Callable[[], Evaluation]:
    """The call that is compared."""
    return lambda: density.evaluate(spins, True)


def compare_evaluations(where: str, lengths: list[int], counts: list[int]) -> float:
    """Evaluate on both devices, with times; the largest difference, in units of what is allowed."""
    table = Table(
        *("lattice", "chains", "with forces", "differ", f"{where} / ms", "CPU / ms", "ratio"),
        title=f"Time of all chains, beside {torch.get_num_threads()} threads of the CPU",
    )
    worst = 0.0
    for length, chains in itertools.product(lengths, counts):
        spins = random_spins(chains, Lattice((length, length)))
        there, here = densities(length, where), densities(length, "cpu")
        for name in there:
            on_device, on_cpu = call(there[name], spins.to(where)), call(here[name], spins)
            one, other = on_device(), on_cpu()
            differ = max(
                relative(one.log_weight.cpu().numpy(), other.log_weight.numpy()),
                relative(one.known_forces.cpu().numpy(), other.known_forces.numpy()),
            )
            times = medians({"there": on_device, "here": on_cpu})
            worst = max(worst, differ / (ROUNDING_SINGLE if name == SINGLE else ROUNDING))
            table.add_row(
                f"{length}x{length}",
                f"{chains}",
                name,
                f"{differ:.1e}",
                *(f"{1e3 * times[one]:.4g}" for one in ("there", "here")),
                f"{times['here'] / times['there']:.3g}",
            )
    CONSOLE.print(table)
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--chains", type=int, nargs="+", default=[4, 64])
    options = parser.parse_args()
    prepare_process()
    small, where = jobs(), device(World())
    if where == "cpu":
        sys.exit("there is no accelerator that torch sees: nothing to compare.")
    CONSOLE.print(f"{where}, {torch.cuda.get_device_name() if 'cuda' in where else ''}")
    draws = compare_jobs(where, small)
    evaluations = compare_evaluations(where, options.lengths, options.chains)
    good = draws < GROWN and evaluations < 1.0
    CONSOLE.print("[bold]" + ("the same to rounding" if good else "different: not as it should be"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
