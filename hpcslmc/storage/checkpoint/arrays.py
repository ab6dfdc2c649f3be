"""Bytes of arrays: their pieces, their checksums, and reading them from a file.

Arrays are written, summed up and read piece by piece, so that no array is in memory twice.
"""

import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.storage.checkpoint.index import Damaged, Entry, Index, size_in_bytes
from hpcslmc.storage.checkpoint.trees import below

PIECE = 2**24
"""Most bytes of an array that are written, read back or summed up at once.

HDF5 on MPI counts the bytes of one call in int.
"""
ALIGNMENT = 64
"""Alignment in bytes, as torch's: kernels round the ends of arrays that are not aligned otherwise.
"""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what keeps a file from being read into ``Damaged``: a fault of the file."""
    try:
        yield
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error.strerror})") from None
    except MemoryError:
        raise Damaged(f"{path} holds more than this machine's memory") from None


def check_memory(arrays: Iterable[tuple[str, Sequence[int]]]) -> None:
    """Raise MemoryError if arrays of these types and shapes exceed this machine's memory."""
    needed = sum(size_in_bytes(dtype, shape) for dtype, shape in arrays)
    if needed > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise MemoryError


def read_array(path: Path, dtype: str, shape: Sequence[int], place: int) -> np.ndarray:
    """Read an array from a place in a file, into memory aligned as torch aligns."""
    size = size_in_bytes(dtype, shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    array = memory[first : first + size]
    with path.open("rb") as file:
        file.seek(place)
        if file.readinto(array.data) != size:
            raise Damaged(f"{path} is truncated")
    return array.view(dtype).reshape(shape)


def read_checked(path: Path, name: str, entry: Entry) -> np.ndarray:
    """Read a shared array, and check its checksum."""
    array = read_array(path, entry.dtype, entry.shape, entry.place)
    if checksum(array) != entry.checksum:
        raise Damaged(f"{path} is damaged (checksum of {name})")
    return array


def pieces(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Yield slices that cut an array, in the order of its elements, into ``PIECE`` bytes each."""
    row = itemsize * math.prod(shape[1:])
    if not shape:
        yield ()
    elif row <= PIECE:
        step = PIECE // max(1, row)
        for first in range(0, shape[0], step):
            yield (slice(first, min(first + step, shape[0])),)
    else:
        for at in range(shape[0]):
            yield from ((slice(at, at + 1), *inner) for inner in pieces(shape[1:], itemsize))


def checksum(array: np.ndarray) -> int:
    """Return the CRC-32 of an array's bytes."""
    crc = 0
    for part in pieces(array.shape, array.itemsize):
        crc = zlib.crc32(np.ascontiguousarray(array[part]).data, crc)
    return crc


def chain_checksums(arrays: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """Return the CRC-32 of each chain's bytes, (chains of this rank, arrays) uint32."""
    return np.array(
        [
            [checksum(array[chain : chain + 1]) for array in arrays.values()]
            for chain in range(count)
        ],
        np.uint32,
    )


def chain_checksums_on_disk(path: Path, index: Index, block: ChainBlock) -> np.ndarray:
    """Return the CRC-32 of each chain's bytes in a file, (chains of this rank, arrays) uint32.

    The chains are not kept in memory.
    """
    entries = below("chains/", index.arrays)
    checksums = np.zeros((block.count, len(entries)), np.uint32)
    with reading(path), path.open("rb") as file:
        for column, entry in enumerate(entries.values()):
            file.seek(entry.place + block.first * entry.row_size)
            for chain in range(block.count):
                checksums[chain, column] = checksum_of_next(file, entry.row_size)
    return checksums


def checksum_of_next(file: BinaryIO, size: int) -> int:
    """Return the CRC-32 of the next bytes of a file, or of as many as there are."""
    crc = 0
    while size:
        read = file.read(min(size, PIECE))
        if not read:
            break
        crc = zlib.crc32(read, crc)
        size -= len(read)
    return crc


def checksum_of_rest(path: Path, index: Index) -> int:
    """Return the CRC-32 of all that is neither index nor array: what HDF5 wrote for itself."""
    crc = 0
    at = index.room
    with path.open("rb") as file:
        for first, last in [*index.extents, (index.size, index.size)]:
            file.seek(at)
            crc = zlib.crc32(file.read(first - at), crc)
            at = last
    return crc
