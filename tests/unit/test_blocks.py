import itertools

import numpy as np
import pytest
import torch
from helpers import make_diagonalise, random_spins
from small_jobs import make_job

from hpcslmc.density import Evaluation
from hpcslmc.job.schema import Job
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.weight import choice, density_sum, elimination, make_weight
from hpcslmc.weight.blocks import Blocks
from hpcslmc.weight.ring import Halves, Ring, solve_ring

SHAPES = [(2, 2), (2, 6), (6, 2), (3, 3), (3, 5), (4, 4), (4, 8), (5, 5), (6, 6), (7, 4), (8, 8)]
ACCELERATOR = torch.accelerator.current_accelerator(check_available=True)
DEVICES = ["cpu"] if ACCELERATOR is None else ["cpu", ACCELERATOR.type]
PARAMETERS = list(itertools.product((0.0, 1.0, 16.0), (0.0, -1.5, 3.0), (1.0, 20.0, 100.0, 400.0)))


@pytest.fixture(params=["rows", "fronts"])
def kind(request, monkeypatch) -> str:
    """One elimination and the other, whatever the lattice."""
    monkeypatch.setattr(choice, "WIDEST_ROWS", {"rows": 1000, "fronts": 0}[request.param])
    return request.param


def ordered_and_random(shape: tuple[int, int]) -> torch.Tensor:
    """A random, the ferromagnetic and the Neel configuration: (3, sites, 3)."""
    ferromagnet = torch.zeros(shape[0] * shape[1], 3, dtype=torch.float64)
    ferromagnet[:, 2] = 1.0
    x, y = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
    neel = ferromagnet * (1 - 2 * ((x + y) % 2)).reshape(-1, 1)
    return torch.cat((random_spins(1, len(ferromagnet)), ferromagnet[None], neel[None]))


def make_pair(shape: tuple[int, int], J: float, beta: float, mu: float, t: float = 1.0):
    """The weight by blocks and the one by diagonalisation."""
    dense = make_diagonalise(shape, J, beta, mu, t)
    return Blocks(Ensemble(dense.hamiltonian, beta, mu)), dense


def check_against_diagonalisation(
    shape: tuple[int, int], J: float, beta: float, mu: float, t: float = 1.0
) -> None:
    weight, dense = make_pair(shape, J, beta, mu, t)
    spins = ordered_and_random(shape)
    exact, evaluation = dense.evaluate(spins, forces=True), weight.evaluate(spins, forces=True)
    assert (weight.log_weight(spins) - exact.log_weight).abs().max() < 1e-8
    assert (evaluation.log_weight - exact.log_weight).abs().max() < 1e-8
    assert (evaluation.forces - exact.forces).abs().max() < 1e-8
    assert (evaluation.energy - exact.energy).abs().max() < 1e-9
    assert (evaluation.density - exact.density).abs().max() < 1e-9


@pytest.mark.parametrize("method", ["blocks", "matsubara"])
@pytest.mark.parametrize("shape", [(2, 2), (2, 6), (4, 8), (6, 6)], ids=str)
@pytest.mark.parametrize(("J", "beta"), [(0.0, 20.0), (1.0, 2.0), (1.0, 400.0), (16.0, 20.0)])
def test_the_energy_at_half_filling_needs_no_forces(method, shape, J, beta, monkeypatch):
    dense = make_diagonalise(shape, J, beta, 0.0)
    weight, spins = (
        make_weight(method, Ensemble(dense.hamiltonian, beta, 0.0), World()),
        ordered_and_random(shape),
    )
    monkeypatch.setattr(elimination.Elimination, "inverses", None)
    exact, known = dense.evaluate(spins), weight.evaluate(spins)
    bound = 2.0 * weight.energies.error / beta + 1e-10
    for found in (
        weight.with_energy(spins, known),
        weight.with_energy(spins, Evaluation(known.log_weight)),
    ):
        assert torch.equal(found.log_weight, known.log_weight)
        assert (found.energy - exact.energy).abs().max() < bound < 1e-7 / beta + 1.1e-10
        assert (found.density - exact.density).abs().max() < 1e-12


@pytest.mark.parametrize("method", ["blocks", "matsubara"])
@pytest.mark.parametrize("mu", [0.0, -0.7])
def test_a_self_learning_job_samples_without_forces(method, mu, monkeypatch):
    simulation = Simulation(make_job_at(mu, method, ensemble={"temperature": [0.5, 0.2]}))
    simulation.run(lambda: simulation.phase.name == "sample")
    monkeypatch.setattr(elimination.Elimination, "inverses", None)
    simulation.run()
    assert all(np.isfinite(rung.bins.draws).all() for rung in simulation.rungs)


