"""Safe access to files: check before reading; write atomically, beside the place, then rename."""

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcslmc.errors import UserError

WRITE_FAILURES = (OSError, RuntimeError)
"""Exceptions of h5py where a disk is full; which one depends on the HDF5 call that noticed it."""
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""Error numbers of file systems that do not know a call."""
REFUSED_BY_DISK = re.compile(
    r"error message = '([^']+)'|"
    r"(MPI_ERR_(?:ACCESS|IO|NO_SPACE|NO_SUCH_FILE|QUOTA|READ_ONLY)\b[^'\n)]*)"
)
"""Pattern that finds the operating system's or MPI-IO's error in HDF5's long messages."""
ZEROS = bytes(2**20)


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
        If there is nothing, something other than a regular file, or a larger one; ``strerror`` says
        which.
    """
    about = path.stat()
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    if largest is not None and about.st_size > largest:
        raise OSError(errno.EFBIG, f"Larger than {largest >> 10} kB")


def beside(path: Path) -> Path:
    """Return the place where a file is written before it is published by rename."""
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
        raise UserError(
            f"{path} cannot be written ({reason(error)}): {remedy(error)}, "
            "then run the same command again."
        ) from None


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there; UserError if that cannot be done."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path} cannot be made a folder ({error.strerror}): see to the disk, then run the "
            "same command again."
        ) from None


def check_places(paths: Iterable[Path]) -> None:
    """Make sure that no folder is in the way of files to be written, or to be published.

    Anything else is replaced.

    Raises
    ------
    UserError
    """
    for path in paths:
        for place in (path, beside(path)):
            # false where that cannot be known
            if os.path.isdir(place) and not os.path.islink(place):
                raise UserError(
                    f"{place} is a folder, and a file is to be written there: move it, or choose "
                    "another [output] directory."
                )


def reason(error: Exception) -> str:
    """Extract the operating system's error, also from HDF5's messages of many lines."""
    if quoted := REFUSED_BY_DISK.search(str(error)):
        return quoted[1] or quoted[2].strip()
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def remedy(error: Exception) -> str:
    """Advise the user about a file that cannot be written."""
    if REFUSED_BY_DISK.search(str(error)) or getattr(error, "errno", None) is not None:
        return "see to the disk"
    return "the disk did not refuse it, but HDF5, MPI or this program failed: report that"


def reserve(path: Path, size: int) -> None:
    """Make room on the disk for a file of so many bytes, so that a full disk is noticed at once.

    The file is made if it is not there. Where the file system cannot promise room, zeros up to that
    size take it.

    Raises
    ------
    OSError
        If there is no room.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with open(descriptor, "r+b", buffering=0) as file:
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            missing = size - file.seek(0, os.SEEK_END)
            while missing > 0:
                missing -= file.write(ZEROS[:missing])


def synchronise(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk, where the file system can.

    Raises
    ------
    OSError
        If that fails.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return  # a folder that may be entered and written, but not listed
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
