"""Local Metropolis: one spin at a time."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hpcslmc.density import Density, Evaluation
from hpcslmc.sampling.move import Move, Step
from hpcslmc.streams import Stream

TARGET_ACCEPTANCE = 0.5
WIDEST = 1e3
"""Largest width of the proposal that tuning may arrive at; its inverse is the narrowest."""


class LocalChanges(Protocol):
    """Anything that sweeps a density faster than by one evaluation per site.

    `hpcslmc.weight.greens.GreensFunctions`.
    """

    def sweep(
        self,
        spins: Tensor,
        log_weight: Tensor,
        order: Tensor,
        proposals: Tensor,
        thresholds: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Test one new spin of every site, in turn.

        It is accepted where log W changes by more than the threshold.

        Parameters
        ----------
        spins : (chains, sites, 3) float64
        log_weight : (chains,) float64
            Of the spins.
        order : (chains, sites) int64
            Permutation in which each chain's sites are visited.
        proposals : (chains, sites, 3) float64
            New spins in the order of the visits.
        thresholds : (chains, sites) float64
            In the order of the visits.

        Returns
        -------
        spins : (chains, sites, 3) float64
        log_weight : (chains,) float64
        accepted : (chains, sites) float64
            1 or 0, in the order of the visits.
        """
        ...


class Metropolis:
    r"""One sweep of single-spin updates, every site once in a random order.

    The proposal for a spin is S' = normalise(S + w xi) with xi a Gaussian vector: its density
    depends on S.S' only, so it is symmetric.

    Detailed balance: each single-spin update satisfies it with min(1, W(S')/W(S)). A sweep visits
    the sites in a permutation drawn uniformly for each chain; the reversed permutation is as
    likely, and the updates run backwards in it, so the sweep, and any number of sweeps, satisfies
    detailed balance too. (A fixed order would leave W invariant but not be reversible, and the
    exact test of self-learning Monte Carlo built on it would be wrong.) How W(S')/W(S) is worked
    out plays no part: local changes see the same random numbers, and make the same chain as
    evaluations up to rounding.

    Parameters
    ----------
    density : Density
        What is sampled.
    stream : Stream
    width : float
        Width w of the proposal to start from.
    local : LocalChanges
        Works out the changes of the same density; by evaluations if none is given.

    Notes
    -----
    N evaluations of the density per sweep, each batched over the chains; none with local changes,
    after which the step's evaluation has a ``log_weight`` alone.
    """

    misguided = False
    """False: this move has no guide to give up."""

    def __init__(
        self, density: Density, stream: Stream, width: float, local: LocalChanges | None = None
    ) -> None:
        self.density, self.stream, self.width, self.local = density, stream, width, local
        self.tunings = 0

    def evaluate(self, spins: Tensor) -> Evaluation:
        """Evaluate the density at spins (chains, sites, 3), as ``move`` wants it."""
        return self.density.evaluate(spins)

    def move(self, spins: Tensor, evaluation: Evaluation, keep_visited: bool = False) -> Step:
        """Sweep every chain once, from spins (chains, sites, 3) and their evaluation.

        No forces are evaluated, so nothing that was visited is kept.
        """
        sites = spins.shape[1]
        numbers = self.stream.uniform(2, sites)
        order = numbers[:, 0].argsort(dim=1)
        thresholds = torch.log(numbers[:, 1])
        kicks = self.width * self.stream.normal(sites, 3)
        # a site is visited once a sweep, so that all proposals are known before it
        proposals = spins.gather(1, order[..., None].expand_as(kicks)) + kicks
        proposals = proposals / proposals.norm(dim=-1, keepdim=True)
        if self.local is None:
            spins, evaluation, accepted = self._sweep(
                spins, evaluation, order, proposals, thresholds
            )
        else:
            spins, log_weight, accepted = self.local.sweep(
                spins, evaluation.log_weight, order, proposals, thresholds
            )
            evaluation = Evaluation(log_weight)
        acceptance = accepted.mean(1)
        return Step(spins, evaluation, acceptance, acceptance[:, None])

    def _sweep(
        self,
        spins: Tensor,
        evaluation: Evaluation,
        order: Tensor,
        proposals: Tensor,
        thresholds: Tensor,
    ) -> tuple[Tensor, Evaluation, Tensor]:
        """As `LocalChanges.sweep`, by one evaluation per site."""
        spins, accepted = spins.clone(), torch.zeros_like(thresholds)
        chain = torch.arange(len(spins), device=spins.device)
        for k, site in enumerate(order.unbind(1)):
            old = spins[chain, site]
            spins[chain, site] = proposals[:, k]
            proposed = self.density.evaluate(spins)
            accept = thresholds[:, k] < proposed.log_weight - evaluation.log_weight
            spins[chain, site] = torch.where(accept[:, None], proposals[:, k], old)
            evaluation = proposed.where(accept, evaluation)
            accepted[:, k] = accept
        return spins, evaluation, accepted

    def tune(self, means: Sequence[float]) -> None:
        """Adapt the width to the acceptance of the last move (Robbins-Monro).

        For thermalisation only.

        """
        (acceptance,) = means
        self.tunings += 1
        gain = 4.0 / (4.0 + self.tunings) ** 0.6
        self.width = min(
            max(self.width * math.exp(gain * (acceptance - TARGET_ACCEPTANCE)), 1.0 / WIDEST),
            WIDEST,
        )

    def follow(self, other: Move) -> None:
        """Do nothing: the width of another density's proposals says little of one's own."""

    def take_over(self, other: Move) -> None:
        """Go on with the width and the random numbers of a move under another density."""
        if not isinstance(other, Metropolis):
            raise TypeError(f"{type(other).__name__} has no width of proposals")
        self.width, self.tunings, self.stream = other.width, other.tunings, other.stream

    def describe(self) -> str:
        """Return nothing: the width alone tells a user little."""
        return ""

    def limits(self) -> dict[str, tuple[float, float]]:
        """Return the ends between which tuning leaves the width."""
        return {"width": (1.0 / WIDEST, WIDEST)}

    def state_dict(self) -> dict:
        return {"width": self.width, "tunings": self.tunings, "stream": self.stream.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.width, self.tunings = state["width"], state["tunings"]
        self.stream.load_state_dict(state["stream"])
