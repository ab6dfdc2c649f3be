"""The libraries that the project stands on, on one MPI.

A missing one is a failure, never a skip.
"""

import numpy as np
from helpers import make_diagonalise, random_spins


def test_petsc_is_complex_and_slepc_finds_all_eigenvalues(world, agree):
    from petsc4py import PETSc
    from slepc4py import SLEPc

    agree(
        np.issubdtype(PETSc.ScalarType, np.complexfloating), f"PETSc scalars are {PETSc.ScalarType}"
    )
    weight = make_diagonalise((4, 4))
    h = weight.hamiltonian.dense(random_spins(1, 16))[0].numpy()
    matrix = PETSc.Mat().createAIJ(h.shape, nnz=len(h), comm=world.communicator)
    first, last = matrix.getOwnershipRange()
    for row in range(first, last):
        matrix.setValues([row], range(len(h)), h[row])
    matrix.assemble()
    solver = SLEPc.EPS().create(world.communicator)
    solver.setOperators(matrix)
    solver.setProblemType(SLEPc.EPS.ProblemType.HEP)
    solver.setType("scalapack")
    solver.setDimensions(nev=len(h))
    solver.solve()
    found = np.sort([solver.getEigenvalue(k).real for k in range(solver.getConverged())])
    agree(
        len(found) == len(h) and np.abs(found - np.linalg.eigvalsh(h)).max() < 1e-12,
        f"{len(found)} eigenvalues",
    )


def test_hdf5_is_parallel(agree):
    import h5py

    agree(h5py.get_config().mpi, "h5py is not built for MPI")
