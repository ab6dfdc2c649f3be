import os

import numpy as np
import pytest
import torch
from small_jobs import make_job, ranks_of

from hpcslmc.errors import UserError
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.storage import checkpoint
from hpcslmc.storage.checkpoint import arrays

CHAINS = 8


@pytest.fixture
def path(world, tmp_path):
    return world.broadcast(tmp_path / "checkpoint.h5")


def whole_tree() -> dict:
    rng = np.random.default_rng(0)
    return {
        "spins": torch.tensor(rng.normal(size=(CHAINS, 4, 3))),
        "data": {"forces": rng.normal(size=(CHAINS, 2, 5))},
        "empty": np.zeros((CHAINS, 0, 3)),
        "integers": torch.arange(CHAINS),
    }


def of(tree: dict, block: ChainBlock) -> dict:
    return {
        key: of(value, block)
        if isinstance(value, dict)
        else value[block.first : block.first + block.count]
        for key, value in tree.items()
    }


SHARED = {
    "phase": "learn",
    "numbers": [0.1, 1e-300, float("inf")],
    "nothing": None,
    "empty": {},
    "model": {
        "couplings": torch.tensor([0.1, 0.2], dtype=torch.float64),
        "step": torch.tensor(3.0),
    },
}


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (np.ndarray, torch.Tensor)):
        a, b = np.asarray(one), np.asarray(other)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return one == other


def test_what_is_written_is_read_on_any_number_of_ranks(world, agree, path):
    block = ChainBlock.of(world, CHAINS)
    checkpoint.save(path, of(whole_tree(), block), SHARED, block, world)
    chains, shared = checkpoint.load(path, block, world)
    agree(same(of(whole_tree(), block), chains), "chains")
    agree(same(SHARED, shared), f"shared {shared}")
    alone = ChainBlock(CHAINS, 0, CHAINS)
    chains, _ = checkpoint.load(path, alone, World())
    agree(same(whole_tree(), chains), "chains on one rank")
    agree(not path.with_suffix(".part").exists(), "left-over file")


@pytest.mark.parametrize("piece", [8, 50, 1000])
def test_pieces_make_the_same_file_on_any_number_of_ranks(world, agree, path, monkeypatch, piece):
    """Ranks write as many pieces as they have, and wait for none."""
    block, alone = ChainBlock.of(world, CHAINS), ChainBlock(CHAINS, 0, CHAINS)
    if world.is_root:
        checkpoint.save(path.with_name("whole.h5"), whole_tree(), SHARED, alone, World())
    monkeypatch.setattr(arrays, "PIECE", piece + 8 * world.rank)
    checkpoint.save(path, of(whole_tree(), block), SHARED, block, world)
    agree(
        not world.is_root or path.read_bytes() == path.with_name("whole.h5").read_bytes(),
        "other bytes",
    )
    agree(same(of(whole_tree(), block), checkpoint.load(path, block, world)[0]), "chains")


def test_an_unfinished_file_is_not_a_checkpoint(world, agree, path, monkeypatch):
    block = ChainBlock.of(world, CHAINS)
    checkpoint.save(path, of(whole_tree(), block), {"number": 1}, block, world)
    monkeypatch.setattr(os, "replace", lambda *names: None)  # killed before the rename
    checkpoint.save(path, of(whole_tree(), block), {"number": 2}, block, world)
    _, shared = checkpoint.load(path, block, world)
    agree(shared == {"number": 1})


def test_other_files_are_refused_on_all_ranks(world, agree, path):
    import h5py

    block = ChainBlock.of(world, CHAINS)
    if world.is_root:
        with h5py.File(path, "w") as file:
            file.attrs["format"] = "something else"
    world.barrier()
    with pytest.raises(UserError, match="not a checkpoint of this version"):
        checkpoint.load(path, block, world)
    block = ChainBlock.of(world, 2 * CHAINS)
    checkpoint.save(path, {"spins": torch.zeros(block.count, 1, 3)}, {}, block, world)
    with pytest.raises(UserError, match="holds 16 chains, the job file asks for 8"):
        checkpoint.load(path, ChainBlock.of(world, CHAINS), world)
    agree(True)


def test_damage_in_one_ranks_chains_is_seen_by_all(world, agree, path):
    block = ChainBlock.of(world, CHAINS)
    for number in (1, 2):
        checkpoint.save(path, of(whole_tree(), block), {"number": number}, block, world)
    if world.is_root:
        whole, last = bytearray(path.read_bytes()), whole_tree()["spins"][-1].numpy().tobytes()
        whole[whole.index(last)] ^= 1
        path.write_bytes(whole)
    world.barrier()
    with pytest.raises(checkpoint.Damaged, match="checksum of chains/spins"):
        checkpoint.load(path, block, world)
    (chains, shared), used, remarks = checkpoint.load_newest(
        path, lambda candidate: checkpoint.load(candidate, block, world)
    )
    agree(shared == {"number": 1} and used == checkpoint.previous(path) and len(remarks) == 1)
    agree(same(of(whole_tree(), block), chains), "chains of the previous one")


def test_one_ranks_chains_that_make_no_sense_are_refused_by_all(world, agree, path):
    job = make_job(method="exact")
    ranks = ranks_of(world, job)
    simulation = Simulation(job, ranks)
    simulation.advance()
    simulation.save(path, {})
    if world.rank == world.size - 1:
        simulation.rungs[0].chains.spins[-1] *= 2.0
    simulation.save(path, {})
    resumed = Simulation(job, ranks, path)
    agree(
        resumed.resumed_from == checkpoint.previous(path) and "spins" in resumed.resume_remarks[0],
        str(resumed.resume_remarks),
    )


def test_a_rank_that_cannot_write_leaves_no_rank_waiting(world, agree, path, monkeypatch):
    block = ChainBlock.of(world, CHAINS)
    checkpoint.save(path, of(whole_tree(), block), {"number": 1}, block, world)
    if world.rank == world.size - 1:

        def fails(*arguments):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("h5py.Dataset.__setitem__", fails)
    with pytest.raises(UserError, match="cannot be written .Input/output error."):
        checkpoint.save(path, of(whole_tree(), block), {"number": 2}, block, world)
    _, shared = checkpoint.load(path, block, world)
    agree(shared == {"number": 1})
