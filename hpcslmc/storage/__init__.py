"""Files on disk: checkpoints, models, locks, versions, and how any file is published."""
