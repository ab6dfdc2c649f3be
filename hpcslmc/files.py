"""Files that the program did not write itself, or that others may have changed since; and how those that it writes are published."""

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcslmc.errors import UserError

WRITE_FAILURES = (OSError, RuntimeError)
"""What h5py raises where a disk is full; which of them depends on the call inside HDF5 that noticed it."""


def check_regular(path: Path, largest: int | None = None) -> None:
    """Make sure that a file can be read to its end: a fifo waits for ever, a device may have none.

    Parameters
    ----------
    path : Path
        Links are followed.
    largest : int
        Bytes beyond which it is not to be read; any size if not given.

    Raises
    ------
    OSError
        If there is nothing, something other than a regular file, or a larger one; ``strerror`` says which.
    """
    about = path.stat()
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    if largest is not None and about.st_size > largest:
        raise OSError(errno.EFBIG, f"Larger than {largest >> 10} kB")


def beside(path: Path) -> Path:
    """Where a file is written before it is published by rename."""
    return path.with_suffix(".part")


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Write a file beside its place, and publish it by rename at the end.

    Raises
    ------
    UserError
        If that cannot be done, as when the disk is full. What was there before is as it was.
    """
    part = beside(path)
    try:
        part.unlink(missing_ok=True)
        yield part
        os.replace(part, path)
    except WRITE_FAILURES as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({reason(error)}): see to the disk, then run the same command again.") from None


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there; UserError if that cannot be done."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be made a folder ({error.strerror}): see to the disk, then run the same command again.") from None


def check_places(paths: Iterable[Path]) -> None:
    """Make sure that no folder is where files are to be published, or written before that; anything else gives way.

    Raises
    ------
    UserError
    """
    for path in paths:
        for place in (path, beside(path)):
            if place.is_dir() and not place.is_symlink():
                raise UserError(f"{place} is a folder, and a file is to be written there: move it, or choose another [output] directory.")


def reason(error: Exception) -> str:
    """What the operating system said, also where HDF5 tells it in the middle of a story of its own."""
    quoted = re.search(r"error message = '([^']+)'", str(error))
    return quoted[1] if quoted else getattr(error, "strerror", None) or str(error)
