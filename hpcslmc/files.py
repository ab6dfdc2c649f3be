"""Files that the program did not write itself, or that others may have changed since."""

import errno
import os
import stat
from pathlib import Path


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
