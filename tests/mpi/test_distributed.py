"""Spectra over groups of ranks against LAPACK's."""

import subprocess

import numpy as np
import pytest
import torch
from helpers import random_spins
from random_models import COUNT, random_model

from hpcslmc.errors import UserError
from hpcslmc.parallel.world import MPIWorld, World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.weight.diagonalise import Diagonalise
from hpcslmc.weight.distributed import Distributed, Slepc
from hpcslmc.weight.scalapack import Scalapack, fill, load_library, owned, process_grid

SOLVERS = ("scalapack", "slepc-scalapack")


@pytest.fixture(params=["world", "half"])
def group(world, request):
    """All ranks; and each half of them with a communicator of its own."""
    if request.param == "world":
        yield world
        return
    half = world.communicator.Split(2 * world.rank // world.size)
    yield MPIWorld(half)
    half.Free()


def configurations(lattice: Lattice) -> torch.Tensor:
    """Random, ferromagnetic and staggered spins, (3, sites, 3)."""
    spins = random_spins(1, lattice.sites).repeat(3, 1, 1)
    spins[1:] = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    spins[2] *= torch.as_tensor(lattice.staggered_sign)[:, None]
    return spins


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("J", [0.0, 1.0, 16.0])
@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (4, 4), (6, 4)])
def test_all_eigenvalues_are_those_of_lapack(group, agree, shape, J, solver):
    hamiltonian = Hamiltonian(Lattice(shape), 1.0, J)
    spins = configurations(hamiltonian.lattice)
    levels = Distributed(Ensemble(hamiltonian, 5.0, 0.0), group, solver).spectrum(spins).numpy()
    error = np.abs(levels - np.linalg.eigvalsh(hamiltonian.dense(spins).numpy())).max()
    agree(error < 1e-11, f"levels differ by {error}")
    first = group.broadcast(levels)
    agree(levels.tobytes() == first.tobytes(), "ranks of a group differ")


@pytest.mark.parametrize("seed", range(COUNT))
def test_couplings_of_every_kind(world, agree, seed):
    hamiltonian, mu = random_model(seed)
    ensemble, spins = Ensemble(hamiltonian, 8.0, mu), random_spins(2, hamiltonian.lattice.sites)
    found = Distributed(ensemble, world).evaluate(spins)
    expected = Diagonalise(ensemble).evaluate(spins)
    for name in ("log_weight", "energy", "density"):
        error = float((getattr(found, name) - getattr(expected, name)).abs().max())
        agree(error < 1e-9, f"{name} differs by {error}")


