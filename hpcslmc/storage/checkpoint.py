"""Checkpoints: one HDF5 file, written by all ranks together, checked in full, published by rename.

The file holds two trees of arrays. Under ``/chains`` the first axis of every dataset is the global
chain, and each rank writes and reads its own block of it; under ``/shared`` are arrays that all
ranks hold alike, and one JSON text with every plain value (counters, phases, the resolved job,
versions).

Before the HDF5 part lies an index: a line of plain text (format, length, CRC-32 of what follows),
then JSON with the type, shape, place and CRC-32 of every array and of what lies between them. The
checksum of a chain array is that of the checksums of its chains, so any number of ranks can work it
out. The program reads by the index alone: no byte is believed before its checksum is right, nothing
is unpickled, and no HDF5 feature (links, filters, external files) of a foreign file comes into
play.

A file that is not complete never has the checkpoint's name, and the checkpoint before stays beside
it under the name that ``previous`` gives.
"""

import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, TypeVar

import h5py
import numpy as np
import torch

from hpcslmc.errors import UserError
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.storage.files import (
    WRITE_FAILURES,
    beside,
    check_regular,
    reason,
    remedy,
    reserve,
    synchronise,
)
from hpcslmc.storage.hdf5 import open_hdf5

FORMAT = "hpcslmc checkpoint 6"
FIRST_LINE = len(FORMAT) + 20
"""Bytes of the format, the index's length and its checksum."""
LARGEST_INDEX = LARGEST_REST = 2**25
"""Bytes of an index, and of what lies between arrays, beyond which a file is refused."""
LARGEST_PLAIN = 2**27
"""Bytes of the plain values beyond which a file is refused."""
DEEPEST = 16
"""Groups of groups of arrays."""
NUMBERS = frozenset(np.dtype(code).str for code in "?bBhHiIqQfd")
"""Types of arrays that are read."""
PIECE = 2**24
"""Bytes of an array that are written, read back or summed up at once.

HDF5 on MPI counts the bytes of one call in int.
"""
ALIGNMENT = 64
"""Bytes, as torch aligns: kernels round the ends of arrays that are not aligned otherwise."""
HDF5_BYTES = 2048
"""More than HDF5 needs to describe one dataset."""


Read, Leaf = TypeVar("Read"), TypeVar("Leaf")


class Damaged(UserError):
    """A file is not a complete, undamaged checkpoint of this format, or holds what the job cannot
    go on from.
    """


