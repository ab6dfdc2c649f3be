import sys
import types

import numpy as np
import pytest
import torch
from helpers import make_diagonalise, random_spins

from hpcslmc.errors import UserError
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.weight.matsubara import PORD, Matsubara

SHAPES = [(4, 4), (6, 6), (8, 8), (2, 2), (2, 6), (3, 5), (4, 8)]
MODELS = [
    (0.0, 1.0, -1.5),
    (1.0, 20.0, 0.0),
    (1.0, 100.0, -1.5),
    (16.0, 20.0, -1.5),
    (16.0, 100.0, 0.0),
    (1.0, 400.0, 0.0),
    (16.0, 400.0, -1.5),
]


def make_matsubara(shape, J=1.0, beta=20.0, mu=0.0):
    """Matsubara weight and the dense one of the same model."""
    dense = make_diagonalise(shape, J, beta, mu)
    return Matsubara(Ensemble(dense.hamiltonian, beta, mu)), dense


def some_spins(lattice):
    """Two free configurations, the ferromagnet and the Neel state (stripes where it does not fit).

    (4, sites, 3).
    """
    ordered = torch.zeros(2, lattice.sites, 3, dtype=torch.float64)
    ordered[0, :, 2] = 1.0
    ordered[1, :, 0] = torch.as_tensor(lattice.staggered_sign)
    return torch.cat((random_spins(2, lattice.sites), ordered))


@pytest.mark.parametrize(("J", "beta", "mu"), MODELS)
def test_log_weight_against_eigenvalues(J, beta, mu):
    for shape in SHAPES:
        weight, dense = make_matsubara(shape, J, beta, mu)
        spins = some_spins(dense.hamiltonian.lattice)
        error = (weight.log_weight(spins) - dense.log_weight(spins)).abs().max()
        assert error < 1e-8, (shape, error)
        assert error < weight.error + 2e-9
        assert weight.error <= 1e-8


def test_a_larger_lattice():
    weight, dense = make_matsubara((16, 16))
    spins = random_spins(1, 256)
    assert (weight.log_weight(spins) - dense.log_weight(spins)).abs().max() < 1e-8


def test_negative_hopping_and_other_units():
    dense = make_diagonalise((4, 6), 2.0, 5.0, 0.7, t=-2.0)
    spins = random_spins(3, 24)
    weight = Matsubara(Ensemble(dense.hamiltonian, 5.0, 0.7))
    assert torch.allclose(weight.log_weight(spins), dense.log_weight(spins), rtol=0, atol=1e-8)


def test_chains_do_not_see_each_other_nor_the_past():
    weight, _ = make_matsubara((4, 4))
    spins = random_spins(3, 16)
    together = weight.log_weight(spins)
    assert torch.equal(together, torch.cat([weight.log_weight(spins[[i]]) for i in range(3)]))
    assert torch.equal(weight.log_weight(spins.flip(0)), together.flip(0))


def test_two_weights_at_once():
    small, dense_small = make_matsubara((3, 4))
    large, dense_large = make_matsubara((4, 6), J=4.0)
    for _ in range(2):
        for weight, dense, sites in ((small, dense_small, 12), (large, dense_large, 24)):
            spins = random_spins(1, sites)
            assert torch.allclose(
                weight.log_weight(spins), dense.log_weight(spins), rtol=0, atol=1e-8
            )


def test_log_weight_comes_alone_unless_forces_are_asked_for():
    weight, _ = make_matsubara((4, 4))
    spins = random_spins(2, 16)
    evaluation = weight.evaluate(spins)
    assert torch.equal(evaluation.log_weight, weight.log_weight(spins))
    assert evaluation.forces is None and evaluation.energy is None and evaluation.density is None
    log_weight, forces = weight.log_weight_and_forces(spins)
    assert torch.allclose(log_weight, evaluation.log_weight, rtol=0, atol=1e-8)
    assert forces.shape == spins.shape


def test_a_missing_petsc_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "petsc4py", None)
    with pytest.raises(UserError, match="needs petsc4py"):
        make_matsubara((4, 4))


@pytest.mark.parametrize(
    ("scalar", "mumps", "message"),
    [(np.float64, True, "real ones"), (np.complex128, False, "has none")],
)
def test_an_unfit_petsc_is_one_sentence(monkeypatch, scalar, mumps, message):
    fake = types.ModuleType("petsc4py")
    fake.init = lambda: None
    fake.PETSc = types.SimpleNamespace(
        ScalarType=scalar, Sys=types.SimpleNamespace(hasExternalPackage=lambda name: mumps)
    )
    monkeypatch.setitem(sys.modules, "petsc4py", fake)
    with pytest.raises(UserError, match=message):
        make_matsubara((4, 4))


def test_mumps_orders_as_it_is_told():
    weight, _ = make_matsubara((16, 16))
    weight.log_weight(random_spins(1, 256))
    statistics = weight.statistics()
    assert statistics.ordering == PORD
    assert 0 < statistics.operations < 512**3 / 3 and 0 < statistics.bytes < 1e9


def test_many_weights_in_one_process():
    spins = random_spins(1, 4)
    values = {
        float(make_matsubara((2, 2))[0].log_weight(spins)[0]) for _ in range(100)
    }  # PETSc's options are a table of 512
    assert len(values) == 1
