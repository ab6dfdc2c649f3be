"""ScaLAPACK's eigenvalues of a dense complex Hermitian matrix, on the MPI that is there, by ctypes.

SLEPc's ScaLAPACK type always computes eigenvectors too, at ten times the cost of the eigenvalues
and more; ScaLAPACK's own driver need not.
"""

import ctypes
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcslmc import environment
from hpcslmc.errors import UserError

# Entries of the rows asked for, (rows,) int: columns (rows, entries) int and values (rows, entries)
# complex128.
# What is not named is 0, what is named twice is added.
Rows = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

NAMES = ("scalapack-openmpi", "scalapack-mpich", "scalapack")
# measured at n = 512, 1152, 2048 on 1, 2 and 4 ranks: 16 is alike, 64 slower on 4; 8 and 128 never
# better
BLOCK = 32


def load_library(communicator: Any) -> ctypes.CDLL:
    """Load ScaLAPACK with 32-bit integers, linked with the MPI of the communicator.

    The environment variable HPCSLMC_SCALAPACK names the file where it is in no standard place.

    Raises
    ------
    UserError
        None was found, it cannot be loaded, or it stands on another MPI.
    """
    site = environment.scalapack()
    candidates = [site] if site else [file for file in map(find_library, NAMES) if file]
    refused = "none is installed"
    for file in candidates:
        try:
            library = ctypes.CDLL(file)
            _ = library.pzheev_, library.sys2blacs_handle_
        except (OSError, AttributeError) as error:
            refused = str(error)
            continue
        if _same_mpi(library, communicator):
            return library
        refused = f"{file} is linked with another MPI than mpi4py"
    raise UserError(
        f'method = "scalapack" needs the ScaLAPACK library ({refused}); install it (on Debian '
        "libscalapack-openmpi-dev) or name its file in the environment variable HPCSLMC_SCALAPACK."
    )


def _same_mpi(library: ctypes.CDLL, communicator: Any) -> bool:
    """Tell whether library and mpi4py call the same MPI; another's handles would crash."""
    binding = ctypes.CDLL(sys.modules[type(communicator).__module__].__file__)
    try:
        ours, theirs = (
            ctypes.cast(file.MPI_Comm_size, ctypes.c_void_p).value for file in (binding, library)
        )
    except AttributeError:
        return True  # mpi4py's binary wheels load MPI late and do not say which
    return ours == theirs


def call(routine: Callable, *arguments: int | bytes | np.ndarray | ctypes.c_int) -> int:
    """Call a Fortran routine.

    Everything goes by reference, lengths of strings follow at the end.
    """
    passed: list = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            passed.append(ctypes.c_void_p(argument.ctypes.data))
        elif isinstance(argument, bytes):
            passed.append(ctypes.c_char_p(argument))
        else:
            passed.append(
                ctypes.byref(ctypes.c_int(argument) if isinstance(argument, int) else argument)
            )
    lengths = [
        ctypes.c_size_t(len(argument)) for argument in arguments if isinstance(argument, bytes)
    ]
    return routine(*passed, *lengths)


@dataclass(frozen=True)
class Grid:
    """Place of this process in a BLACS process grid.

    Attributes
    ----------
    context : int
    rows, columns : int
        Shape of the grid.
    row, column : int
    """

    context: int
    rows: int
    columns: int
    row: int
    column: int


@contextmanager
def process_grid(library: ctypes.CDLL, communicator: Any) -> Iterator[Grid]:
    """Arrange all ranks of a communicator as a grid as near to a square as their number allows.

    Collective over it.
    """
    rows = next(
        k for k in range(math.isqrt(communicator.size), 0, -1) if communicator.size % k == 0
    )
    columns = communicator.size // rows
    handle = call(library.sys2blacs_handle_, communicator.py2f())
    context = ctypes.c_int(handle)  # replaced by the grid's
    call(library.blacs_gridinit_, context, b"R", rows, columns)
    try:
        row, column = divmod(communicator.rank, columns)
        yield Grid(context.value, rows, columns, row, column)
    finally:
        call(library.blacs_gridexit_, context)
        call(library.free_blacs_system_handle_, handle)


