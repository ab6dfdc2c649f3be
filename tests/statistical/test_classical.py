"""Classical magnets, for which there are exact numbers, with every sampler."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from hpcslmc.api import run_job

CHAINS, SAMPLES = 40, 300
SIGMA = 4.0


def sampled(
    classical, sampling, shape=(2, 2), hamiltonian=None, lattice=None, T=0.7, fluctuations=0
):
    """Results of a run of classical spins."""
    job = {
        "lattice": {"shape": list(shape), **(lattice or {})},
        "hamiltonian": {"t": 0.0, "J": 0.0, **(hamiltonian or {})},
        "classical": classical,
        "ensemble": {"temperature": T},
        "effective": {"model": "linear", "shells": 1},
        "learning": {"rounds": 1, "configurations": 8},
        "thermalisation": {"moves": 30},
        "measure": {"fluctuations": fluctuations},
        "sampling": {"chains": CHAINS, "samples": SAMPLES, **sampling},
    }
    return run_job(job)


def agrees(results, name, expected):
    draws = np.asarray(results.draws[name])
    means = draws.mean(1)
    error = means.std(ddof=1) / math.sqrt(len(means))
    z = (means.mean() - expected) / error
    assert abs(z) < SIGMA, f"{name}: {means.mean()} +- {error}, exactly {expected}"
    assert error < 0.02


SAMPLERS = {
    "exact hmc": {"method": "exact"},
    "exact metropolis": {"method": "exact", "exact_move": "metropolis"},
    "self-learning": {},
    "self-learning metropolis": {"inner_move": "metropolis"},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_spin_in_a_field(sampler):
    """<S^z> = coth(h/T) - T/h, by |m|^2 of independent spins."""
    T, h = 0.7, 0.9
    x = h / T
    mean = 1.0 / math.tanh(x) - 1.0 / x
    expected = (1.0 + 3.0 * mean**2) / 4.0  # of four spins
    results = sampled({"field": [0.0, 0.6 * h, 0.8 * h]}, SAMPLERS[sampler], T=T)
    agrees(results, "m2_uniform", expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_pairs_of_spins(sampler):
    """<S_1.S_2> = T/K - coth(K/T) for two spins that one bond joins."""
    T, K = 0.7, 1.3
    bonds = [{"from": "A", "to": "B", "exchange": K}]
    lattice = {"vectors": [[2.0, 0.0], [0.0, 1.0]], "sites": {"A": [0.0, 0.0], "B": [1.0, 0.0]}}
    results = sampled({"bonds": bonds}, SAMPLERS[sampler], lattice=lattice, shape=(1, 2), T=T)
    x = K / T
    expected = (1.0 + (1.0 / x - 1.0 / math.tanh(x))) / 4.0  # |m|^2 of two pairs
    agrees(results, "m2_uniform", expected)


@pytest.mark.parametrize("D", [1.5, -1.5])
def test_easy_axes_and_planes(D):
    """In a field along z, by quadrature of <S^z>."""
    T, h = 0.7, 0.8

    def weight(z):
        return math.exp((h * z + D * z * z) / T)

    mean = quad(lambda z: z * weight(z), -1, 1)[0] / quad(weight, -1, 1)[0]
    results = sampled({"easy_axis": D, "field": [0.0, 0.0, h]}, SAMPLERS["self-learning"], T=T)
    agrees(results, "m2_uniform", (1.0 + 3.0 * mean**2) / 4.0)


def test_classical_energy_and_specific_heat_of_free_spins_in_a_field():
    """<E> = -h L(h/T), and its derivative by T."""
    T, h = 0.7, 0.9
    results = sampled(
        {"field": [0.0, 0.0, h]}, {}, hamiltonian={"t": 0.0, "J": 0.0}, T=T, fluctuations=1
    )

    def energy(T):
        return -h * (1.0 / math.tanh(h / T) - T / h)

    agrees(results, "classical_energy", energy(T))
    agrees(results, "total_energy", energy(T))
    slope = (energy(T + 1e-4) - energy(T - 1e-4)) / 2e-4
    mean, error = (
        float(results.summary.of("total_specific_heat", column)) for column in ("mean", "error")
    )
    assert abs(mean - slope) < SIGMA * error < 0.1
    assert "specific_heat" not in results.summary.names
