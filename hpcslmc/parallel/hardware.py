"""Threads, memory and accelerators of a rank."""

import ctypes
import os

from hpcslmc import environment
from hpcslmc.errors import UserError
from hpcslmc.parallel.world import World

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""
KEPT_BYTES, LARGE_BYTES = 2**28, 2**25
"""Freed memory that stays with the process, and the size of blocks that never do."""


def prepare_process() -> int:
    """Hold every numerical library to OMP_NUM_THREADS threads, and return their number.

    It is one where the variable is not set. Sets the variable too, for libraries that are loaded
    later. Freed memory stays with the process where the C library is glibc: by itself that returns
    work arrays to the system after every operation, and has them cleared page by page for the next.

    Raises
    ------
    UserError
        The variable says no number of threads.
    """
    threads = environment.threads()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import threadpoolctl
    import torch

    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads)
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    return threads


def device(world: World) -> str:
    """Name the rank's own accelerator, or the CPU where there is none. Collective.

    Accelerators of a node, of whatever make, are shared out in order of local rank, several ranks
    to one where there are fewer. The rank's own becomes torch's current device.

    Raises
    ------
    UserError
        The ranks' devices are of different kinds.
    """
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    kind = "cpu" if accelerator is None else accelerator.type
    kinds = world.all_of(kind)
    if len(set(kinds)) > 1:
        raise UserError(
            "the ranks of a job have to work on devices of one kind, and rank "
            + ", rank ".join(f"{kinds.index(one)} has {one}" for one in dict.fromkeys(kinds))
            + ": ask for an accelerator for every rank, or for none."
        )
    if accelerator is None:
        return kind
    index = world.local_rank % torch.accelerator.device_count()
    torch.accelerator.set_device_index(index)
    return f"{kind}:{index}"
