"""Sampling against exact results, with z-scores of means over independent chains."""

import functools
import itertools
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_moves import MOVES, make_moves
from helpers import make_diagonalise, z_score

from hpcslmc.measure.observables import observables
from hpcslmc.sampling import HMC, Chains, Exchange, Move
from hpcslmc.streams import Stream

CHAINS = 400


def sample(move: Move, sites: int, burn_in: int, samples: int) -> tuple[list, float]:
    """Configurations and evaluations of all chains after the burn-in, and the mean acceptance."""
    spins = Stream(12, torch.arange(CHAINS), "start").directions(sites)
    evaluation, kept, acceptance = move.evaluate(spins), [], 0.0
    for k in range(burn_in + samples):
        step = move.move(spins, evaluation)
        spins, evaluation = step.spins, step.evaluation
        if k >= burn_in:
            kept.append((spins, evaluation))
            acceptance += float(step.acceptance.mean()) / samples
    return kept, acceptance


@pytest.mark.parametrize("name", MOVES)
def test_free_spins(name):
    """J = 0: <|m_q|^2> = 1/N at every momentum q, and nearest neighbours are uncorrelated."""
    shape = (3, 4)
    weight = make_diagonalise(shape, J=0.0, beta=3.0)
    lattice = weight.hamiltonian.lattice
    kept, acceptance = sample(make_moves(weight, CHAINS)[name], lattice.sites, 5, 25)
    assert acceptance > 0.2
    phases = np.exp(
        2j * np.pi * (lattice.coordinates[:, None] * lattice.coordinates / np.array(shape)).sum(-1)
    )
    spins = torch.stack([s for s, _ in kept], 1).numpy()
    modes = np.einsum("qi,cdia->cdqa", phases / lattice.sites, spins)
    power = np.square(np.abs(modes)).sum(-1)
    scores = [z_score(power[:, :, q], 1.0 / lattice.sites) for q in range(lattice.sites)]
    assert np.abs(scores).max() < 4.0, scores
    assert np.abs(power.mean((0, 1)) * lattice.sites - 1.0).max() < 0.1


@functools.cache
def exact_means(beta: float) -> dict[str, float]:
    """On the 2x2 lattice: Gauss-Legendre in cos(theta) and the trapezoidal rule in phi.

    O(3) invariance fixes the first spin along z and the second in the xz half plane; five angles
    remain.
    """
    weight = make_diagonalise((2, 2), J=4.0, beta=beta, mu=-0.5)
    nodes, node_weights = np.polynomial.legendre.leggauss(14)
    angles = np.arange(14) * 2.0 * np.pi / 14
    totals: dict[str, float] = {}
    norm, reference = 0.0, None
    measures = observables(weight.hamiltonian.lattice)
    for (c2, w2), (c3, w3) in itertools.product(zip(nodes, node_weights), repeat=2):
        phi3, c4, phi4 = np.meshgrid(angles, nodes, angles, indexing="ij")
        w = (w2 * w3 * np.broadcast_to(node_weights[None, :, None], phi3.shape)).ravel()
        phi3, c4, phi4 = phi3.ravel(), c4.ravel(), phi4.ravel()
        one, zero = np.ones_like(c4), np.zeros_like(c4)
        spins = [
            np.stack((zero, zero, one), -1),
            np.stack((math.sqrt(1 - c2 * c2) * one, zero, c2 * one), -1),
        ]
        for c, phi in ((c3 * one, phi3), (c4, phi4)):
            spins.append(
                np.stack(
                    (np.sqrt(1 - c * c) * np.cos(phi), np.sqrt(1 - c * c) * np.sin(phi), c), -1
                )
            )
        spins = torch.as_tensor(np.stack(spins, 1))
        evaluation = weight.evaluate(spins)
        reference = float(evaluation.log_weight.mean()) if reference is None else reference
        w = torch.as_tensor(w) * torch.exp(evaluation.log_weight - reference)
        norm += float(w.sum())
        for o in measures:
            totals[o.name] = totals.get(o.name, 0.0) + float(
                (w * o.measure(spins, evaluation)).sum()
            )
    return {name: total / norm for name, total in totals.items()}