@pytest.mark.parametrize("solver", SOLVERS)
def test_groups_work_on_matrices_of_their_own(world, group, agree, solver):
    mine = int(2 * world.rank // world.size) if group.size < world.size else 0
    lattice = Lattice([(8, 6), (10, 8)][mine])
    spins = random_spins(2, lattice.sites, seed=mine)
    hamiltonian = Hamiltonian(lattice, 1.0, 1.0)
    for beta, mu in ((1.0, 3.0), (20.0, -1.5), (400.0, 0.0)):
        found = Distributed(Ensemble(hamiltonian, beta, mu), group, solver).evaluate(spins)
        expected = Diagonalise(Ensemble(hamiltonian, beta, mu)).evaluate(spins)
        for name in ("log_weight", "energy", "density"):
            error = float((getattr(found, name) - getattr(expected, name)).abs().max())
            agree(error < 1e-9, f"{name} differs by {error} at beta = {beta}")


@pytest.mark.parametrize("block", [1, 3, 8])
def test_many_blocks(world, agree, block):
    rng = np.random.default_rng(0)
    h = rng.normal(size=(50, 50)) + 1j * rng.normal(size=(50, 50))
    h += h.conj().T
    found = Scalapack(world.communicator, block).eigenvalues(
        50, lambda rows: (np.tile(np.arange(50), (len(rows), 1)), h[rows])
    )
    error = np.abs(found - np.linalg.eigvalsh(h)).max()
    agree(error < 1e-12, f"levels differ by {error}")


def test_every_rank_fills_its_own_part_alone(world, agree):
    hamiltonian = Hamiltonian(Lattice((2, 16)), 0.7, 3.0)
    spins = random_spins(1, 32)
    with process_grid(load_library(world.communicator), world.communicator) as grid:
        part = fill(64, lambda rows: hamiltonian.rows(spins[0].numpy(), rows), 4, grid)
        rows, columns = owned(64, 4, grid.row, grid.rows), owned(64, 4, grid.column, grid.columns)
    expected = hamiltonian.dense(spins)[0].numpy()[np.ix_(rows, columns)]
    agree(np.abs(part - expected).max() < 1e-15, "entries differ")
    agree(part.size < 1.2 * 64 * 64 / world.size, f"{part.size} entries held")


def test_grids_are_released(world, agree):
    library = load_library(world.communicator)
    contexts = set()
    for _ in range(300):
        with process_grid(library, world.communicator) as grid:
            contexts.add(grid.context)
    agree(len(contexts) == 1, f"{len(contexts)} contexts")


def test_a_failed_iteration_is_said_on_every_rank(world, agree):
    with pytest.raises(
        RuntimeError, match=r"PZHEEV, 40 rows, \d ranks: eigenvalue \d+ did not converge"
    ):
        Scalapack(world.communicator).eigenvalues(
            40, lambda rows: (rows[:, None], np.full((len(rows), 1), np.nan + 0j))
        )
    agree(True)


def test_a_missing_library_is_one_sentence_on_every_rank(world, agree, monkeypatch):
    hamiltonian = Hamiltonian(Lattice((4, 4)), 1.0, 1.0)
    if world.rank == 1:
        monkeypatch.setenv("HPCSLMC_SCALAPACK", "/nowhere/libscalapack.so")
    with pytest.raises(
        UserError, match="needs the ScaLAPACK library .*/nowhere.*HPCSLMC_SCALAPACK"
    ):
        Distributed(Ensemble(hamiltonian, 5.0, 0.0), world)
    agree(True)


def test_a_library_without_scalapack_is_refused(world, agree, monkeypatch):
    monkeypatch.setenv("HPCSLMC_SCALAPACK", "libm.so.6")
    with pytest.raises(UserError, match="pzheev_"):
        load_library(world.communicator)
    agree(True)


def test_a_library_on_another_mpi_is_refused(world, agree, monkeypatch, tmp_path):
    source, library = tmp_path / "other.c", tmp_path / "libother.so"
    source.write_text(
        "void pzheev_(void) {} void sys2blacs_handle_(void) {} void MPI_Comm_size(void) {}"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setenv("HPCSLMC_SCALAPACK", str(library))
    with pytest.raises(UserError, match="libother.so is linked with another MPI than mpi4py"):
        load_library(world.communicator)
    agree(True)


@pytest.mark.parametrize("solver", ["elpa", "elemental"])
def test_solvers_that_a_build_may_lack(world, agree, solver):
    hamiltonian, spins = Hamiltonian(Lattice((4, 4)), 1.0, 1.0), random_spins(1, 16)
    try:
        levels = Distributed(Ensemble(hamiltonian, 5.0, 0.0), world, solver).spectrum(spins)
        error = float(
            (levels - Diagonalise(Ensemble(hamiltonian, 5.0, 0.0)).spectrum(spins)).abs().max()
        )
        agree(error < 1e-11, f"levels differ by {error}")
    except UserError as refusal:
        agree(
            str(refusal) == f"this SLEPc was built without the eigensolver {solver}.", str(refusal)
        )


def test_what_cannot_be_done_is_refused(world, agree, monkeypatch):
    from petsc4py import PETSc

    hamiltonian = Hamiltonian(Lattice((4, 4)), 1.0, 1.0)
    with pytest.raises(UserError, match="only scalapack, slepc-scalapack"):
        Distributed(Ensemble(hamiltonian, 5.0, 0.0), world, "lanczos")
    with pytest.raises(UserError, match="works over MPI"):
        Distributed(Ensemble(hamiltonian, 5.0, 0.0), World())
    with pytest.raises(UserError, match="diagonalise.*blocks"):
        Distributed(Ensemble(hamiltonian, 5.0, 0.0), world).evaluate(
            random_spins(1, 16), forces=True
        )
    with pytest.raises(UserError, match="built without the eigensolver nonsense"):
        Slepc(world.communicator, "nonsense")
    monkeypatch.setattr(PETSc, "ScalarType", np.float64)
    with pytest.raises(UserError, match="complex scalars"):
        Slepc(world.communicator, "scalapack")
    agree(True)
