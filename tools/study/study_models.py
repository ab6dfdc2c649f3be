"""Designs and sizes of effective models on one set of exact data: errors, acceptance and costs.

    python tools/study/study_models.py [--length 6] [--chains 64] [--configurations 160]
    [--steps 1500] [--designs linear ...] [--J 1] [--mu 0] [--T 0.05] [--transfer 16]
    python tools/study/study_models.py --length 16 --chains 16 --designs \
        --models out/curriculum/12x12    # learned models, unchanged

One core. All designs see the same data: every point of exact HMC
trajectories, chains split into training and validation. Errors are those in the validation chains:
the variance of log W - log W_eff by site, and the root mean square of the forces' difference over
that of the forces. Then each is sampled from: acceptance of the exact test of proposals of some
trajectories under W_eff, and what an independent sample of the largest S(q), a mean over the
momenta that are alike, costs in units of one exact log W: proposal and test, times
(1 + rho) / (1 - rho) with the autocorrelation rho from test to test. Times are per configuration,
medians; trajectories start from the length of the exact ones. With ``--transfer``
each model is then used unchanged at twice the length: its errors there, on exact data of so many
chains, and erfc(s/2), what these let expect of the acceptance. ``--results`` adds a line with MSE /
N and acceptance of each design to a file, such as tools/study/designs.jsonl, which
tools/study/equivariance_figures.py draws.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from exact_samples import add_point, ensemble_of, exact_data, propose
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.benchmark import Timer

from hpcslmc.analysis.statistics import bracket
from hpcslmc.api import learned_model
from hpcslmc.effective import MODELS, Architecture, EffectiveModel, Physics, make_model
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.settings import LearningSection
from hpcslmc.learning.trainer import Trainer
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.field import structure_factor, tangential
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream
from hpcslmc.weight.method import ExactWeight

TESTS, SAMPLED = 30, 16
"""Proposals of each design, and chains that make them."""
BATCH = 64
DESIGNS: dict[str, tuple[str, dict[str, object], float]] = {
    # model, settings, weight of the forces
    "linear": ("linear", {}, 0.0),
    "determinants 1": ("determinants", {"determinants": 1}, 0.0),
    "determinants 2": ("determinants", {"determinants": 2}, 0.0),
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


class Point(NamedTuple):
    """Exact data of a lattice, and what is needed to sample from models there.

    Attributes
    ----------
    ensemble : Ensemble
    data : DataSet
    weight : ExactWeight
    length : float
        Of exact trajectories.
    start : (chains, sites, 3)
        Where the exact chains end.
    """

    ensemble: Ensemble
    data: DataSet
    weight: ExactWeight
    length: float
    start: Tensor

    @classmethod
    def of(cls, ensemble: Ensemble, chains: int, configurations: int) -> "Point":
        data, exact, start, _ = exact_data(ensemble, chains, configurations)
        return cls(ensemble, data, exact.density, exact.length, start)

    @property
    def lattice(self) -> Lattice:
        return self.ensemble.hamiltonian.lattice

    def exact_s(self) -> float:
        """Time an exact log W, in seconds."""
        return median_s(lambda: self.weight.log_weight(self.start)) / len(self.start)

    def errors(self, model: EffectiveModel) -> tuple[float, float]:
        """MSE / N of log W, and the relative error of the forces, in the validation chains."""
        arrays = [of[self.data.validation_chains].flatten(0, 1) for of in self.data.stacked()]
        of_log_weight, of_forces = [], []
        for spins, log_weight, forces in zip(*(of.split(BATCH) for of in arrays), strict=True):
            found = model.evaluate(spins, forces=True)
            of_log_weight.append(log_weight - found.log_weight)
            of_forces.append((forces - tangential(found.forces, spins)).square().sum())
        whole = arrays[2].square().sum()
        mse = torch.cat(of_log_weight).var() / self.lattice.sites
        return float(mse), float((sum(of_forces) / whole).sqrt())

    def expected(self, mse: float) -> float:
        """Acceptance that MSE / N lets expect."""
        return math.erfc(0.5 * math.sqrt(mse * self.lattice.sites))

    def sampled(self, model: EffectiveModel, trajectories: int) -> "Sampled":
        """Acceptance and costs of proposals of a model."""
        start = self.start[:SAMPLED]
        inner, steps = propose(model, self.weight, self.length, start, trajectories, TESTS)
        spins = steps[-1].spins
        effective = inner.evaluate(spins)
        move_s = median_s(lambda: inner.move(spins, effective)) / len(spins)
        accepted = torch.stack([step.acceptance.mean() for step in steps[1:]])
        draws = self.largest(torch.stack([step.spins for step in steps], 1))
        draws -= draws.mean()
        kept = max(0.0, float((draws[:, 1:] * draws[:, :-1]).mean() / draws.square().mean()))
        tests = (1.0 + kept) / (1.0 - kept) if kept < 1.0 else math.inf
        return Sampled(
            float(accepted.mean()),
            float(accepted.std()) / math.sqrt(len(accepted)),
            median_s(lambda: model.evaluate(spins, forces=True)) / len(spins),
            trajectories * move_s,
            tests * (1.0 + trajectories * move_s / self.exact_s()),
        )

    def largest(self, spins: Tensor) -> Tensor:
        """The largest S(q), a mean over the images of q: (chains, draws)."""
        found = structure_factor(spins, self.lattice.shape)
        q = divmod(int(found.mean((0, 1)).argmax()), self.lattice.shape[1])
        signs = itertools.product((1, -1), repeat=2)
        images = {(a * x, b * y) for a, b in signs for x, y in (q, q[::-1])}
        return torch.stack([found[..., x, y] for x, y in images]).mean(0)


class Sampled(NamedTuple):
    """Of proposals of a model: seconds of its forces and of a proposal; ``cost`` in exact log W."""

    acceptance: float
    error: float
    forces_s: float
    proposal_s: float
    cost: float


def fresh(design: str, ensemble: Ensemble, shells: int) -> EffectiveModel:
    """The model of a design, untrained."""
    name, given, _ = DESIGNS[design]
    lattice, options = ensemble.hamiltonian.lattice, MODELS[name].Options
    settings = options(shells=min(shells, len(lattice.shells))).settings(lattice) | given
    model = make_model(Architecture(name, settings, Physics.of(ensemble)), lattice)
    model.initialise(Stream(1, torch.zeros(1, dtype=torch.int64), "parameters"))
    return model


def doubled(ensemble: Ensemble) -> Ensemble:
    """The ensemble at twice the length."""
    old = ensemble.hamiltonian
    lattice = Lattice(tuple(2 * side for side in old.lattice.shape))
    return Ensemble(Hamiltonian(lattice, old.couplings), ensemble.beta, ensemble.mu)


def transferred(model: EffectiveModel, lattice: Lattice) -> EffectiveModel:
    """A model with the same parameters on another lattice."""
    other = make_model(model.architecture, lattice)
    other.load_state_dict(model.state_dict())
    return other


def train(design: str, point: Point, options: argparse.Namespace) -> tuple[EffectiveModel, int]:
    """A trained model, and the gradient steps that it has taken."""
    settings = {"batch_size": BATCH, "rate": 0.01, "force_weight": DESIGNS[design][2]}

    def begun(steps: int) -> Trainer:
        stream = Stream(1, torch.arange(len(point.start)), "batches")
        made = LearningSection(steps=steps, **settings)
        model = fresh(design, point.ensemble, options.shells)
        trainer = Trainer(model, point.data, World(), stream, made)
        trainer.start_round(fit_linear=True)
        return trainer

    trainer = begun(options.steps)
    if options.seconds and not trainer.is_linear:
        step_s = median_s(trainer.train_step)
        trainer = begun(max(20, round(options.seconds / step_s)))
    while not trainer.round_finished:
        trainer.train_step()
    trainer.finish_round()
    return trainer.model, 0 if trainer.is_linear else trainer.step


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
    parser.add_argument("--transfer", type=int, default=0, help="chains at twice the length")
    parser.add_argument("--results", type=Path, help="file of lines to add to")
    parser.add_argument(
        "--models", nargs="*", default=[], metavar="PATH", help="learned models to use unchanged"
    )
    parser.add_argument(
        "--designs", nargs="*", choices=DESIGNS, default=list(DESIGNS), metavar="DESIGN"
    )
    options = parser.parse_args()
    prepare_process()
    point = Point.of(ensemble_of(options), options.chains, options.configurations)
    large = None
    if options.transfer:
        large = Point.of(doubled(point.ensemble), options.transfer, BATCH)
    table = Table(
        "design",
        "steps",
        "parameters",
        "training, s",
        "MSE / N",
        "force error",
        "erfc(s/2)",
        "acceptance",
        "forces, ms",
        "proposal, ms",
        "independent sample, log W",
        *(("MSE / N, 2 L", "erfc(s/2), 2 L") if large else ()),
        title=f"{options.length}x{options.length}, J = {options.J:g}, mu = {options.mu:g}, "
        f"T = {options.T:g}, {len(point.data) * options.chains} exact configurations, "
        f"{BATCH} of them a step; exact log W {1e3 * point.exact_s():.2f} ms",
    )
    place = {key: getattr(options, key) for key in ("length", "J", "mu", "T")}
    for design in [*(ZOO if options.zoo else options.designs), *options.models]:
        began, steps = time.perf_counter(), 0
        if design in options.models:
            model = learned_model(design, point.lattice)
        else:
            model, steps = train(design, point, options)
        training_s = time.perf_counter() - began
        mse, force_error = point.errors(model)
        found = point.sampled(model, options.trajectories)
        known = {"design": design, "mse": mse, "acceptance": [found.acceptance, found.error]}
        row = [
            design,
            str(steps),
            str(sum(p.numel() for p in model.parameters())),
            f"{training_s:.0f}",
            f"{mse:.1e}",
            f"{force_error:.3f}",
            f"{point.expected(mse):.3f}",
            bracket(found.acceptance, found.error),
            f"{1e3 * found.forces_s:.3f}",
            f"{1e3 * found.proposal_s:.2f}",
            f"{found.cost:.3g}",
        ]
        if large:
            mse = large.errors(transferred(model, large.lattice))[0]
            row += [f"{mse:.1e}", f"{large.expected(mse):.3f}"]
        table.add_row(*row)
        print(" ".join(row), flush=True)
        if options.results:
            with options.results.open("a") as results:
                results.write(json.dumps({**place, **known}) + "\n")
    Console(width=170, force_terminal=False).print(table)


if __name__ == "__main__":
    main()
