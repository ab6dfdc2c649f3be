"""Writing a checkpoint: the root lays out the file, every rank writes its own chains."""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from hpcslmc.errors import UserError
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.storage.checkpoint.arrays import (
    chain_checksums,
    chain_checksums_on_disk,
    checksum,
    checksum_of_rest,
    pieces,
)
from hpcslmc.storage.checkpoint.index import FORMAT, Entry, Index, room_for, write_index
from hpcslmc.storage.checkpoint.trees import split
from hpcslmc.storage.files import WRITE_FAILURES, beside, reason, remedy, reserve, synchronise
from hpcslmc.storage.hdf5 import open_hdf5
from hpcslmc.storage.names import previous

HDF5_BYTES = 2048
"""Bytes that are more than HDF5 needs to describe one dataset."""


def save(path: Path, chains: dict, shared: dict, block: ChainBlock, world: World) -> None:
    """Write a checkpoint, read it back, and publish it. Collective.

    The checkpoint before is kept as ``previous(path)``.

    Parameters
    ----------
    path : Path
        Where the file is published.
    chains : dict
        Nested dict of arrays or tensors whose first axis is this rank's chains.
    shared : dict
        Nested dict of arrays, tensors and plain JSON values, equal on all ranks.
    block : ChainBlock
    world : World

    Raises
    ------
    UserError
        On all ranks, if the file cannot be written, as when the disk is full. Published checkpoints
        are as before.

    Notes
    -----
    The root lays out the file and reserves its space on the disk before the chains are written, so
    a full disk is noticed by one rank and in time. Arrays are written and read back piece by piece,
    each rank for itself: no rank waits for another before the end, and no array is in memory twice.
    One rank alone needs no HDF5 with MPI.
    """
    part = beside(path)
    mine, plain = split(chains)
    if plain:
        raise TypeError(f"only arrays belong to chains, not {sorted(plain)}")
    common, plain = split(shared)
    common["plain_json"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    # gather the checksums, which the root puts into the index
    own_checksums = chain_checksums(mine, block.count)
    checksums = world.gather(own_checksums)

    def lay_out() -> Index:
        assert checksums is not None, "gathered on the root, which lays out the file"
        with _refused(path, part):
            return _lay_out(part, mine, common, checksums, block.total)

    def write() -> None:
        with _refused(path, part):
            _write_chains(part, mine, block, world)

    def read_back() -> None:
        with _refused(path, part):
            if not np.array_equal(chain_checksums_on_disk(part, index, block), own_checksums):
                raise OSError("the disk gives back other bytes than were written")

    def publish() -> None:
        with _refused(path, part):
            write_index(part, index)
            synchronise(part)
            if path.exists():
                os.replace(path, previous(path))
            os.replace(part, path)
            synchronise(path.parent)

    index = world.on_root(lay_out)
    world.on_all(write)
    world.on_all(read_back)
    world.on_root(publish)


@contextmanager
def _refused(path: Path, part: Path) -> Iterator[None]:
    """Turn a failure to write into a UserError, and remove the unfinished file."""
    try:
        yield
    except WRITE_FAILURES as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written ({reason(error)}); the checkpoints before it are as they "
            f"were: {remedy(error)}, then run the same command to go on."
        ) from None


def _lay_out(
    path: Path,
    chains: Mapping[str, np.ndarray],
    shared: Mapping[str, np.ndarray],
    checksums: np.ndarray,
    total: int,
) -> Index:
    """Make the file: every dataset in its place, the shared ones written, all its space reserved.

    Parameters
    ----------
    path : Path
    chains, shared : mapping of str to array
        By path; of the chains, this rank's.
    checksums : (total, arrays of chains) uint32
    total : int
        Chains of the job.
    """
    described = {
        f"chains/{name}": Entry(
            array.dtype.str, (total, *array.shape[1:]), zlib.crc32(column.tobytes()), 0
        )
        for (name, array), column in zip(chains.items(), checksums.T, strict=True)
    }
    described |= {
        f"shared/{name}": Entry(array.dtype.str, array.shape, checksum(array), 0)
        for name, array in shared.items()
    }
    room = room_for(total, described)
    bound = (
        room + sum(entry.size for entry in described.values()) + HDF5_BYTES * (len(described) + 16)
    )
    whole = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    whole.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    whole.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    arrays = {}
    path.unlink(missing_ok=True)
    reserve(path, bound)
    with open_hdf5(path, "w", userblock_size=room) as file:
        reserve(path, bound)  # again, as opening it gave the space back
        file.attrs["format"] = FORMAT
        for name, entry in described.items():
            # scalars and empty arrays get no place ahead of time
            dataset = file.create_dataset(name, entry.shape or (1,), entry.dtype, dcpl=whole)
            if name.startswith("shared/"):
                dataset[...] = shared[name.removeprefix("shared/")]
            place = dataset.id.get_offset() if dataset.size else room
            arrays[name] = entry._replace(place=place)
        file.flush()
        size = file.id.get_filesize()
    os.truncate(path, size)
    reserve(path, size)
    index = Index(total, size, arrays, 0, room)
    return replace(index, rest=checksum_of_rest(path, index))


def _write_chains(
    path: Path, arrays: Mapping[str, np.ndarray], block: ChainBlock, world: World
) -> None:
    """Write this rank's chains into the file that the root has laid out. Collective.

    A rank that fails takes part in what follows, as the other ranks wait there.
    """
    problem: Exception | None = None
    parallel = {} if world.size == 1 else {"driver": "mpio", "comm": world.communicator}
    with open_hdf5(path, "r+", **parallel) as file:
        try:
            for name, array in arrays.items():
                _write(file[f"chains/{name}"], array, block.first)
        except WRITE_FAILURES as error:
            problem = error
        file.flush()
    if problem:
        raise problem


def _write(dataset: h5py.Dataset, array: np.ndarray, first: int) -> None:
    """Write an array at the rows of a dataset from ``first`` on."""
    for rows, *inner in pieces(array.shape, array.itemsize):
        dataset[(slice(first + rows.start, first + rows.stop), *inner)] = array[(rows, *inner)]
