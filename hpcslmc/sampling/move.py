"""What a move does to a batch of chains."""

from dataclasses import dataclass

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
        What the move's ``tune`` wants the means of, over all chains; first of them the acceptance
        of what it tunes.
    """

    spins: Tensor
    evaluation: Evaluation
    acceptance: Tensor
    tuning: Tensor
