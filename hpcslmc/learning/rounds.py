"""Self-learning: rounds of training and collecting until the acceptance stops rising."""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.effective import EffectiveModel
from hpcslmc.effective.model import ForceFitted
from hpcslmc.learning.trainer import Trainer
from hpcslmc.sampling import HMC, SLMC, Chains, Move, Step

STAGES = ("explore", "train", "collect", "finished")
CONFIGURATIONS = 80
"""Configurations of each chain in a stage, if the job names no number..."""
VALIDATED, MEASURED_PROPOSALS = 64, 32
"""...but for a model that is fitted to forces: of all chains that validate, and proposals that
measure the acceptance and tune the moves."""


class SelfLearning:
    """Learning of the effective model while the chains keep sampling the exact weight.

    Stages, in order: ``explore`` (exact moves give the first data; of HMC, every point of a
    trajectory), then rounds of ``train`` (gradient steps) and ``collect`` (self-learning steps
    whose proposals, accepted or not, join the data and whose acceptance is measured). All data
    stay, so every round replays those before. A round whose acceptance does not exceed the best so
    far by more than two standard errors of it is the last, and so is one after which the budget of
    exact evaluations is spent; the parameters of the best round are kept.

    Parameters
    ----------
    trainer : Trainer
        Of the model, with its data and settings. With no rounds the acceptance of the model as it
        is gets measured, and the inner moves are tuned, nothing else.
    exact : Move
        Move under the exact weight, for exploring.
    slmc : SLMC
    moves : int
        Exact moves between two configurations of the exploring stage, where the moves evaluate no
        forces.
    balances : bool
        Whether the number of inner moves between two exact tests is to be found, at the end of
        learning.
    fit_linear : bool
        Whether the couplings start from least squares, not from what the model came with.
    start_remark : str
        What the user should know of the parameters that the model came with.

    Attributes
    ----------
    budget : int or None
        Most exact evaluations of one chain, over all stages.
    curve : list of dict
        Learning curve: round, step, loss, validation MSE of log W, MSE per site.
    history : list of dict
        One entry a round: acceptance measured with its standard error, and predicted by the
        validation MSE.
    evaluations : int
        Exact evaluations of one chain so far.
    remarks : list of str
        What the user should know.
    """

    def __init__(
        self,
        trainer: Trainer,
        exact: Move,
        slmc: SLMC,
        *,
        moves: int,
        balances: bool = False,
        fit_linear: bool = True,
        start_remark: str = "",
    ) -> None:
        self.trainer, self.exact, self.slmc = trainer, exact, slmc
        self.model, self.data, self.world = trainer.model, trainer.data, trainer.world
        self.settings, self.moves, self.fit_linear = trainer.settings, moves, fit_linear
        self.balances = balances
        self.budget = self.settings.chain_budget(self.data.chains_total)
        self.stage: Literal["explore", "train", "collect", "finished"] = (
            "explore" if self.settings.rounds else "collect"
        )
        self.round = self.evaluations = 0
        self.curve: list[dict] = []
        self.history: list[dict] = []
        self.remarks: list[str] = []
        self._start_remark = start_remark
        self._accepted: list[float] = []
        self._best: dict = {}

    @property
    def finished(self) -> bool:
        """True if the parameters are frozen."""
        return self.stage == "finished"

    @property
    def progress(self) -> tuple[int, int]:
        """Units of work done in this stage, and its total."""
        if self.stage == "train":
            return self.trainer.step, self.settings.steps
        done = len(self.data) if self.stage == "explore" else len(self._accepted)
        return min(done, self._stage_length), self._stage_length

    def longest(self, stage: str) -> int:
        """Configurations of each chain in a stage, unless the budget is spent first."""
        if self.settings.configurations is not None:
            return self.settings.configurations
        if not isinstance(self.model, ForceFitted):
            return CONFIGURATIONS
        if stage == "collect":
            return MEASURED_PROPOSALS
        validation = -(-VALIDATED // self.data.validation_chains_total)
        return max(self.trainer.fitted_draws, validation)

    @property
    def _stage_length(self) -> int:
        """Configurations that this stage collects."""
        longest = self.longest(self.stage)
        if self.budget is None:
            return longest
        before = 0 if self.stage == "explore" else self.evaluations - len(self._accepted)
        return max(1, min(longest, self.budget - before))

    @property
    def acceptance(self) -> float:
        """Acceptance measured so far in this round, nan before."""
        return float(np.mean(self._accepted)) if self._accepted else math.nan

    def advance(self, chains: Chains) -> Chains:
        """Do one unit of work in the present stage; returns the chains after it. Collective."""
        if self.stage == "train":
            self._train()
            return chains
        carry_on = self._explore if self.stage == "explore" else self._collect
        step = carry_on(chains.spins, chains.evaluation)
        return replace(chains, spins=step.spins, evaluation=step.evaluation)

    def begin(self) -> None:
        """Start from what the exact moves have found in thermalisation."""
        self.slmc.inner.follow(self.exact)
        if self._start_remark:
            self.remarks.append(self._start_remark)

    def _explore(self, spins: Tensor, evaluation: Evaluation) -> Step:
        step = self.exact.move(spins, evaluation, keep_visited=True)
        for point in step.visited:
            self.data.add(*point)
        if not step.visited:  # a move without forces
            for _ in range(self.moves - 1):
                step = self.exact.move(step.spins, step.evaluation)
            self.data.add(step.spins, self.slmc.evaluate(step.spins, forces=True))
        self.evaluations = len(self.data)
        if len(self.data) >= self._stage_length:
            self._start_round(self.fit_linear or self.trainer.is_linear)
        return step

    def _start_round(self, fit_linear: bool = False) -> None:
        self.stage = "train"
        self.round += 1
        self.trainer.start_round(fit_linear)
        if fit_linear and isinstance(self.model, ForceFitted):
            self.remarks.append(self.model.chosen_in_words)

    def _train(self) -> None:
        told = len(self.trainer.remarks)
        self.trainer.train_step()
        self.remarks += [f"round {self.round}: {remark}" for remark in self.trainer.remarks[told:]]
        if self.trainer.round_finished:
            self.trainer.finish_round()
            self.curve += [{"round": self.round, **point} for point in self.trainer.curve]
            self.stage = "collect"

    def _collect(self, spins: Tensor, evaluation: Evaluation) -> Step:
        step = self.slmc.move(
            spins, evaluation, forces=self.settings.rounds > 0 and self.settings.force_weight > 0.0
        )
        self.data.add(step.proposal, step.proposal_evaluation)
        self.evaluations += 1
        sums = torch.cat((step.acceptance[:, None], step.tuning), 1).sum(0).cpu().numpy()
        accepted, *means = (self.world.sum(sums) / (self.world.size * len(spins))).tolist()
        self.slmc.tune(means)
        self._accepted.append(accepted)
        if len(self._accepted) >= self._stage_length:
            self._finish_round()
        return step

    def _finish_round(self) -> None:
        if self.settings.rounds == 0:
            self.trainer.start_round()
            self.curve += [{"round": 0, **point} for point in self.trainer.curve]
        mse = self.trainer.mse
        acceptance = self.acceptance
        error = float(np.std(self._accepted) / math.sqrt(len(self._accepted)))
        self.history.append(
            {
                "round": self.round,
                "evaluations": self.evaluations * self.data.chains_total,
                "mse": mse,
                "mse_per_site": mse / self.model.sites,
                "acceptance": acceptance,
                "acceptance_error": error,
                "predicted_erfc": math.erfc(math.sqrt(mse) / 2.0),
                "predicted_exp": math.exp(-math.sqrt(mse)),
            }
        )
        self._accepted = []
        # keep the best parameters so far
        previous = self._best.get("acceptance", -math.inf)
        if acceptance > previous:
            parameters = {name: value.clone() for name, value in self.model.state_dict().items()}
            self._best = {"acceptance": acceptance, "parameters": parameters}
        # end when rounds or budget are spent, or acceptance has stopped rising
        spent = self.budget is not None and self.evaluations >= self.budget
        learned = isinstance(self.model, ForceFitted)  # from the first data, which have forces
        risen = acceptance >= previous + 2.0 * error
        if self.round >= self.settings.rounds or spent or learned or not risen:
            self.stage = "finished"
            self.model.load_state_dict(self._best["parameters"])
            self._balance()
        else:
            self._start_round(fit_linear=self.trainer.is_linear)

    def _balance(self) -> None:
        """Choose the number of inner moves between two exact tests, where their cost is known."""
        cost, inner = self.model.relative_cost, self.slmc.inner
        if self.balances and cost is not None and isinstance(inner, HMC):
            self.slmc.balance(cost * inner.steps)
            self.remarks.append(
                f"trajectories of a proposal: {self.slmc.inner_moves}, each at "
                f"{cost * inner.steps:.2g} of the cost of an exact test"
            )

    def start_from(self, model: EffectiveModel) -> None:
        """Take another model's parameters to start with; the couplings are fitted all the same."""
        if self.fit_linear:
            self.model.load_state_dict(model.state_dict())

    def state_dict(self) -> dict:
        """Return all state but the model, the moves and the data, saved with their owners."""
        return {
            "stage": self.stage,
            "round": self.round,
            "curve": self.curve,
            "history": self.history,
            "evaluations": self.evaluations,
            "remarks": self.remarks,
            "accepted": self._accepted,
            "best": self._best,
            "trainer": {} if self.finished else self.trainer.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.stage, self.round = state["stage"], state["round"]
        self.curve, self.history = state["curve"], state["history"]
        self.evaluations, self.remarks = state["evaluations"], state["remarks"]
        self._accepted, self._best = state["accepted"], state["best"]
        if not self.finished:
            self.trainer.load_state_dict(state["trainer"])
