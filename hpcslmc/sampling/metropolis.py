"""Local Metropolis: one spin at a time."""

import math

import torch
from torch import Tensor

from hpcslmc.evaluation import Density, Evaluation
from hpcslmc.sampling.step import Step
from hpcslmc.streams import Stream

TARGET_ACCEPTANCE = 0.5


class Metropolis:
    r"""One sweep of single-spin updates, every site once in a random order.

    The proposal for a spin is S' = normalise(S + w xi) with xi a Gaussian vector: its density depends
    on S.S' only, so it is symmetric.

    Detailed balance: each single-spin update satisfies it with min(1, W(S')/W(S)). A sweep visits the
    sites in a permutation drawn uniformly for each chain; the reversed permutation is as likely, and the
    updates run backwards in it, so the sweep, and any number of sweeps, satisfies detailed balance
    too. (A fixed order would leave W invariant but not be reversible, and the exact test of
    self-learning Monte Carlo built on it would be wrong.)

    Parameters
    ----------
    density : Density
        What is sampled.
    stream : Stream
    width : float
        Width w of the proposal to start from.

    Notes
    -----
    N evaluations of the density per sweep, each batched over the chains.
    """

    def __init__(self, density: Density, stream: Stream, width: float) -> None:
        self.density, self.stream, self.width = density, stream, width
        self._tunings = 0

    def evaluate(self, spins: Tensor) -> Evaluation:
        """The density at spins (chains, sites, 3), as ``move`` wants it."""
        return self.density.evaluate(spins)

    def move(self, spins: Tensor, evaluation: Evaluation) -> Step:
        """One sweep of every chain; spins (chains, sites, 3) and their evaluation."""
        chains, sites, _ = spins.shape
        chain = torch.arange(chains, device=spins.device)
        numbers = self.stream.uniform(2, sites)
        order = numbers[:, 0].argsort(dim=1)
        threshold = torch.log(numbers[:, 1])
        kicks = self.width * self.stream.normal(sites, 3)
        accepted = torch.zeros(chains, dtype=torch.float64, device=spins.device)
        spins = spins.clone()
        for k in range(sites):
            site = order[:, k]
            old = spins[chain, site]
            new = old + kicks[:, k]
            spins[chain, site] = new / new.norm(dim=-1, keepdim=True)
            proposed = self.density.evaluate(spins)
            accept = threshold[:, k] < proposed.log_weight - evaluation.log_weight
            spins[chain, site] = torch.where(accept[:, None], spins[chain, site], old)
            evaluation = proposed.where(accept, evaluation)
            accepted += accept
        return Step(spins, evaluation, accepted / sites)

    def tune(self, acceptance: float) -> None:
        """Adapt the width to the acceptance just measured (Robbins-Monro); for thermalisation only."""
        self._tunings += 1
        gain = 4.0 / (4.0 + self._tunings) ** 0.6
        self.width = min(max(self.width * math.exp(gain * (acceptance - TARGET_ACCEPTANCE)), 1e-3), 1e3)

    def state_dict(self) -> dict:
        return {"width": self.width, "tunings": self._tunings, "stream": self.stream.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.width, self._tunings = state["width"], state["tunings"]
        self.stream.load_state_dict(state["stream"])
