"""Electrons on crystals: currents of complex and 2x2 hops, sum rules, unfolding, Chern numbers."""

import math

import numpy as np
import pytest
import torch
from helpers import random_spins, unevaluated
from measurement import conductivity_tensor, fermi, hall_conductivity

from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.registry import make_observable, make_profile
from hpcslmc.physics.catalogue import CATALOGUE
from hpcslmc.physics.couplings import Couplings, Hop, shell_links
from hpcslmc.physics.crystal import Link
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice

BETA, MU = 3.0, -0.4


def with_matrices(name: str) -> Couplings:
    """Rashba hops along the bonds of nearest neighbours, a flux, and a field."""
    crystal = CATALOGUE[name].crystal
    hops = []
    for link in shell_links(crystal, 1)[0]:
        x, y, *_ = (*crystal.offset(link), 0.0)
        rashba = 0.3 * np.array([[0, y + 1j * x], [-y + 1j * x, 0]])  # i (d x sigma)_z
        matrix = np.eye(2) + rashba
        hops.append(Hop(link, 0.9 * np.exp(0.4j), tuple(map(tuple, matrix.tolist()))))
    return Couplings.make(crystal, (), 1.7, hops, field=(0.1, 0.2, 0.3))


CASES = {
    "chain": ((5,), Couplings.make(CATALOGUE["chain"].crystal, [1.0, 0.3j], 1.7)),
    "triangular": ((3, 4), Couplings.make(CATALOGUE["triangular"].crystal, [1.0, -0.3], 1.7)),
    "flux": ((3, 3), Couplings.make(CATALOGUE["triangular"].crystal, 0.8 + 0.5j, 1.7)),
    "twist": ((3, 3), Couplings.make(CATALOGUE["triangular"].crystal, 1.0, 1.7, twist=(0.1, 0.2))),
    "kagome": ((2, 3), with_matrices("kagome")),
    "honeycomb": ((3, 2), Couplings.make(CATALOGUE["honeycomb"].crystal, [1.0, 0.2], (1.7, 0.5))),
    "cubic": ((3, 2, 3), with_matrices("cubic")),
    "pyrochlore": ((1, 1, 2), Couplings.make(CATALOGUE["pyrochlore"].crystal, 1.0, 1.7)),
}


def electrons_of(case: str, beta: float = BETA, mu: float = MU) -> Electrons:
    shape, couplings = CASES[case]
    hamiltonian = Hamiltonian(Lattice(shape, couplings.crystal), couplings)
    spectrum = lambda spins: torch.linalg.eigvalsh(hamiltonian.dense(spins))  # noqa: E731
    return Electrons(Ensemble(hamiltonian, beta, mu), spectrum)


def driven(hamiltonian: Hamiltonian, spins: torch.Tensor, potential: np.ndarray) -> np.ndarray:
    """h(S) of one configuration in a vector potential, bond by bond."""
    h = hamiltonian.dense(spins[None])[0].numpy().reshape(len(spins), 2, len(spins), 2).copy()
    for bonds in hamiltonian.bonds:
        change = np.exp(-1j * potential @ np.array(bonds.displacement)) - 1.0
        for start, end in zip(bonds.start, bonds.end, strict=True):
            h[start, :, end] += change * bonds.element
            h[end, :, start] += np.conj(change) * bonds.element.conj().T
    return h.reshape(2 * len(spins), -1)


