"""Threads and accelerators of a rank."""

import os

from hpcslmc import environment
from hpcslmc.parallel.world import World


def limit_threads() -> int:
    """Hold every numerical library to OMP_NUM_THREADS threads, one where it is not set; returns the
    number.

    Sets the variable too, for libraries that are loaded later.

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
    return threads


def device(world: World) -> str:
    """The rank's own GPU, shared out in order of local rank, where there is one; else the CPU."""
    import torch

    return (
        f"cuda:{world.local_rank % torch.cuda.device_count()}"
        if torch.cuda.is_available()
        else "cpu"
    )
