import numpy as np
import pytest

from hpcslmc.errors import UserError
from hpcslmc.parallel import ChainBlock


def test_collectives(world, agree):
    mine = np.array([world.rank + 1.0, -world.rank])
    total = world.size * (world.size + 1) / 2
    agree(np.array_equal(world.sum(mine), [total, world.size - total]), "sum")
    agree(np.array_equal(world.maximum(mine), [world.size, 0.0]), "maximum")
    agree(world.broadcast(world.rank) == 0, "broadcast")
    joined = world.gather(np.full((2, 3), world.rank))
    expected = np.repeat(np.arange(world.size), 2)[:, None] * np.ones(3, int)
    agree(np.array_equal(joined, expected) if world.is_root else joined is None, "gather")


def test_blocks_cover_all_chains(world, agree):
    block = ChainBlock.of(world, 8)
    joined = world.gather(block.indices())
    agree(not world.is_root or joined.tolist() == list(range(8)), "chains")


def test_an_error_of_the_root_reaches_all_ranks(world, agree):
    def refuse():
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        world.on_root(refuse)
    agree(world.on_root(lambda: 5) == 5)
