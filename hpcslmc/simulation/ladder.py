"""All temperatures of a job, and exchange between them."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from hpcslmc.parallel.ranks import Ranks
from hpcslmc.sampling import Exchange, Move
from hpcslmc.simulation.rung import Rung


class Ladder:
    """The rungs of this rank, one for each temperature.

    Parameters
    ----------
    ranks : Ranks
    rungs : list of Rung
    swaps : Exchange or None
        Between neighbouring temperatures; a ladder is one chain of every rung, and lives on one
        rank.
    """

    def __init__(self, ranks: Ranks, rungs: list[Rung], swaps: Exchange | None) -> None:
        self.ranks, self.rungs, self.swaps = ranks, rungs, swaps

    def exchange(self, forces: bool) -> None:
        """Try one turn of swaps, where there is exchange.

        ``forces`` asks for forces too, if the next moves of the rungs need them.
        """
        if self.swaps is None:
            return
        rungs = self.rungs
        after = self.swaps.move([r.weight for r in rungs], [r.chains for r in rungs], forces)
        for rung, chains in zip(rungs, after, strict=True):
            rung.chains = chains

    def tune(self, moves: Sequence[Move], statistics: Sequence[Tensor]) -> float:
        """Tune each temperature's move by its last statistics (chains, numbers). Collective.

        The moves take means over the chains of all ranks.

        Returns
        -------
        float
            Mean acceptance of all of them.
        """
        means = self._means(statistics)
        for move, mean in zip(moves, means, strict=True):
            move.tune(mean)
        return float(np.mean([acceptance for acceptance, *_ in means]))

    def _means(self, statistics: Sequence[Tensor]) -> list[list[float]]:
        """Return means over the chains of all ranks. Collective."""
        sums = self.ranks.chains.sum(np.array([x.sum(0).tolist() for x in statistics]))
        return (sums / self.ranks.block.total).tolist()
