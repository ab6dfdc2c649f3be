"""Result of evaluating log W, exact or learned, on a batch of configurations.

Exact weights and effective models answer in the same form, so that every move samples either.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """Logarithmic weight of a batch of configurations, and what came with it at no extra cost.

    Attributes
    ----------
    log_weight : (chains,) float64
    forces : (chains, sites, 3) float64 or None
        d log_weight / d S_i, not projected on the tangent planes.
    energy : (chains,) float64 or None
        Electronic energy per site, sum_n f(E_n) E_n / N, in units of t.
    density : (chains,) float64 or None
        Electrons per site, sum_n f(E_n) / N.
    spectrum : (chains, 2 sites) float64 or None
        All E_n, from which log W follows at any temperature.
    energy_part : (chains,) float64 or None
        What log W's own determinants contribute to the energy, for ``ExactWeight.with_energy``.
    arguments : (chains, K) float64 or None
        Arguments of log W's own determinants, modulo 2 pi, which contribute to the density.
    """

    log_weight: Tensor
    forces: Tensor | None = None
    energy: Tensor | None = None
    density: Tensor | None = None
    spectrum: Tensor | None = None
    energy_part: Tensor | None = None
    arguments: Tensor | None = None

    @property
    def known_forces(self) -> Tensor:
        """The forces, where there have to be some; raises ValueError where there are none."""
        if self.forces is None:
            raise ValueError("the evaluation has no forces")
        return self.forces

    def where(self, keep: Tensor, other: "Evaluation") -> "Evaluation":
        """Select this evaluation where ``keep`` (chains,) bool is true, the other one elsewhere."""
        merged = {}
        for field in fields(Evaluation):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine is not None and theirs is not None:
                mask = keep.reshape(-1, *[1] * (mine.ndim - 1))
                merged[field.name] = torch.where(mask, mine, theirs)
        return Evaluation(**merged)

    def rows(self, rows: slice | Tensor) -> "Evaluation":
        """Select the evaluation of some of the chains, a slice, a mask or indices of them."""
        known = {field.name: getattr(self, field.name) for field in fields(Evaluation)}
        return Evaluation(
            **{name: value[rows] for name, value in known.items() if value is not None}
        )

    @classmethod
    def joined(cls, parts: Sequence["Evaluation"]) -> "Evaluation":
        """Join evaluations of some chains each into that of all chains, in order."""
        if len(parts) == 1:
            return parts[0]
        values = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        return cls(
            **{name: torch.cat(each) for name, each in values.items() if each[0] is not None}
        )


class Density(Protocol):
    """Anything with a logarithmic weight: an exact weight or an effective model."""

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate spins (chains, sites, 3); with ``forces`` the gradient too."""
        ...
