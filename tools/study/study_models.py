"""Designs and sizes of effective models on one set of exact data: errors, acceptance and costs.

    python tools/study/study_models.py [--length 6] [--chains 64] [--configurations 160]
    [--steps 1500] [--designs linear ...] [--J 1] [--mu 0] [--T 0.05]
    python tools/study/study_models.py --length 16 --chains 16 --designs \
        --models out/curriculum/12x12    # learned models, unchanged

One core. All designs see the same data: every point of exact HMC
trajectories, chains split into training and validation. Then each is sampled from: acceptance of
the exact test of proposals of some trajectories under W_eff, and their memory: the correlation
coefficient of |m(pi,pi)|^2 in a proposal and in what it started from, over all chains and tests.
Times are per configuration, medians; proposals have the step size that gives their trajectories an
acceptance of 0.8.
"""

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from exact_samples import add_point, ensemble_of, exact_data, propose
from rich.console import Console
from rich.table import Table
from torch.utils.benchmark import Timer

from hpcslmc.analysis.statistics import bracket
from hpcslmc.api import learned_model
from hpcslmc.effective import MODELS, Architecture, EffectiveModel, Physics, make_model
from hpcslmc.learning.settings import LearningSection
from hpcslmc.learning.trainer import Trainer
from hpcslmc.measure.observables import StaggeredMagnetisation2
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.streams import Stream

TESTS = 30
DESIGNS: dict[str, tuple[str, dict[str, object], float]] = {
    # model, settings, weight of the forces
    "linear": ("linear", {}, 0.0),
    "cnn 3": ("cnn", {"layers": 3}, 0.0),
    "attention 3": ("attention", {"layers": 3}, 0.0),
    "attention 3, forces": ("attention", {"layers": 3}, 0.5),
    "messages 0, 8": ("messages", {"layers": 0, "channels": 8}, 0.5),
    "messages 1, 4": ("messages", {"layers": 1, "channels": 4}, 0.5),
    "messages 1, 8, no forces": ("messages", {"layers": 1, "channels": 8}, 0.0),
    "messages 1, 8": ("messages", {"layers": 1, "channels": 8}, 0.5),
    "messages 2, 8": ("messages", {"layers": 2, "channels": 8}, 0.5),
    "messages 1, 16": ("messages", {"layers": 1, "channels": 16}, 0.5),
    "messages 2, 16": ("messages", {"layers": 2, "channels": 16}, 0.5),
    "attention 3, 4 heads": ("attention", {"layers": 3, "heads": 4}, 0.5),
    "attention 3, free": ("attention", {"layers": 3, "renormalise": False}, 0.5),
    "lie_conv": ("lie_conv", {}, 0.5),
    "lie_transformer": ("lie_transformer", {}, 0.5),
    "lie_transformer, tangents": ("lie_transformer", {"tangents": True}, 0.5),
    "lie_transformer, softmax": ("lie_transformer", {"softmax": True}, 0.5),
    "torchmd_et": ("torchmd_et", {}, 0.5),
    "equiformer": ("equiformer", {}, 0.5),
    "gatr": ("gatr", {}, 0.5),
    "gatr, scores": ("gatr", {"scores": True}, 0.5),
    "gatr, projective": ("gatr", {"algebra": "projective"}, 0.5),
    "gatr, conformal": ("gatr", {"algebra": "conformal"}, 0.5),
    "equiformer, pairs": ("equiformer", {"pairs": True}, 0.5),
    "transformer": ("transformer", {}, 0.5),
}
ZOO = (
    "messages 1, 16",
    "lie_conv",
    "lie_transformer",
    "lie_transformer, tangents",
    "torchmd_et",
    "equiformer",
    "gatr",
    "gatr, scores",
    "transformer",
)
"""Designs of about 10^4 parameters, for ``--zoo``."""


def median_s(call: Callable[[], object]) -> float:
    """Median seconds of a call."""
    return Timer("call()", globals={"call": call}).adaptive_autorange(max_run_time=2.0).median


