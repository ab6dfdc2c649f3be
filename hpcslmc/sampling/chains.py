"""The chains of one density between two moves."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hpcslmc.density import Evaluation


@dataclass(frozen=True)
class Chains:
    """Configurations of a batch of chains, and what is known of them.

    Attributes
    ----------
    spins : (chains, sites, 3) float64
    evaluation : Evaluation
        Exact, of the spins. Energies that are not known are None, or nan in single chains.
    acceptance : (chains,) float64
        Of the last move; nan before the first.
    effective : Evaluation or None
        Of the frozen effective model at the spins, where a self-learning step has left it.
    complete : bool
        Whether all energies are known to be there. Where it is not, they may be all the same; only
        the device can tell.
    """

    spins: Tensor
    evaluation: Evaluation
    acceptance: Tensor
    effective: Evaluation | None = None
    complete: bool = False

    def moved(self, spins: Tensor, evaluation: Evaluation, changed: Tensor) -> "Chains":
        """Return the chains at new spins; a mask (chains,) bool tells where they have changed.

        Energy and density that the new evaluation lacks stay known where the spins are the same,
        and are nan elsewhere. What is known of the effective model is forgotten.
        """
        complete = self.complete and evaluation.energy is not None
        if evaluation.energy is None:
            evaluation = replace(
                evaluation,
                energy=self._kept(self.evaluation.energy, changed),
                density=self._kept(self.evaluation.density, changed),
            )
        return replace(self, spins=spins, evaluation=evaluation, effective=None, complete=complete)

    def _kept(self, value: Tensor | None, changed: Tensor) -> Tensor:
        """Keep the values (chains,) of the chains that have not changed, nan for the others."""
        unknown = torch.full_like(self.evaluation.log_weight, torch.nan)
        return unknown if value is None else torch.where(changed, unknown, value)
