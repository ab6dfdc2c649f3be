"""One effective model for all temperatures of a ladder against one for each, learned at the same
cost.

    python tools/study/ladder_models.py [--length 8] [--temperatures 0.03 0.045 0.07 0.11 0.2 0.5]
    [--steps 500] [--channels 4]

J = 1, half filling, message passing. All models learn log W / beta from the same exact evaluations,
forces included, and know the temperature through the free electrons' propagators. Models of their
own take ``steps`` gradient steps at each temperature, one after the other from hot to cold, each
starting from its neighbour's parameters. The shared model takes as many steps in all, on batches of
the same size divided equally among the temperatures; its linear couplings still belong to each
temperature, by least squares. Errors are those of chains that nothing was learned from, after the
last step; the acceptance is erfc(sqrt(MSE) / 2).
"""

import argparse
import copy
import math

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hpcslmc.density import Evaluation
from hpcslmc.effective import Architecture, EffectiveModel, FreeElectrons, Physics, make_model
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.optimiser import SOAP, schedule
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import make_move
from hpcslmc.streams import Stream
from hpcslmc.weight.diagonalise import Diagonalise

CHAINS, VALIDATION_INTERVAL, THERMALISATION = 16, 4, 60
RATE, FORCE_WEIGHT = 0.01, 0.5
SHELLS = 14


