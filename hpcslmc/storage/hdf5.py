"""How HDF5 files are opened."""

from pathlib import Path

import h5py


def open_hdf5(path: Path, mode: str, **options: object) -> h5py.File:
    """Open an HDF5 file without locking it; options are those of ``h5py.File``.

    Some file systems have no locks, and the program needs none: a file is published by rename when
    it is complete, and is never changed after that.
    """
    try:
        return h5py.File(path, mode, locking=False, **options)
    except (OSError, ValueError) as error:
        if "locking" not in str(error):
            raise
        # an HDF5 too old to be asked, or a file that this process has open already, with a lock
        return h5py.File(path, mode, **options)