class Array(NamedTuple):
    """What the index says of an array.

    Attributes
    ----------
    dtype : str
        As NumPy writes it.
    shape : tuple of int
        Of an array of chains, one chain's part of it.
    """

    dtype: str
    shape: tuple[int, ...]


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest is kept."""
    return path.with_suffix(".previous" + path.suffix)


def save(path: Path, chains: dict, shared: dict, block: ChainBlock, world: World) -> None:
    """Write a checkpoint, read it back, publish it; the one before is kept as ``previous(path)``.
    Collective.

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
    mine, plain = _split(chains)
    if plain:
        raise TypeError(f"only arrays belong to chains, not {sorted(plain)}")
    common, plain = _split(shared)
    common["plain_json"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    own_checksums = _chain_checksums(mine, block.count)
    checksums = world.gather(own_checksums)

    def cannot(error: Exception) -> UserError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        return UserError(
            f"{path} cannot be written ({reason(error)}); the checkpoints before it are as they "
            "were: "
            f"{remedy(error)}, then run the same command to go on."
        )

    def lay_out() -> dict:
        try:
            return _lay_out(part, mine, common, checksums, block.total)
        except WRITE_FAILURES as error:
            raise cannot(error) from None

    def write() -> None:
        problem = None
        try:
            with _open(part, world) as file:
                try:
                    for name, array in mine.items():
                        _write(file[f"chains/{name}"], array, block.first)
                except WRITE_FAILURES as error:  # the other ranks wait in what follows
                    problem = error
                file.flush()
        except WRITE_FAILURES as error:
            problem = error
        if problem:
            raise cannot(problem)

    def publish() -> None:
        try:
            _finish(part, index)
            if path.exists():
                os.replace(path, previous(path))
            os.replace(part, path)
            synchronise(path.parent)
        except OSError as error:
            raise cannot(error) from None

    def read_back() -> None:
        if not np.array_equal(_checksums_on_disk(part, index, block), own_checksums):
            raise cannot(OSError("the disk gives back other bytes than were written"))

    index = world.on_root(lay_out)
    world.on_all(write)
    world.on_all(read_back)
    world.on_root(publish)


def load_newest(path: Path, read: Callable[[Path], Read]) -> tuple[Read, Path, list[str]]:
    """What is read from the checkpoint at ``path``, or from the one kept before it if that is
    damaged. Collective if ``read`` is.

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
    """Read a checkpoint: this rank's chains, and what is shared, as saved (arrays as tensors).
    Collective.

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
    if index["chains"] != block.total:
        raise UserError(
            f"{path} holds {index['chains']} chains, the job file asks for {block.total}."
        )
    common = world.on_all(lambda: _read_shared(path, index))
    mine = world.on_all(lambda: _read_chains(path, index, block))
    checksums = world.gather(_chain_checksums(mine, block.count))
    world.on_root(lambda: _compare(path, index, checksums))
    return _nest(_tensors(mine)), _merge(plain, _nest(_tensors(common)))


def _lay_out(
    path: Path,
    chains: dict[str, np.ndarray],
    shared: dict[str, np.ndarray],
    checksums: np.ndarray,
    total: int,
) -> dict:
    """Make the file with every dataset in its place, the shared ones written, and all its space on
    the disk; returns its index.
    """
    described = {
        f"chains/{name}": (array.dtype.str, (total, *array.shape[1:]), zlib.crc32(column.tobytes()))
        for (name, array), column in zip(chains.items(), checksums.T, strict=True)
    }
    described |= {
        f"shared/{name}": (array.dtype.str, array.shape, _checksum(array))
        for name, array in shared.items()
    }
    longest = {name: [*entry, 10**18] for name, entry in described.items()}
    room = 512
    while room < FIRST_LINE + len(
        _encode({"chains": total, "size": 10**18, "rest": 10**10, "arrays": longest})
    ):
        room *= 2
    whole = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    whole.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    whole.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    bound = (
        room
        + sum(_bytes(dtype, shape) for dtype, shape, _ in described.values())
        + HDF5_BYTES * (len(described) + 16)
    )
    arrays = {}
    path.unlink(missing_ok=True)
    reserve(path, bound)
    with open_hdf5(path, "w", userblock_size=room) as file:
        reserve(path, bound)  # again, as opening it gave the space back
        file.attrs["format"] = FORMAT
        for name, (dtype, shape, checksum) in described.items():
            # scalars and empty arrays get no place ahead of time
            dataset = file.create_dataset(name, shape or (1,), dtype, dcpl=whole)
            if name.startswith("shared/"):
                dataset[...] = shared[name.removeprefix("shared/")]
            arrays[name] = [
                dtype,
                shape,
                checksum,
                dataset.id.get_offset() if dataset.size else room,
            ]
        file.flush()
        size = file.id.get_filesize()
    os.truncate(path, size)
    reserve(path, size)
    index = {"chains": total, "size": size, "arrays": arrays}
    index["rest"] = _checksum_of_rest(path, index, room)
    return index | {"room": room}


def _finish(path: Path, index: dict) -> None:
    """Write the index, which makes the file a checkpoint, and bring it to the disk."""
    index = dict(index)
    room = index.pop("room")
    body = _encode(index).ljust(room - FIRST_LINE)
    with path.open("r+b") as file:
        file.write(_first_line(room, zlib.crc32(body)) + body)
    synchronise(path)


def _first_line(room: int, checksum: int) -> bytes:
    return f"{FORMAT} {room:9d} {checksum:08x}\n".encode()


def _encode(index: dict) -> bytes:
    return json.dumps(index).encode()


def _read_index(path: Path) -> tuple[dict, int]:
    """Read a file's index, checked against the file's size, and its length in bytes."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            line = file.read(FIRST_LINE)
            if not line.startswith(FORMAT.encode() + b" "):
                raise Damaged(f"{path} is not a checkpoint of this version ({FORMAT})")
            room, checksum = int(line[len(FORMAT) : -9]), int(line[-9:], 16)
            if line != _first_line(room, checksum):
                raise ValueError
            if not FIRST_LINE < room <= min(size, LARGEST_INDEX):
                raise Damaged(f"{path} is truncated")
            body = file.read(room - FIRST_LINE)
        if zlib.crc32(body) != checksum:
            raise Damaged(f"{path} is damaged (checksum of its index)")
        index = json.loads(body)
        if index["size"] != size:
            raise Damaged(
                f"{path} is truncated or was added to ({size} bytes instead of {index['size']})"
            )
        _check_arrays(index, room)
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error.strerror})") from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):
        raise Damaged(f"{path} is damaged (its index makes no sense)") from None
    return index, room


def _check_arrays(index: dict, room: int) -> None:
    """Raise ValueError unless all arrays hold numbers and lie in the file, disjoint."""
    if type(index["chains"]) is not int:
        raise ValueError
    for name, (dtype, shape, _, place) in index["arrays"].items():
        if name.count("/") > DEEPEST or name != str(PurePosixPath(name)):
            raise ValueError
        if dtype not in NUMBERS or not all(type(n) is int and n >= 0 for n in (*shape, place)):
            raise ValueError
        if name.startswith("chains/") and shape[0] != index["chains"]:
            raise ValueError
        if any(str(parent) in index["arrays"] for parent in PurePosixPath(name).parents):
            raise ValueError
    end, rest = room, index["size"] - room
    for first, last in _extents(index):
        if first < end:
            raise ValueError
        end, rest = last, rest - (last - first)
    if end > index["size"] or rest > LARGEST_REST:
        raise ValueError


def _extents(index: dict) -> list[tuple[int, int]]:
    """First byte and end of every array that is not empty, in the file's order."""
    return sorted(
        (place, place + size)
        for dtype, shape, _, place in index["arrays"].values()
        if (size := _bytes(dtype, shape))
    )


def _bytes(dtype: str, shape: list[int]) -> int:
    size = np.dtype(dtype).itemsize
    for n in shape:
        size *= n
    return size


def _checksum_of_rest(path: Path, index: dict, room: int) -> int:
    """CRC-32 of all that is neither index nor array: what HDF5 wrote for itself."""
    checksum, at = 0, room
    with path.open("rb") as file:
        for first, last in [*_extents(index), (index["size"], 0)]:
            file.seek(at)
            checksum = zlib.crc32(file.read(first - at), checksum)
            at = last
    return checksum


def _read_plain(path: Path) -> tuple[dict, dict, tuple[dict, dict]]:
    """Index, plain values, and the outline of both trees, which has an ``Array`` in place of every
    array.
    """
    index, room = _read_index(path)
    try:
        with _reading(path):
            if _checksum_of_rest(path, index, room) != index["rest"]:
                raise Damaged(f"{path} is damaged (checksum of what lies between its arrays)")
            dtype, shape, *_ = index["arrays"]["shared/plain_json"]
            if _bytes(dtype, shape) > LARGEST_PLAIN:
                raise Damaged(f"{path} holds more than {LARGEST_PLAIN >> 20} MB of plain values")
            plain = json.loads(_read_checked(path, index, "shared/plain_json").tobytes())
        if not isinstance(plain, dict):
            raise ValueError
        arrays = {
            name: Array(dtype, tuple(shape[name.startswith("chains/") :]))
            for name, (dtype, shape, *_) in index["arrays"].items()
        }
        outline = _nest(_below("chains/", arrays)), _merge(plain, _nest(_below("shared/", arrays)))
        del outline[1]["plain_json"]
    except (KeyError, ValueError, RecursionError):
        raise Damaged(f"{path} is damaged (its plain values make no sense)") from None
    return index, plain, outline


def _read_shared(path: Path, index: dict) -> dict[str, np.ndarray]:
    """All shared arrays but the plain values."""
    names = [name for name in _below("shared/", index["arrays"]) if name != "plain_json"]
    with _reading(path):
        _check_memory(index["arrays"][f"shared/{name}"][:2] for name in names)
        return {name: _read_checked(path, index, f"shared/{name}") for name in names}


def _read_chains(path: Path, index: dict, block: ChainBlock) -> dict[str, np.ndarray]:
    """Read this rank's part of all chain arrays."""
    arrays = _below("chains/", index["arrays"])
    with _reading(path):
        _check_memory((dtype, [block.count, *shape[1:]]) for dtype, shape, *_ in arrays.values())
        return {
            name: _read(
                path,
                dtype,
                [block.count, *shape[1:]],
                place + block.first * _bytes(dtype, shape[1:]),
            )
            for name, (dtype, shape, _, place) in arrays.items()
        }


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What keeps a file from being read is a fault of the file."""
    try:
        yield
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error.strerror})") from None
    except MemoryError:
        raise Damaged(f"{path} holds more than this machine's memory") from None


def _check_memory(arrays: Iterable[tuple[str, list[int]]]) -> None:
    """Raise MemoryError if arrays of these types and shapes exceed this machine's memory."""
    if sum(_bytes(dtype, shape) for dtype, shape in arrays) > os.sysconf(
        "SC_PHYS_PAGES"
    ) * os.sysconf("SC_PAGE_SIZE"):
        raise MemoryError


def _read_checked(path: Path, index: dict, name: str) -> np.ndarray:
    dtype, shape, checksum, place = index["arrays"][name]
    array = _read(path, dtype, shape, place)
    if _checksum(array) != checksum:
        raise Damaged(f"{path} is damaged (checksum of {name})")
    return array


def _read(path: Path, dtype: str, shape: list[int], place: int) -> np.ndarray:
    size = _bytes(dtype, shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    array = memory[first : first + size]
    with path.open("rb") as file:
        file.seek(place)
        if file.readinto(array) != size:
            raise Damaged(f"{path} is truncated")
    return array.view(dtype).reshape(shape)


def _pieces(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Slices that cut an array, in the order of its elements, into parts of ``PIECE`` bytes."""
    row = itemsize * math.prod(shape[1:])
    if not shape:
        yield ()
    elif row <= PIECE:
        step = PIECE // max(1, row)
        for first in range(0, shape[0], step):
            yield (slice(first, min(first + step, shape[0])),)
    else:
        for at in range(shape[0]):
            yield from ((slice(at, at + 1), *inner) for inner in _pieces(shape[1:], itemsize))


def _write(dataset: h5py.Dataset, array: np.ndarray, first: int) -> None:
    """Write an array at the rows of a dataset from ``first`` on."""
    for rows, *inner in _pieces(array.shape, array.itemsize):
        dataset[(slice(first + rows.start, first + rows.stop), *inner)] = array[(rows, *inner)]


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of an array's bytes."""
    checksum = 0
    for part in _pieces(array.shape, array.itemsize):
        checksum = zlib.crc32(np.ascontiguousarray(array[part]), checksum)
    return checksum


def _chain_checksums(arrays: dict[str, np.ndarray], count: int) -> np.ndarray:
    """(chains of this rank, arrays) uint32, CRC-32 of each chain's bytes."""
    return np.array(
        [
            [_checksum(array[chain : chain + 1]) for array in arrays.values()]
            for chain in range(count)
        ],
        np.uint32,
    )


def _checksums_on_disk(path: Path, index: dict, block: ChainBlock) -> np.ndarray:
    """The same of what a file holds; the chains are not kept in memory."""
    arrays = _below("chains/", index["arrays"])
    checksums = np.zeros((block.count, len(arrays)), np.uint32)
    with _reading(path), path.open("rb") as file:
        for column, (dtype, shape, _, place) in enumerate(arrays.values()):
            chain_bytes = _bytes(dtype, shape[1:])
            file.seek(place + block.first * chain_bytes)
            for chain in range(block.count):
                checksums[chain, column] = _checksum_of_next(file, chain_bytes)
    return checksums


def _checksum_of_next(file: BinaryIO, size: int) -> int:
    """CRC-32 of the next bytes of a file, or of as many as there are."""
    checksum = 0
    while size and (read := file.read(min(size, PIECE))):
        checksum, size = zlib.crc32(read, checksum), size - len(read)
    return checksum


def _compare(path: Path, index: dict, checksums: np.ndarray) -> None:
    names = [name for name in index["arrays"] if name.startswith("chains/")]
    for name, column in zip(names, checksums.T, strict=True):
        if zlib.crc32(column.tobytes()) != index["arrays"][name][2]:
            raise Damaged(f"{path} is damaged (checksum of {name})")


def _open(path: Path, world: World) -> h5py.File:
    if world.size == 1:
        return open_hdf5(path, "r+")
    return open_hdf5(path, "r+", driver="mpio", comm=world.communicator)


def _split(tree: dict, prefix: str = "") -> tuple[dict[str, np.ndarray], dict]:
    """Arrays of a nested dict by path, and the nested dict of what is left."""
    arrays, plain = {}, {}
    for key, value in tree.items():
        if isinstance(value, dict):
            inner, rest = _split(value, f"{prefix}{key}/")
            arrays.update(inner)
            if rest or not value:
                plain[key] = rest
        elif isinstance(value, torch.Tensor):
            arrays[prefix + key] = value.detach().cpu().numpy()
        elif isinstance(value, np.ndarray):
            arrays[prefix + key] = value
        else:
            plain[key] = value
    return arrays, plain


def _below(prefix: str, arrays: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Those whose path begins so, by the rest of it."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The same memory, which ``_read`` has aligned as torch does."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _nest(leaves: Mapping[str, object]) -> dict:
    """Leaves by path as a nested dict."""
    tree: dict = {}
    for path, leaf in leaves.items():
        *groups, name = path.split("/")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = leaf
    return tree


def _merge(first: dict, second: dict) -> dict:
    """Two nested dicts as one; ValueError unless their leaves are disjoint."""
    merged = dict(first)
    for key, value in second.items():
        if key in merged and not (isinstance(merged[key], dict) and isinstance(value, dict)):
            raise ValueError
        merged[key] = _merge(merged[key], value) if key in merged else value
    return merged
