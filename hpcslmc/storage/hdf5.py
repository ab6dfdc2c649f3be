"""Opening HDF5 files."""

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


def differing(one: Path, other: Path) -> list[str]:
    """Name the datasets of two HDF5 files whose bits differ, or that are in one only."""
    a, b = _bits(one), _bits(other)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def _bits(path: Path) -> dict[str, object]:
    """Read every dataset of a file, by name: bytes, or a list where it holds text."""
    found: dict[str, object] = {}

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            values = item[()]
            found[name] = values.tolist() if values.dtype == object else values.tobytes()

    with open_hdf5(path, "r") as file:
        file.visititems(add)
    return found
