"""Differences between two jobs."""

from hpcslmc.job.schema import Job
from hpcslmc.job.sentences import cut

STEERING_KEYS = {
    "sampling.samples",
    "sampling.ranks_per_chain",
    "output.directory",
    "output.checkpoint_every_s",
    "output.progress_every_s",
    "output.wall_time_s",
}
"""Keys that may differ when a run is resumed: they extend or steer it and change no chain."""


def changed_keys(old: Job, new: Job) -> tuple[list[str], list[str]]:
    """Return the keys that differ between two jobs, each with its old and new value.

    Returns
    -------
    taken : list of str
        Those that may differ when a run is resumed.
    refused : list of str
        Those that may not.
    """
    before, after = old.keys(), new.keys()
    taken: list[str] = []
    refused: list[str] = []
    for key in sorted(before.keys() | after.keys()):
        was, is_now = before.get(key), after.get(key)  # a model may lack another's options
        if was != is_now:
            change = f"{key} (was {cut(repr(was))}, is {cut(repr(is_now))})"
            (taken if key in STEERING_KEYS else refused).append(change)
    return taken, refused
