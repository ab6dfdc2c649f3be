"""Functions of momentum and energy against plain loops on fixed spins, and their sum rules."""

import math

import numpy as np
import pytest
import torch
from helpers import make_diagonalise, random_spins, unevaluated
from measurement import fermi, hamiltonian

from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.profiles import Profile
from hpcslmc.measure.registry import PROFILES, make_observable, make_profile
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.lattice import Lattice

SHAPE, T, J, BETA, MU, ENERGIES = (4, 3), 0.9, 1.7, 3.0, -0.4, 40


def make_electrons(shape: tuple[int, int] = SHAPE, J: float = J) -> Electrons:
    weight = make_diagonalise(shape, J, BETA, MU, T)
    return Electrons(Ensemble(weight.hamiltonian, BETA, MU), weight.spectrum)


def profile(name: str, electrons: Electrons, energies: int = ENERGIES) -> Profile:
    return make_profile(name, electrons, energies, 1)


def measured(made: Profile, spins: torch.Tensor) -> torch.Tensor:
    return made.measure(spins, unevaluated(spins))


def edges_of(made: Profile, axis: str) -> np.ndarray:
    centres = made.grid[axis].values
    width = centres[1] - centres[0]
    return np.append(centres - 0.5 * width, centres[-1] + 0.5 * width)


@pytest.mark.parametrize("name", PROFILES)
def test_values_have_the_shape_of_the_grid(name):
    made = profile(name, make_electrons())
    values = measured(made, random_spins(2, 12))
    assert values.shape == (2, *(len(axis.values) for axis in made.grid.values()))
    assert values.dtype == torch.float64 and made.name == name and made.every == 1


def test_structure_factor_and_correlations():
    spins, electrons = random_spins(2, 12), make_electrons()
    structure, correlations = (
        profile(name, electrons) for name in ("structure_factor", "correlations")
    )
    values, distances = measured(structure, spins).numpy(), measured(correlations, spins).numpy()
    coordinates = Lattice(SHAPE).coordinates
    for chain, s in enumerate(spins.numpy()):
        for a, qx in enumerate(structure.grid["qx"].values):
            for b, qy in enumerate(structure.grid["qy"].values):
                mode = sum(
                    np.exp(1j * (qx * x + qy * y)) * s[i] for i, (x, y) in enumerate(coordinates)
                )
                assert values[chain, a, b] == pytest.approx(np.square(np.abs(mode)).sum() / 12)
        grid = s.reshape(4, 3, 3)
        for x in range(4):
            for y in range(3):
                assert distances[chain, x, y] == pytest.approx(
                    (grid * np.roll(grid, (-x, -y), (0, 1))).sum() / 12
                )
    assert values.mean((1, 2)) == pytest.approx(1.0)  # the sum rule


def test_structure_factor_agrees_with_the_modes():
    spins, electrons = random_spins(3, 16), make_electrons((4, 4))
    values = measured(profile("structure_factor", electrons), spins)
    evaluation = make_diagonalise((4, 4)).evaluate(spins)
    expected = {
        "m2_uniform": values[:, 0, 0],
        "m2_staggered": values[:, 2, 2],
        "m2_next_uniform": (values[:, 1, 0] + values[:, 0, 1]) / 2,
        "m2_next_staggered": (values[:, 3, 2] + values[:, 2, 3]) / 2,
    }
    for name, value in expected.items():
        assert torch.allclose(
            make_observable(name, electrons).measure(spins, evaluation), value / 16
        )


def test_structure_factor_of_the_neel_state():
    lattice = Lattice((4, 6))
    spins = torch.as_tensor(lattice.staggered_sign)[:, None] * torch.tensor(
        [0.0, 0.6, 0.8], dtype=torch.float64
    )
    expected = np.zeros((4, 6))
    expected[2, 3] = 24.0
    values = measured(profile("structure_factor", make_electrons((4, 6))), spins[None])[0]
    assert np.allclose(values, expected, atol=1e-12)


