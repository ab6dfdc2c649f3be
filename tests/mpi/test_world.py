import numpy as np
import pytest

from hpcslmc.errors import UserError
from hpcslmc.parallel import world as parallel
from hpcslmc.parallel.chains import ChainBlock


def test_collectives(world, agree):
    mine = np.array([world.rank + 1.0, -world.rank])
    total = world.size * (world.size + 1) / 2
    agree(np.array_equal(world.sum(mine), [total, world.size - total]), "sum")
    agree(np.array_equal(world.maximum(mine), [world.size, 0.0]), "maximum")
    agree(world.broadcast(world.rank) == 0, "broadcast")
    joined = world.gather(np.full((2, 3), world.rank))
    expected = np.repeat(np.arange(world.size), 2)[:, None] * np.ones(3, int)
    agree(np.array_equal(joined, expected) if world.is_root else joined is None, "gather")


@pytest.mark.parametrize("longest", [1, 24, 100, 2**28])
def test_long_arrays_go_in_parts(world, agree, monkeypatch, longest):
    """Whatever their shape and place in memory."""
    monkeypatch.setattr(parallel, "LONGEST_MESSAGE", longest)
    arrays = [
        np.arange(30.0).reshape(5, 6),
        np.arange(30.0).reshape(5, 6).T,
        np.arange(40).reshape(5, 8)[:, :3],
        np.zeros((4, 0)),
        np.ones((), int),
    ]
    for array in arrays:
        total, largest = world.sum((world.rank + 1) * array), world.maximum(world.rank * array)
        expected = array * (world.size * (world.size + 1) // 2), array * (world.size - 1)
        agree(
            np.array_equal(total, expected[0]) and total.shape == array.shape, f"sum {array.shape}"
        )
        agree(
            np.array_equal(largest, expected[1]) and largest.shape == array.shape,
            f"maximum {array.shape}",
        )
    for array in arrays[:-1]:
        joined = world.gather(array + world.rank)
        expected = np.concatenate([array + rank for rank in range(world.size)])
        agree(
            np.array_equal(joined, expected) and joined.dtype == expected.dtype
            if world.is_root
            else joined is None,
            f"gather {array.shape}",
        )


def test_pieces_come_in_order_of_rank(world, agree):
    found = [
        piece.tolist() for piece in world.in_turn(np.full(k, 10 * world.rank + k) for k in (1, 3))
    ]
    expected = [[10 * rank + k] * k for rank in range(world.size) for k in (1, 3)]
    agree(found == (expected if world.is_root else []), str(found))


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
