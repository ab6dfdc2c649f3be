"""Data set of exact evaluations for learning the effective model."""

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.physics.field import tangential
from hpcslmc.sampling.classical import ClassicalWeight

NAMES = ("spins", "log_weight", "forces")
"""Names of the arrays, in order."""


class DataSet:
    """Configurations with exact log W and forces, each rank holding those of its own chains.

    Training and validation are split by chain, never by configuration: configurations of one chain
    are correlated, and a split among them would leak.

    Parameters
    ----------
    block : ChainBlock
    validation_interval : int
        k, where every k-th chain validates. Of fewer chains, which nothing is learned from, all do
        both.
    classical : ClassicalWeight, optional
        Part of the weight that is known, and not to be learned.
    """

    def __init__(
        self,
        block: ChainBlock,
        validation_interval: int,
        device: torch.device | str = "cpu",
        classical: ClassicalWeight | None = None,
    ) -> None:
        self._classical = classical
        self.chains_total = block.total
        chains = np.arange(block.total)
        is_validation = chains % validation_interval == validation_interval - 1
        trains = ~is_validation
        if not is_validation.any():
            is_validation = trains
        self.train_chains_total = int(trains.sum())
        self.validation_chains_total = int(is_validation.sum())
        self.validation_chains, self.train_chains, self.chains = (
            torch.as_tensor(of[block.indices()], device=device).nonzero()[:, 0]
            for of in (is_validation, trains, np.ones_like(trains))
        )
        self.clear()

    def __len__(self) -> int:
        """Return the number of configurations of each chain."""
        return self._count

    def add(self, spins: Tensor, evaluation: Evaluation) -> None:
        """Add one configuration of every chain, (chains, sites, 3), with its exact evaluation.

        Of this the electrons' log W and tangential forces are kept (zero if unknown).
        """
        if self._classical is not None:
            evaluation = self._classical.added(spins, evaluation, sign=-1.0)
        forces = torch.zeros_like(spins) if evaluation.forces is None else evaluation.forces
        new_forces = tangential(forces, spins)
        for parts, new in zip(self._parts, (spins, evaluation.log_weight, new_forces), strict=True):
            parts.append(new[:, None])
        self._count += 1

    def stacked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return spins (chains, draws, sites, 3), log W (chains, draws), and tangential forces.

        The forces have the shape of the spins.

        They are the data themselves, and not to be changed.
        """
        for parts in self._parts:
            if len(parts) > 1:
                parts[:] = [torch.cat(parts, 1)]  # instead of the parts: in memory once
        spins, log_weight, forces = (parts[0] for parts in self._parts)
        return spins, log_weight, forces

    @property
    def with_forces(self) -> Tensor:
        """Draws whose forces are known, the same on all ranks: (draws,) int64."""
        return self.stacked()[2].flatten(2).any(2).all(0).nonzero()[:, 0]

    def spread(self, chains: Tensor, draws: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return some configurations of each of this rank's given chains, spread over its history.

        At most ``draws`` of those with forces: spins (rows, sites, 3), log W (rows,), tangential
        forces (rows, sites, 3).
        """
        spins, log_weight, forces = self.stacked()
        known = self.with_forces
        picked = known[np.linspace(0, len(known) - 1, min(len(known), draws), dtype=np.int64)]
        rows = chains[:, None], picked
        return spins[rows].flatten(0, 1), log_weight[rows].flatten(), forces[rows].flatten(0, 1)

    def clear(self) -> None:
        """Forget everything; the memory is free again."""
        self._parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        self._count = 0

    def state_dict(self) -> dict:
        """Return tensors with the chain as first axis; empty when there are no data."""
        return dict(zip(NAMES, self.stacked(), strict=True)) if len(self) else {}

    def load_state_dict(self, state: dict) -> None:
        self.clear()
        if state:
            spins, log_weight, forces = (state[name] for name in NAMES)
            self._parts = ([spins], [log_weight], [forces])
            self._count = state["log_weight"].shape[1]
