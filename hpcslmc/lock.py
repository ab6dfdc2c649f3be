"""One job at a time in an output directory."""

import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path

from hpcslmc.errors import UserError

NAME = "running.lock"
BEAT_S = 15.0
SILENCE_S = 120.0
"""Seconds without a beat after which a process on another host counts as dead."""


class Lock:
    """A file in the output directory that says who works there; held by the root rank alone.

    A process on this host is looked up. One on another host counts as dead if it was an earlier life of the same
    Slurm job, or if it has not touched the file for ``SILENCE_S``; a thread touches it every ``BEAT_S``.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.path = directory, directory / NAME
        self._own = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid()),
                     "slurm_job": os.environ.get("SLURM_JOB_ID"), "slurm_restart": int(os.environ.get("SLURM_RESTART_COUNT", 0))}
        self._released = threading.Event()

    def acquire(self) -> str:
        """Take the lock; returns a note if it was left by a dead job, else "".

        Raises
        ------
        UserError
            If another job works in the directory.
        """
        note = ""
        if not self._create():
            holder = self._holder()
            if self._lives(holder):
                raise UserError(f"{self.directory} is in use by another job ({_name(holder)}): wait for its end, or choose another [output] "
                                f"directory; a lock without a sign of life for {SILENCE_S:.0f} s is ignored.")
            note = f"the lock of a dead job ({_name(holder)}) in {self.directory} is taken over"
            self.path.unlink(missing_ok=True)
            taken = self._create()
            time.sleep(1.0)  # whoever else took it for dead has done the same by now; the last one holds it
            if not taken or self._holder() != self._own:
                raise UserError(f"{self.directory} was just taken by another job: wait for its end, or choose another [output] directory.")
        threading.Thread(target=self._beat, daemon=True).start()
        return note

    def release(self) -> None:
        """Let go of the directory, if it is held."""
        self._released.set()
        if self._holder() == self._own:
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        try:
            with self.path.open("x") as file:
                file.write(json.dumps(self._own))
        except FileExistsError:
            return False
        except OSError as error:
            raise UserError(f"{self.path} cannot be written ({error.strerror}): see to the disk, or choose another [output] directory.") from None
        return True

    def _holder(self) -> dict:
        """Who holds the lock; empty if that is not written there."""
        try:
            holder = json.loads(self.path.read_text())
            return holder if holder.keys() == self._own.keys() else {}
        except (OSError, ValueError, AttributeError):
            return {}

    def _lives(self, holder: dict) -> bool:
        if holder and holder["host"] == self._own["host"]:
            return holder["started"] is not None and _started(holder["pid"]) == holder["started"]
        if holder and holder["slurm_job"] is not None and holder["slurm_job"] == self._own["slurm_job"]:
            return holder["slurm_restart"] >= self._own["slurm_restart"]
        with tempfile.TemporaryFile(dir=self.directory) as probe:  # by the file server's clock
            now = os.fstat(probe.fileno()).st_mtime
        return self.path.exists() and now - self.path.stat().st_mtime < SILENCE_S

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            try:
                os.utime(self.path)
            except OSError:
                pass  # a server that is away for a moment; a silence is judged by who wants the lock


def _started(pid: int) -> str | None:
    """When a process of this host started, in clock ticks since boot; None if it does not live."""
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
