"""Exact fermion weight by diagonalisation of one configuration at a time over a group of ranks."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.errors import UserError
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.weight.diagonalise import thermodynamics
from hpcslmc.weight.method import ExactWeight
from hpcslmc.weight.scalapack import Rows, Scalapack


class Eigensolver(Protocol):
    """Solver for all eigenvalues of one Hermitian matrix over a communicator."""

    def eigenvalues(self, size: int, rows: Rows) -> np.ndarray:
        """Return the eigenvalues, (size,) float64, ascending, the same bits on every rank.

        Collective over the communicator.
        """
        ...


class Slepc:
    """One of SLEPc's dense eigensolvers over all ranks of a communicator.

    It computes the eigenvectors too.

    Parameters
    ----------
    communicator : mpi4py.MPI.Intracomm
    name : str
        Type of the EPS object: ``scalapack``, ``elpa``, ``elemental``.

    Raises
    ------
    UserError
        slepc4py is missing, PETSc has real scalars, or SLEPc was built without this solver.

    Notes
    -----
    The first use of PETSc in a job starts it, and waits for all ranks of the job: groups that
    diagonalise make this object together with all other groups.
    """

    def __init__(self, communicator: Any, name: str) -> None:
        try:
            from petsc4py import PETSc
            from slepc4py import SLEPc
        except ImportError as error:
            raise UserError(
                f"the eigensolver {name} of SLEPc needs petsc4py and slepc4py ({error})."
            ) from None
        if not np.issubdtype(PETSc.ScalarType, np.complexfloating):
            raise UserError(
                f"the eigensolver {name} of SLEPc needs a PETSc with complex scalars; this one has "
                "real ones."
            )
        self._petsc, self._slepc, self._communicator, self._name = PETSc, SLEPc, communicator, name
        probe = SLEPc.EPS().create(PETSc.COMM_SELF)
        try:
            probe.setType(name)
        except PETSc.Error:
            raise UserError(f"this SLEPc was built without the eigensolver {name}.") from None
        finally:
            probe.destroy()

    def eigenvalues(self, size: int, rows: Rows) -> np.ndarray:
        """Return all eigenvalues of a complex Hermitian matrix, ascending: (size,) float64.

        Collective over the communicator.

        Parameters
        ----------
        size : int
            Rows of the matrix.
        rows : Rows
            Its entries, asked for on every rank for the rows that live there.

        Notes
        -----
        The matrix is a sparse one: with a dense one SLEPc's ScaLAPACK type fails on two ranks.
        """
        matrix, solver = self._assemble(size, rows), self._slepc.EPS().create(self._communicator)
        try:
            solver.setOperators(matrix)
            solver.setProblemType(self._slepc.EPS.ProblemType.HEP)
            solver.setType(self._name)
            solver.setDimensions(nev=size)
            solver.solve()
            found = solver.getConverged()
            if found != size:
                raise RuntimeError(f"SLEPc's {self._name} found {found} of {size} eigenvalues")
            levels = np.sort([solver.getEigenvalue(k).real for k in range(size)])
        finally:
            solver.destroy()
            matrix.destroy()
        self._communicator.Bcast(levels, root=0)
        return levels

    def _assemble(self, size: int, rows: Rows) -> Any:
        entries = rows(np.zeros(1, dtype=int))[0].shape[1]  # the same in every row
        matrix = self._petsc.Mat().createAIJ(
            (size, size), nnz=(entries, entries), comm=self._communicator
        )
        first, last = matrix.getOwnershipRange()
        columns, values = rows(np.arange(first, last))
        for row, where, what in zip(
            range(first, last), columns.astype(self._petsc.IntType), values, strict=True
        ):
            matrix.setValues(row, where, what, addv=True)
        matrix.assemble()
        return matrix


SOLVERS: dict[str, Callable[[Any], Eigensolver]] = {
    "scalapack": Scalapack,
    "slepc-scalapack": partial(Slepc, name="scalapack"),
    "elpa": partial(Slepc, name="elpa"),
    "elemental": partial(Slepc, name="elemental"),
}


class Distributed(ExactWeight):
    r"""Exact weight from all eigenvalues of h(S), each matrix spread over all ranks of a group.

    No rank holds a whole matrix; every rank fills in its own part from the spins.

    Parameters
    ----------
    ensemble : Ensemble
    group : World
        Ranks of MPI; they call every method together and with the same spins.
    solver : str
        ``scalapack``, its eigenvalues-only driver; or one of SLEPc's dense solvers, which compute
        the eigenvectors too: ``slepc-scalapack``, ``elpa``, ``elemental``, as far as SLEPc was
        built with them.

    Raises
    ------
    UserError
        On every rank of the group: there is no MPI, a library is missing, PETSc has real scalars.

    Notes
    -----
    Collective over the group; with SLEPc, made on all ranks of the job together. O(N^3)
    operations and O(N^2) bytes per configuration, both shared out over the group. Accurate to a few
    units of rounding of the largest eigenvalue.
    """

    gives_forces = False

    def __init__(self, ensemble: Ensemble, group: World, solver: str = "scalapack") -> None:
        super().__init__(ensemble, group)
        if solver not in SOLVERS:
            raise UserError(
                f"no distributed eigensolver is called {solver!r}, only {', '.join(SOLVERS)}."
            )
        communicator = group.communicator
        if communicator is None:
            raise UserError(
                f"the eigensolver {solver} works over MPI; without it there is method = "
                '"diagonalise".'
            )
        self._solver = group.on_all(lambda: SOLVERS[solver](communicator))

    def spectrum(self, spins: Tensor) -> Tensor:
        """Return all eigenvalues E_n of h(S), ascending: (chains, 2 sites) float64.

        Of spins (chains, sites, 3).

        The same bits on every rank of the group. Collective over the group.
        """
        self.hamiltonian.check_spins(spins)
        size = 2 * self.ensemble.sites
        levels = np.empty((len(spins), size))
        for chain, configuration in enumerate(spins.cpu().numpy()):
            levels[chain] = self._solver.eigenvalues(
                size, partial(self.hamiltonian.rows, configuration)
            )
        return torch.as_tensor(levels, device=spins.device)

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate log W, energy and density of spins (chains, sites, 3); no forces.

        Collective over the group.
        """
        if forces:
            raise UserError(
                'eigenvalues over a group of ranks give no forces; use method = "diagonalise" or '
                '"blocks", '
                'or moves that need none (exact_move = "metropolis").'
            )
        return thermodynamics(self.spectrum(spins), self.beta, self.mu, self.ensemble.sites)

    def with_energy(self, spins: Tensor, known: Evaluation) -> Evaluation:
        """Complete as every weight, from the eigenvalues. Collective over the group."""
        full = self.evaluate(spins)
        return replace(known, energy=full.energy, density=full.density)
