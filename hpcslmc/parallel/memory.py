"""Work that is divided where an accelerator's memory does not hold it."""

from collections.abc import Callable
from typing import ClassVar, TypeVar

import torch

from hpcslmc.errors import tell

T = TypeVar("T")


class Batches:
    """Number of chains that a device works on at once: all, until its memory does not hold them.

    Attributes
    ----------
    size : int or None
        Most chains at once, None where all have been held so far.
    """

    said: ClassVar[bool] = False  # once in a process, whatever it was that needed the memory

    def __init__(self) -> None:
        self.size: int | None = None

    def map(self, function: Callable[[slice], T], chains: int) -> list[T]:
        """Apply a function of rows to all chains, batch by batch.

        Where the device is out of memory, the batch is halved for good and all is done again; the
        user is told the first time.

        Raises
        ------
        torch.OutOfMemoryError
            One chain alone is too much.
        """
        while True:
            size = max(1, min(self.size or chains, chains))
            try:
                return [function(slice(first, first + size)) for first in range(0, chains, size)]
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            self.size = size // 2
            if not Batches.said:
                Batches.said = True
                tell(
                    f"hpcslmc: the accelerator's memory does not hold the work on {size} "
                    "configurations at once: it is done in smaller batches, which takes longer"
                )
