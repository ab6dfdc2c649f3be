"""Quoted errors against the spread of many short runs, and responses to T and mu against
fluctuations.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import make_diagonalise
from measurement import fermi, four_sites
from scipy.optimize import brentq

from hpcslmc.analysis.statistics import Estimate, derived_estimate, estimate
from hpcslmc.measure.derived import (
    Compressibility,
    SpecificHeat,
    SpecificHeatAtFixedDensity,
)
from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.registry import derived_quantities, make_observable
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import Metropolis
from hpcslmc.streams import Stream
from hpcslmc.weight.diagonalise import Diagonalise

ONE_SIGMA = 0.683


def check_errors(runs: list[Estimate], exact: float) -> None:
    """Root mean square error within 10 % of the spread of the means, which cover the exact value in
    68 +- 5 % of the runs.
    """
    means, errors = np.array([(run.mean, run.error) for run in runs]).T
    assert np.sqrt(np.square(errors).mean()) == pytest.approx(means.std(ddof=1), rel=0.1)
    assert (np.abs(means - exact) < errors).mean() == pytest.approx(ONE_SIGMA, abs=0.05)
    assert abs(means.mean() - exact) < 4.0 * means.std() / np.sqrt(len(runs))


def autoregressive(memory: float, shape: tuple[int, int, int]) -> np.ndarray:
    """(runs, chains, draws) of x' = r x + noise in its stationary state, variance 1; tau = (1 + r)
    / (1 - r) / 2.
    """
    rng = np.random.default_rng(7)
    noise = rng.normal(size=shape) * np.sqrt(1.0 - memory**2)
    noise[:, :, 0] /= np.sqrt(1.0 - memory**2)
    for k in range(1, shape[2]):
        noise[:, :, k] += memory * noise[:, :, k - 1]
    return noise


@pytest.mark.parametrize(
    ("memory", "chains", "draws"),
    [(0.0, 4, 200), (0.5, 4, 200), (0.8, 2, 1000), (0.8, 16, 100), (0.95, 8, 1000), (0.95, 64, 60)],
)
def test_errors_of_autoregressive_chains(memory, chains, draws):
    """Of the mean, and of the variance by jackknife; the last are 64 chains of 3 tau each."""
    means, variances = [], []
    for x in autoregressive(memory, (600, chains, draws)):
        series = {"x": x, "x2": x * x}
        estimates = {name: estimate_quickly(values) for name, values in series.items()}
        means.append(estimates["x"])
        variances.append(
            derived_estimate(lambda mean: mean["x2"] - mean["x"] ** 2, series, estimates)
        )
    check_errors(means, 0.0)
    check_errors(variances, 1.0)


def estimate_quickly(draws: np.ndarray) -> Estimate:
    """Mean, error and tau without the diagnostics, which take a hundred times longer."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("rhat", "ess"):
            patch.setattr(f"arviz_stats.base.array_stats.{name}", lambda *args, **kwargs: 1.0)
        return estimate(draws)


SHAPE, J, BETA, MU = (2, 2), 4.0, 1.5, -0.5
RUNS, CHAINS, DRAWS, BURN_IN = 400, 4, 150, 30
OBSERVABLES = (
    "log_weight",
    "energy",
    "density",
    "energy2",
    "energy_density",
    "density2",
    "m2_staggered",
    "m4_staggered",
    "m2_next_staggered",
    "energy_fluctuation",
    "energy_number_fluctuation",
    "number_fluctuation",
)


def make_measure(weight: Diagonalise) -> Callable:
    """The observables (observables, chains) of spins and evaluation."""
    electrons = Electrons(weight.ensemble, weight.spectrum)
    made = [make_observable(name, electrons) for name in OBSERVABLES]
    return lambda spins, evaluation: torch.stack([o.measure(spins, evaluation) for o in made])


