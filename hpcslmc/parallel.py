"""The communication module: the only one that imports mpi4py.

Everything else is handed a ``World``: the MPI ranks of the job, or the serial stand-in of the same
shape when the program runs without MPI (a notebook, a unit test).
"""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpcslmc import environment
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


def limit_threads() -> int:
    """Hold every numerical library to OMP_NUM_THREADS threads, one where it is not set; returns the
    number.

    Sets the variable too, for libraries that are loaded later.

    Raises
    ------
    UserError
        The variable says no number of threads.
    """
    threads = environment.threads()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import threadpoolctl
    import torch

    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads)
    return threads


def device(world: World) -> str:
    """The rank's own GPU, shared out in order of local rank, where there is one; else the CPU."""
    import torch

    return (
        f"cuda:{world.local_rank % torch.cuda.device_count()}"
        if torch.cuda.is_available()
        else "cpu"
    )


@dataclass(frozen=True)
class ChainBlock:
    """The consecutive global chains that live on this rank.

    Attributes
    ----------
    total : int
        Chains of the whole job.
    first, count : int
        This rank holds chains first, ..., first + count - 1.
    """

    total: int
    first: int
    count: int

    @classmethod
    def of(cls, world: World, total: int) -> "ChainBlock":
        """Equal shares; the job file's check has made sure that ranks divide chains."""
        count = total // world.size
        return cls(total, world.rank * count, count)

    def indices(self) -> np.ndarray:
        """(count,) int64 global chain indices."""
        return np.arange(self.first, self.first + self.count)


@dataclass(frozen=True)
class Decision:
    """What all ranks do next, agreed by all.

    Attributes
    ----------
    checkpoint : bool
        Whether to write one.
    leave : str
        Why to leave, "" for going on.
    talked : bool
        Whether the ranks have just talked: they may talk of more at the same place.
    look : bool
        Whether the root wants to look at all chains.
    """

    checkpoint: bool = False
    leave: str = ""
    talked: bool = False
    look: bool = False


class Watch:
    """Collective decisions during a run.

    SIGTERM, SIGUSR1, SIGINT and SIGHUP on any rank ask the whole job to checkpoint and leave
    (SIGHUP not under nohup); so do the end of its time and an output that nobody reads any more.
    The root's clock asks for a checkpoint at once, so that a disk that takes none is noticed early,
    and then now and then. Ranks talk about it once in about a second of work only (more often where
    checkpoints are to come more often), at units of work that they have agreed on before. When and
    whether they talk changes no result.

    Parameters
    ----------
    world : World
    checkpoint_every_s : float
    ends_at : float
        When the job's time is over, in seconds since the epoch. The job leaves twice the time of
        its last checkpoint and of what lies between two talks before that, and ``LEAVING_S``.
    reader_gone : callable
        Whether nobody reads this rank's output any more.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
    LEAVING_S = 2.0
    REASONS = (
        "",
        "the job's time is nearly over",
        "nobody reads its output any more",
        "a signal came",
    )

    def __init__(
        self,
        world: World,
        checkpoint_every_s: float,
        ends_at: float = math.inf,
        reader_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        self.world, self.checkpoint_every_s, self.ends_at, self.reader_gone = (
            world,
            checkpoint_every_s,
            ends_at,
            reader_gone,
        )
        self._signalled, self._kind = False, ""
        self._units_to_talk = self._units_between = 1
        self._last_talk, self._last_checkpoint, self._checkpoint_took = (
            time.monotonic(),
            -math.inf,
            0.0,
        )
        for number in self.SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signalled = True
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)  # a second Ctrl-C ends the program at once

    def decide(self, kind: str = "", look: bool = False) -> Decision:
        """The agreed decision after a unit of work. Collective at the agreed units, else free.

        Parameters
        ----------
        kind : str
            Of the next unit of work, the same on all ranks: units of another kind take another
            time, so the ranks talk.
        look : bool
            Whether this rank, if it is the root, wants to look at all chains.
        """
        self._units_to_talk -= 1
        if kind != self._kind:
            self._kind, self._units_to_talk, self._units_between = kind, 0, 1
        if self._units_to_talk > 0:
            return Decision()
        now = time.monotonic()
        due, units, looks, reason = (
            0,
            0,
            0,
            3 if self._signalled else 2 if self.reader_gone() else 0,
        )
        if self.world.is_root:
            due, looks = now - self._last_checkpoint >= self.checkpoint_every_s, look
            pace = (
                self._units_between
                / max(now - self._last_talk, 1e-6)
                * min(1.0, self.checkpoint_every_s)
            )
            units = int(min(max(pace, 1), 2 * self._units_between))
            needed = 2.0 * (now - self._last_talk + self._checkpoint_took) + self.LEAVING_S
            reason = max(reason, int(time.time() + needed >= self.ends_at))
        due, units, looks, reason = (
            int(x) for x in self.world.maximum(np.array([due, units, looks, reason]))
        )
        self._units_to_talk = self._units_between = units
        self._last_talk = time.monotonic()
        return Decision(bool(due or reason), self.REASONS[reason], talked=True, look=bool(looks))

    def checkpoint_written(self) -> None:
        """Restart the checkpoint's clock, after the checkpoint that was just decided."""
        now = time.monotonic()
        self._checkpoint_took = now - self._last_talk
        self._last_checkpoint = self._last_talk = now
