import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.weight.blocks import Blocks
from hpcslmc.weight.matsubara import Matsubara
from hpcslmc.weight.nodes import energy_sum, matsubara_nodes, model_tolerance, spline

MOST_NODES = {0.1: 1, 1.0: 2, 10.0: 5, 100.0: 10, 1000.0: 17, 10000.0: 25}


def errors(nodes, beta, e):
    """Errors of log(1 + exp(-beta e)) and of the Fermi function, from their textbook forms."""
    terms = np.log1p((e[:, None] / nodes.frequencies) ** 2) @ nodes.weights
    log_weight = -0.5 * beta * e + np.log(2.0) + terms - np.logaddexp(0.0, -beta * e)
    fermi = (
        0.5 - (2.0 * e[:, None] / (e[:, None] ** 2 + nodes.frequencies**2)) @ nodes.weights / beta
    )
    return np.abs(log_weight).max(), np.abs(
        fermi - 1.0 / (1.0 + np.exp(np.clip(beta * e, -700.0, 700.0)))
    ).max()


@pytest.mark.parametrize("reach", MOST_NODES)
def test_error_is_certified_on_the_whole_range(reach):
    beta, radius = 4.0, reach / 4.0
    nodes = matsubara_nodes(beta, radius)
    scale = np.concatenate((np.linspace(0.0, 1.0, 4001), np.geomspace(1e-9, 1.0, 4001)))
    error, derivative_error = errors(nodes, beta, np.concatenate((-scale, scale)) * radius)
    rounding = 4e-16 * (1.0 + reach)
    assert error <= nodes.error + rounding
    assert derivative_error <= nodes.derivative_error + 1e-15
    assert nodes.error <= 1e-11
    assert nodes.derivative_error < 2e-9


@pytest.mark.parametrize("reach", [*MOST_NODES, 13000.0])
def test_the_energy_follows_from_five_more_frequencies(reach):
    beta, radius = 4.0, reach / 4.0
    nodes = matsubara_nodes(beta, radius)
    energies = energy_sum(nodes, beta, radius)
    e = (
        radius
        * np.concatenate((np.linspace(0.0, 1.0, 4001), np.geomspace(1e-9, 1.0, 4001)))[:, None]
    )
    terms = (
        np.log1p((e / nodes.frequencies) ** 2) @ energies.node_weights
        + np.log1p((e / energies.frequencies) ** 2) @ energies.weights
    )
    error = np.abs(terms - 0.5 * beta * e[:, 0] * np.tanh(0.5 * beta * e[:, 0])).max()
    assert len(energies.frequencies) == 5
    assert error <= energies.error * (1.0 + 1e-3) + 1e-15 * np.abs(energies.node_weights).max()
    assert energies.error < 6e-8


@pytest.mark.parametrize("reach", MOST_NODES)
def test_nodes_are_few_and_positive(reach):
    nodes = matsubara_nodes(1.0, reach)
    assert len(nodes.weights) == len(nodes.frequencies) <= MOST_NODES[reach]
    assert np.all(nodes.weights > 0)
    assert np.all(np.diff(nodes.frequencies) > 0)
    assert nodes.frequencies[0] >= np.pi * (1 - 1e-12)


def test_the_beta_and_radius_enter_by_their_product():
    one, other = matsubara_nodes(1.0, 90.0), matsubara_nodes(20.0, 4.5)
    assert np.array_equal(one.weights, other.weights)
    assert np.allclose(one.frequencies / 20.0, other.frequencies, rtol=1e-15)


def test_a_tighter_tolerance_takes_more_nodes_and_is_kept():
    loose, tight = matsubara_nodes(20.0, 4.5, 1e-6), matsubara_nodes(20.0, 4.5, 3e-13)
    assert len(loose.weights) < len(tight.weights)
    assert loose.error <= 1e-6
    assert tight.error <= 3e-13


@pytest.mark.parametrize("reach", [1.0, 90.0, 1000.0, 8000.0, 13000.0])
def test_the_tolerance_of_a_large_model_is_reached(reach):
    tolerance = model_tolerance(reach, 2 * 128**2)
    assert matsubara_nodes(1.0, reach, tolerance).error <= tolerance <= 1e-11


def test_every_weight_of_a_model_has_the_same_nodes():
    hamiltonian = Hamiltonian(Lattice((32, 32)), 1.0, 1.0)
    blocks, matsubara = (
        Blocks(Ensemble(hamiltonian, 20.0, 0.5)).nodes,
        Matsubara(Ensemble(hamiltonian, 20.0, 0.5)).nodes,
    )
    assert blocks is matsubara
    assert 2048 * blocks.error <= 5e-9


REFUSED = [
    (1.0, 1e4, 1e-13),
    (1.0, 1e9, 1e-11),
    (0.0, 1.0, 1e-11),
    (1.0, np.inf, 1e-11),
    (1.0, 1.0, 0.0),
]


@pytest.mark.parametrize(("beta", "radius", "tolerance"), REFUSED)
def test_what_cannot_be_reached_is_refused(beta, radius, tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        matsubara_nodes(beta, radius, tolerance)


@pytest.mark.parametrize("knots", [4, 5, 12, 30])
def test_splines_are_those_of_scipy(knots):
    y, x = (
        np.random.default_rng(knots).normal(size=(2, knots)),
        np.linspace(0.0, knots - 1.0, 3 * knots),
    )
    assert np.allclose(
        spline(y, x), CubicSpline(np.arange(knots), y, axis=1)(x), rtol=0, atol=1e-14
    )
