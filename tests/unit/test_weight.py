import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import make_diagonalise, random_spins

CASES = [
    ((4, 4), 1.0, 20.0, 0.0),
    ((6, 6), 4.0, 5.0, -1.5),
    ((3, 4), 16.0, 100.0, 3.0),
    ((2, 2), 0.5, 400.0, 0.0),
]


@pytest.mark.parametrize(("shape", "J", "beta", "mu"), CASES)
def test_log_weight_energy_density_against_scipy(shape, J, beta, mu):
    weight = make_diagonalise(shape, J, beta, mu)
    spins = random_spins(3, shape[0] * shape[1])
    evaluation = weight.evaluate(spins)
    for chain, h in enumerate(weight.hamiltonian.dense(spins).numpy()):
        levels = scipy.linalg.eigvalsh(h)
        filling = 1.0 / (1.0 + np.exp(np.clip(beta * (levels - mu), -700, 700)))
        sites = len(h) // 2
        assert (
            abs(evaluation.log_weight[chain] - np.logaddexp(0.0, -beta * (levels - mu)).sum())
            < 1e-9
        )
        assert abs(evaluation.energy[chain] - (filling * levels).sum() / sites) < 1e-10
        assert abs(evaluation.density[chain] - filling.sum() / sites) < 1e-10


@pytest.mark.parametrize(("shape", "J", "beta", "mu"), CASES)
def test_forces_are_the_gradient(shape, J, beta, mu):
    weight = make_diagonalise(shape, J, beta, mu)
    spins = random_spins(2, shape[0] * shape[1])
    log_weight, forces = weight.log_weight_and_forces(spins)
    assert torch.allclose(log_weight, weight.log_weight(spins), rtol=0, atol=1e-9)
    step = 1e-5
    for site, axis in ((0, 0), (1, 1), (2, 2)):
        shift = torch.zeros_like(spins)
        shift[:, site, axis] = step
        # fourth-order central difference
        difference = (
            8 * (weight.log_weight(spins + shift) - weight.log_weight(spins - shift))
            - weight.log_weight(spins + 2 * shift)
            + weight.log_weight(spins - 2 * shift)
        ) / (12 * step)
        assert torch.allclose(forces[:, site, axis], difference, rtol=1e-5, atol=1e-5)


def test_half_filling_by_symmetry():
    evaluation = make_diagonalise((4, 4), 1.0, 20.0).evaluate(random_spins(5, 16))
    assert torch.allclose(evaluation.density, torch.ones(5, dtype=torch.float64), atol=1e-12)


def test_degenerate_spectra_have_symmetric_forces():
    weight = make_diagonalise((4, 4), 1.0, 20.0)
    ferromagnet = torch.zeros(1, 16, 3, dtype=torch.float64)
    ferromagnet[..., 2] = 1.0
    forces = weight.evaluate(ferromagnet, forces=True).forces
    assert torch.allclose(forces, forces[:, :1].expand_as(forces), atol=1e-11)
    assert forces[..., :2].abs().max() < 1e-11
