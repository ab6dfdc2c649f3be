"""Exceptions whose message says all that the user needs, and how it is told."""

import sys
import traceback


class UserError(Exception):
    """Error in the job, the files or the set-up; the message is one clear sentence.

    Mostly raised on every rank at once (``World.on_root``, ``World.on_all``); the program prints it
    from one rank and exits with code 2.
    """


class Failure(Exception):
    """Failure of a calculation, which must not go on.

    The message says what failed, where, and what was kept for a report.

    The program prints it, ends all ranks and exits with code 1.
    """


def described_error(error: BaseException) -> str:
    """Describe an error by its kind and message, on one line."""
    return " ".join("".join(traceback.format_exception_only(error)).split())


def tell(text: str) -> None:
    """Print a line on standard error at once and in one piece, which no other rank's can split."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