@pytest.fixture
def quadrature() -> dict[str, float]:
    """Exact means at beta = 1.5."""
    return exact_means(1.5)


@pytest.mark.parametrize("name", MOVES)
def test_four_sites_against_quadrature(name, quadrature):
    weight = make_diagonalise((2, 2), J=4.0, beta=1.5, mu=-0.5)
    kept, acceptance = sample(make_moves(weight, CHAINS)[name], 4, 20, 60)
    assert acceptance > 0.1
    for o in observables(weight.hamiltonian.lattice):
        draws = torch.stack([o.measure(s, e) for s, e in kept], 1).numpy()
        assert abs(z_score(draws, quadrature[o.name])) < 4.0, (
            o.name,
            draws.mean(),
            quadrature[o.name],
        )
        assert abs(draws.mean() - quadrature[o.name]) < 0.02 * max(1.0, abs(quadrature[o.name]))


def test_exchange_alone_carries_the_other_temperatures():
    """Only the hottest rung moves by itself; all others get every configuration by exchange.

    Each against its own quadrature.
    """
    betas = (0.5, 1.0, 1.5)
    weights = [make_diagonalise((2, 2), J=4.0, beta=beta, mu=-0.5) for beta in betas]
    hmc = HMC(weights[0], Stream(11, torch.arange(CHAINS), "hmc"), 1.5, 0.5)
    swaps = Exchange(Stream(11, torch.arange(CHAINS), "exchange"), 3, CHAINS)
    chains = []
    for k, weight in enumerate(weights):
        spins = Stream(12 + k, torch.arange(CHAINS), "start").directions(4)
        chains.append(Chains(spins, weight.evaluate(spins, forces=True), torch.zeros(CHAINS)))
    measures = observables(weights[0].hamiltonian.lattice)
    draws: dict[tuple[int, str], list] = {}
    for k in range(100):
        step = hmc.move(chains[0].spins, chains[0].evaluation)
        chains[0] = replace(chains[0], spins=step.spins, evaluation=step.evaluation)
        chains = swaps.move(weights, chains, forces=k % 3 == 0)
        if k % 3:
            evaluation = weights[0].evaluate(chains[0].spins, forces=True)
            chains[0] = replace(chains[0], evaluation=evaluation)
        for rung, (weight, at) in enumerate(zip(weights, chains, strict=True)):
            assert torch.allclose(at.evaluation.log_weight, weight.log_weight(at.spins), atol=1e-9)
            for o in measures if k >= 25 else ():
                draws.setdefault((rung, o.name), []).append(o.measure(at.spins, at.evaluation))
    for (rung, name), values in draws.items():
        found, exact = torch.stack(values, 1).numpy(), exact_means(betas[rung])[name]
        assert abs(z_score(found, exact)) < 4.0, (rung, name, found.mean(), exact)
    assert abs(exact_means(0.5)["m2_staggered"] - exact_means(1.5)["m2_staggered"]) > 0.02
    assert 0.2 < swaps.accepted.sum() / (swaps.tried.sum() * CHAINS) < 0.98
    assert (
        np.array_equal(np.sort(swaps.replica, 1), np.tile(np.arange(3), (CHAINS, 1)))
        and swaps.trips.sum() > CHAINS
    )


def test_the_quadrature_sees_an_interaction(quadrature):
    """The interaction is strong enough that free spins would fail."""
    assert abs(quadrature["m2_staggered"] - 0.25) > 0.05


@pytest.mark.validate
@pytest.mark.timeout(3600)
def test_the_6x6_benchmark_by_four_samplers():
    """Attention, linear, exact HMC and exact Metropolis, each within 3 standard errors of the
    reference.
    """
    tool = Path(__file__).parents[2] / "tools/validate/verify_6x6.py"
    assert subprocess.run([sys.executable, str(tool)]).returncode == 0