@pytest.fixture(scope="module")
def runs() -> dict[str, np.ndarray]:
    """Draws (runs, chains, draws) of every observable.

    All chains of all runs at once, by exact Metropolis.
    """
    weight, chains = make_diagonalise(SHAPE, J, BETA, MU), torch.arange(RUNS * CHAINS)
    measure = make_measure(weight)
    move = Metropolis(weight, Stream(21, chains, "move"), 1.0)
    spins, draws = Stream(21, chains, "start").directions(4), []
    evaluation = move.evaluate(spins)
    for k in range(BURN_IN + DRAWS):
        step = move.move(spins, evaluation)
        spins, evaluation = step.spins, step.evaluation
        if k >= BURN_IN:
            draws.append(measure(spins, evaluation))
    series = torch.stack(draws, -1).reshape(len(OBSERVABLES), RUNS, CHAINS, DRAWS).numpy()
    return dict(zip(OBSERVABLES, series))


def quadrature(beta: float, mu: float) -> dict[str, np.ndarray]:
    """Exact means of all observables on four sites."""
    spins, weights = (torch.as_tensor(x) for x in four_sites(9))
    weight = make_diagonalise(SHAPE, J, beta, mu)
    evaluation = weight.evaluate(spins)
    weights = weights * torch.exp(evaluation.log_weight - evaluation.log_weight.max())
    return dict(
        zip(
            OBSERVABLES,
            (make_measure(weight)(spins, evaluation) @ (weights / weights.sum())).numpy(),
        )
    )


@pytest.fixture(scope="module")
def exact() -> dict[str, np.ndarray]:
    """Means at the temperature and chemical potential of the runs."""
    return quadrature(BETA, MU)


@pytest.mark.parametrize(
    "name", ["log_weight", "energy", "density", "m2_staggered", "number_fluctuation"]
)
def test_errors_of_observables_in_short_runs(runs, exact, name):
    check_errors([estimate(run) for run in runs[name]], exact[name])


@pytest.mark.parametrize(
    "quantity",
    derived_quantities(OBSERVABLES, Lattice(SHAPE), BETA, MU),
    ids=lambda quantity: quantity.name,
)
def test_errors_of_derived_quantities_in_short_runs(runs, exact, quantity):
    """Against quadrature.

    Specific heat, compressibility, susceptibility, Binder ratio, correlation length.
    """
    estimates = [
        {name: estimate_quickly(runs[name][k]) for name in quantity.inputs} for k in range(RUNS)
    ]
    results = [
        derived_estimate(
            quantity.value, {name: runs[name][k] for name in quantity.inputs}, estimates[k]
        )
        for k in range(RUNS)
    ]
    check_errors(results, float(quantity.value(exact)))


@pytest.mark.parametrize(
    ("quantity", "slope_of", "below", "above"),
    [
        (SpecificHeat, "energy", (1.0 / (1.0 / BETA - 0.02), MU), (1.0 / (1.0 / BETA + 0.02), MU)),
        (Compressibility, "density", (BETA, MU - 0.02), (BETA, MU + 0.02)),
    ],
)
def test_fluctuations_of_the_runs_are_exact_slopes(runs, quantity, slope_of, below, above):
    """All runs as one, against exact means at the next temperatures and chemical potentials."""
    made, step = quantity(Lattice(SHAPE), BETA, MU), 0.04
    draws = {name: runs[name].reshape(RUNS * CHAINS, DRAWS) for name in made.inputs}
    result = derived_estimate(
        made.value, draws, {name: estimate_quickly(x) for name, x in draws.items()}
    )
    slope = (quadrature(*above)[slope_of] - quadrature(*below)[slope_of]) / step
    assert abs(result.mean - slope) < 4.0 * result.error < 0.02 * slope


def test_errors_of_binned_draws(runs, exact):
    """Bins of five samples quote the same errors, and the same tau in samples."""
    fine = [estimate(run) for run in runs["energy"][:100]]
    coarse = [
        estimate(run.reshape(CHAINS, -1, 5).mean(2), 5, run.reshape(CHAINS, -1, 5).var(2).mean())
        for run in runs["energy"][:100]
    ]
    for quantity, tolerance in (
        ("error", 0.05),
        ("tau", 0.1),
    ):  # tau goes with the square of the error
        one, five = (
            np.mean([getattr(e, quantity) for e in estimates]) for estimates in (fine, coarse)
        )
        assert five == pytest.approx(one, rel=tolerance)


