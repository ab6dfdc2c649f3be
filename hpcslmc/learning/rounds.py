"""Self-learning: rounds of training and collecting until the acceptance stops rising."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hpcslmc.autocorrelation import autocorrelation_time
from hpcslmc.density import Density, Evaluation
from hpcslmc.effective import EffectiveModel
from hpcslmc.effective.model import Costs, ForceFitted
from hpcslmc.learning.trainer import Trainer
from hpcslmc.learning.validation import predicted_acceptance
from hpcslmc.physics.field import structure_factor
from hpcslmc.sampling import HMC, SLMC, Chains, Move, RandomImages, Step
from hpcslmc.sampling.classical import WithClassical

STAGES = ("explore", "train", "collect", "finished")
CONFIGURATIONS = 80
"""Configurations of each chain in a stage, if the job names no number..."""
JUDGED, MEASURED_PROPOSALS = 64, 32
"""...but for a model that is fitted to forces: of all chains, by which the terms are chosen, and
proposals that measure the acceptance and tune the moves."""

MOMENTA = 16
"""Largest structure factors whose autocorrelation counts."""

ENOUGH = 0.75
"""Acceptance that the cheapest model's error predicts from which more terms of it cannot pay.

Trajectories are tested for their own errors and the model's at once: where 0.8 are accepted by
themselves, 0.68 are then.
"""


def _costs(density: Density) -> Costs | None:
    """Return the costs of a model's evaluations, where they are known."""
    if isinstance(density, WithClassical):
        density = density.electrons
    return density.relative_costs if isinstance(density, EffectiveModel) else None


def _cost_of(move: Move) -> float | None:
    """Choose the numbers of moves between two tests of each level, and return what a move costs.

    In units of an exact test; None where its model does not know. Of a level whose cheaper models
    do not, their moves count as much as its test.
    """
    if not isinstance(move, HMC | SLMC):
        return None
    costs = _costs(move.density if isinstance(move, HMC) else move.weight)
    if costs is None:
        return None
    if isinstance(move, HMC):
        return move.steps * costs.with_forces
    inner = _cost_of(move.inner)
    if inner is None:
        return 2.0 * costs.alone
    move.balance(inner / costs.alone)
    return costs.alone + move.inner_moves * inner


def without_streams(state: dict) -> dict:
    """Return what was found for a move, of its state: all but random numbers."""
    return {
        key: without_streams(value) if isinstance(value, dict) else value
        for key, value in state.items()
        if key != "stream"
    }


def _with_streams_of(state: dict, found: dict) -> dict:
    """Return what was found for a move before, with the random numbers of its present state."""
    return {
        key: value
        if key == "stream"
        else _with_streams_of(value, found[key])
        if isinstance(value, dict)
        else found[key]
        for key, value in state.items()
    }


