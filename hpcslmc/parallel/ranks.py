"""The roles of the ranks of a job."""

from dataclasses import dataclass

import torch

from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World


@dataclass(frozen=True)
class Ranks:
    """Communicators of this rank, its device and its chains.

    Attributes
    ----------
    job : World
        All ranks of the job.
    chains : World
        The ranks that hold all chains between them, one of each group that shares a weight.
    weight : World
        The group of ranks that share the exact weight of this rank's chains; they hold the same
        chains.
    device : torch.device or str
        Where this rank computes.
    block : ChainBlock
        This rank's chains among all.
    """

    job: World
    chains: World
    weight: World
    device: torch.device | str
    block: ChainBlock

    @classmethod
    def of(
        cls,
        world: World,
        chains: int,
        ranks_per_chain: int = 1,
        device: torch.device | str = "cpu",
    ) -> "Ranks":
        """Divide a job's ranks into groups, and the chains among the groups. Collective.

        Each group has ``ranks_per_chain`` ranks.
        """
        copy, group = world.split(ranks_per_chain)
        return cls(world, copy, group, device, ChainBlock.of(copy, chains))
