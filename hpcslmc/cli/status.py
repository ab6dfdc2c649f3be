"""Writing and reading of status.json.

What a run says of itself while it goes, and how to read it without MPI and without disturbing the
run.
"""

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hpcslmc.cli.progress import Pace
from hpcslmc.errors import UserError
from hpcslmc.storage.files import check_regular, publishing
from hpcslmc.storage.lock import holder_name
from hpcslmc.storage.names import CHECKPOINT, RESULTS, STATUS, previous

FORMAT = "hpcslmc status 1"
LARGEST = 2**26
"""Largest size of a status file in bytes."""
CHECKPOINTS = (CHECKPOINT, previous(Path(CHECKPOINT)).name)
INDENT = 15
"""Width of the labels that a line begins with, in characters."""


class StatusFile:
    """Writer of status.json; the root rank only.

    Parameters
    ----------
    directory : Path
    every_s : float
        Seconds between two writes.
    fixed : mapping
        What does not change during the run.
    """

    def __init__(self, directory: Path, every_s: float, fixed: Mapping[str, object]) -> None:
        self.path, self.every_s = directory / STATUS, every_s
        self._known = {"format": FORMAT, "started": time.time(), "every_s": every_s, **fixed}
        self._pace, self._last = Pace(), -math.inf

    def show(self, phase: str, done: int, total: int, **more: object) -> None:
        """Note where the run is; the file is written if it is time."""
        self._pace.at(phase, done)
        now = time.monotonic()
        self._known |= {
            "state": "running",
            "phase": phase,
            "done": done,
            "total": total,
            "per_s": self._pace.per_s,
            **more,
        }
        if now - self._last >= self.every_s:
            self._last = now
            self._write()

    def end(self, state: str, **more: object) -> None:
        """Note how the run ended: "finished", or why it stopped."""
        self._known |= {"state": state, **more}
        self._write()

    def _write(self) -> None:
        with (
            suppress(UserError),
            publishing(self.path) as part,
        ):  # a full disk is for the checkpoint to complain of
            part.write_text(json.dumps(self._known | {"written": time.time()}))


def describe(directory: Path) -> list[str]:
    """Describe the run in an output directory, line by line.

    Reads three small files, and looks at the sizes and times of the others.

    Raises
    ------
    UserError
        If there is no run, or the directory cannot be looked into.
    """
    try:
        (directory / STATUS).lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UserError(f"{directory} cannot be looked into: {error.strerror}.") from None
    now, holder, status = time.time(), holder_name(directory), _read(directory / STATUS)
    checkpoints = [_file(directory / name, now) for name in CHECKPOINTS]
    if not status and not any(checkpoints) and holder is None:
        raise UserError(f"{directory} holds no run: status wants the [output] directory of a job.")
    lines = [f"{directory}: {_state(status, holder, now)}"]
    if status:
        lines += _details(status, now)
    named = [
        f"{about}{' (the one before)' if k else ''}" for k, about in enumerate(checkpoints) if about
    ]
    lines.append(f"  checkpoint   {'; '.join(named) or 'none yet'}")
    if results := _file(directory / RESULTS, now):
        lines.append(f"  results.h5   {results}")
    return lines


def _state(status: dict, holder: str | None, now: float) -> str:
    if holder is not None:
        return f"runs ({holder})"
    if not status:
        return "does not run"
    if status["state"] == "finished":
        return f"finished {_duration(now - status['written'])} ago"
    if status["state"] == "running":
        return (
            "does not run: it ended without a word, last seen "
            f"{_duration(now - status['written'])} ago; the same command goes on from the "
            "checkpoint"
        )
    return (
        f"stopped {_duration(now - status['written'])} ago, {status['state']}; the same command "
        "goes on"
    )


def _details(status: dict, now: float) -> list[str]:
    done, total, rate = status["done"], status["total"], status["per_s"]
    phase = f"{status['phase']}: {done} of {total} ({100 * done // max(1, total)} %)"
    if status["state"] == "running" and rate:
        phase += f", {rate:.3g} a second, {_duration((total - done) / rate)} left of this phase"
    lines = [
        f"  job          {status['job']}",
        f"  layout       {status['layout']}",
        f"  phase        {phase}",
    ]
    if rounds := status["rounds"]:  # of each temperature
        lines.append(
            "  learning     acceptance by round: "
            + "; ".join(", ".join(f"{acceptance:.2f}" for acceptance in own) for own in rounds)
        )
    if status["acceptance"] is not None:
        lines.append(f"  acceptance   {status['acceptance']:.2f}")
    if converged := status["convergence"]:
        lines.append(f"  convergence  {converged}")
    if status["state"] == "running":
        lines.append(
            f"  told         {_duration(now - status['written'])} ago, after "
            f"{_duration(status['written'] - status['started'])}"
        )
    return lines


def _read(path: Path) -> dict:
    """Read a status file; empty where there is none that can be read."""
    try:
        check_regular(path, LARGEST)
        status = json.loads(path.read_text())
        return status if status["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _file(path: Path, now: float) -> str:
    """Return the age and size of a file, empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{_duration(now - found.st_mtime)} old, {_size(found.st_size)}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000.0:
            return f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:.3g} TB"


def _duration(seconds: float) -> str:
    seconds = max(0, round(seconds))
    for size, unit, part, small in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // part} {small}"
    return f"{seconds} s"