def owned(size: int, block: int, place: int, places: int) -> np.ndarray:
    """Return ascending global indices, (local,) int, that a place holds of ``size`` in blocks."""
    index = np.arange(size)
    return index[index // block % places == place]


def fill(size: int, rows: Rows, block: int, grid: Grid) -> np.ndarray:
    """Fill the local part of the matrix, (local rows, local columns) complex128, Fortran order."""
    mine = owned(size, block, grid.row, grid.rows)
    width = len(owned(size, block, grid.column, grid.columns))
    matrix = np.zeros((max(1, len(mine)), max(1, width)), dtype=np.complex128, order="F")
    columns, values = rows(mine)
    row, entry = np.nonzero(columns // block % grid.columns == grid.column)
    column = columns[row, entry]
    np.add.at(
        matrix, (row, column // (block * grid.columns) * block + column % block), values[row, entry]
    )
    return matrix


def _reason(info: int, size: int) -> str:
    if info < 0:
        return f"argument {-info if info > -100 else -info // 100} is wrong"
    return (
        "the ranks found different eigenvalues"
        if info > size
        else f"eigenvalue {info} did not converge"
    )


class Scalapack:
    """PZHEEV, eigenvalues only, over all ranks of a communicator.

    Parameters
    ----------
    communicator : mpi4py.MPI.Intracomm
    block : int
        Rows and columns of a block of the block-cyclic layout.

    Raises
    ------
    UserError
        There is no usable library; see ``load_library``.
    """

    def __init__(self, communicator: Any, block: int = BLOCK) -> None:
        self._communicator, self._block = communicator, block
        self._library = load_library(communicator)

    def eigenvalues(self, size: int, rows: Rows) -> np.ndarray:
        """Return all eigenvalues of a complex Hermitian matrix, ascending.

        Collective over the communicator.

        Parameters
        ----------
        size : int
            Rows of the matrix.
        rows : Rows
            Its entries, asked for on every rank for the rows that have a part there.

        Returns
        -------
        (size,) float64, the same bits on every rank.

        Raises
        ------
        RuntimeError
            On every rank, where the QR iteration did not converge or the ranks disagree.

        Notes
        -----
        Reduction to tridiagonal form over all ranks, then implicit QR of the tridiagonal matrix on
        each. (16/3) size^3 real operations, shared out; a rank holds 16 size^2 / ranks bytes, which
        have to stay below 32 GiB (32-bit indices). Blackford et al., ScaLAPACK Users' Guide (SIAM
        1997).
        """
        levels, info = np.empty(size), ctypes.c_int()
        with process_grid(self._library, self._communicator) as grid:
            matrix = fill(size, rows, self._block, grid)
            layout = [1, grid.context, size, size, self._block, self._block, 0, 0, len(matrix)]
            descriptor = np.array(layout, dtype=np.intc)

            def solve(work: np.ndarray, real_work: np.ndarray, *lengths: int) -> None:
                vectors = matrix, 1, 1, descriptor  # never touched with jobz = 'N'
                call(
                    self._library.pzheev_,
                    b"N",
                    b"L",
                    size,
                    matrix,
                    1,
                    1,
                    descriptor,
                    levels,
                    *vectors,
                    work,
                    lengths[0],
                    real_work,
                    lengths[1],
                    info,
                )

            work, real_work = np.zeros(1, dtype=np.complex128), np.zeros(1)
            solve(work, real_work, -1, -1)
            if info.value == 0:
                lengths = int(work[0].real), int(real_work[0])
                solve(np.empty(lengths[0], dtype=np.complex128), np.empty(lengths[1]), *lengths)
        self._check(info.value, size)
        self._communicator.Bcast(levels, root=0)
        return levels

    def _check(self, info: int, size: int) -> None:
        ranks = self._communicator.size
        for rank, code in enumerate(self._communicator.allgather(info)):
            if code != 0:
                raise RuntimeError(
                    f"ScaLAPACK's PZHEEV, {size} rows, {ranks} ranks: {_reason(code, size)} "
                    f"(info = {code} on rank {rank} of the group)"
                )
