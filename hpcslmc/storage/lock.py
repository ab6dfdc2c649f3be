"""Lock of an output directory, in which one job works at a time."""

import json
import os
import socket
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from hpcslmc import environment
from hpcslmc.errors import UserError
from hpcslmc.storage.files import check_places, check_regular
from hpcslmc.storage.names import LOCK, TAKEOVER

LARGEST = 2**20
"""Largest size of a lock file in bytes."""
KINDS = {
    "host": str,
    "pid": int,
    "started": str | None,
    "slurm_job": str | None,
    "slurm_restart": int,
}
"""Schema of a lock file, which describes the process that holds it."""
BEAT_S = 15.0
"""Seconds between two beats of the heartbeat: touches of the file."""
SILENCE_S = 120.0
"""Seconds without a beat after which a process on another host counts as dead."""


class Lock:
    """A file in the output directory that says who works there; held by the root rank alone.

    A process on this host is looked up. One on another host counts as dead if it was an earlier
    life of the same Slurm job, or if it has not touched the file for ``SILENCE_S``; a thread
    touches it every ``BEAT_S``.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.path = directory, directory / LOCK
        self._own = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "slurm_job": environment.slurm_job(),
            "slurm_restart": environment.slurm_restarts(),
        }
        self._released = threading.Event()

    def acquire(self) -> str:
        """Take the lock; returns a note if it was left by a dead job, else "".

        Raises
        ------
        UserError
            If another job works in the directory, or nothing can be written there.
        """
        note = ""
        check_places((self.path,))
        if not self._create(self.path):
            holder = self._holder()
            if self._lives(holder):
                raise UserError(
                    f"{self.directory} is in use by another job ({_name(holder)}): wait for its "
                    "end, or choose another [output] "
                    f"directory; a lock without a sign of life for {SILENCE_S:.0f} s is ignored."
                )
            self._take_over(holder)
            note = f"the lock of a dead job ({_name(holder)}) in {self.directory} is taken over"
        threading.Thread(target=self._beat, daemon=True).start()
        return note

    def _take_over(self, dead: dict) -> None:
        """Put the own lock in the place of a dead job's; of several who found it dead, one does.

        Whoever creates the file ``TAKEOVER`` first, which is atomic on NFS too, has the turn; it
        becomes the lock by rename, which ends the turn. Those who come later find that the lock is
        no longer the dead job's.
        """
        turn = self.directory / TAKEOVER
        if not self._create(turn):
            raise UserError(
                f"{self.directory} is just being taken over by another job: wait for its end, or "
                "choose another [output] "
                f"directory; if no job is starting, one died at that moment: remove {turn}."
            )
        try:
            holder = self._holder()
            if holder != dead or self._lives(holder):
                raise UserError(
                    f"{self.directory} was just taken by another job: wait for its end, or choose "
                    "another [output] directory."
                )
            os.replace(turn, self.path)
        except (UserError, OSError) as error:
            turn.unlink(missing_ok=True)
            raise (
                error if isinstance(error, UserError) else self._unusable(self.path, error)
            ) from None

    def check(self) -> None:
        """Make sure that the directory is still this job's.

        Raises
        ------
        UserError
            If another job has taken it, as from one that was suspended and silent for too long.
        """
        if (holder := self._holder()) and holder != self._own:
            raise UserError(
                f"{self.directory} was taken by another job ({_name(holder)}) while this one gave "
                "no sign of life: this one ends, "
                "and has written nothing since."
            )

    def release(self) -> None:
        """Let go of the directory, if it is held."""
        self._released.set()
        if self._holder() == self._own:
            with suppress(OSError):  # a lock that stays is that of a dead job
                self.path.unlink(missing_ok=True)

    def _create(self, path: Path) -> bool:
        """Write who this is into a new file; False if it is there already."""
        try:
            with path.open("x") as file:
                file.write(json.dumps(self._own))
        except FileExistsError:
            return False
        except OSError as error:
            raise self._unusable(path, error) from None
        return True

    @staticmethod
    def _unusable(path: Path, error: OSError) -> UserError:
        return UserError(
            f"{path} cannot be written ({error.strerror}): see to the disk, or choose another "
            "[output] directory."
        )

    def _holder(self) -> dict:
        """Read who holds the lock; empty if that is not written there."""
        try:
            return _read(self.path)
        except OSError:
            return {}

    def _lives(self, holder: dict) -> bool:
        if holder and holder["host"] == self._own["host"]:
            return _runs(holder)
        if (
            holder
            and holder["slurm_job"] is not None
            and holder["slurm_job"] == self._own["slurm_job"]
        ):
            return holder["slurm_restart"] >= self._own["slurm_restart"]
        try:
            with tempfile.TemporaryFile(dir=self.directory) as probe:  # by the file server's clock
                now = os.fstat(probe.fileno()).st_mtime
        except OSError as error:
            raise self._unusable(self.path, error) from None
        return self.path.exists() and now - self.path.stat().st_mtime < SILENCE_S

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            try:
                os.utime(self.path)
            except OSError:
                # a server that is away for a moment; a silence is judged by who wants the lock
                pass


def holder_name(directory: Path) -> str | None:
    """Name the job that works in a directory, None for nobody; writes nothing.

    A process of another host is judged by its silence, by this host's clock.
    """
    path = directory / LOCK
    try:
        silent, holder = time.time() - path.stat().st_mtime, _read(path)
    except OSError:
        return None
    lives = _runs(holder) if holder.get("host") == socket.gethostname() else silent < SILENCE_S
    return _name(holder) if lives else None


def _read(path: Path) -> dict:
    """Read a lock file; empty if it is none. Raises OSError."""
    try:
        check_regular(path, LARGEST)
        holder = json.loads(path.read_text())
    except (ValueError, RecursionError):
        return {}
    right = (
        isinstance(holder, dict)
        and holder.keys() == KINDS.keys()
        and all(isinstance(holder[key], kind) for key, kind in KINDS.items())
    )
    return holder if right else {}


def _runs(holder: dict) -> bool:
    """Tell whether the very process that holds a lock of this host still lives."""
    return holder["started"] is not None and _started(holder["pid"]) == holder["started"]


def _started(pid: int) -> str | None:
    """Start of a process of this host, in clock ticks since boot; None if it does not live."""
    try:
        state, *fields = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()
    except (OSError, TypeError, ValueError):
        return None
    return None if state in "ZX" else fields[18]


def _name(holder: dict) -> str:
    if not holder:
        return "which did not say who it is"
    slurm = f", Slurm job {holder['slurm_job']}" if holder["slurm_job"] else ""
    return f"process {holder['pid']} on {holder['host']}{slurm}"