class SelfLearning:
    """Learning of the effective model while the chains keep sampling the exact weight.

    Stages, in order: ``explore`` (exact moves give the first data; of HMC, every point of a
    trajectory), then rounds of ``train`` (gradient steps) and ``collect`` (self-learning steps
    whose proposals, accepted or not, join the data and whose acceptance is measured). All data
    stay, so every round replays those before. A round whose acceptance does not exceed the best so
    far by more than two standard errors of it is the last, and so is one after which the budget of
    exact evaluations is spent; the parameters of the best round are kept. Models that are fitted to
    forces take one round; or, where the cheapest one tries, each round gives it more terms, as long
    as independent samples are expected to cost less, and its proposals are not accepted anyway.

    Parameters
    ----------
    trainers : list of Trainer
        One for each effective model, cheapest first, of the same data and settings. With no rounds
        the acceptance of the models as they are gets measured, and the inner moves are tuned,
        nothing else.
    exact : Move
        Move under the exact weight, for exploring.
    slmc : SLMC
    shape : (int, int)
        Of the lattice.
    moves : int
        Exact moves between two configurations of the exploring stage, where the moves evaluate no
        forces.
    balances : bool
        Whether the number of inner moves between two exact tests is to be found.
    settling : int
        Moves of a round, if the job names no number and all models are fitted to forces, in which
        the chains go on to thermalise; all the same some steps measure the acceptance.
    fit_linear : list of bool
        Whether each model's couplings start from least squares, not from what it came with.
    start_remarks : list of str
        What the user should know of the parameters that the models came with.
    images : RandomImages, optional
        At which proposals, and later samples, are looked at.

    Attributes
    ----------
    budget : int or None
        Most exact evaluations of one chain, over all stages.
    curve : list of dict
        Learning curve: round, step, loss, validation MSE of log W, MSE per site.
    history : list of dict
        One entry a round: acceptance measured with its standard error, and predicted by the
        validation MSE; exact tests that an independent sample is expected to take, where they were
        worked out to compare rounds.
    evaluations : int
        Exact evaluations of one chain so far.
    remarks : list of str
        What the user should know.
    """

    def __init__(
        self,
        trainers: Sequence[Trainer],
        exact: Move,
        slmc: SLMC,
        *,
        shape: tuple[int, ...],
        moves: int,
        balances: bool = False,
        settling: int = 0,
        fit_linear: Sequence[bool] = (True,),
        start_remarks: Sequence[str] = (),
        images: RandomImages | None = None,
    ) -> None:
        self.trainers, self.exact, self.slmc, self.images = trainers, exact, slmc, images
        self.trainer = trainer = trainers[-1]
        self.model, self.data, self.world = trainer.model, trainer.data, trainer.world
        self.shape = shape
        self.settings, self.moves, self.fit_linear = trainer.settings, moves, fit_linear
        self.balances, self.settling = balances, settling
        self.budget = self.settings.chain_budget(self.data.chains_total)
        self.stage: Literal["explore", "train", "collect", "finished"] = (
            "explore" if self.settings.rounds else "collect"
        )
        self.round = self.evaluations = 0
        self.curve: list[dict] = []
        self.history: list[dict] = []
        self.remarks: list[str] = []
        self._start_remarks = start_remarks
        self._accepted: list[float] = []
        self._inner_accepted: list[float] = []
        self._best: dict = {}
        self._least = 0  # of the cheapest model's selections, where the next round starts

    @property
    def finished(self) -> bool:
        """True if the parameters are frozen."""
        return self.stage == "finished"

    @property
    def progress(self) -> tuple[int, int]:
        """Units of work done in this stage, and its total."""
        if self.stage == "train":
            return self._in_training.step, self.settings.steps
        done = len(self.data) if self.stage == "explore" else len(self._accepted)
        return min(done, self._stage_length), self._stage_length

    @property
    def models(self) -> list[EffectiveModel]:
        """All effective models, cheapest first; ``model`` is the last of them."""
        return [trainer.model for trainer in self.trainers]

    @property
    def _in_training(self) -> Trainer:
        """The trainer of the first model that is not trained in this round."""
        unfinished = [trainer for trainer in self.trainers if not trainer.round_finished]
        return unfinished[0] if unfinished else self.trainer

    @property
    def _fitted_to_forces(self) -> bool:
        """True if all models are fitted to the forces of the first data, once for all."""
        return all(isinstance(model, ForceFitted) for model in self.models)

    @property
    def tries(self) -> bool:
        """True if each round gives the cheapest model more terms, as long as that pays."""
        first = self.models[0]
        wanted = isinstance(first, ForceFitted) and first.tries and self._fitted_to_forces
        learns = self.settings.rounds > 0 and self.balances
        return wanted and learns and self.model.relative_costs is not None

    def longest(self, stage: str) -> int:
        """Configurations of each chain in a stage, unless the budget is spent first."""
        if self.settings.configurations is not None:
            return self.settings.configurations
        if not self._fitted_to_forces:
            return CONFIGURATIONS
        if stage == "collect":
            return max(MEASURED_PROPOSALS, self.settling)
        fitted = self.trainer.fits.draws(self.model.sites)
        return max(fitted, -(-JUDGED // self.data.chains_total))

    @property
    def _stage_length(self) -> int:
        """Configurations that this stage collects."""
        longest = self.longest(self.stage)
        if self.stage == "collect" and self.settings.configurations is None and self.settling:
            # each proposal takes the place of as many moves as it makes; once is enough
            settling = -(-self.settling // self.slmc.inner_moves) if self.round <= 1 else 0
            longest = max(MEASURED_PROPOSALS, settling)
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
        self.remarks += self._start_remarks
        if self.stage == "collect":
            self._start_balance()

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
            self._start_round(self.fit_linear)
        return step

    def _start_round(self, fit_linear: Sequence[bool]) -> None:
        """Start to train all models; some of those with gradient steps by least squares first."""
        self.stage = "train"
        self.round += 1
        if self._least:
            self.slmc.inner.follow(self.exact)
        for trainer, fits in zip(self.trainers, fit_linear, strict=True):
            least = self._least if trainer is self.trainers[0] else 0
            trainer.start_round(fits or trainer.is_linear, least)
            if isinstance(trainer.model, ForceFitted):
                which = f"level {self.trainers.index(trainer)}: " if self.trainers[1:] else ""
                self._remark(which + trainer.model.chosen_in_words)
        if self.tries:
            self._least = self.trainers[0].selected + 1

    def _remark(self, words: str) -> None:
        """Tell the user something, of the round if there are several."""
        self.remarks.append(f"round {self.round}: {words}" if self.tries else words)

    def _train(self) -> None:
        trainer = self._in_training
        told = len(trainer.remarks)
        trainer.train_step()
        self.remarks += [f"round {self.round}: {remark}" for remark in trainer.remarks[told:]]
        if not trainer.round_finished:
            return
        trainer.finish_round()
        if trainer is self.trainer:
            self.curve += [{"round": self.round, **point} for point in trainer.curve]
            self.stage = "collect"
            self._start_balance()

    @property
    def _collects_forces(self) -> bool:
        """True if the forces of proposals are learned from, here or in other runs."""
        settings = self.settings
        further = settings.keep_data or not self._fitted_to_forces
        return settings.rounds > 0 and settings.force_weight > 0.0 and further

    def _collect(self, spins: Tensor, evaluation: Evaluation) -> Step:
        step = self.slmc.move(spins, evaluation, forces=self._collects_forces)
        proposed = step.proposal, step.proposal_evaluation
        self.data.add(*(self.images.of(*proposed) if self.images else proposed))
        self.evaluations += 1
        columns = (step.acceptance[:, None], step.inner_acceptance[:, None], step.tuning)
        sums = torch.cat(columns, 1).sum(0).cpu().numpy()
        accepted, inner, *means = (self.world.sum(sums) / (self.world.size * len(spins))).tolist()
        self.slmc.tune(means)
        self._accepted.append(accepted)
        self._inner_accepted.append(inner)
        if len(self._accepted) >= self._stage_length:
            self._finish_round()
        return step

    def _finish_round(self) -> None:
        if self.settings.rounds == 0:
            for trainer in self.trainers:
                trainer.start_round()
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
                "predicted_erfc": predicted_acceptance(mse),
                "predicted_exp": math.exp(-math.sqrt(mse)),
                "tests": math.nan,
            }
        )
        passed, steps = float(np.mean(self._inner_accepted)), len(self._accepted)
        self._accepted, self._inner_accepted = [], []
        # keep the best parameters so far
        previous = self._best.get("score", -math.inf)
        tries = self.tries
        spent = self._finish_balance(passed, steps) if tries else None
        score = acceptance
        if spent is not None:
            score, self.history[-1]["tests"] = -spent, spent
        if score > previous:
            parameters = {
                str(level): {name: value.clone() for name, value in model.state_dict().items()}
                for level, model in enumerate(self.models)
            }
            moves = without_streams(self.slmc.state_dict())
            self._best = {"score": score, "parameters": parameters, "moves": moves}
            self._best["round"] = self.round
        # end when rounds or budget are spent, or the score has stopped rising
        over = self.budget is not None and self.evaluations >= self.budget
        risen = score >= previous + (2.0 * error if spent is None else 0.0)
        if tries:
            cheapest = self.trainers[0]
            enough = predicted_acceptance(cheapest.mse) >= ENOUGH
            over = over or self._least == cheapest.selections or enough
        once = self._fitted_to_forces and not tries
        if not (self.round >= self.settings.rounds or over or once or not risen):
            self._start_round([False] * len(self.trainers))
            return
        self.stage = "finished"
        for level, model in enumerate(self.models):
            model.load_state_dict(self._best["parameters"][str(level)])
        if tries:
            found = _with_streams_of(self.slmc.state_dict(), self._best["moves"])
            self.slmc.load_state_dict(found)
            self._tell_of_best()
        else:
            self._finish_balance(passed, steps)

    def _tell_of_best(self) -> None:
        """Keep the remarks on the best round, and say why it is."""
        best = self._best["round"]
        spent = ", ".join(f"{row['tests']:.2g}" for row in self.history)
        kept = [words for words in self.remarks if words.startswith(f"round {best}: ")]
        self.remarks = [
            *self._start_remarks,
            *kept,
            f"round {best} is kept: an independent sample was expected to take {spent} tests",
        ]

    def _start_balance(self) -> None:
        """Choose the number of inner moves between two exact tests by their cost, if it is known.

        Those of cheaper levels are chosen too; all by counted costs, not by a clock.
        """
        cost = _cost_of(self.slmc.inner) if self.balances else None
        if cost is not None:
            self.slmc.balance(cost)

    def _finish_balance(self, passed: float, steps: int) -> float | None:
        """Choose the numbers once for all, by the autocorrelation of so many steps too. Collective.

        ``passed`` is the acceptance of inner moves. Returns what an independent sample is expected
        to take, in units of an exact test, if costs are known.
        """
        cost = _cost_of(self.slmc.inner) if self.balances else None
        if cost is None:
            return None
        spent = self.slmc.balance(cost, self._autocorrelation_time(steps))
        self._remark(
            f"{self._inner_kind} between exact tests: {self.slmc.inner_moves}, each at {cost:.2g} "
            f"of the cost of a test and accepted with {passed:.2f}; an independent sample is "
            f"expected to take {spent:.2g} tests"
        )
        return spent

    def _autocorrelation_time(self, steps: int) -> float:
        """Integrated autocorrelation time of the last proposals, the larger of two. Collective.

        That of log W, and of the structure factor where it is largest, each momentum counted as it
        fluctuates. (Their sum would not know how long an order takes to become another one.) The
        mean over all chains at each time is subtracted: what they have in common is relaxation.
        """
        spins, log_weight, _ = (of[:, -steps:] for of in self.data.stacked())
        cells = math.prod(self.shape)
        by_sublattice = spins.unflatten(2, (cells, -1)).transpose(2, 3)
        orders = structure_factor(by_sublattice, self.shape).flatten(2)
        mean = self.world.sum(orders.sum((0, 1)).cpu().numpy())
        largest = np.argsort(-mean, kind="stable")[:MOMENTA].copy()
        both = torch.cat((log_weight[..., None], orders[..., largest]), 2).cpu().numpy()
        series = np.concatenate(self.world.all_of(both), 0)  # (chains, draws, 1 + momenta)
        series = np.moveaxis(series - series.mean(0), 2, 0)
        return max(
            autocorrelation_time(draws.reshape(-1, steps)) for draws in (series[0], series[1:])
        )

    @property
    def _inner_kind(self) -> str:
        """Name of the moves between two exact tests."""
        return "trajectories" if isinstance(self.slmc.inner, HMC) else "screened proposals"

    def start_from(self, models: Sequence[EffectiveModel]) -> None:
        """Take other models' parameters to start with; the couplings are fitted all the same."""
        for own, other, fits in zip(self.models, models, self.fit_linear, strict=True):
            if fits:
                own.load_state_dict(other.state_dict())

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
            "inner_accepted": self._inner_accepted,
            "best": self._best,
            "least": self._least,
            "images": self.images.state_dict() if self.images else {},
            "trainers": {
                str(level): {} if self.finished else trainer.state_dict()
                for level, trainer in enumerate(self.trainers)
            },
        }

    def load_state_dict(self, state: dict) -> None:
        self.stage, self.round = state["stage"], state["round"]
        self.curve, self.history = state["curve"], state["history"]
        self.evaluations, self.remarks = state["evaluations"], state["remarks"]
        self._accepted, self._best = state["accepted"], state["best"]
        self._inner_accepted, self._least = state["inner_accepted"], state["least"]
        if self.images:
            self.images.load_state_dict(state["images"])
        if not self.finished:
            for level, trainer in enumerate(self.trainers):
                trainer.load_state_dict(state["trainers"][str(level)])
