"""Self-learning: rounds of training and collecting until the acceptance stops rising."""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hpcslmc.effective import EffectiveModel
from hpcslmc.evaluation import Evaluation
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.trainer import Trainer
from hpcslmc.parallel import World
from hpcslmc.sampling import SLMC, Move, Step

CURVE_POINTS = 10
"""Points of the learning curve in each round."""


class SelfLearning:
    """Learns the effective model while the chains keep sampling the exact weight.

    Stages, in order: ``explore`` (exact moves give the first data), then rounds of ``train`` (gradient
    steps) and ``collect`` (self-learning steps whose proposals, accepted or not, join the data and whose
    acceptance is measured). A round whose acceptance does not exceed the best so far by more than two
    standard errors of it is the last; the parameters of the best round are kept.

    Parameters
    ----------
    model : EffectiveModel
    exact : Move
        Move under the exact weight, for exploring.
    slmc : SLMC
    data : DataSet
    trainer : Trainer
    world : World
    rounds : int
        Most rounds.
    configurations : int
        Configurations that every chain adds to the data in each stage of exploring or collecting.
    moves : int
        Exact moves between two configurations of the exploring stage.

    Attributes
    ----------
    curve : list of dict
        Learning curve: round, step, loss, validation MSE of log W, MSE per site.
    history : list of dict
        One entry a round: acceptance measured with its standard error, and predicted by the validation MSE.
    """

    def __init__(self, model: EffectiveModel, exact: Move, slmc: SLMC, data: DataSet, trainer: Trainer, world: World,
                 *, rounds: int, configurations: int, moves: int) -> None:
        self.model, self.exact, self.slmc = model, exact, slmc
        self.data, self.trainer, self.world = data, trainer, world
        self.rounds, self.configurations, self.moves = rounds, configurations, moves
        self.stage: Literal["explore", "train", "collect", "finished"] = "explore"
        self.round = 0
        self.curve: list[dict] = []
        self.history: list[dict] = []
        self._accepted: list[float] = []
        self._best: dict = {}

    @property
    def finished(self) -> bool:
        """Whether the parameters are frozen."""
        return self.stage == "finished"

    @property
    def progress(self) -> tuple[int, int]:
        """Units of work done in this stage, and its total."""
        if self.stage == "train":
            return self.trainer.step, self.trainer.steps
        done = len(self.data) if self.stage == "explore" else len(self._accepted)
        return done, self.configurations

    @property
    def acceptance(self) -> float:
        """Acceptance measured so far in this round, nan before."""
        return float(np.mean(self._accepted)) if self._accepted else math.nan

    def advance(self, spins: Tensor, evaluation: Evaluation) -> tuple[Tensor, Evaluation]:
        """One unit of work in the present stage; returns the chains after it. Collective."""
        if self.stage == "train":
            self._train()
            return spins, evaluation
        step = self._explore(spins, evaluation) if self.stage == "explore" else self._collect(spins, evaluation)
        return step.spins, step.evaluation

    def _explore(self, spins: Tensor, evaluation: Evaluation) -> Step:
        for _ in range(self.moves):
            step = self.exact.move(spins, evaluation)
            spins, evaluation = step.spins, step.evaluation
        if evaluation.forces is None:
            evaluation = self.slmc.evaluate(spins, forces=True)
        self.data.add(spins, evaluation)
        if len(self.data) == self.configurations:
            self._start_round()
            self.trainer.fit_linear()
        return step

    def _start_round(self) -> None:
        self.stage = "train"
        self.round += 1
        self.trainer.start_round()

    def _train(self) -> None:
        self.trainer.train_step()
        if self.trainer.round_finished:
            self.trainer.finish_round()
            self.stage = "collect"
        if self.trainer.step % max(1, self.trainer.steps // CURVE_POINTS) == 0 or self.trainer.round_finished:
            mse = self.trainer.validate()
            self.curve.append({"round": self.round, "step": self.trainer.step, "loss": self.trainer.loss,
                               "mse": mse, "mse_per_site": mse / self.model.sites})

    def _collect(self, spins: Tensor, evaluation: Evaluation) -> Step:
        step = self.slmc.move(spins, evaluation, forces=True)
        self.data.add(step.proposal, step.proposal_evaluation)
        counts = torch.stack((step.acceptance.sum(), step.inner_acceptance.sum())).cpu().numpy()
        accepted, inner_accepted = self.world.sum(counts) / (self.world.size * len(spins))
        self.slmc.inner.tune(float(inner_accepted))
        self._accepted.append(float(accepted))
        if len(self._accepted) == self.configurations:
            self._finish_round()
        return step

    def _finish_round(self) -> None:
        mse = self.curve[-1]["mse"]
        acceptance = self.acceptance
        error = float(np.std(self._accepted) / math.sqrt(len(self._accepted)))
        self.history.append({
            "round": self.round, "configurations": len(self.data), "mse": mse, "mse_per_site": mse / self.model.sites,
            "acceptance": acceptance, "acceptance_error": error,
            "predicted_erfc": math.erfc(math.sqrt(mse) / 2.0), "predicted_exp": math.exp(-math.sqrt(mse)),
        })
        self._accepted = []
        previous = self._best.get("acceptance", 0.0)
        if acceptance > previous:
            parameters = {name: value.clone() for name, value in self.model.state_dict().items()}
            self._best = {"acceptance": acceptance, "parameters": parameters}
        if self.round == self.rounds or acceptance < previous + 2.0 * error:
            self.stage = "finished"
            self.model.load_state_dict(self._best["parameters"])
            self.data.clear()
        else:
            self._start_round()

    def state_dict(self) -> dict:
        """Everything but the model, the moves and the data, which are saved with their owners."""
        return {"stage": self.stage, "round": self.round, "curve": self.curve, "history": self.history,
                "accepted": self._accepted, "best": self._best, "trainer": self.trainer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.stage, self.round = state["stage"], state["round"]
        self.curve, self.history = state["curve"], state["history"]
        self._accepted, self._best = state["accepted"], state["best"]
        if not self.finished:
            self.trainer.load_state_dict(state["trainer"])
