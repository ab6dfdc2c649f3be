"""Combinations of a job's options: designs that cover them, and whether a run did what it says."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from measurement import drude_weight, measured
from small_jobs import ranks_of

from hpcslmc.analysis.results import Results
from hpcslmc.errors import UserError
from hpcslmc.job.load import make_job
from hpcslmc.job.schema import Job
from hpcslmc.learning.replay import write_data
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.simulation.collect import collect
from hpcslmc.simulation.rung import Rung
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.storage.models import save_model
from hpcslmc.weight.diagonalise import Diagonalise

MODELS = ("linear", "attention", "cnn", "messages", "determinants")
METHODS = ("auto", "diagonalise", "blocks", "matsubara", "scalapack")
MOVES = {
    "exact hmc": {"method": "exact"},
    "exact metropolis": {"method": "exact", "exact_move": "metropolis"},
} | {
    f"{method}, {exact}, {inner}": {"method": method, "exact_move": exact, "inner_move": inner}
    for method in ("slmc", "guided")
    for exact in ("hmc", "metropolis")
    for inner in ("hmc", "metropolis")
}
"""Keys of [sampling] by name: exact moves alone, or a method with its exact and its inner moves."""
MEASUREMENTS = (
    "electrons",
    "fluctuations",
    "drude_weight",
    "structure_factor",
    "correlations",
    "density_of_states",
    "spectral_function",
    "optical_conductivity",
)
ENSEMBLES = {
    "one": {"temperature": 0.5},
    "list": {"temperature": [1.0, 0.5]},
    "list apart": {"temperature": [1.0, 0.5], "exchange": 0},
    "rungs": {"temperature": [1.0, 0.5], "rungs": 3},
}
FACTORS: dict[str, Sequence] = {
    "weight.method": METHODS,
    "sampling.method": ("slmc", "guided", "exact"),
    "sampling.exact_move": ("hmc", "metropolis"),
    "sampling.inner_move": ("hmc", "metropolis"),
    "effective.model": MODELS,
    "learned": ("anew", "further", "before"),
    "ensemble": tuple(ENSEMBLES),
    "ensemble.filling": (None, 0.9),
    "hamiltonian.mu": (0.0, -0.7),
    "lattice.shape": ((4, 4), (3, 4), (2, 4), (3, 3)),
    "learning.force_weight": (0.0, 0.5),
    "learning.augment": (False, True),
    "learning.keep_data": (False, True),
    "learning.replay": (False, True),
    "sampling.trajectory": (None, 0.5),
    "sampling.bin_size": (1, 2),
    "sampling.ranks_per_chain": (1, 2),
    "interrupted": (False, True),
    **{f"measure.{name}": (0, 1) for name in MEASUREMENTS[1:]},
}
"""Values of each option. ``learned``: in this job (anew), before it too (further), or before it."""
SMALL = {
    "lattice": {"shape": [4, 4]},
    "ensemble": {"temperature": 0.5},
    "effective": {"shells": 2},
    "thermalisation": {"moves": 10},
    "sampling": {"chains": 4, "samples": 8, "moves": 1},
    "measure": {"energies": 20},
    "learning": {
        "rounds": 1,
        "configurations": 2,
        "steps": 5,
        "batch_size": 8,
        "validation_fraction": 0.25,
    },
}
"""A job of a fraction of a second."""
EXACT = 1e-8
"""Largest error of what is measured, against dense diagonalisation."""
ATTEMPTS = 40
"""Combinations with some values among which a design looks for one that is accepted."""

Choice = Mapping[str, object]


def small_job(changes: Mapping[str, object]) -> Job:
    """The small job with other values of some keys, named ``section.key``."""
    table = {name: dict(section) for name, section in SMALL.items()}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        table.setdefault(section, {})[name] = value
    return make_job(table)


def chosen_job(choice: Choice, folder: Path) -> Job:
    """The job of one value of each of ``FACTORS``; what ``prepare`` left is in the folder.

    Raises
    ------
    UserError
        The combination is refused.
    """
    keys = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in choice.items()
        if "." in key and value is not None
    }
    keys |= {f"ensemble.{key}": value for key, value in ENSEMBLES[choice["ensemble"]].items()}
    data = folder / f"data{choice['hamiltonian.mu']}.h5"
    keys |= {
        "learning.replay": [str(data)] if choice["learning.replay"] else [],
        "output.directory": str(folder),
    }
    if choice["learned"] != "anew":
        keys["effective.start_from"] = str(folder / f"{keys.pop('effective.model')}.h5")
        keys["learning.rounds"] = int(choice["learned"] == "further")
    return small_job(keys)


def prepare(folder: Path) -> None:
    """Leave models of every kind, and data, of runs before."""
    for name, mu in itertools.product(MODELS, FACTORS["hamiltonian.mu"]):
        simulation = Simulation(small_job({"effective.model": name, "hamiltonian.mu": mu}))
        simulation.run(lambda: simulation.phase.name == "sample")
        rung = simulation.rungs[0]
        save_model(folder / f"{name}.h5", rung.learning.model, {})
        write_data(
            folder / f"data{mu}.h5",
            rung.learning.data,
            rung.setting.lattice.shape,
            rung.physics,
            {},
            World(),
        )


def covering(
    strength: int, folder: Path, fixed: Choice | None = None, seed: int = 1
) -> tuple[list[Choice], dict[tuple, str]]:
    """Accepted combinations in which any values of any ``strength`` factors meet.

    Parameters
    ----------
    strength : int
    folder : Path
        Where ``prepare`` was.
    fixed : mapping, optional
        Values of some factors.
    seed : int

    Returns
    -------
    choices : list of dict
    refused : dict
        The commonest sentence by the values that no accepted combination was found with.
    """
    factors = FACTORS | {key: (value,) for key, value in (fixed or {}).items()}
    draws, choices, refused = random.Random(seed), [], {}
    wanted = {
        tuple(zip(keys, values))
        for keys in itertools.combinations(factors, strength)
        for values in itertools.product(*(factors[k] for k in keys))
    }
    for meeting in sorted(wanted, key=str):
        if meeting not in wanted:
            continue
        best, gain, sentences = None, 0, Counter()
        for _ in range(ATTEMPTS):
            choice = {key: draws.choice(values) for key, values in factors.items()} | dict(meeting)
            try:
                chosen_job(choice, folder)
            except UserError as error:
                sentences[str(error)] += 1
                continue
            covered = len(wanted.intersection(itertools.combinations(choice.items(), strength)))
            if covered > gain:
                best, gain = choice, covered
        if best is None:
            refused[meeting] = sentences.most_common(1)[0][0]
            wanted.discard(meeting)
        else:
            choices.append(best)
            wanted.difference_update(itertools.combinations(best.items(), strength))
    return choices, refused


def run(job: Job, world: World, interrupted: Path | None = None) -> Simulation:
    """The simulation at the job's end. Collective.

    It is saved in the middle of sampling, and resumed, where ``interrupted`` is a folder for that.
    """
    ranks = ranks_of(world, job)
    simulation = Simulation(job, ranks)
    if interrupted:
        middle = job.sampling.samples // 2 + 1
        simulation.run(
            lambda: simulation.phase.name == "sample" and simulation.phase.done == middle
        )
        simulation.save(interrupted / "checkpoint.h5", {})
        resumed = Simulation(job, ranks, interrupted / "checkpoint.h5")
        resumed.run()
        return resumed
    simulation.run()
    return simulation


def problems(simulation: Simulation) -> list[str]:
    """What a finished run has not measured, or measured wrongly. Collective.

    log W, energy and density of the last configurations, and all that bins of one sample hold of
    them, are compared with independent formulas; functions are checked by their sum rules.
    """
    found = []
    for rung in simulation.rungs:
        found += [f"T = {rung.temperature:.3g}: {problem}" for problem in _problems(rung)]
    results = collect(simulation, {})
    return found if results is None else [*found, *_problems_of_results(results)]


def _problems(rung: Rung) -> Iterator[str]:
    job, hamiltonian, spins = rung.setting.job, rung.setting.hamiltonian, rung.measured
    exact = Diagonalise(Ensemble(hamiltonian, 1.0 / rung.temperature, rung.mu)).evaluate(spins)
    for name in ("log_weight", "energy", "density"):
        error = float((getattr(rung.chains.evaluation, name) - getattr(exact, name)).abs().max())
        if not error < EXACT:
            yield f"{name} of the last configuration is wrong by {error:.1e}"
    if rung.bins.draws.shape[1] != job.sampling.samples // job.sampling.bin_size:
        yield f"{rung.bins.draws.shape[1]} draws"
    if not np.isfinite(rung.bins.draws).all():
        first = int(np.argmin(np.isfinite(rung.bins.draws).all((0, 1))))
        yield f"draws of {rung.bins.names[first]} are not finite"
    wanted = {
        name: group
        for name, group in (
            ("energy", "electrons"),
            ("number_fluctuation", "fluctuations"),
            ("drude_weight", "drude_weight"),
        )
        if group in job.measure.scalars
    }
    yield from (f"no {name}" for name in wanted if name not in rung.bins.names)
    if job.sampling.bin_size == 1:
        for chain, last in enumerate(rung.bins.draws[:, -1]):
            model = (
                spins[chain].numpy(),
                hamiltonian.lattice.shape,
                hamiltonian.couplings.hops[0].amplitude,
                hamiltonian.couplings.J[0],
                1.0 / rung.temperature,
                rung.mu,
            )
            right = measured(*model) | {"drude_weight": drude_weight(*model, step=5e-5)}
            for name, value in zip(rung.bins.names, last):
                if name in right and not abs(value - right[name]) < (
                    1e-4 if name == "drude_weight" else EXACT
                ) * max(1.0, abs(value)):
                    yield f"{name} of chain {chain} is {value}, not {right[name]}"


SUMS = {
    "structure_factor": lambda chains, axes: chains.mean((1, 2)) - 1.0,
    "correlations": lambda chains, axes: chains[:, 0, 0] - 1.0,
    "density_of_states": lambda chains, axes: (chains * _width(axes["energy"])).sum(1) - 2.0,
    "spectral_function": lambda chains, axes: (chains * _width(axes["energy"])).sum(3) - 2.0,
}
"""What vanishes, of each chain's functions (chain, *grid)."""


