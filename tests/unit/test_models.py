"""Every weight method on models with couplings of every kind, against dense diagonalisation."""

import math

import numpy as np
import pytest
import torch
from helpers import random_spins
from random_models import COUNT, random_energy, random_model

from hpcslmc.parallel.world import World
from hpcslmc.physics.classical import ClassicalEnergy
from hpcslmc.physics.classical_couplings import ClassicalCouplings
from hpcslmc.physics.couplings import Couplings
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.weight import WEIGHTS, GreensFunctions


@pytest.mark.parametrize("seed", range(COUNT))
@pytest.mark.parametrize("method", sorted(set(WEIGHTS) - {"scalapack"}))  # over MPI alone
def test_every_method_agrees_with_dense_diagonalisation(method, seed):
    h, mu = random_model(seed)
    spins = random_spins(2, h.lattice.sites, seed=seed)
    ensemble = Ensemble(h, 8.0, mu)
    exact = WEIGHTS["diagonalise"](ensemble, World()).evaluate(spins, forces=True)
    weight = WEIGHTS[method](ensemble, World())
    found = weight.evaluate(spins, forces=weight.gives_forces)
    assert torch.allclose(found.log_weight, exact.log_weight, rtol=0.0, atol=1e-8)
    if weight.gives_forces:
        assert torch.allclose(found.forces, exact.forces, rtol=0.0, atol=1e-8)
    full = weight.with_energy(spins, weight.evaluate(spins))
    assert torch.allclose(full.energy, exact.energy, rtol=0.0, atol=1e-8)
    assert torch.allclose(full.density, exact.density, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("seed", range(COUNT))
def test_forces_are_the_gradient_of_log_w(seed):
    h, mu = random_model(seed)
    spins = random_spins(1, h.lattice.sites, seed=seed)
    weight = WEIGHTS["diagonalise"](Ensemble(h, 3.0, mu), World())
    forces = weight.evaluate(spins, forces=True).forces
    for site in (0, h.lattice.sites - 1):
        for axis in range(3):
            step = torch.zeros_like(spins)
            step[0, site, axis] = 1e-5
            up, down = weight.log_weight(spins + step), weight.log_weight(spins - step)
            slope = float(up - down) / 2e-5
            assert abs(slope - float(forces[0, site, axis])) < 1e-7


@pytest.mark.parametrize("seed", range(COUNT))
def test_rows_and_patterns_make_the_dense_matrix(seed):
    h, _ = random_model(seed)
    spins = random_spins(1, h.lattice.sites, seed=seed)
    dense = h.dense(spins)[0].numpy()
    assert np.abs(dense - dense.conj().T).max() < 1e-14
    columns, values = h.rows(spins[0].numpy(), np.arange(len(dense)))
    built = np.zeros_like(dense)
    np.add.at(built, (np.arange(len(dense))[:, None], columns), values)
    assert np.abs(built - dense).max() < 1e-14
    static, blocks = h.pattern
    static = static.copy()
    static.data[blocks] += h.site_blocks(spins)[0].numpy()
    assert np.abs(static.toarray() - dense).max() < 1e-14
    assert np.abs(np.linalg.eigvalsh(dense)).max() <= h.bound
    assert np.trace(dense).real == pytest.approx(len(dense) * h.mean_level)


@pytest.mark.parametrize("seed", [0, 3, 5, 8, 11])
def test_local_updates_make_the_chain_of_evaluations(seed):
    """With couplings of every kind, and a classical energy, which local updates track."""
    h, mu = random_model(seed)
    sites = h.lattice.sites
    energy = random_energy(h.lattice, seed)
    ensemble = Ensemble(h, 2.0, mu, energy)
    spins, proposals = random_spins(3, sites, seed=seed), random_spins(3, sites, seed=seed + 1)
    generator = torch.manual_seed(seed)
    order = torch.rand(3, sites, generator=generator).argsort(1)
    thresholds = torch.rand(3, sites, generator=generator, dtype=torch.float64).log()
    weight = WEIGHTS["diagonalise"](ensemble, World())

    def total(configuration):
        return weight.log_weight(configuration) - 2.0 * energy.energy(configuration)

    found, log_weight, accepted = GreensFunctions(ensemble).sweep(
        spins, total(spins), order, proposals, thresholds
    )
    now, current, expected = spins.clone(), total(spins), torch.zeros_like(thresholds)
    chain = torch.arange(3)
    for visit, site in enumerate(order.unbind(1)):
        turned = now.clone()
        turned[chain, site] = proposals[:, visit]
        after = total(turned)
        accept = thresholds[:, visit] < after - current
        now = torch.where(accept[:, None, None], turned, now)
        current = torch.where(accept, after, current)
        expected[:, visit] = accept
    assert torch.equal(accepted, expected) and 0.0 < expected.mean() < 1.0
    assert torch.allclose(found, now, atol=1e-14)
    assert torch.allclose(log_weight, current, atol=1e-8)


@pytest.mark.parametrize("seed", range(COUNT))
def test_classical_energy_is_the_sum_that_is_written(seed):
    """Bond by bond, by its gradient, and by the change of turning one spin."""
    lattice = random_model(seed)[0].lattice
    magnetic = np.random.default_rng(seed).random(lattice.sites) < 0.8
    energy = random_energy(lattice, seed, magnetic)
    spins = random_spins(2, lattice.sites, seed=seed)
    expected = torch.zeros(2, dtype=torch.float64)
    present = torch.as_tensor(magnetic)
    for bond in energy.couplings.bonds:
        for i, j in zip(*lattice.ends(bond.link), strict=True):
            if magnetic[i] and magnetic[j]:
                expected += bond.exchange * (spins[:, i] * spins[:, j]).sum(-1)
                cross = torch.linalg.cross(spins[:, i], spins[:, j])
                expected += cross @ torch.tensor(bond.dm, dtype=torch.float64)
    there = spins[:, present]
    expected -= (there @ torch.tensor(energy.couplings.field, dtype=torch.float64)).sum(1)
    expected -= energy.couplings.easy_axis * there[..., 2].square().sum(1)
    found, gradient = energy.energy_and_gradient(spins)
    assert torch.allclose(found, expected, atol=1e-12)
    moved = spins.clone().requires_grad_()
    (by_torch,) = torch.autograd.grad(energy.energy(moved).sum(), moved)
    assert torch.allclose(gradient, by_torch, atol=1e-12)
    sites, turned = torch.tensor([0, lattice.sites - 1]), random_spins(2, 1, seed=9)[:, 0]
    after = spins.clone()
    after[torch.arange(2), sites] = turned
    change = energy.energy(after) - found
    assert torch.allclose(energy.change(spins, sites, turned), change, atol=1e-12)


def test_numbers_of_another_program():
    """Third neighbours, a spin that is turned, and exchange: energy and force to all digits given.

    Square 6x6, t'' = 0.5, J = -1: electrons' grand energy per site and -dE/dS of one spin, as
    Kondo's own test has them.
    """
    lattice = Lattice((6, 6))
    h = Hamiltonian(lattice, Couplings.make(t=[1.0, 0.0, 0.5], J=-1.0))
    spins = torch.zeros(1, 36, 3, dtype=torch.float64)
    spins[0, :, 2] = 1.0
    spins[0, 0] = 1.0 / math.sqrt(3.0)
    mu, beta = 0.103, 1e4
    weight = WEIGHTS["diagonalise"](Ensemble(h, beta, mu), World())
    evaluation = weight.evaluate(spins, forces=True)
    grand = float(evaluation.energy - mu * evaluation.density)
    assert abs(grand - -1.98657215732) < 1e-10
    exchange = ClassicalCouplings.make(lattice.crystal, [0.1])
    classical = ClassicalEnergy(lattice, exchange, np.ones(36, bool))
    forces = evaluation.forces[0, 0] / beta - classical.energy_and_gradient(spins)[1][0, 0]
    expected = torch.tensor([0.05079641, 0.05079641, -0.38451922], dtype=torch.float64)
    assert torch.allclose(forces, expected, rtol=0.0, atol=1e-8)


def test_diluted_sites_have_no_spin():
    lattice, draw = Lattice((3, 4)), np.random.default_rng(1)
    there, J, potential = draw.random(12) < 0.7, draw.normal(size=12), draw.normal(size=12)
    h = Hamiltonian(lattice, site_J=J, site_potential=potential, site_spins=there)
    spins = random_spins(1, 12)
    turned = torch.where(torch.as_tensor(there)[:, None], spins, -spins)
    assert torch.equal(h.dense(spins), h.dense(turned))
    assert np.allclose(
        h.dense(spins)[0].diagonal().numpy()[::2].real - potential,
        0.5 * (np.where(there, J, 0.0) * spins[0, :, 2].numpy()),
    )
    weight = WEIGHTS["blocks"](Ensemble(h, 5.0, 0.2), World())
    exact = WEIGHTS["diagonalise"](Ensemble(h, 5.0, 0.2), World()).evaluate(spins, forces=True)
    found = weight.evaluate(spins, forces=True)
    assert torch.allclose(found.forces, exact.forces, atol=1e-9)
    assert torch.allclose(found.energy, exact.energy, atol=1e-9)
    assert not found.forces[0, ~there].any()


@pytest.mark.parametrize("seed", range(COUNT))
def test_symmetries_of_an_ensemble_leave_its_weight_as_it_is(seed):
    """With and without a classical energy; and they are a group."""
    h, mu = random_model(seed)
    sites = h.lattice.sites
    plain = ClassicalCouplings.make(h.lattice.crystal, [0.3])
    spins = random_spins(2, sites, seed=seed)
    for energy in (
        None,
        random_energy(h.lattice, seed),
        ClassicalEnergy(h.lattice, plain, h.magnetic),
    ):
        ensemble = Ensemble(h, 4.0, mu, energy)
        weight = WEIGHTS["diagonalise"](ensemble, World())
        operations = ensemble.symmetries
        group = {tuple(images) for images in operations}
        for images in operations:
            turned = spins[:, images]
            assert torch.allclose(weight.log_weight(turned), weight.log_weight(spins), atol=1e-9)
            if energy is not None:
                assert torch.allclose(energy.energy(turned), energy.energy(spins), atol=1e-10)
            assert {tuple(other[images]) for other in operations} == group
