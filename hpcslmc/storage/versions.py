"""Versions of the program and the libraries whose results it stores."""

import platform
from importlib.metadata import version

from hpcslmc.errors import UserError
from hpcslmc.parallel.world import World


def versions(world: World) -> dict[str, str]:
    """Return versions by name, to print at the start and to store.

    Raises
    ------
    UserError
        On several ranks without an MPI build of h5py.
    """
    import h5py

    parallel_hdf5 = h5py.get_config().mpi
    if world.size > 1 and not parallel_hdf5:
        raise UserError(
            "this h5py is not built for MPI, and several ranks write one file: install h5py "
            "against a "
            "parallel HDF5 (tools/setup does it), or run on one rank."
        )
    return {
        "hpcslmc": version("hpcslmc"),
        "Python": platform.python_version(),
        "MPI": world.library,
        "HDF5": h5py.version.hdf5_version + (" parallel" if parallel_hdf5 else " serial"),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }
