"""Self-learning Monte Carlo: many moves under W_eff, then one exact test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Density, Evaluation
from hpcslmc.sampling.hmc import HMC
from hpcslmc.sampling.move import Move, Step
from hpcslmc.streams import Stream

MOST_INNER_MOVES = 64
"""Most inner moves between two exact tests that are found."""
FORGOTTEN = 0.05
"""Autocorrelation below which it counts as this, since no short run tells it from zero."""


@dataclass(frozen=True, kw_only=True)
class SLMCStep(Step):
    """A step that also shows what was proposed, accepted or not.

    Attributes
    ----------
    proposal : (chains, sites, 3) float64
    proposal_evaluation : Evaluation
        Exact evaluation of the proposal.
    error_change : (chains,) float64
        Change of log W - log W_eff from the old configuration to the proposal.
    inner_acceptance : (chains,) float64
        Acceptance of the moves under W_eff, whether that counted or not.
    effective : Evaluation
        Of W_eff at ``spins``, as the inner moves want it.
    """

    proposal: Tensor
    proposal_evaluation: Evaluation
    error_change: Tensor
    inner_acceptance: Tensor
    effective: Evaluation


class _Proposal(NamedTuple):
    """A proposal of moves under W_eff.

    Attributes
    ----------
    spins : (chains, sites, 3) float64
    effective : Evaluation
        Of W_eff.
    gain : (chains,) float64
        What a test under W_eff, which has not been made, would compare; 0 after one.
    acceptance : (chains,) float64
        Of the moves under W_eff.
    tuning : (chains, numbers) float64
        Means of ``Step.tuning``.
    """

    spins: Tensor
    effective: Evaluation
    gain: Tensor
    acceptance: Tensor
    tuning: Tensor


class SLMC:
    r"""Proposals from a chain under W_eff, corrected by the exact weight.

    .. math:: A(S'|S) = \min\left(1, \frac{W(S')\, W_{\rm eff}(S)}{W(S)\, W_{\rm eff}(S')}\right)

    Detailed balance: let T(S'|S) be the chance that n inner moves carry S to S'. The inner moves
    are iid draws from one reversible kernel, so W_eff(S) T(S'|S) = W_eff(S') T(S|S'). Then W(S)
    T(S'|S) A(S'|S) = T(S'|S)/W_eff(S') min(W(S) W_eff(S'), W(S') W_eff(S)), and T(S'|S)/W_eff(S') =
    T(S|S')/W_eff(S) makes it symmetric in S and S'. This holds for any W_eff that stays fixed.

    Levels: a step is itself a move that is reversible under W, drawn from one kernel, and nothing
    was asked of W. With a model W_1 in the place of W, and a cheaper one W_0 in that of W_eff, n
    steps are inner moves under W_1 for the test of the next level, W_2 or the exact weight: by
    induction detailed balance holds for any number of levels, each of which screens the proposals
    of the one before it.

    Joint tests: where a step screens proposals for another test and its proposal is a single
    trajectory, that needs no test under W_eff of its own. It is accepted with

    .. math:: A(S'|S) = \min\left(1, \frac{W(S')}{W(S)}\, e^{K - K'}\right)

    of the kinetic energies K and K' at its ends. As a map of spins and momenta it is reversible and
    preserves volumes whatever its forces are, and momenta are drawn afresh: this is HMC for W, with
    the forces of W_eff. Errors of the trajectory and of the model are tested at once, whose
    variances add up: fewer are rejected than by one test after the other.

    Parameters
    ----------
    weight : Density
        Exact weight W, or the model of a level.
    inner : Move
        Samples W_eff; may be such steps themselves.
    stream : Stream
        Random numbers of the exact test.
    inner_moves : int
        Moves under W_eff between two exact tests.
    screens : bool
        Whether W is the model of a level, and another test follows.

    Notes
    -----
    One exact evaluation per step. Liu, Qi, Meng, Fu, PRB 95, 041101 (2017).
    """

    def __init__(
        self,
        weight: Density,
        inner: Move,
        stream: Stream,
        inner_moves: int,
        screens: bool = False,
    ) -> None:
        self.weight, self.inner, self.stream, self.inner_moves = weight, inner, stream, inner_moves
        self.screens = screens

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate the exact weight at spins (chains, sites, 3)."""
        return self.weight.evaluate(spins, forces)

    @property
    def misguided(self) -> bool:
        """True if the moves under W_eff have given up a guide."""
        return self.inner.misguided

    @property
    def tunings(self) -> int:
        """Times that the moves under W_eff have been tuned."""
        return self.inner.tunings

    def move(
        self,
        spins: Tensor,
        evaluation: Evaluation,
        keep_visited: bool = False,
        forces: bool = False,
        effective: Evaluation | None = None,
    ) -> SLMCStep:
        """Make one proposal and its exact test.

        Parameters
        ----------
        spins : (chains, sites, 3) float64
        evaluation : Evaluation
            Exact, of the spins.
        keep_visited : bool
            Changes nothing: there is one exact evaluation, which the step shows as its proposal's.
        forces : bool
            Whether the exact evaluation of the proposal shall come with forces.
        effective : Evaluation
            Of W_eff at the spins if it is known, as the step before left it; W_eff must not have
            changed since.
        """
        start = effective or self.inner.evaluate(spins)
        proposed = self._proposal(spins, start)
        exact = self.evaluate(proposed.spins, forces)
        expected = proposed.effective.log_weight - start.log_weight
        error_change = exact.log_weight - evaluation.log_weight - expected
        accept = torch.log(self.stream.uniform()) < error_change + proposed.gain
        return SLMCStep(
            spins=torch.where(accept[:, None, None], proposed.spins, spins),
            evaluation=exact.where(accept, evaluation),
            acceptance=accept.double(),
            tuning=proposed.tuning,
            proposal=proposed.spins,
            proposal_evaluation=exact,
            error_change=error_change,
            inner_acceptance=proposed.acceptance,
            effective=proposed.effective.where(accept, start),
        )

    def _proposal(self, spins: Tensor, effective: Evaluation) -> _Proposal:
        """Propose where moves under W_eff lead to, from spins and their evaluation."""
        if self.screens and self.inner_moves == 1 and isinstance(self.inner, HMC):
            end = self.inner.run(spins, effective)
            return _Proposal(end.spins, end.evaluation, end.gain, end.accept.double(), end.tuning)
        steps: list[Step] = []
        below: Evaluation | None = None
        for _ in range(self.inner_moves):
            step, below = self._inner_move(spins, effective, below)
            spins, effective = step.spins, step.evaluation
            steps.append(step)
        return _Proposal(
            spins=spins,
            effective=effective,
            gain=torch.zeros_like(effective.log_weight),
            acceptance=torch.stack([step.acceptance for step in steps]).mean(0),
            tuning=torch.stack([step.tuning for step in steps]).mean(0),
        )

    def _inner_move(
        self, spins: Tensor, effective: Evaluation, below: Evaluation | None
    ) -> tuple[Step, Evaluation | None]:
        """Make one move under W_eff.

        Where that is a step itself, the evaluation of the model below is kept from move to move.
        """
        if not isinstance(self.inner, SLMC):
            return self.inner.move(spins, effective), None
        step = self.inner.move(spins, effective, effective=below)
        return step, step.effective

    def tune(self, means: Sequence[float]) -> None:
        """Adapt the inner moves; before sampling only."""
        self.inner.tune(means)

    def balance(self, cost: float, tau: float | None = None) -> float | None:
        r"""Find the number of inner moves between two exact tests; before sampling only.

        With an autocorrelation rho from one inner move to the next, an independent sample after n
        of them takes

        .. math:: (1 + n \, {\rm cost}) \, (1 + \rho^n) / (1 - \rho^n)

        exact tests, which are returned, and n is where that is least. As long as rho is not known,
        as many as take the time of one exact test: neither can be much more than half of the work
        then.

        Parameters
        ----------
        cost : float
            Of an inner move, in units of an exact test.
        tau : float, optional
            Integrated autocorrelation time, in steps with the present number of inner moves.
        """
        if tau is None:
            self.inner_moves = min(max(1, round(1.0 / cost)), MOST_INNER_MOVES)
            return None
        rho = max((2.0 * tau - 1.0) / (2.0 * tau + 1.0), FORGOTTEN) ** (1.0 / self.inner_moves)
        numbers = np.arange(1, MOST_INNER_MOVES + 1)
        after = rho**numbers
        spent = (1.0 + cost * numbers) * (1.0 + after) / (1.0 - after)
        self.inner_moves = 1 + int(spent.argmin())
        return float(spent.min())

    def follow(self, other: Move) -> None:
        """Let the inner moves start from what another move has found."""
        self.inner.follow(other)

    def take_over(self, other: Move) -> None:
        """Go on with the parameters and the random numbers of like steps."""
        if not isinstance(other, SLMC):
            raise TypeError(f"{type(other).__name__} has no inner moves")
        self.inner.take_over(other.inner)
        self.inner_moves, self.stream = other.inner_moves, other.stream

    def describe(self) -> str:
        """Return what tuning has found of the innermost moves."""
        return self.inner.describe()

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Return no ends: tuning concerns the innermost moves."""
        return {}

    def state_dict(self) -> dict:
        return {
            "inner": self.inner.state_dict(),
            "inner_moves": self.inner_moves,
            "stream": self.stream.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.inner_moves = state["inner_moves"]
        self.inner.load_state_dict(state["inner"])
        self.stream.load_state_dict(state["stream"])
