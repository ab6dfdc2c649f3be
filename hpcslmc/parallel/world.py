"""The communication module: the only one that imports mpi4py.

Everything else is handed a ``World``: the MPI ranks of the job, or the serial stand-in of the same
shape when the program runs without MPI (a notebook, a unit test).
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from hpcslmc.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_MESSAGE = 2**28
"""Bytes that one call of MPI, which counts in int, is given."""


class World:
    """One rank alone; every operation is the identity.

    Attributes
    ----------
    rank, size : int
    local_rank : int
        Rank among those of the same node.
    communicator : mpi4py.MPI.Intracomm or None
        The raw communicator, for ``checkpoint`` alone.
    """

    rank, size, local_rank = 0, 1, 0
    communicator = None

    @property
    def is_root(self) -> bool:
        """Whether this rank speaks for all."""
        return self.rank == 0

    def broadcast(self, value: object) -> object:
        """The root's value on every rank. Collective."""
        return value

    def on_root(self, function: Callable[[], object]) -> object:
        """What the function returns on the root, on every rank; its UserError is raised on every
        rank too. Collective.
        """
        result, error = None, None
        if self.is_root:
            try:
                result = function()
            except UserError as problem:
                error = problem
        result, error = self.broadcast((result, error))
        if error is not None:
            raise error
        return result

    def on_all(self, function: Callable[[], object]) -> object:
        """What the function returns on each rank; a UserError of any is raised on every rank.

        Collective, the function is not.
        """
        result, error = None, None
        try:
            result = function()
        except UserError as problem:
            error = problem
        for failure in self.all_of(error):
            if failure is not None:
                raise failure
        return result

    def all_of(self, value: object) -> list:
        """The values of all ranks, in order of rank. Collective."""
        return [value]

    def sum(self, array: np.ndarray) -> np.ndarray:
        """Sum over ranks of an array of the same shape everywhere. Collective."""
        return array

    def sum_tensor(self, tensor: "Tensor") -> "Tensor":
        """Sum over ranks of a torch tensor, on its device. Collective."""
        return tensor

    def maximum(self, array: np.ndarray) -> np.ndarray:
        """Largest value over ranks, elementwise. Collective."""
        return array

    def gather(self, array: np.ndarray) -> np.ndarray | None:
        """Arrays of equal shape joined along the first axis in order of rank, on the root.

        Collective.
        """
        return array

    def in_turn(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """On the root the pieces of all ranks, in order of rank, one after the other; elsewhere
        none.

        Collective: every rank has to go through it to the end. All ranks have as many pieces and of
        the same shapes, none of more than ``LONGEST_MESSAGE`` bytes.
        """
        return iter(pieces)

    def barrier(self) -> None:
        """Wait for all ranks. Collective."""

    def split(self, ranks_per_chain: int) -> tuple["World", "World"]:
        """Groups of consecutive ranks that share their chains, and what joins them. Collective.

        Returns
        -------
        copy : World
            One rank of each group: those at this rank's place in theirs. Each of the
            ``ranks_per_chain`` copies holds all chains and does the same work; only the exact
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
        """Whether all ranks of the job come to call this in the time given; once in a job."""
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

    def __init__(self, communicator: object = None) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self.communicator = MPI.COMM_WORLD if communicator is None else communicator
        self.rank, self.size = self.communicator.rank, self.communicator.size
        node = self.communicator.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank = node.rank
        node.Free()
        # apart from all other traffic: whoever arrives does not know where the others are
        self._arrivals = self.communicator.Dup() if communicator is None else None

    def broadcast(self, value: object) -> object:
        return self.communicator.bcast(value, root=0)

    def all_of(self, value: object) -> list:
        return self.communicator.allgather(value)

    def sum(self, array: np.ndarray) -> np.ndarray:
        return self._reduced(array, self._mpi.SUM)

    def _reduced(self, array: np.ndarray, operation: object) -> np.ndarray:
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
        joined, filled = np.empty(self.size * array.size if self.is_root else 0, array.dtype), 0
        for piece in self.in_turn(_messages(array)):
            joined[filled : filled + piece.size] = piece
            filled += piece.size
        return joined.reshape(self.size * len(array), *array.shape[1:]) if self.is_root else None

    def in_turn(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        kinds = []
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
        place, group = self.rank % ranks_per_chain, self.rank // ranks_per_chain
        return MPIWorld(self.communicator.Split(place, self.rank)), MPIWorld(
            self.communicator.Split(group, self.rank)
        )

    def teams(self, count: int) -> World:
        return MPIWorld(self.communicator.Split(self.rank * count // self.size, self.rank))

    def all_arrive(self, within_s: float) -> bool:
        request, end = self._arrivals.Ibarrier(), time.monotonic() + within_s
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
    """The elements of an array in order, flat, in parts that MPI can count.

    They are views of it where it is contiguous.
    """
    flat, step = np.ascontiguousarray(array).reshape(-1), max(1, LONGEST_MESSAGE // array.itemsize)
    return (flat[first : first + step] for first in range(0, flat.size, step))