class Task:
    """Exact evaluations at one temperature, and a model that learns them.

    Parameters
    ----------
    lattice : Lattice
    temperature : float
    configurations : int
        Of each chain.
    channels : int
    spins : (CHAINS, sites, 3) float64
        Where the chains start.

    Attributes
    ----------
    spins : (CHAINS, sites, 3) float64
        Where they end.
    model : EffectiveModel
        Of log W / beta.
    """

    def __init__(
        self,
        lattice: Lattice,
        temperature: float,
        configurations: int,
        channels: int,
        spins: torch.Tensor,
    ) -> None:
        self.beta, chains = 1.0 / temperature, torch.arange(CHAINS)
        weight = Diagonalise(Ensemble(Hamiltonian(lattice, 1.0, 1.0), self.beta, 0.0))
        move = make_move("hmc", weight, Stream(1, chains, f"moves {temperature}"))
        data = DataSet(ChainBlock(CHAINS, 0, CHAINS), VALIDATION_INTERVAL)
        evaluation = move.evaluate(spins)
        for k in range(THERMALISATION + configurations):
            step = move.move(spins, evaluation)
            spins, evaluation = step.spins, step.evaluation
            if k < THERMALISATION:
                move.tune(step.tuning.mean(0).tolist())
            else:
                data.add(
                    spins,
                    Evaluation(evaluation.log_weight / self.beta, evaluation.forces / self.beta),
                )
        self.spins, self._stacked = spins, data.stacked()
        self._train, self._validation = data.train_chains, data.validation_chains
        shells = lattice.shells[:SHELLS].tolist()
        settings = {"shells": shells, "layers": 1, "channels": channels}
        self.model = make_model(
            Architecture("messages", settings, Physics(FreeElectrons(1.0, 0.0, self.beta), 1.0)),
            lattice,
        )
        self.model.initialise(Stream(1, torch.zeros(1, dtype=torch.int64), "parameters"))
        self._fit_linear()

    def _chosen(self, chains: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spins, log_weight, _ = self._stacked
        return spins[chains].flatten(0, 1), log_weight[chains].flatten()

    def _fit_linear(self) -> None:
        spins, log_weight = self._chosen(self._train)
        features = self.model.correlations(spins)
        solution = torch.linalg.lstsq(
            features - features.mean(0), log_weight - log_weight.mean(), driver="gelsd"
        ).solution
        with torch.no_grad():
            self.model.couplings.copy_(solution)
        self.model.constant.copy_((log_weight - features @ solution).mean() / self.model.sites)

    def loss(self, draws: np.ndarray) -> torch.Tensor:
        """Squared error of log W and its forces in a random batch, the constant adapted."""
        spins, log_weight, forces = (x[self._train].flatten(0, 1)[draws] for x in self._stacked)
        predicted, predicted_forces = self.model.with_forces(spins)
        error = log_weight - predicted
        self.model.constant += 0.2 * float(error.detach().mean()) / self.model.sites
        return self.beta**2 * (
            error.square().sum() + FORCE_WEIGHT * (forces - predicted_forces).square().sum()
        )

    @property
    def rows(self) -> int:
        """Configurations to learn from."""
        return self._stacked[1][self._train].numel()

    def mse(self) -> float:
        """Mean squared error of log W on the validation chains, its mean removed."""
        spins, log_weight = self._chosen(self._validation)
        error = log_weight - self.model.evaluate(spins).log_weight
        return float(self.beta**2 * (error - error.mean()).square().mean())


def share(tasks: list[Task]) -> None:
    """Let all models have the parameters of the first, their couplings apart."""
    for task in tasks[1:]:
        for name, parameter in tasks[0].model.named_parameters():
            module, _, own = name.rpartition(".")
            if parameter.requires_grad:
                task.model.get_submodule(module)._parameters[own] = parameter


def learnt(model: EffectiveModel) -> list[torch.nn.Parameter]:
    """The parameters that gradient steps change."""
    return [p for p in model.parameters() if p.requires_grad]


def train(tasks: list[Task], steps: int, batch: int, random: np.random.Generator) -> None:
    """Gradient steps on batches divided equally among tasks with the same parameters."""
    parameters = learnt(tasks[0].model)
    optimiser = SOAP(parameters, RATE)
    for step in range(steps):
        loss = (
            sum(task.loss(random.integers(task.rows, size=batch // len(tasks))) for task in tasks)
            / batch
        )
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True
        ):
            parameter.grad = gradient
        optimiser.param_groups[0]["lr"] = RATE * schedule(step / steps)
        optimiser.step()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--length", type=int, default=8)
    parser.add_argument(
        "--temperatures", type=float, nargs="+", default=[0.03, 0.045, 0.07, 0.11, 0.2, 0.5]
    )
    parser.add_argument("--configurations", type=int, default=120, help="of each of 16 chains")
    parser.add_argument("--steps", type=int, default=500, help="at each temperature")
    parser.add_argument("--batch", type=int, default=60)
    parser.add_argument("--channels", type=int, default=4)
    options = parser.parse_args()
    prepare_process()
    lattice = Lattice((options.length, options.length))
    temperatures = sorted(options.temperatures, reverse=True)
    spins = Stream(1, torch.arange(CHAINS), "start").directions(lattice.sites)
    own: list[Task] = []
    for temperature in temperatures:
        own.append(Task(lattice, temperature, options.configurations, options.channels, spins))
        spins = own[-1].spins
        print(f"T = {temperature:g}: sampled", flush=True)
    shared = copy.deepcopy(own)
    linear = [task.mse() for task in own]
    for before, task in zip([None, *own], own):
        if before is not None:
            with torch.no_grad():
                for mine, its in zip(learnt(task.model), learnt(before.model), strict=True):
                    mine.copy_(its)
        print(f"learning at beta = {task.beta:.3g}", flush=True)
        train([task], options.steps, options.batch, np.random.default_rng(1))
    share(shared)
    print("learning at all temperatures", flush=True)
    train(shared, options.steps * len(shared), options.batch, np.random.default_rng(1))
    table = Table(
        "T",
        "linear: MSE",
        "acceptance",
        "one model for each: MSE",
        "acceptance",
        "one for all: MSE",
        "acceptance",
        title=(
            f"{options.length}x{options.length}, {options.steps} gradient steps a temperature: "
            "validation error of log W"
        ),
    )
    for row in zip(
        temperatures,
        linear,
        [task.mse() for task in own],
        [task.mse() for task in shared],
        strict=True,
    ):
        cells = [
            cell
            for mse in row[1:]
            for cell in (f"{mse:.4g}", f"{math.erfc(math.sqrt(mse) / 2.0):.3f}")
        ]
        table.add_row(f"{row[0]:g}", *cells)
    Console(width=130, force_terminal=False).print(table)


if __name__ == "__main__":
    main()