def fresh(design: str, ensemble: Ensemble, shells: int) -> EffectiveModel:
    """The model of a design, untrained."""
    name, given, _ = DESIGNS[design]
    lattice, options = ensemble.hamiltonian.lattice, MODELS[name].Options
    settings = options(shells=min(shells, len(lattice.shells))).settings(lattice) | given
    model = make_model(Architecture(name, settings, Physics.of(ensemble)), lattice)
    model.initialise(Stream(1, torch.zeros(1, dtype=torch.int64), "parameters"))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_point(parser, 6)
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--configurations", type=int, default=160, help="of each chain")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument(
        "--seconds", type=float, help="of training each design, in place of the steps"
    )
    parser.add_argument("--zoo", action="store_true", help=f"designs {', '.join(ZOO)}")
    parser.add_argument("--shells", type=int, default=9)
    parser.add_argument("--trajectories", type=int, default=4, help="of a proposal")
    parser.add_argument(
        "--models", nargs="*", default=[], metavar="PATH", help="learned models to use unchanged"
    )
    parser.add_argument(
        "--designs", nargs="*", choices=DESIGNS, default=list(DESIGNS), metavar="DESIGN"
    )
    options = parser.parse_args()
    if options.zoo:
        options.designs = ZOO
    prepare_process()
    ensemble, world, chains = ensemble_of(options), World(), torch.arange(options.chains)
    lattice = ensemble.hamiltonian.lattice
    data, exact, start, _ = exact_data(ensemble, options.chains, options.configurations)
    weight, order = exact.density, StaggeredMagnetisation2(lattice, "cpu")
    exact_s = median_s(lambda: weight.log_weight(start)) / options.chains
    forces_s = median_s(lambda: weight.evaluate(start, forces=True)) / options.chains
    title = (
        f"{options.length}x{options.length}, J = {options.J:g}, mu = {options.mu:g}, "
        f"T = {options.T:g}, {len(data) * options.chains} exact configurations, "
        "64 of them a step; "
        f"exact log W {1e3 * exact_s:.2f} ms, with forces {1e3 * forces_s:.2f} ms"
    )
    table = Table(
        "design",
        "gradient steps",
        "parameters",
        "training, s",
        "MSE",
        "MSE / N",
        "erfc(s/2)",
        "acceptance",
        "memory",
        "forces, ms",
        "steps of a trajectory",
        "proposal, ms",
        "proposal / exact",
        title=title,
    )
    console = Console(width=170, force_terminal=False)
    for design in [*options.designs, *options.models]:
        model = (
            learned_model(design, lattice)
            if design in options.models
            else fresh(design, ensemble, options.shells)
        )
        force_weight = DESIGNS[design][2] if design in DESIGNS else 0.0

        def made(model: EffectiveModel, steps: int, force_weight: float = force_weight) -> Trainer:
            settings = LearningSection(
                steps=steps, batch_size=64, rate=0.01, force_weight=force_weight
            )
            return Trainer(model, data, world, Stream(1, chains, "batches"), settings)

        steps = options.steps
        if options.seconds and design in DESIGNS:
            trial = made(fresh(design, ensemble, options.shells), 1000)
            trial.start_round(fit_linear=True)
            steps = max(20, round(options.seconds / median_s(trial.train_step)))
        trainer = made(model, steps)
        began = time.perf_counter()
        trainer.start_round(fit_linear=design in DESIGNS)
        while design in DESIGNS and not trainer.round_finished:
            trainer.train_step()
        trainer.finish_round()
        training_s = time.perf_counter() - began
        inner, made_steps = propose(model, weight, exact.length, start, options.trajectories, TESTS)
        accepted = [step.acceptance.mean().item() for step in made_steps[1:]]
        before = [order.measure(step.spins, step.evaluation).numpy() for step in made_steps[:-1]]
        after = [order.measure(step.proposal, step.evaluation).numpy() for step in made_steps[1:]]
        spins = made_steps[-1].spins
        force_s = median_s(lambda: model.evaluate(spins, forces=True)) / options.chains
        effective = inner.evaluate(spins)
        proposal_s = (
            options.trajectories * median_s(lambda: inner.move(spins, effective)) / options.chains
        )
        s = math.sqrt(trainer.mse)
        table.add_row(
            design,
            str(trainer.step),
            str(sum(p.numel() for p in model.parameters())),
            f"{training_s:.0f}",
            f"{trainer.mse:.4f}",
            f"{trainer.mse / lattice.sites:.1e}",
            f"{math.erfc(s / 2):.3f}",
            bracket(np.mean(accepted), np.std(accepted) / math.sqrt(len(accepted))),
            f"{np.corrcoef(np.concatenate(before), np.concatenate(after))[0, 1]:+.2f}",
            f"{1e3 * force_s:.3f}",
            str(inner.steps),
            f"{1e3 * proposal_s:.2f}",
            f"{proposal_s / exact_s:.2f}",
        )
        print(f"{design}: done", flush=True)
    console.print(table)


if __name__ == "__main__":
    main()
