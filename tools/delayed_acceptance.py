"""Does a second model between the proposals and the exact test pay? Costs of an independent sample
of |m(pi,pi)|^2.

    python tools/delayed_acceptance.py [--sizes 6 8 12 16] [--runs out/benchmark] [--chains 64]
    [--samples 60]

Takes the linear and the message-passing models that tools/benchmark.py has learned. Proposals of
the linear model are tested by the better model first, n times in a row, and what comes out of it by
the exact weight: with n = 1 this is delayed acceptance, which is self-learning Monte Carlo inside
self-learning Monte Carlo, exact by the same proof. Where nothing came out of the first stage the
exact weight is not needed, and not counted. Processor time of one core, of its parts measured one
by one; errors by a jackknife over eight groups of chains.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmark import OUT, independent
from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.statistics import bracket, estimate
from hpcslmc.api import learned_model
from hpcslmc.measure.observables import StaggeredMagnetisation2
from hpcslmc.parallel.hardware import limit_threads
from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import HMC, SLMC, make_move
from hpcslmc.streams import Stream
from hpcslmc.weight import choose_method, make_weight

BETA, TRAJECTORY, TUNING, THERMALISATION = 20.0, 1.5, 60, 15
LINEAR, BETTER = "SLMC_linear", "SLMC_messages"
SCREENS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Result:
    """Acceptance of the first stage and of the exact test, and CPU seconds of an independent sample
    with its error.
    """

    first: float
    exact: float
    tau: float
    evaluations: float
    seconds: tuple[float, float]


def seconds_each(function: Callable[[], object], count: int) -> float:
    """Processor seconds of one of ``count`` things done at once; the median of five calls after one
    more.
    """
    times = []
    for _ in range(6):
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return float(np.median(times[1:])) / count


def sampled(
    move: SLMC,
    spins: torch.Tensor,
    lattice: Lattice,
    samples: int,
    proposal_s: float,
    exact_s: float,
) -> Result:
    """What a chain of tests costs when a proposal and an exact evaluation take so long."""
    evaluation, order, draws, first, accepted, moved = (
        move.evaluate(spins),
        StaggeredMagnetisation2(lattice, "cpu"),
        [],
        [],
        [],
        [],
    )
    for k in range(THERMALISATION + samples):
        step = move.move(spins, evaluation)
        if k >= THERMALISATION:
            changed = (step.proposal != spins).flatten(1).any(1).double()
            draws.append(order.measure(step.spins, step.evaluation).numpy())
            first.append(float(step.inner_acceptance.mean()))
            moved.append(float(changed.mean()))
            accepted.append(float((step.acceptance * changed).mean()))
        spins, evaluation = step.spins, step.evaluation
    tests, series = float(np.mean(moved)), np.stack(draws, 1)
    cost = independent(series, series.size * (proposal_s + tests * exact_s))
    return Result(
        float(np.mean(first)), float(np.mean(accepted)) / tests, estimate(series).tau, tests, cost
    )


def rows(length: int, runs: Path, chains: int, samples: int) -> dict[str, Result]:
    """All ways at one size, by name."""
    lattice, indices = Lattice((length, length)), torch.arange(chains)
    linear, better = (
        learned_model(runs / f"{length}x{length}" / name, lattice) for name in (LINEAR, BETTER)
    )
    hamiltonian = Hamiltonian(lattice, 1.0, 1.0)
    weight = make_weight(
        choose_method(hamiltonian, BETA, 0.0, "cpu", 1)[0], hamiltonian, BETA, 0.0, World()
    )
    spins = Stream(1, indices, "start").directions(lattice.sites)
    inner: dict[str, HMC] = {}
    for name, model in (("linear", linear), ("messages", better)):
        move = inner[name] = make_move(
            "hmc", model, Stream(1, indices, name), TRAJECTORY, guide=model.guide
        )
        evaluation = move.evaluate(spins)
        for _ in range(TUNING):
            step = move.move(spins, evaluation)
            spins, evaluation = step.spins, step.evaluation
            move.tune(step.tuning.mean(0).tolist())
    exact_s = seconds_each(lambda: weight.log_weight(spins), chains)
    screen_s = seconds_each(lambda: better.evaluate(spins), chains)
    found = {}
    for name, count in (("linear", 4), ("messages", 4)):
        slmc, evaluation = (
            SLMC(weight, inner[name], Stream(1, indices, f"{name} test"), count),
            inner[name].evaluate(spins),
        )
        proposal_s = count * seconds_each(lambda: inner[name].move(spins, evaluation), chains)
        found[f"{name}, no first stage"] = sampled(
            slmc, spins, lattice, samples, proposal_s, exact_s
        )
        if name == "linear":
            linear_s = proposal_s
    for screens in SCREENS:
        first = SLMC(better, inner["linear"], Stream(1, indices, f"first {screens}"), 4)
        slmc = SLMC(weight, first, Stream(1, indices, f"second {screens}"), screens)
        found[f"linear, {screens} x messages"] = sampled(
            slmc, spins, lattice, samples, screens * (linear_s + screen_s), exact_s
        )
    print(
        f"{length}x{length}, CPU ms a chain: exact log W {1e3 * exact_s:.3g}, log W_eff of "
        f"messages {1e3 * screen_s:.3g}, "
        f"proposal of the linear model {1e3 * linear_s:.3g}, of messages {1e3 * proposal_s:.3g}",
        flush=True,
    )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[6, 8, 12, 16])
    parser.add_argument("--runs", type=Path, default=OUT)
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--samples", type=int, default=60)
    options = parser.parse_args()
    limit_threads()
    table = Table(
        "lattice",
        "proposals, first stage",
        "acceptance of\nthe first stage",
        "...of the\nexact test",
        "tau\n(samples)",
        "exact log W\na sample",
        "CPU ms an independent\nsample",
        title="Delayed acceptance (standard error)",
    )
    for length in options.sizes:
        for name, it in rows(length, options.runs, options.chains, options.samples).items():
            first = f"{it.first:.3f}" if "x" in name else "-"
            table.add_row(
                f"{length}x{length}",
                name,
                first,
                f"{it.exact:.3f}",
                f"{it.tau:.2f}",
                f"{it.evaluations:.2f}",
                bracket(*(1e3 * x for x in it.seconds)),
            )
        table.add_section()
    Console(width=130, force_terminal=False).print(table)


if __name__ == "__main__":
    main()
