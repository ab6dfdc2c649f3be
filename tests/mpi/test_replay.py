"""Data that the root writes piece by piece, as they come from all ranks."""

import numpy as np
import pytest
import torch
from helpers import random_spins

from hpcslmc.density import Evaluation
from hpcslmc.effective import FreeElectrons, Physics
from hpcslmc.errors import UserError
from hpcslmc.learning import replay
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.replay import Replay, write_data
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World

CHAINS, SITES, DRAWS = 8, 16, 5
PHYSICS = Physics(FreeElectrons(1.0, 0.0, 10.0), 1.0)


def data_of(block: ChainBlock) -> DataSet:
    data = DataSet(block, 4)
    for draw in range(DRAWS):
        spins = random_spins(CHAINS, SITES, draw)
        mine = slice(block.first, block.first + block.count)
        data.add(spins[mine], Evaluation(spins.sum((1, 2))[mine], 2.0 * spins.roll(1, 1)[mine]))
    return data


@pytest.fixture
def path(world, tmp_path):
    return world.broadcast(tmp_path / "data.h5")


@pytest.mark.parametrize("piece", [1, 1000, 2**24])
def test_configurations_of_all_ranks_in_order(world, agree, path, monkeypatch, piece):
    monkeypatch.setattr(replay, "PIECE", piece)
    write_data(path, data_of(ChainBlock.of(world, CHAINS)), (4, 4), PHYSICS, {}, world)
    write_data(
        path.with_name(f"alone-{world.rank}.h5"),
        data_of(ChainBlock(CHAINS, 0, CHAINS)),
        (4, 4),
        PHYSICS,
        {},
        World(),
    )
    rows = np.arange(CHAINS * DRAWS)
    found, expected = (
        Replay(str(p), PHYSICS).read(rows, "cpu")
        for p in (path, path.with_name(f"alone-{world.rank}.h5"))
    )
    agree(all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), "other rows")
    agree(
        torch.allclose(found[1], found[0].sum((1, 2)), atol=1e-5),
        "rows that do not belong together",
    )


def test_a_full_disk_leaves_no_rank_waiting(world, agree, path, monkeypatch):
    def fails(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("h5py.Dataset.__setitem__", fails)
    monkeypatch.setattr(replay, "PIECE", 1)
    with pytest.raises(UserError, match="data.h5 cannot be written .No space left on device."):
        write_data(path, data_of(ChainBlock.of(world, CHAINS)), (4, 4), PHYSICS, {}, world)
    agree(world.broadcast(7) == 7 and not path.exists() and not path.with_suffix(".part").exists())
