import itertools
import math

import numpy as np
import pytest
import torch
from helpers import random_spins

from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


@pytest.mark.parametrize("shape", [(2, 2), (3, 4), (4, 4)])
def test_against_a_plain_construction(shape):
    lattice, t, J = Lattice(shape), 0.7, 1.3
    spins = random_spins(2, lattice.sites)
    for chain in range(2):
        expected = np.zeros((2 * lattice.sites,) * 2, complex)
        for i, (x, y) in enumerate(itertools.product(range(shape[0]), range(shape[1]))):
            for j in ((x + 1) % shape[0] * shape[1] + y, x * shape[1] + (y + 1) % shape[1]):
                for a in range(2):
                    expected[2 * i + a, 2 * j + a] -= t
                    expected[2 * j + a, 2 * i + a] -= t
            expected[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] += (
                0.5 * J * np.einsum("c,cab->ab", spins[chain, i].numpy(), PAULI)
            )
        built = Hamiltonian(lattice, t, J).dense(spins)[chain].numpy()
        assert np.abs(built - expected).max() < 1e-15
        assert np.array_equal(built, built.conj().T)


@pytest.mark.parametrize("shape", [(2, 2), (2, 6), (4, 4), (5, 3)])
def test_free_bands(shape):
    lattice = Lattice(shape)
    levels = torch.linalg.eigvalsh(
        Hamiltonian(lattice, 1.0, 0.0).dense(random_spins(1, lattice.sites))
    )[0].numpy()
    bands = [
        -2 * math.cos(2 * math.pi * kx / shape[0]) - 2 * math.cos(2 * math.pi * ky / shape[1])
        for kx in range(shape[0])
        for ky in range(shape[1])
        for _ in range(2)
    ]
    assert np.abs(levels - np.sort(bands)).max() < 1e-13


def test_local_limit():
    lattice = Lattice((4, 4))
    levels = torch.linalg.eigvalsh(Hamiltonian(lattice, 0.0, 3.0).dense(random_spins(1, 16)))[0]
    assert torch.allclose(levels.abs(), torch.full((32,), 1.5, dtype=torch.float64), atol=1e-13)