def ensemble(beta: float, mu: float, J: float = 4.0) -> dict[str, np.ndarray]:
    """Means over a fixed set of spins on a 4x3 lattice with their exact weights, from the
    eigenvalues alone.

    Any set will do: fluctuations and responses of the same ensemble agree, whatever the spins' own
    measure.
    """
    weight = make_diagonalise((4, 3), J=J)
    levels = weight.spectrum(Stream(3, torch.arange(1000), "set").directions(12)).numpy()
    f = fermi(beta * (levels - mu))
    log_weight = np.logaddexp(0.0, -beta * (levels - mu)).sum(1)
    p = np.exp(log_weight - log_weight.max())
    p /= p.sum()
    e, n = (f * levels).sum(1) / 12, f.sum(1) / 12
    return {
        name: p @ values
        for name, values in {
            "energy": e,
            "density": n,
            "energy2": e * e,
            "energy_density": e * n,
            "density2": n * n,
            "energy_fluctuation": (levels * (levels - mu) * f * (1 - f)).sum(1) / 12,
            "number_fluctuation": (f * (1 - f)).sum(1) / 12,
            "energy_number_fluctuation": (levels * f * (1 - f)).sum(1) / 12,
        }.items()
    }


@pytest.mark.parametrize("mu", [0.0, -0.8])
def test_specific_heat_is_the_slope_of_the_energy(mu):
    """d<e>/dT from three temperatures."""
    temperature, step = 0.2, 2e-4
    below, here, above = (ensemble(1.0 / (temperature + k * step), mu) for k in (-1, 0, 1))
    heat = SpecificHeat(Lattice((4, 3)), 1.0 / temperature, mu)
    assert heat.value(here) == pytest.approx(
        (above["energy"] - below["energy"]) / (2 * step), rel=1e-4
    )
    # both parts are seen
    assert 0.3 < heat.value({**here, "energy_fluctuation": 0.0}) / heat.value(here) < 0.8


@pytest.mark.parametrize("J", [0.0, 4.0])
@pytest.mark.parametrize("mu", [-0.8, 0.9])
def test_specific_heat_at_fixed_density_is_the_slope_with_the_density_held(J, mu):
    """d<e>/dT from two temperatures, each at the chemical potential that gives the density of
    the middle; free electrons too.
    """
    temperature, step = 0.2, 2e-4
    here = ensemble(1.0 / temperature, mu, J)
    energies = []
    for other in (temperature - step, temperature + step):
        held = brentq(
            lambda x: ensemble(1.0 / other, x, J)["density"] - here["density"],
            mu - 0.1,
            mu + 0.1,
            xtol=1e-13,
        )
        energies.append(ensemble(1.0 / other, held, J)["energy"])
    heat = SpecificHeatAtFixedDensity(Lattice((4, 3)), 1.0 / temperature, mu).value(here)
    assert heat == pytest.approx((energies[1] - energies[0]) / (2 * step), rel=1e-4)
    at_fixed_mu = SpecificHeat(Lattice((4, 3)), 1.0 / temperature, mu).value(here)
    assert abs(heat / at_fixed_mu - 1.0) > 0.05  # it matters which one is meant


def test_at_half_filling_both_specific_heats_are_one():
    """Particle-hole symmetry: levels come as E and -E, so that the density is 1 at all
    temperatures.
    """
    means = quadrature(2.0, 0.0)
    one, other = (
        kind(Lattice(SHAPE), 2.0, 0.0).value(means)
        for kind in (SpecificHeat, SpecificHeatAtFixedDensity)
    )
    assert one == pytest.approx(other, rel=1e-10) and one > 0.0


def test_compressibility_is_the_slope_of_the_density():
    beta, mu, step = 5.0, -0.8, 2e-4
    below, here, above = (ensemble(beta, mu + k * step) for k in (-1, 0, 1))
    compressibility = Compressibility(Lattice((4, 3)), beta, mu)
    assert compressibility.value(here) == pytest.approx(
        (above["density"] - below["density"]) / (2 * step), rel=1e-4
    )
    assert (
        compressibility.value({**here, "number_fluctuation": 0.0}) / compressibility.value(here)
        > 0.05
    )
