"""Decisions that all ranks take together during a run: checkpoints, and when to leave."""

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpcslmc.parallel.world import World


@dataclass(frozen=True)
class Decision:
    """Decision of all ranks about what to do next.

    Attributes
    ----------
    checkpoint : bool
        True to write one.
    leave : str
        Reason to leave, "" for going on.
    talked : bool
        True if the ranks have just talked: they may talk of more at the same place.
    look : bool
        True if the root wants to look at all chains.
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
        """Return the agreed decision after a unit of work.

        Collective at the agreed units, else free.

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
        # the root's clock decides, also how many units pass until the ranks talk again
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
        # all ranks go on from what was agreed
        self._units_to_talk = self._units_between = units
        self._last_talk = time.monotonic()
        return Decision(bool(due or reason), self.REASONS[reason], talked=True, look=bool(looks))

    def checkpoint_written(self) -> None:
        """Restart the checkpoint's clock, after the checkpoint that was just decided."""
        now = time.monotonic()
        self._checkpoint_took = now - self._last_talk
        self._last_checkpoint = self._last_talk = now