@pytest.mark.parametrize("case", CASES)
def test_conductivities_against_finite_differences(case):
    electrons = electrons_of(case)
    hamiltonian, lattice = electrons.hamiltonian, electrons.hamiltonian.lattice
    spins, step, n = random_spins(1, lattice.sites)[0], 1e-3, lattice.sites
    evaluation = unevaluated(spins[None])
    levels, states = np.linalg.eigh(driven(hamiltonian, spins, np.zeros(lattice.dimension)))
    f, currents, hopping, weights = fermi(BETA * (levels - MU)), [], [], []
    volume = lattice.cells * abs(np.linalg.det(np.array(lattice.crystal.vectors)))
    for direction in np.eye(lattice.dimension):
        below, here, above = (driven(hamiltonian, spins, k * step * direction) for k in (-1, 0, 1))
        currents.append((below - above) / (2.0 * step))
        bent = (above - 2.0 * here + below) / step**2  # -K
        hopping.append(-np.trace(bent @ (states * f) @ states.conj().T).real / n)
        moved = [np.linalg.eigvalsh(h) for h in (below, here, above)]
        weights.append(f @ (moved[2] - 2.0 * moved[1] + moved[0]) / step**2 / volume)
    found = {
        name: float(make_observable(name, electrons).measure(spins[None], evaluation)[0])
        for name in ("hopping_energy", "drude_weight")
    }
    assert found["hopping_energy"] == pytest.approx(np.mean(hopping), abs=1e-5)
    assert found["drude_weight"] == pytest.approx(np.mean(weights), abs=2e-3)
    made = make_profile("optical_conductivity", electrons, 30, 1)
    regular = float(made.measure(spins[None], evaluation).sum()) * made.bins.width
    total = regular + 0.5 * math.pi * found["drude_weight"]
    assert total * volume == pytest.approx(-0.5 * math.pi * found["hopping_energy"] * n)
    made = make_profile("conductivity_tensor", electrons, 30, 1)
    tensor = made.measure(spins[None], evaluation)[0].sum(-1).numpy() * made.bins.width
    expected = conductivity_tensor(levels, states, f, currents, volume)
    assert np.trace(tensor) == pytest.approx(regular * lattice.dimension)
    assert np.allclose(tensor, expected, atol=1e-4 * np.abs(expected).max())
    if lattice.dimension == 2:
        expected = hall_conductivity(levels, states, f, currents, volume)
        hall = make_observable("hall_conductivity", electrons).measure(spins[None], evaluation)
        assert float(hall[0]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert abs(expected) > 1e-4  # spins at random are not coplanar


def haldane(side: int, hop: complex, beta: float = 40.0) -> Electrons:
    """Electrons of the Haldane model, no spins, mu in the gap."""
    crystal = CATALOGUE["honeycomb"].crystal
    cells = ((1, 0), (-1, 1), (0, -1))  # anticlockwise around a triangle
    bonds = [Hop(Link(a, a, c), hop if a == 0 else np.conj(hop)) for a in (0, 1) for c in cells]
    couplings = Couplings.make(crystal, 1.0, 0.0, bonds)
    return Electrons(Ensemble(Hamiltonian(Lattice((side, side), crystal), couplings), beta, 0.0))


def chern_number(couplings: Couplings, side: int = 24) -> float:
    """Of the lower band of each spin: Fukui, Hatsugai, Suzuki, JPSJ 74, 1674 (2005)."""
    steps = 2.0 * np.pi * np.arange(side) / side
    phases = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    h = couplings.bloch(phases)[:, ::2, ::2]
    lower = np.linalg.eigh(h)[1][:, :, 0].reshape(side, side, 2)
    right, up = np.roll(lower, -1, 0), np.roll(lower, -1, 1)
    corner = np.roll(right, -1, 1)
    link = lambda a, b: (a.conj() * b).sum(-1)  # noqa: E731
    loop = link(lower, right) * link(right, corner) * link(corner, up) * link(up, lower)
    return float(-np.angle(loop).sum() / (2.0 * np.pi))


@pytest.mark.parametrize(("hop", "expected"), [(0.2j, 1.0), (-0.2j, -1.0)])
def test_haldane_model_has_chern_numbers(hop, expected):
    electrons, spins = haldane(12, hop), random_spins(1, 288)
    hall = make_observable("hall_conductivity", electrons)
    of_each_spin = float(hall.measure(spins, unevaluated(spins))[0]) / 2.0
    assert of_each_spin == pytest.approx(expected, abs=1e-2)
    assert chern_number(electrons.hamiltonian.couplings) == pytest.approx(expected)


def test_no_hall_effect_with_real_hops():
    electrons, spins = haldane(6, 0.2 + 0.0j), random_spins(1, 72)
    hall = make_observable("hall_conductivity2", electrons)
    assert abs(float(hall.measure(spins, unevaluated(spins))[0])) < 1e-20


def test_tetrahedral_order_has_a_quantised_hall_effect():
    """Of one filled band in four, the other way round for -S: Martin, Batista, PRL 101, 156402."""
    crystal = CATALOGUE["triangular"].crystal
    hamiltonian = Hamiltonian(Lattice((12, 12), crystal), 1.0, 16.0)
    electrons = Electrons(Ensemble(hamiltonian, 40.0, -8.0))
    momenta = np.array([[0.5, 0.0], [0.0, 0.5], [0.5, 0.5]]) @ crystal.reciprocal
    order = np.cos(hamiltonian.lattice.positions @ momenta.T) / math.sqrt(3.0)
    spins = torch.as_tensor(np.stack((order, -order)))
    hall = make_observable("hall_conductivity", electrons).measure(spins, unevaluated(spins))
    assert abs(float(hall[0])) == pytest.approx(1.0, abs=1e-2)
    assert float(hall[1]) == pytest.approx(-float(hall[0]))


@pytest.mark.parametrize("case", CASES)
def test_spectral_function_is_unfolded(case):
    """Site by site, its sum rule at each momentum, and its mean over the momenta."""
    electrons = electrons_of(case)
    hamiltonian, lattice = electrons.hamiltonian, electrons.hamiltonian.lattice
    spins = random_spins(1, lattice.sites)
    made = make_profile("spectral_function", electrons, 25, 1)
    values = made.measure(spins, unevaluated(spins))[0].numpy()
    by_spin = "spin" in made.grid
    assert by_spin == (case in ("kagome", "cubic"))
    assert values.shape == tuple(len(axis.values) for axis in made.grid.values())
    values = values if by_spin else values[..., None, :]
    width = made.bins.width
    assert np.allclose(values.sum(-1) * width, 1.0 if by_spin else 2.0)
    density = make_profile("density_of_states", electrons, 25, 1)
    zone = tuple(range(lattice.dimension))
    assert np.allclose(
        values.mean(zone).sum(0), density.measure(spins, unevaluated(spins))[0].numpy()
    )
    levels, states = np.linalg.eigh(hamiltonian.dense(spins)[0].numpy())
    # the boundary's phase is spread over the cells
    axes = [axis.values for axis in made.grid.values()][: lattice.dimension]
    twist = np.array(hamiltonian.couplings.twist) / np.array(lattice.shape)
    gauge = np.exp(2j * np.pi * lattice.coordinates @ twist)
    momentum = tuple(len(axis) - 1 for axis in axes)
    q = np.array([axis[k] for axis, k in zip(axes, momentum)]) @ lattice.crystal.reciprocal
    plane = np.exp(-1j * lattice.positions @ q) * gauge / math.sqrt(lattice.sites)
    weights = [np.square(np.abs(plane @ states[a::2])) for a in (0, 1)]
    edges = np.linspace(-hamiltonian.bound, hamiltonian.bound, 26)
    counts = np.array([np.histogram(levels, edges, weights=w)[0] for w in weights]) / width
    found = values[momentum]
    assert np.allclose(found, counts if by_spin else counts.sum(0))


def test_free_electrons_under_a_twist():
    """2 delta(omega - epsilon) at the shifted momenta of the axes."""
    crystal = CATALOGUE["triangular"].crystal
    couplings = Couplings.make(crystal, 1.0, 0.0, twist=(0.3, -0.2))
    electrons = Electrons(Ensemble(Hamiltonian(Lattice((4, 3), crystal), couplings), BETA, MU))
    made = make_profile("spectral_function", electrons, 41, 1)
    spins = random_spins(1, 12)
    values = made.measure(spins, unevaluated(spins))[0].numpy()
    q1, q2 = (2.0 * np.pi * made.grid[name].values for name in ("k1", "k2"))
    bands = -2.0 * (np.cos(q1)[:, None] + np.cos(q2) + np.cos(q1[:, None] - q2))
    edges = np.linspace(-electrons.hamiltonian.bound, electrons.hamiltonian.bound, 42)
    for k in np.ndindex(4, 3):
        counts, _ = np.histogram([bands[k]], edges)
        assert np.allclose(values[k], 2.0 * counts / made.bins.width)