def make_job_at(mu: float, *arguments, **keys) -> Job:
    job = make_job(*arguments, **keys)
    hamiltonian = job.hamiltonian.model_copy(update={"mu": mu})
    return job.model_copy(update={"hamiltonian": hamiltonian})


def couplings(seed: int) -> tuple[float, float, float, float]:
    """J, mu, beta and t, from weak to strong, empty to full and hot to cold."""
    generator = np.random.default_rng(seed)
    J, t = 16.0 * generator.random() ** 2, generator.uniform(-2.0, 2.0)
    mu = generator.uniform(-1.0, 1.0) * (4.0 * abs(t) + 0.5 * J)
    return J, mu, 400.0 ** generator.random(), t


@pytest.mark.parametrize("method", ["blocks", "matsubara"])
@pytest.mark.parametrize("seed", range(16))
def test_energy_and_density_at_any_filling_need_no_forces(method, seed, monkeypatch):
    J, mu, beta, t = couplings(seed)
    shape = SHAPES[seed % len(SHAPES)]
    dense, spins = make_diagonalise(shape, J, beta, mu, t), ordered_and_random(shape)
    weight = make_weight(method, Ensemble(dense.hamiltonian, beta, mu), World())
    monkeypatch.setattr(elimination.Elimination, "inverses", None)
    exact, known = dense.evaluate(spins), weight.evaluate(spins)
    for found in (
        weight.with_energy(spins, known),
        weight.with_energy(spins, Evaluation(known.log_weight)),
    ):
        assert torch.equal(found.log_weight, known.log_weight)
        assert (found.energy - exact.energy).abs().max() < 1e-8
        assert (found.density - exact.density).abs().max() < 1e-8


@pytest.mark.parametrize(("shape", "mu"), [((3, 5), 0.0), ((4, 3), 0.0), ((4, 4), 0.3)])
def test_forces_bring_energy_and_density_where_determinants_would_be_too_many(
    shape, mu, monkeypatch
):
    monkeypatch.setattr(density_sum, "LARGEST_ERROR", 0.0)
    weight, dense = make_pair(shape, 1.0, 20.0, mu)
    spins = ordered_and_random(shape)
    found, exact = weight.with_energy(spins, weight.evaluate(spins)), dense.evaluate(spins)
    assert not weight.needs_arguments
    assert (found.energy - exact.energy).abs().max() < 1e-9
    assert (found.density - exact.density).abs().max() < 1e-9


@pytest.mark.parametrize("method", ["blocks", "matsubara"])
def test_a_job_away_from_half_filling_resumes_to_the_bit(method, tmp_path):
    job = make_job_at(-0.7, method)
    whole, first = Simulation(job), Simulation(job)
    whole.run()
    first.run(lambda: first.phase.name == "sample" and first.phase.done == 3)
    first.save(tmp_path / "checkpoint.h5", {})
    resumed = Simulation(job, resume=tmp_path / "checkpoint.h5")
    (rung,) = resumed.rungs
    assert resumed.phase.done == 3 and rung.chains.evaluation.arguments is not None
    resumed.run()
    assert np.array_equal(rung.bins.draws, whole.rungs[0].bins.draws)


@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
@pytest.mark.parametrize(
    ("J", "mu", "beta"),
    [(0.0, 0.0, 20.0), (1.0, 0.0, 400.0), (1.0, -1.5, 100.0), (16.0, 3.0, 20.0)],
)
def test_every_shape_against_diagonalisation(shape, J, mu, beta, kind):
    check_against_diagonalisation(shape, J, beta, mu)


@pytest.mark.parametrize(("J", "mu", "beta"), PARAMETERS)
def test_every_parameter_against_diagonalisation(J, mu, beta, kind):
    check_against_diagonalisation((4, 5), J, beta, mu)


def test_largest_shape_against_diagonalisation(kind):
    check_against_diagonalisation((8, 8), 1.0, 400.0, 0.0)


def test_hopping_of_either_sign_and_size(kind):
    check_against_diagonalisation((4, 6), 1.0, 20.0, 0.5, t=-0.7)


