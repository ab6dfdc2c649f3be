"""Index of a checkpoint file: format, type, shape, place and checksum of every array."""

import json
import math
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from hpcslmc.errors import UserError
from hpcslmc.storage.files import check_regular

FORMAT = "hpcslmc checkpoint 12"
FIRST_LINE = len(FORMAT) + 20
"""Size in bytes of the first line: the format, the index's length and its checksum."""
LARGEST_INDEX = LARGEST_REST = 2**25
"""Largest index, and largest rest between arrays, of a file that is not refused, in bytes."""
DEEPEST = 16
"""Most groups within groups of arrays."""
NUMBERS = frozenset(np.dtype(code).str for code in "?bBhHiIqQfd")
"""Types of arrays that are read."""


class Damaged(UserError):
    """A file is not a complete, undamaged checkpoint of this format, or does not suit the job."""


class Array(NamedTuple):
    """Type and shape of an array, in the outline of a checkpoint.

    Attributes
    ----------
    dtype : str
        As NumPy writes it.
    shape : tuple of int
        Of an array of chains, one chain's part of it.
    """

    dtype: str
    shape: tuple[int, ...]


class Entry(NamedTuple):
    """One array in the index.

    Attributes
    ----------
    dtype : str
        As NumPy writes it.
    shape : sequence of int
    checksum : int
        CRC-32 of its bytes; of an array of chains, of the checksums of its chains.
    place : int
        First byte in the file.
    """

    dtype: str
    shape: Sequence[int]
    checksum: int
    place: int

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return size_in_bytes(self.dtype, self.shape)

    @property
    def row_size(self) -> int:
        """Bytes of one row: one chain's part of an array of chains."""
        return size_in_bytes(self.dtype, self.shape[1:])


@dataclass(frozen=True)
class Index:
    """Index of a file: where everything is, and its checksums.

    Attributes
    ----------
    chains : int
        Of the whole job.
    size : int
        Bytes of the file.
    arrays : dict of str to Entry
        By path, ``chains/...`` or ``shared/...``.
    rest : int
        CRC-32 of all that is neither index nor array: what HDF5 wrote for itself.
    room : int
        Bytes of the index, its first line and its padding included.
    """

    chains: int
    size: int
    arrays: dict[str, Entry]
    rest: int
    room: int

    @property
    def extents(self) -> list[tuple[int, int]]:
        """First byte and end of every array that is not empty, in the file's order."""
        return sorted(
            (entry.place, entry.place + entry.size) for entry in self.arrays.values() if entry.size
        )

    def check(self) -> None:
        """Raise ValueError unless all arrays hold numbers and lie in the file, disjoint."""
        if type(self.chains) is not int:
            raise ValueError
        for name, (dtype, shape, _, place) in self.arrays.items():
            if name.count("/") > DEEPEST or name != str(PurePosixPath(name)):
                raise ValueError
            if dtype not in NUMBERS or not all(type(n) is int and n >= 0 for n in (*shape, place)):
                raise ValueError
            if name.startswith("chains/") and shape[0] != self.chains:
                raise ValueError
            if any(str(parent) in self.arrays for parent in PurePosixPath(name).parents):
                raise ValueError
        end = self.room
        rest = self.size - self.room
        for first, last in self.extents:
            if first < end:
                raise ValueError
            end = last
            rest -= last - first
        if end > self.size or rest > LARGEST_REST:
            raise ValueError


def size_in_bytes(dtype: str, shape: Iterable[int]) -> int:
    """Count the bytes of an array; Python's integers do not overflow, whatever a file says."""
    return np.dtype(dtype).itemsize * math.prod(shape)


def room_for(chains: int, arrays: Mapping[str, Entry]) -> int:
    """Return the bytes to keep free for the index of a file, wherever its arrays will lie.

    HDF5 wants a power of two, from 512 on.
    """
    largest = 10**18
    longest = {name: entry._replace(place=largest) for name, entry in arrays.items()}
    needed = FIRST_LINE + len(_encode(Index(chains, largest, longest, 10**10, 0)))
    room = 512
    while room < needed:
        room *= 2
    return room


def write_index(path: Path, index: Index) -> None:
    """Write the index at the beginning of a file, which makes it a checkpoint."""
    body = _encode(index).ljust(index.room - FIRST_LINE)
    with path.open("r+b") as file:
        file.write(_first_line(index.room, zlib.crc32(body)) + body)


def _first_line(room: int, checksum: int) -> bytes:
    return f"{FORMAT} {room:9d} {checksum:08x}\n".encode()


def _encode(index: Index) -> bytes:
    described = {
        "chains": index.chains,
        "size": index.size,
        "arrays": index.arrays,
        "rest": index.rest,
    }
    return json.dumps(described).encode()


def read_index(path: Path) -> Index:
    """Read a file's index, and check it against the file's size.

    Raises
    ------
    Damaged
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # first line: format, room for the index, and the checksum of the latter
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
        # the index itself
        found = json.loads(body)
        if found["size"] != size:
            raise Damaged(
                f"{path} is truncated or was added to ({size} bytes instead of {found['size']})"
            )
        arrays = {name: Entry(*entry) for name, entry in found["arrays"].items()}
        index = Index(found["chains"], size, arrays, found["rest"], room)
        index.check()
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error.strerror})") from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):
        raise Damaged(f"{path} is damaged (its index makes no sense)") from None
    return index