def _width(axis) -> float:
    return float(axis.values[1] - axis.values[0])


def _problems_of_results(results: Results) -> Iterator[str]:
    measure = results.parsed_job.measure
    for name, every in measure.profiles.items():
        if every > results.parsed_job.sampling.samples:
            continue
        if name not in results.profiles:
            yield f"no {name}"
            continue
        profile = results.profiles[name]
        if (
            not np.isfinite(profile.chains).all()
            or not (profile.measurements == results.parsed_job.sampling.samples // every).all()
        ):
            yield f"{name} is not finite, or of too few samples"
        if name in SUMS and not np.abs(SUMS[name](profile.chains, profile.axes)).max() < EXACT:
            yield f"{name} breaks its sum rule"
        if name == "optical_conductivity" and "hopping_energy" in results.draws and every == 1:
            conducted = (profile.chains * _width(profile.axes["omega"])).sum(1)
            weight, hops = (
                results.draws[key].mean(1) for key in ("drude_weight", "hopping_energy")
            )
            if not np.abs(conducted + 0.5 * np.pi * (weight + hops)).max() < EXACT:
                yield "optical_conductivity breaks its sum rule"
    summary = results.summary
    for name in summary.names:
        if not np.isfinite(summary.of(name)).all() and not name.startswith("correlation_length"):
            yield f"mean of {name} is {summary.of(name)}"


def differences(one: Simulation, other: Simulation) -> float:
    """Largest difference of the draws and the last spins of two runs, the second of all chains."""
    mine = one.ranks.block.indices()
    return max(
        max(
            np.abs(a.bins.draws - b.bins.draws[mine]).max(),
            float((a.chains.spins - b.chains.spins[mine]).abs().max()),
        )
        for a, b in zip(one.rungs, other.rungs, strict=True)
    )
