"""Time calls against each other: in turn, so that a machine whose speed drifts does not matter."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from hpcslmc.parallel.world import World

LONG_S, LONGER_S = 0.5, 5.0
"""Seconds of a call from which it is repeated less often, and not at all."""
ROUNDS, FEWER_ROUNDS = 9, 3


def synchronize() -> None:
    """Wait until the accelerator, if there is one, has done what it was told."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def alternate(
    calls: Mapping[str, Callable[[], object]],
    world: World | None = None,
    together: tuple[str, ...] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of calls taken in turn, after a warm-up that counts itself where it is long.

    Parameters
    ----------
    calls : mapping of str to callable
    world : World, optional
        Ranks that take part; by default this one alone. Collective over them.
    together : tuple of str
        Calls that all ranks make together; the others are made by the root while the rest waits.
    clock : callable
        ``time.process_time`` for processor time.

    Returns
    -------
    dict of list of float
        Nine times of each call; three of one longer than 0.5 s, one of one longer than 5 s.
    """
    ranks = world or World()

    def timed(name: str) -> float:
        ranks.barrier()
        start = clock()
        if ranks.is_root or name in together:
            calls[name]()
            synchronize()
        return ranks.broadcast(clock() - start)

    first = {name: timed(name) for name in calls}
    rounds = {
        name: 0 if seconds > LONGER_S else FEWER_ROUNDS if seconds > LONG_S else ROUNDS
        for name, seconds in first.items()
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS):
        for name in calls:
            if turn < rounds[name]:
                times[name].append(timed(name))
    return {name: times[name] or [first[name]] for name in calls}


def medians(
    calls: Mapping[str, Callable[[], object]],
    world: World | None = None,
    together: tuple[str, ...] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of calls taken in turn; see ``alternate``."""
    times = alternate(calls, world, together, clock)
    return {name: statistics.median(taken) for name, taken in times.items()}


def median_ratio(one: list[float], other: list[float]) -> float:
    """Median over the turns of the ratio of two calls' times."""
    return statistics.median(a / b for a, b in zip(one, other, strict=False))


def matmul_rate(where: str = "cpu", dtype: torch.dtype = torch.complex128) -> float:
    """Flop/s of a complex matrix product on a device."""
    n = 512 if where == "cpu" else 4096
    a = torch.randn(n, n, dtype=dtype, device=where)
    return 8.0 * n**3 / medians({"product": lambda: a @ a})["product"]
