"""Standard output and error that outlast their readers.

A pipe into head, a terminal that is closed, a full disk.
"""

import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from hpcslmc.errors import tell
from hpcslmc.parallel.world import World

READER_GONE = (errno.EPIPE, errno.EIO)
"""Error numbers of writing where the reader is gone: of a pipe, of a terminal."""


class LastingStream:
    """A text stream that drops what can no longer be written, in place of failing.

    Parameters
    ----------
    stream : TextIO
        Everything else is its own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._gone = stream, False
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of names that its encoding lacks

    @property
    def gone(self) -> bool:
        """True if the stream has no reader any more; known without writing to it."""
        with suppress(OSError):
            poll = select.poll()
            poll.register(self._stream.fileno(), 0)
            self._gone = self._gone or any(
                event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)
            )
        return self._gone

    def write(self, text: str) -> int:
        """Write a text; returns its length."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self._gone = self._gone or error.errno in READER_GONE
            with suppress(OSError):  # a stream in memory has no descriptor
                _discard(self._stream.fileno())  # what is still buffered, and what libraries print

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _discard(descriptor: int) -> None:
    """Let all that is written to a descriptor vanish."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


@contextmanager
def lasting_streams() -> Iterator[Callable[[], bool]]:
    """Replace standard output and error by streams that outlast their readers.

    Gives a function that is true once a reader of one has gone.

    A stream that was closed before the program began becomes one that nobody reads, so that no file
    of the program takes its number.
    """
    before = sys.stdout, sys.stderr
    for descriptor, stream in enumerate(before, 1):
        if stream is None:
            _discard(descriptor)
    sys.stdout, sys.stderr = streams = [
        LastingStream(stream or open(os.devnull, "w")) for stream in before
    ]
    try:
        yield lambda: any(stream.gone for stream in streams)
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def say(world: World, remark: str) -> None:
    """Print a remark on standard error, from one rank."""
    if remark and world.is_root:
        tell(f"hpcslmc: {remark}")