@pytest.mark.parametrize("shape", [(2, 6), (5, 4), (6, 6)], ids=str)
def test_forces_are_the_gradient(shape, kind):
    weight, _ = make_pair(shape, 1.0, 20.0, -1.5)
    spins = random_spins(2, shape[0] * shape[1])
    _, forces = weight.log_weight_and_forces(spins)
    step = 1e-3
    for site, axis in ((0, 0), (1, 1), (7, 2), (9, 0)):
        shift = torch.zeros_like(spins)
        shift[:, site, axis] = step
        # fourth-order central difference
        difference = (
            8 * (weight.log_weight(spins + shift) - weight.log_weight(spins - shift))
            - weight.log_weight(spins + 2 * shift)
            + weight.log_weight(spins - 2 * shift)
        ) / (12 * step)
        assert torch.allclose(forces[:, site, axis], difference, rtol=0, atol=1e-6)


def test_batches_change_nothing(monkeypatch, kind):
    weight, _ = make_pair((6, 4), 1.0, 20.0, 0.3)
    spins = random_spins(5, 24)
    together = weight.evaluate(spins, forces=True)
    monkeypatch.setitem(elimination.WORK_BYTES, "cpu", 1)
    alone = weight.evaluate(spins, forces=True)
    assert torch.allclose(together.log_weight, alone.log_weight, rtol=0, atol=1e-10)
    assert torch.allclose(together.forces, alone.forces, rtol=0, atol=1e-11)


def test_without_forces_only_the_weight_is_computed():
    evaluation = make_pair((4, 4), 1.0, 20.0, 0.0)[0].evaluate(random_spins(1, 16))
    assert evaluation.forces is None and evaluation.energy is None and evaluation.density is None


@pytest.mark.parametrize("rows", range(2, 12))
def test_ring_against_dense_inverse(rows):
    generator = torch.Generator().manual_seed(rows)
    ring = Ring(*torch.randn(3, rows, 2, 4, 4, dtype=torch.complex128, generator=generator))
    ring.diagonal.diagonal(dim1=-2, dim2=-1).add_(8.0)
    log_det, inverse = solve_ring(ring, wanted=True)
    exact = Ring.of_dense(torch.linalg.inv(ring.dense()), rows)
    assert torch.allclose(log_det, torch.linalg.slogdet(ring.dense())[1], rtol=0, atol=1e-12)
    for name in ("diagonal", "right", "left"):
        assert torch.allclose(getattr(inverse, name), getattr(exact, name), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 16, 17, 34, 70])
def test_inverses_by_halves_against_lapack(n):
    generator = torch.Generator().manual_seed(n)
    matrices = torch.randn(2, 3, n, n, dtype=torch.complex128, generator=generator)
    matrices = torch.eye(n) + 1j * (matrices + matrices.mH)
    found, right = Halves(matrices), matrices.mT
    assert torch.allclose(found.inverse(), torch.linalg.inv(matrices), rtol=0, atol=1e-12)
    assert torch.allclose(found.solve(right), torch.linalg.solve(matrices, right), atol=1e-11)
    sign, log_det = torch.linalg.slogdet(matrices)
    assert torch.allclose(found.log_det(), log_det, rtol=0, atol=1e-11)
    whole = found.log_det(arguments=True)
    assert torch.allclose(torch.exp(1j * whole.imag), sign, rtol=0, atol=1e-11)


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_agrees_with_dense_on_the_cpu(device, kind):
    weight = Blocks(Ensemble(Hamiltonian(Lattice((6, 8)), 1.0, 1.0, device), 20.0, 0.0))
    dense, spins = make_diagonalise((6, 8), 1.0, 20.0, 0.0), random_spins(3, 48)
    here, there = dense.evaluate(spins, forces=True), weight.evaluate(spins.to(device), forces=True)
    assert torch.allclose(here.log_weight, there.log_weight.cpu(), rtol=0, atol=1e-8)
    assert torch.allclose(here.forces, there.forces.cpu(), rtol=0, atol=1e-8)


def test_wide_rows_of_ordered_spins_keep_their_digits(kind):
    length, J, beta, mu = 64, 4.0, 400.0, 3.0
    cosine = torch.cos(2.0 * torch.pi * torch.arange(length, dtype=torch.float64) / length)
    bands = -2.0 * (cosine[:, None] + cosine)
    levels = torch.stack((bands + 0.5 * J, bands - 0.5 * J))
    exact = torch.logaddexp(torch.zeros_like(levels), -beta * (levels - mu)).sum()
    ferromagnet = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(1, length**2, 3)
    weight, _ = make_pair((length, length), J, beta, mu)
    assert (weight.log_weight(ferromagnet) - exact).abs() < 3e-8
