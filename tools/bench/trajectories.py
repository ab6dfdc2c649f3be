"""Forces that an independent sample costs, by length of an HMC trajectory and by number of
trajectories between exact tests.

    python tools/bench/trajectories.py [--lengths 8] [--temperatures 0.03 0.05 0.1 0.5] [--models
    out/curriculum/12x12]

J = 1, half filling, one core, for each length of the lattice and the model in the same place. The
first table is of exact HMC, by temperature: trajectories of given lengths, and of the length that
thermalisation finds. The second, with a learned model, is of self-learning proposals at its
temperature: what an independent sample costs in units of one exact log W when proposals consist of
some trajectories of the length that is found. Both end with what a job's defaults cost beside the
best of the table. Autocorrelation times are those of |m(pi,pi)|^2; step sizes are tuned first.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from benchmark import independent
from rich.console import Console
from rich.table import Table
from timing import medians

from hpcslmc.analysis.statistics import bracket, estimate
from hpcslmc.api import learned_model
from hpcslmc.job.schema import SamplingSection, ThermalisationSection
from hpcslmc.measure.observables import StaggeredMagnetisation2
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import SLMC, Move, make_move
from hpcslmc.streams import Stream
from hpcslmc.weight import choose_method, make_weight

LENGTHS = (0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.5)
FOUND = None
"""Stands for the length that tuning finds."""
TUNING = ThermalisationSection().moves
SAMPLES = 120
"""Trajectories of a chain of exact HMC."""
DEFAULTS = SamplingSection()


def series(
    move: Move, spins: torch.Tensor, lattice: Lattice, samples: int
) -> tuple[np.ndarray, float, torch.Tensor]:
    """|m(pi,pi)|^2 (chains, samples) after tuning, mean acceptance, and where the chains end."""
    evaluation, found, accepted, order = (
        move.evaluate(spins),
        [],
        [],
        StaggeredMagnetisation2(lattice, "cpu"),
    )
    for k in range(TUNING + samples):
        step = move.move(spins, evaluation)
        spins, evaluation = step.spins, step.evaluation
        if k < TUNING:
            move.tune(step.tuning.mean(0).tolist())
        else:
            found.append(order.measure(spins, evaluation).numpy())
            accepted.append(float(step.acceptance.mean()))
    return np.array(found).T, float(np.mean(accepted or [np.nan])), spins


def exact_table(lattice: Lattice, temperatures: list[float], chains: int) -> Table:
    """Exact force evaluations of an independent sample, by temperature and trajectory length."""
    table = Table(
        "T",
        *(f"{length:g}" for length in LENGTHS),
        "found",
        "length\nfound",
        "found beside\nthe best",
        title=f"Exact HMC, {lattice.shape[0]}x{lattice.shape[1]}: exact forces of an "
        "independent sample of |m(pi,pi)|^2 and their error, by length of the trajectory",
    )
    hamiltonian = Hamiltonian(lattice, 1.0, 1.0)
    spins = Stream(1, torch.arange(chains), "start").directions(lattice.sites)
    for temperature in sorted(temperatures, reverse=True):
        method, _ = choose_method(Ensemble(hamiltonian, 1.0 / temperature, 0.0), "cpu", 1, True)
        weight, costs, row = (
            make_weight(method, Ensemble(hamiltonian, 1.0 / temperature, 0.0), World()),
            {},
            [],
        )
        for length in (FOUND, *LENGTHS):
            move = make_move(
                "hmc", weight, Stream(1, torch.arange(chains), f"{temperature} {length}"), length
            )
            draws, _, spins = series(move, spins, lattice, SAMPLES)
            costs[length], error = independent(draws, draws.size * move.steps)
            row.append(bracket(costs[length], error))
            if length is FOUND:
                found = f"{move.length:.2f}"
        table.add_row(
            f"{temperature:g}", *row[1:], row[0], found, f"{costs[FOUND] / min(costs.values()):.2f}"
        )
        print(f"{lattice.shape[0]}x{lattice.shape[1]}, T = {temperature:g}: done", flush=True)
    return table


def proposal_table(
    path: str, lattice: Lattice, chains: int, samples: int, counts: list[int], given: float | None
) -> Table:
    """Cost of an independent sample in exact log W, by trajectories between tests, of a given
    length or the one that is found.
    """
    model = learned_model(path, lattice)
    couplings, beta = model.architecture.physics.couplings, model.architecture.electrons.beta
    ensemble = Ensemble(Hamiltonian(lattice, replace(couplings, J=(1.0,))), beta, 0.0)
    method, _ = choose_method(ensemble, "cpu", 1)
    weight = make_weight(method, ensemble, World())
    inner = make_move(
        "hmc", model, Stream(1, torch.arange(chains), "inner"), given, guide=model.guide
    )
    spins = Stream(1, torch.arange(chains), "start").directions(lattice.sites)
    _, _, spins = series(inner, spins, lattice, 0)
    known = weight.evaluate(spins)
    trajectory, test, energy = medians(
        {
            "trajectory": lambda: inner.move(spins, inner.evaluate(spins)),
            "test": lambda: weight.evaluate(spins),
            "energy": lambda: weight.with_energy(spins, known),
        },
        clock=time.process_time,
    ).values()
    # a proposal goes on from the evaluation before it
    trajectory *= inner.steps / (inner.steps + 1)
    if known.energy is not None:
        energy = 0.0
    table = Table(
        "trajectories",
        "acceptance",
        "tau / samples",
        "a sample / log W",
        "an independent sample / log W",
        title=f"{path} on {lattice.shape[0]}x{lattice.shape[1]}: "
        f"a trajectory of length {inner.length:.2f} costs {trajectory / test:.2f}, "
        f"an energy {energy / test:.2f} exact log W",
    )
    costs = {}
    for count in counts:
        slmc = SLMC(weight, inner, Stream(1, torch.arange(chains), f"test {count}"), count)
        draws, acceptance, spins = series(slmc, spins, lattice, samples)
        cost = 1.0 + (count * trajectory + acceptance * energy) / test
        costs[count], error = independent(draws, cost * draws.size)
        table.add_row(
            str(count),
            f"{acceptance:.3f}",
            f"{estimate(draws).tau:.2f}",
            f"{cost:.2f}",
            bracket(costs[count], error),
        )
        print(f"{lattice.shape[0]}x{lattice.shape[1]}, {count} trajectories: done", flush=True)
    if DEFAULTS.first_moves in costs:
        table.caption = (
            f"the default of {DEFAULTS.first_moves} costs "
            f"{costs[DEFAULTS.first_moves] / min(costs.values()):.2f} times the least"
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[8])
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--samples", type=int, default=100, help="of proposals")
    parser.add_argument(
        "--trajectories", type=int, nargs="+", default=[1, 2, 3, 4, 6, 8], help="of a proposal"
    )
    parser.add_argument(
        "--trajectory",
        type=float,
        metavar="LENGTH",
        help="of each of them, in place of the one that is found",
    )
    parser.add_argument("--temperatures", type=float, nargs="*", default=[0.03, 0.05, 0.1, 0.5])
    parser.add_argument(
        "--models",
        nargs="*",
        default=[],
        metavar="PATH",
        help="learned models, or the output directories of the runs "
        "that learned them, one for each length",
    )
    options = parser.parse_args()
    if options.models and len(options.models) != len(options.lengths):
        parser.error(
            f"{len(options.lengths)} lengths need as many models, not {len(options.models)}"
        )
    prepare_process()
    console = Console(width=150, force_terminal=False)
    for k, length in enumerate(options.lengths):
        lattice = Lattice((length, length))
        if options.temperatures:
            console.print(exact_table(lattice, options.temperatures, options.chains))
        if options.models:
            console.print(
                proposal_table(
                    options.models[k],
                    lattice,
                    options.chains,
                    options.samples,
                    options.trajectories,
                    options.trajectory,
                )
            )


if __name__ == "__main__":
    main()
