"""The division of the chains among ranks."""

from dataclasses import dataclass

import numpy as np

from hpcslmc.parallel.world import World


@dataclass(frozen=True)
class ChainBlock:
    """The consecutive global chains that live on this rank.

    Attributes
    ----------
    total : int
        Chains of the whole job.
    first, count : int
        This rank holds chains first, ..., first + count - 1.
    """

    total: int
    first: int
    count: int

    @classmethod
    def of(cls, world: World, total: int) -> "ChainBlock":
        """Share chains equally; the job file's check has made sure that ranks divide them."""
        count = total // world.size
        return cls(total, world.rank * count, count)

    def indices(self) -> np.ndarray:
        """Return the global chain indices, (count,) int64."""
        return np.arange(self.first, self.first + self.count)
