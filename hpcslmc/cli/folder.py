"""The output directory of a run, and its housekeeping."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcslmc.errors import UserError
from hpcslmc.storage.names import CHECKPOINT, DATA, LEVEL, MODEL, RESULTS, STATUS, previous

LEARNED = (MODEL, LEVEL.format("*"), DATA)
"""Patterns of the files of what was learned, of a ladder in a folder for each temperature."""
OUTPUT = (
    *(CHECKPOINT, previous(Path(CHECKPOINT)).name, RESULTS, STATUS),
    *LEARNED,
    *(f"T[0-9]*/{name}" for name in LEARNED),
)
"""Patterns of the files that a run writes."""


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    """Turn OSErrors on the output directory into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"[output] directory = {str(directory)!r} cannot be used: {error.strerror}."
        ) from None


def make(directory: Path) -> bool:
    """Make the output directory; returns whether it was not there."""
    with _usable(directory):
        made = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
    return made


def remove_if_empty(directory: Path) -> None:
    """Remove the output directory of a job that was refused, if nothing is in it."""
    with suppress(OSError):
        directory.rmdir()


def set_aside(directory: Path) -> None:
    """Move an earlier run's files into a folder of their own."""
    old = [path for pattern in OUTPUT for path in sorted(directory.glob(pattern))]
    if old:
        with _usable(directory):
            aside = _unused(directory / "before-restart-{}")
            for path in old:
                kept = aside / path.relative_to(directory)
                kept.parent.mkdir(parents=True, exist_ok=True)
                path.rename(kept)


def keep_damaged(newest: Path) -> None:
    """Give a damaged newest checkpoint another name.

    It would push out the good one before it otherwise.
    """
    if newest.exists():
        with _usable(newest.parent):
            newest.rename(_unused(newest.with_name("checkpoint.damaged-{}.h5")))


def _unused(pattern: Path) -> Path:
    """Return the first path of a numbered series that does not exist."""
    return next(
        path for n in range(1, 10**6) if not (path := Path(str(pattern).format(n))).exists()
    )
