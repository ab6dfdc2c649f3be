"""Reading a checkpoint: every byte is checked before it is believed."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from hpcslmc.errors import UserError
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.storage.checkpoint.arrays import (
    chain_checksums,
    check_memory,
    checksum_of_rest,
    read_array,
    read_checked,
    reading,
)
from hpcslmc.storage.checkpoint.index import Array, Damaged, Index, read_index
from hpcslmc.storage.checkpoint.trees import below, merge, nest, nest_tensors
from hpcslmc.storage.names import previous

LARGEST_PLAIN = 2**27
"""Largest size of the plain values of a file that is not refused, in bytes."""

Read = TypeVar("Read")


def load_newest(path: Path, read: Callable[[Path], Read]) -> tuple[Read, Path, list[str]]:
    """Read the checkpoint at ``path``, or the one kept before it if that is damaged.

    Collective if ``read`` is.

    Returns
    -------
    read : object
        What ``read`` returned.
    path : Path
        Of the file that was read.
    remarks : list of str
        What is wrong with the newest, if it was not that.

    Raises
    ------
    UserError
        If neither is good, or the good one is not accepted. No file is touched.
    """
    remarks: list[str] = []
    for candidate in (path, previous(path)):
        try:
            return read(candidate), candidate, remarks
        except Damaged as damage:
            remarks.append(str(damage))
    raise UserError(
        f"there is no good checkpoint ({'; '.join(remarks)}): put a good one there, or start over "
        "with --restart."
    )


def load(
    path: Path,
    block: ChainBlock,
    world: World,
    accept: Callable[[dict, dict], None] = lambda chains, shared: None,
) -> tuple[dict, dict]:
    """Read this rank's chains and what is shared, as saved, arrays as tensors. Collective.

    Every byte of the file is checked, and the memory taken is at most the size of this rank's part
    of it.

    Parameters
    ----------
    path : Path
    block : ChainBlock
    world : World
    accept : callable
        Given both trees before any array is read, with an ``Array`` in place of each; raises
        UserError if they do not suit.

    Raises
    ------
    Damaged
        If the file is missing, or is not a complete, undamaged checkpoint of this format.
    UserError
        If ``accept`` refuses it, or it holds another number of chains.
    """
    index, plain, outline = world.on_root(lambda: _read_plain(path))
    accept(*outline)
    if index.chains != block.total:
        raise UserError(f"{path} holds {index.chains} chains, the job file asks for {block.total}.")
    common = world.on_all(lambda: _read_shared(path, index))
    mine = world.on_all(lambda: _read_chains(path, index, block))
    checksums = world.gather(chain_checksums(mine, block.count))

    def compare() -> None:
        assert checksums is not None, "gathered on the root, which compares"
        _compare(path, index, checksums)

    world.on_root(compare)
    return nest_tensors(mine), merge(plain, nest_tensors(common))


def _read_plain(path: Path) -> tuple[Index, dict, tuple[dict, dict]]:
    """Read the index, the plain values, and the outline of both trees.

    The outline has an ``Array`` in place of every array.
    """
    index = read_index(path)
    try:
        with reading(path):
            if checksum_of_rest(path, index) != index.rest:
                raise Damaged(f"{path} is damaged (checksum of what lies between its arrays)")
            entry = index.arrays["shared/plain_json"]
            if entry.size > LARGEST_PLAIN:
                raise Damaged(f"{path} holds more than {LARGEST_PLAIN >> 20} MB of plain values")
            plain = json.loads(read_checked(path, "shared/plain_json", entry).tobytes())
        if not isinstance(plain, dict):
            raise ValueError
        chains = {
            name: Array(entry.dtype, tuple(entry.shape[1:]))
            for name, entry in below("chains/", index.arrays).items()
        }
        shared = {
            name: Array(entry.dtype, tuple(entry.shape))
            for name, entry in below("shared/", index.arrays).items()
        }
        outline = nest(chains), merge(plain, nest(shared))
        del outline[1]["plain_json"]
    except (KeyError, ValueError, RecursionError):
        raise Damaged(f"{path} is damaged (its plain values make no sense)") from None
    return index, plain, outline


def _read_shared(path: Path, index: Index) -> dict[str, np.ndarray]:
    """Read all shared arrays but the plain values."""
    entries = below("shared/", index.arrays)
    del entries["plain_json"]
    with reading(path):
        check_memory((entry.dtype, entry.shape) for entry in entries.values())
        return {
            name: read_checked(path, f"shared/{name}", entry) for name, entry in entries.items()
        }


def _read_chains(path: Path, index: Index, block: ChainBlock) -> dict[str, np.ndarray]:
    """Read this rank's part of all chain arrays."""
    entries = below("chains/", index.arrays)
    shapes = {name: (block.count, *entry.shape[1:]) for name, entry in entries.items()}
    with reading(path):
        check_memory((entry.dtype, shapes[name]) for name, entry in entries.items())
        return {
            name: read_array(
                path, entry.dtype, shapes[name], entry.place + block.first * entry.row_size
            )
            for name, entry in entries.items()
        }


def _compare(path: Path, index: Index, checksums: np.ndarray) -> None:
    """Compare the checksums of all chains with the index.

    Parameters
    ----------
    path : Path
    index : Index
    checksums : (chains of the job, arrays) uint32

    Raises
    ------
    Damaged
    """
    entries = below("chains/", index.arrays)
    for (name, entry), column in zip(entries.items(), checksums.T, strict=True):
        if zlib.crc32(column.tobytes()) != entry.checksum:
            raise Damaged(f"{path} is damaged (checksum of chains/{name})")
