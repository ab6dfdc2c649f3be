"""The protocol of moves, and what a move does to a batch of chains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from hpcslmc.density import Evaluation


@dataclass(frozen=True)
class Step:
    """Chains after one move.

    Attributes
    ----------
    spins : (chains, sites, 3) float64
    evaluation : Evaluation
        Of the density that the move samples, at ``spins``.
    acceptance : (chains,) float64
        Fraction of the move's proposals that were accepted.
    tuning : (chains, numbers) float64
        Statistics whose means over all chains the move's ``tune`` takes; first of them the
        acceptance of what it tunes.
    visited : tuple of (spins, Evaluation)
        Every point at which the move evaluated its density with forces, in order, if it was asked
        to keep them.
    """

    spins: Tensor
    evaluation: Evaluation
    acceptance: Tensor
    tuning: Tensor
    visited: tuple[tuple[Tensor, Evaluation], ...] = ()


class Move(Protocol):
    """A reversible move under some density; HMC, Metropolis and self-learning steps are such."""

    @property
    def misguided(self) -> bool:
        """True if ``tune`` has given up cheap forces that guided the move, as worse than none."""
        ...

    @property
    def tunings(self) -> int:
        """Times that it has been tuned."""
        ...

    def evaluate(self, spins: Tensor) -> Evaluation:
        """Evaluate the density at spins (chains, sites, 3) as ``move`` needs it."""
        ...

    def move(self, spins: Tensor, evaluation: Evaluation, keep_visited: bool = False) -> Step:
        """Move every chain once, from spins (chains, sites, 3) and their evaluation."""
        ...

    def tune(self, means: Sequence[float]) -> None:
        """Adapt the move's parameters to means of ``Step.tuning`` over all chains."""
        ...

    def follow(self, other: "Move") -> None:
        """Start tuning from what a move of the same kind has found, where it helps."""
        ...

    def take_over(self, other: "Move") -> None:
        """Take over parameters and random numbers of a like move under another density."""
        ...

    def describe(self) -> str:
        """Return what tuning has found that a user should know, or nothing."""
        ...

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Return the ends between which tuning leaves each number of ``state_dict``."""
        ...

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...
