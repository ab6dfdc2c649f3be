"""Names of the files in an output directory."""

from pathlib import Path

CHECKPOINT = "checkpoint.h5"
RESULTS = "results.h5"
MODEL = "model.h5"
LEVEL = "level_{}.h5"
"""Files of the models before the last of several, from 0."""
RUNG = "T{:.6g}"
"""Folder of a temperature of a ladder."""
DATA = "data.h5"
"""File of configurations with exact log W and forces that a run has learned from."""
STATUS = "status.json"
LOCK = "running.lock"
TAKEOVER = "running.takeover"
"""File made by the one job that takes over the lock of a dead one."""


def previous(path: Path) -> Path:
    """Return the name under which the checkpoint before the newest is kept."""
    return path.with_suffix(".previous" + path.suffix)
