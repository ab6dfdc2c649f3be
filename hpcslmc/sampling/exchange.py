"""Replica exchange between neighbouring temperatures."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.sampling.chains import Chains
from hpcslmc.streams import Stream


class Reweighted(Protocol):
    """A density that can use what is known of spins at another temperature."""

    def reweight(self, spins: Tensor, known: Evaluation, forces: bool = False) -> Evaluation: ...


class Exchange:
    r"""Swaps of configurations between neighbouring rungs of a ladder of temperatures.

    .. math::

        A = \min\left(1, \frac{W_k(S_{k+1})\, W_{k+1}(S_k)}{W_k(S_k)\, W_{k+1}(S_{k+1})}\right)

    Detailed balance: the ladder samples prod_k W_k(S_k). Swapping the configurations of two rungs
    is its own inverse, it is proposed whatever the configurations are, and A is Metropolis' ratio
    of the products after and before; so each swap satisfies detailed balance with the product.
    Swaps of the pairs (0, 1), (2, 3), ... take turns with those of (1, 2), (3, 4), ...: both leave
    the product invariant, hence so do they in any order, with the rungs' own moves in between.

    Parameters
    ----------
    stream : Stream
        One stream per ladder of this rank; a ladder is one chain of each rung.
    rungs, ladders : int

    Attributes
    ----------
    tried : (rungs - 1,) int64
        Swaps tried of each pair, in every ladder.
    accepted : (ladders, rungs - 1) int64
        Those accepted.
    replica : (ladders, rungs) int64
        Which replica is at each rung; replicas are numbered by where they started.
    likely : (ladders, rungs - 1) float64
        Sums of the swaps' acceptance probabilities, a less noisy measure than their number.
    trips : (ladders, rungs) int64
        Journeys of each replica from one end of the ladder to the other.

    Notes
    -----
    Two evaluations a pair, next to nothing where the spectrum is known. Hukushima and Nemoto, J.
    Phys. Soc. Jpn. 65, 1604 (1996); taking turns: Syed, Bouchard-Cote, Deligiannidis, Doucet, J. R.
    Stat. Soc. B 84, 321 (2022).
    """

    def __init__(self, stream: Stream, rungs: int, ladders: int) -> None:
        self.stream, self.turn = stream, 0
        self.replica = np.tile(np.arange(rungs), (ladders, 1))
        self.forget()

    def forget(self) -> None:
        """Count swaps and journeys from here on."""
        ladders, rungs = self.replica.shape
        self.tried, self.accepted = (
            np.zeros(rungs - 1, np.int64),
            np.zeros((ladders, rungs - 1), np.int64),
        )
        self.likely = np.zeros((ladders, rungs - 1))
        self.trips = np.zeros((ladders, rungs), np.int64)
        # the rung at an end that each replica was at last, -1 for none
        self._last_end = np.full((ladders, rungs), -1)
        self._visit_ends()

    def move(
        self, densities: Sequence[Reweighted], chains: Sequence[Chains], forces: bool = False
    ) -> list[Chains]:
        """Try one turn of swaps.

        Parameters
        ----------
        densities : (rungs,) densities
        chains : (rungs,) list of Chains
            As many chains as ladders in each.
        forces : bool
            Whether the rungs' own moves need forces with their evaluations.

        Returns
        -------
        (rungs,) list of Chains
        """
        after = list(chains)
        numbers = self.stream.uniform(len(after) - 1)
        for k in range(self.turn % 2, len(after) - 1, 2):
            low, high = after[k], after[k + 1]
            # each configuration at the other temperature
            low_new = densities[k].reweight(high.spins, high.evaluation, forces)
            high_new = densities[k + 1].reweight(low.spins, low.evaluation, forces)
            gain = (
                low_new.log_weight
                + high_new.log_weight
                - low.evaluation.log_weight
                - high.evaluation.log_weight
            )
            accept = torch.log(numbers[:, k]) < gain
            # one copy from the device
            likely = gain.clamp_max(0.0).exp()
            accepted, likely = torch.stack((accept.to(likely.dtype), likely)).cpu().numpy()
            if accepted.any():
                mask = accept[:, None, None]
                after[k] = low.moved(
                    torch.where(mask, high.spins, low.spins),
                    low_new.where(accept, low.evaluation),
                    accept,
                )
                after[k + 1] = high.moved(
                    torch.where(mask, low.spins, high.spins),
                    high_new.where(accept, high.evaluation),
                    accept,
                )
            self._note(k, accepted > 0.0, likely)
        self.turn += 1
        self._visit_ends()
        return after

    def _note(self, k: int, accept: np.ndarray, likely: np.ndarray) -> None:
        self.tried[k] += 1
        self.accepted[:, k] += accept
        self.likely[:, k] += likely
        self.replica[accept, k : k + 2] = self.replica[accept, k : k + 2][:, ::-1]

    def _visit_ends(self) -> None:
        ladders, rungs = self.replica.shape
        for end, opposite in ((0, rungs - 1), (rungs - 1, 0)):
            there = np.arange(ladders), self.replica[:, end]
            self.trips[there] += self._last_end[there] == opposite
            self._last_end[there] = end

    def chain_state(self) -> dict:
        """Return the state of each ladder: arrays with the ladder as first axis."""
        return {
            "replica": self.replica,
            "trips": self.trips,
            "last_end": self._last_end,
            "accepted": self.accepted,
            "likely": self.likely,
        }

    def state_dict(self) -> dict:
        """Return the state that all ladders share."""
        return {"turn": self.turn, "stream": self.stream.state_dict(), "tried": self.tried}

    def load(self, chain_state: dict, state: dict) -> None:
        """Restore both states."""
        self.replica, self.trips, self._last_end, self.accepted, self.likely = (
            np.array(chain_state[name].numpy())
            for name in ("replica", "trips", "last_end", "accepted", "likely")
        )
        self.turn, self.tried = state["turn"], np.array(state["tried"].numpy())
        self.stream.load_state_dict(state["stream"])
