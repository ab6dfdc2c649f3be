"""Forces that an independent sample costs, by length of an HMC trajectory and by number of trajectories between exact tests.

    python tools/trajectories.py [--length 8] [--temperatures 0.03 0.05 0.1 0.5] [--model out/curriculum/12x12]

J = 1, half filling, one core. The first table is of exact HMC, by temperature; the second, with a learned model, of self-learning proposals at
its temperature: what an independent sample costs in units of one exact log W when proposals consist of 1, 2, 3, 4, 6 or 8 trajectories.
Autocorrelation times are those of |m(pi,pi)|^2; step sizes are tuned first.
"""

import argparse
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hpcslmc.api import learned_model
from hpcslmc.hamiltonian import Hamiltonian
from hpcslmc.lattice import Lattice
from hpcslmc.measure.observables import StaggeredMagnetisation2
from hpcslmc.measure.statistics import estimate
from hpcslmc.parallel import World, limit_threads
from hpcslmc.sampling import SLMC, Move, make_move
from hpcslmc.streams import Stream
from hpcslmc.weight import choose_method, make_weight

LENGTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.5)
TRAJECTORIES = (1, 2, 3, 4, 6, 8)
TUNING = 40


def series(move: Move, spins: torch.Tensor, lattice: Lattice, samples: int, tuned: Move) -> tuple[np.ndarray, float, torch.Tensor]:
    """|m(pi,pi)|^2 (chains, samples) after tuning, mean acceptance, and where the chains end."""
    evaluation, found, accepted, order = move.evaluate(spins), [], [], StaggeredMagnetisation2(lattice, "cpu")
    for k in range(TUNING + samples):
        step = move.move(spins, evaluation)
        spins, evaluation = step.spins, step.evaluation
        if k < TUNING:
            tuned.tune(float(getattr(step, "inner_acceptance", step.acceptance).mean()))
        else:
            found.append(order.measure(spins, evaluation).numpy())
            accepted.append(float(step.acceptance.mean()))
    return np.stack(found, 1), float(np.mean(accepted)), spins


def exact_table(lattice: Lattice, temperatures: list[float], chains: int) -> Table:
    """Exact force evaluations of an independent sample, by temperature and length of a trajectory."""
    table = Table("T", *(f"{length:g}" for length in LENGTHS), title=f"Exact HMC, {lattice.shape[0]}x{lattice.shape[1]}: exact forces of an "
                  "independent sample of |m(pi,pi)|^2, by length of the trajectory (in brackets: steps)")
    hamiltonian = Hamiltonian(lattice, 1.0, 1.0)
    spins = Stream(1, torch.arange(chains), "start").directions(lattice.sites)
    for temperature in sorted(temperatures, reverse=True):
        method, _ = choose_method(hamiltonian, 1.0 / temperature, 0.0, "cpu", 1, True)
        weight, row = make_weight(method, hamiltonian, 1.0 / temperature, 0.0, World()), []
        for length in LENGTHS:
            move = make_move("hmc", weight, Stream(1, torch.arange(chains), f"{temperature} {length}"), length)
            draws, _, spins = series(move, spins, lattice, max(30, round(120 / length)), move)
            row.append(f"{2.0 * estimate(draws).tau * move.steps:.1f} ({move.steps})")
        table.add_row(f"{temperature:g}", *row)
        print(f"T = {temperature:g}: done", flush=True)
    return table


def proposal_table(path: str, lattice: Lattice, chains: int) -> Table:
    """Cost of an independent sample in exact log W, by trajectories between tests."""
    table = Table("trajectories", "acceptance", "tau / samples", "a proposal / log W", "an independent sample / log W",
                  title=f"{path} on {lattice.shape[0]}x{lattice.shape[1]}")
    model = learned_model(path, lattice)
    electrons = model.architecture.electrons
    beta, hamiltonian = electrons.beta, Hamiltonian(lattice, electrons.t, 1.0)
    weight = make_weight(choose_method(hamiltonian, beta, 0.0, "cpu", 1)[0], hamiltonian, beta, 0.0, World())
    inner = make_move("hmc", model, Stream(1, torch.arange(chains), "inner"), 1.5, guide=model.guide)
    _, _, spins = series(inner, Stream(1, torch.arange(chains), "start").directions(lattice.sites), lattice, 40, inner)
    for count in TRAJECTORIES:
        slmc = SLMC(weight, inner, Stream(1, torch.arange(chains), f"test {count}"), count)
        draws, acceptance, spins = series(slmc, spins, lattice, 100, inner)
        began = time.process_time()
        evaluation = inner.evaluate(spins)
        for _ in range(count):
            inner.move(spins, evaluation)
        proposal, began = time.process_time() - began, time.process_time()
        weight.log_weight(spins)
        ratio, tau = proposal / (time.process_time() - began), estimate(draws).tau
        table.add_row(str(count), f"{acceptance:.3f}", f"{tau:.2f}", f"{ratio:.2f}", f"{2.0 * tau * (1.0 + ratio):.2f}")
        print(f"{count} trajectories: done", flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=8)
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--temperatures", type=float, nargs="*", default=[0.03, 0.05, 0.1, 0.5])
    parser.add_argument("--model", help="a learned model, or the output directory of the run that learned it")
    options = parser.parse_args()
    limit_threads()
    lattice, console = Lattice((options.length, options.length)), Console(width=150, force_terminal=False)
    if options.temperatures:
        console.print(exact_table(lattice, options.temperatures, options.chains))
    if options.model:
        console.print(proposal_table(options.model, lattice, options.chains))


if __name__ == "__main__":
    main()
