"""The communication module: the only one that imports mpi4py.

Everything else is handed a ``World``: the MPI ranks of the job, or the serial stand-in of the same
shape when the program runs without MPI (a notebook, a unit test).
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from hpcslmc.errors import UserError

if TYPE_CHECKING:
    from mpi4py import MPI
    from torch import Tensor

T = TypeVar("T")

LONGEST_MESSAGE = 2**28
"""Bytes that one call of MPI, which counts in int, is given."""


class World:
    """Serial stand-in for the MPI ranks: one rank alone, every operation the identity.

    Attributes
    ----------
    rank, size : int
    local_rank : int
        Rank among those of the same node.
    communicator : mpi4py.MPI.Comm or None
        The raw communicator, for libraries that are parallel themselves: HDF5, PETSc, SLEPc,
        ScaLAPACK.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    communicator: "MPI.Comm | None" = None

    @property
    def is_root(self) -> bool:
        """True on rank 0, which prints and reads for all."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """Return the root's value on every rank. Collective."""
        return value

    def on_root(self, function: Callable[[], T]) -> T:
        """Call a function on the root alone, and return its result on every rank. Collective.

        Its UserError is raised on every rank.
        """
        result: T | None = None
        error: UserError | None = None
        if self.is_root:
            try:
                result = function()
            except UserError as problem:
                error = problem
        result, error = self.broadcast((result, error))
        if error is not None:
            raise error
        return cast(T, result)

    def on_all(self, function: Callable[[], T]) -> T:
        """Call a function on each rank, and return each rank's own result. Collective.

        A UserError of any rank is raised on every rank. The function itself is not collective.
        """
        result: T | None = None
        error: UserError | None = None
        try:
            result = function()
        except UserError as problem:
            error = problem
        for failure in self.all_of(error):
            if failure is not None:
                raise failure
        return cast(T, result)

    def all_of(self, value: T) -> list[T]:
        """Return the values of all ranks, in order of rank. Collective."""
        return [value]

    def sum(self, array: np.ndarray) -> np.ndarray:
        """Sum an array of the same shape everywhere over ranks. Collective."""
        return array

    def sum_tensor(self, tensor: "Tensor") -> "Tensor":
        """Sum a torch tensor over ranks, on its device. Collective."""
        return tensor

    def maximum(self, array: np.ndarray) -> np.ndarray:
        """Return the largest value over ranks, elementwise. Collective."""
        return array

    def gather(self, array: np.ndarray) -> np.ndarray | None:
        """Join arrays of equal shape along the first axis, in order of rank, on the root.

        Collective.
        """
        return array

    def in_turn(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass the pieces of all ranks through the root, in order of rank; other ranks get none.

        Collective: every rank has to go through it to the end. All ranks have as many pieces and of
        the same shapes, none of more than ``LONGEST_MESSAGE`` bytes.
        """
        return iter(pieces)

    def barrier(self) -> None:
        """Wait for all ranks. Collective."""

    def split(self, ranks_per_chain: int) -> tuple["World", "World"]:
        """Divide the ranks into groups of consecutive ones that share their chains. Collective.

        Returns
        -------
        copy : World
            One rank of each group: those at the same place in their group as this rank. Each of
            the ``ranks_per_chain`` copies holds all chains and does the same work; only the exact
            weight is shared out in a group.
        group : World
            The ranks that share this rank's chains.
        """
        return self, World()

    def teams(self, count: int) -> "World":
        """Divide the ranks into ``count`` teams of consecutive ones, as equal as can be.

        Returns this rank's team. Collective.
        """
        return World()

    def all_arrive(self, within_s: float) -> bool:
        """Wait until all ranks of the job have called this, or return False when the time is over.

        Once in a job.
        """
        return True

    @property
    def library(self) -> str:
        """Name and version of the MPI library."""
        return "no MPI"

    def abort(self, code: int) -> None:
        """End the whole job now."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class MPIWorld(World):
    """The ranks of an MPI communicator, COMM_WORLD if none is given."""

    communicator: "MPI.Comm"

    def __init__(self, communicator: "MPI.Comm | None" = None) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self.communicator = MPI.COMM_WORLD if communicator is None else communicator
        self.rank, self.size = self.communicator.rank, self.communicator.size
        node = self.communicator.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank = node.rank
        node.Free()
        # apart from all other traffic: whoever arrives does not know where the others are
        self._arrivals = self.communicator.Dup() if communicator is None else None

    def broadcast(self, value: T) -> T:
        return self.communicator.bcast(value, root=0)

    def all_of(self, value: T) -> list[T]:
        return self.communicator.allgather(value)

    def sum(self, array: np.ndarray) -> np.ndarray:
        return self._reduced(array, self._mpi.SUM)

    def _reduced(self, array: np.ndarray, operation: "MPI.Op") -> np.ndarray:
        result = np.empty(array.shape, array.dtype)
        for mine, all_ranks in zip(_messages(array), _messages(result), strict=True):
            self.communicator.Allreduce(mine, all_ranks, op=operation)
        return result

    def sum_tensor(self, tensor: "Tensor") -> "Tensor":
        if self.size == 1:
            return tensor
        return tensor.new_tensor(self.sum(tensor.cpu().numpy()))

    def maximum(self, array: np.ndarray) -> np.ndarray:
        return self._reduced(array, self._mpi.MAX)

    def gather(self, array: np.ndarray) -> np.ndarray | None:
        if self.size == 1:
            return array
        joined = np.empty(self.size * array.size if self.is_root else 0, array.dtype)
        filled = 0
        for piece in self.in_turn(_messages(array)):
            joined[filled : filled + piece.size] = piece
            filled += piece.size
        return joined.reshape(self.size * len(array), *array.shape[1:]) if self.is_root else None

    def in_turn(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        # Shapes and types of the root's own pieces are those of every rank's
        kinds: list[tuple[tuple[int, ...], np.dtype]] = []
        for piece in pieces:
            if self.is_root:
                kinds.append((piece.shape, piece.dtype))
                yield piece
            else:
                self.communicator.Send(np.ascontiguousarray(piece), 0)
        for rank in range(1, self.size) if self.is_root else ():
            for shape, dtype in kinds:
                piece = np.empty(shape, dtype)
                self.communicator.Recv(piece, rank)
                yield piece

    def barrier(self) -> None:
        self.communicator.Barrier()

    def split(self, ranks_per_chain: int) -> tuple[World, World]:
        copy = self.communicator.Split(self.rank % ranks_per_chain, self.rank)
        group = self.communicator.Split(self.rank // ranks_per_chain, self.rank)
        return MPIWorld(copy), MPIWorld(group)

    def teams(self, count: int) -> World:
        return MPIWorld(self.communicator.Split(self.rank * count // self.size, self.rank))

    def all_arrive(self, within_s: float) -> bool:
        assert self._arrivals is not None, "only all ranks of the job can wait for each other so"
        request = self._arrivals.Ibarrier()
        end = time.monotonic() + within_s
        while not request.Test():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def abort(self, code: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._mpi.COMM_WORLD.Abort(code)

    @property
    def library(self) -> str:
        return self._mpi.Get_library_version().split(",")[0].split("\n")[0].strip("\0 ")


def _messages(array: np.ndarray) -> Iterator[np.ndarray]:
    """Cut an array, flattened in C order, into parts that MPI can count.

    The parts are views of a contiguous array.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    step = max(1, LONGEST_MESSAGE // array.itemsize)
    return (flat[first : first + step] for first in range(0, flat.size, step))