def test_spectral_function():
    spins, electrons = random_spins(2, 12), make_electrons()
    made = profile("spectral_function", electrons)
    values = measured(made, spins).numpy()
    width, coordinates = made.bins.width, Lattice(SHAPE).coordinates
    bands = -2.0 * T * (np.cos(made.grid["kx"].values)[:, None] + np.cos(made.grid["ky"].values))
    for chain, s in enumerate(spins.numpy()):
        levels, states = np.linalg.eigh(hamiltonian(s, SHAPE, T, J))
        first_moment = np.zeros(SHAPE)
        for a, kx in enumerate(made.grid["kx"].values):
            for b, ky in enumerate(made.grid["ky"].values):
                plane = np.exp(-1j * (coordinates @ (kx, ky))) / math.sqrt(12)
                weights = np.square(np.abs(plane @ states[0::2])) + np.square(
                    np.abs(plane @ states[1::2])
                )
                counts, _ = np.histogram(levels, edges_of(made, "energy"), weights=weights)
                assert np.allclose(values[chain, a, b], counts / width)
                first_moment[a, b] = weights @ levels
        assert np.allclose(first_moment, 2.0 * bands)  # S.sigma has no trace
    assert np.allclose(values.sum(-1) * width, 2.0)
    assert np.allclose(
        values.mean((1, 2)), measured(profile("density_of_states", electrons), spins)
    )


def test_spectral_function_of_free_electrons():
    """2 delta(omega - epsilon_k)."""
    made = profile("spectral_function", make_electrons((4, 6), J=0.0), energies=37)
    values = measured(made, random_spins(1, 24))[0].numpy()
    bands = -2.0 * T * (np.cos(made.grid["kx"].values)[:, None] + np.cos(made.grid["ky"].values))
    for k in np.ndindex(4, 6):
        counts, _ = np.histogram([bands[k]], edges_of(made, "energy"))
        assert np.allclose(values[k], 2.0 * counts / made.bins.width)


def test_optical_conductivity():
    """Kubo's formula pair by pair, the current a finite difference of the tests' own h."""
    spins = random_spins(2, 12)
    made = profile("optical_conductivity", make_electrons())
    values = measured(made, spins).numpy()
    for chain, s in enumerate(spins.numpy()):
        levels, states = np.linalg.eigh(hamiltonian(s, SHAPE, T, J))
        f, gaps, strengths = fermi(BETA * (levels - MU)), [], []
        for twist in ((1e-4, 0.0), (0.0, 1e-4)):
            below, above = (
                hamiltonian(s, SHAPE, T, J, tuple(sign * a for a in twist)) for sign in (-1, 1)
            )
            current = states.conj().T @ (above - below) @ states / 2e-4
            for m in range(24):
                for n in range(24):
                    if levels[n] > levels[m]:
                        gaps.append(levels[n] - levels[m])
                        strengths.append((f[m] - f[n]) / gaps[-1] * abs(current[m, n]) ** 2 / 2)
        expected, _ = np.histogram(gaps, edges_of(made, "omega"), weights=strengths)
        assert np.allclose(values[chain], math.pi / 12 * expected / made.bins.width, atol=1e-7)


def test_f_sum_rule():
    """The regular part and the Drude weight, which is tested against levels under a twist, exhaust
    the hopping energy.
    """
    spins, electrons = random_spins(3, 16), make_electrons((4, 4))
    evaluation = make_diagonalise((4, 4)).evaluate(spins)
    made = profile("optical_conductivity", electrons)
    drude, hopping = (
        make_observable(name, electrons).measure(spins, evaluation)
        for name in ("drude_weight", "hopping_energy")
    )
    regular = measured(made, spins).sum(1) * made.bins.width
    assert torch.allclose(regular + 0.5 * math.pi * drude, -0.5 * math.pi * hopping)
    assert float(regular.min()) > 0.1


def test_free_electrons_conduct_at_zero_frequency_only():
    values = measured(
        profile("optical_conductivity", make_electrons((4, 4), J=0.0)), random_spins(1, 16)
    )
    assert float(values.abs().max()) < 1e-12
