"""The free electrons' functions of momentum, against sums written out."""

import math

import numpy as np
import pytest

from hpcslmc.effective import FreeElectrons, Physics
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice

SHAPE = (4, 6)


def momenta() -> np.ndarray:
    x, y = np.meshgrid(
        *(2.0 * np.pi * np.arange(length) / length for length in SHAPE), indexing="ij"
    )
    return np.stack((x.flatten(), y.flatten()), 1)


@pytest.mark.parametrize("mu", [0.0, -1.5])
def test_bubbles_and_propagators_are_sums_over_momenta(mu):
    electrons = FreeElectrons(1.0, mu, 20.0)
    k = momenta()

    def green(k):
        return 1.0 / (1j * electrons.frequencies[:, None] + mu + 2.0 * np.cos(k).sum(-1))

    bubbles = np.stack([(green(k) * green(k + q)).real.mean(1) for q in k], 1)
    bubbles -= bubbles.mean(1, keepdims=True)
    found = electrons.bubbles(SHAPE)
    scale = (found * bubbles).sum(1) / np.square(bubbles).sum(1)
    assert (scale > 0).all() and np.allclose(found, scale[:, None] * bubbles, atol=1e-12)
    propagators = np.concatenate((green(k).real, green(k).imag))
    found = electrons.propagators(SHAPE)
    scale = (found * propagators).sum(1) / np.square(propagators).sum(1)
    assert (scale > 0).all() and np.allclose(found, scale[:, None] * propagators, atol=1e-12)


def test_scales_are_those_of_a_large_lattice():
    electrons = FreeElectrons(1.0, 0.3, 20.0)
    for functions in (electrons.bubbles, electrons.propagators):
        assert np.allclose(np.square(functions((64, 64))).mean(1), 1.0)
        # off the Fermi surface nothing depends on the size any more
        assert np.square(functions((48, 48))).mean(1)[4] == pytest.approx(1.0, rel=1e-3)


def test_frequencies():
    assert FreeElectrons(1.0, 0.0, 20.0).frequencies == pytest.approx(
        [0.15708, 0.35286, 0.79266, 1.78063, 4.0], rel=1e-4
    )
    hot = FreeElectrons(1.0, 0.0, 0.1).frequencies
    assert hot[0] == pytest.approx(10.0 * math.pi) and (np.diff(hot) > 0).all()
    assert np.isfinite(FreeElectrons(0.0, 0.0, 1.0).propagators(SHAPE)).all()


@pytest.mark.parametrize(
    ("J", "mu", "beta"),
    [(1.0, 0.0, 20.0), (4.0, -2.0, 20.0), (16.0, -8.5, 50.0), (2.0, 3.0, 400.0)],
)
def test_a_spin_among_random_spins_scatters_nothing_on_average(J, mu, beta):
    physics = Physics(FreeElectrons(1.0, mu, beta), J)
    frequencies = physics.electrons.frequencies
    levels = physics.levels_among_spins(frequencies)[:, 0]
    sigma = 1j * frequencies + mu - levels
    bands = Hamiltonian(Lattice((64, 64)), 1.0, J).bands
    local = np.array([np.mean(1.0 / (level - bands)) for level in levels])
    adds = np.array([[0.5 * J], [-0.5 * J]]) - sigma
    assert abs((adds / (1.0 - adds * local)).mean(0)).max() < 1e-9
    assert (sigma.imag < 0.0).all()  # a finite lifetime
    free = Physics(FreeElectrons(1.0, mu, beta), 0.0).levels_among_spins(frequencies)
    assert np.allclose(free[:, 0], 1j * frequencies + mu, rtol=0, atol=1e-12)
