"""Errors of means and of derived quantities: the rules, on series whose answer is known."""

import math

import numpy as np
import pytest

from hpcslmc.analysis.statistics import (
    BIN_LENGTH,
    Estimate,
    attempted,
    derived_estimate,
    estimate,
    jackknife,
    largest,
)
from hpcslmc.autocorrelation import (
    autocorrelation_time,
    autocovariance,
    mean_variance,
    valid_draws,
)
from hpcslmc.measure.derived import StaggeredCorrelationLength
from hpcslmc.measure.registry import (
    CLASSICAL,
    DERIVED,
    OBSERVABLES,
    cheap_observables,
    derived_quantities,
)
from hpcslmc.physics.lattice import Lattice


def test_autocovariance_against_a_loop():
    x = np.random.default_rng(0).normal(size=(3, 7)) + 1.0
    d = x - x.mean()
    for lag, value in enumerate(autocovariance(x)):
        assert value == pytest.approx(
            sum(d[c, k] * d[c, k + lag] for c in range(3) for k in range(7 - lag)) / 21
        )


LENGTHS = np.array([7, 4, 7, 2])


def ragged(rng: np.random.Generator) -> np.ndarray:
    """Chains of LENGTHS draws; what lies behind their ends would spoil everything."""
    return np.where(valid_draws(np.empty((4, 7)), LENGTHS), rng.normal(size=(4, 7)), np.nan)


def test_autocovariance_of_chains_of_several_lengths():
    x = ragged(np.random.default_rng(10))
    d = x - np.nanmean(x)
    for lag, value in enumerate(autocovariance(x, LENGTHS)):
        assert value == pytest.approx(
            sum(d[c, k] * d[c, k + lag] for c in range(4) for k in range(LENGTHS[c] - lag)) / 20
        )


def test_lengths_that_are_all_the_same_change_nothing():
    x = np.random.default_rng(11).normal(size=(4, 50)).cumsum(1)
    same = np.full(4, 50)
    assert mean_variance(x, same) == mean_variance(x) and estimate(x, lengths=same) == estimate(x)
    assert jackknife(lambda means: means[0] ** 2, x[None], 7, same) == jackknife(
        lambda means: means[0] ** 2, x[None], 7
    )


def test_errors_of_chains_of_several_lengths():
    """Of the mean and of a jackknifed variance, against the spread of many sets of autoregressive
    chains.
    """
    rng, phi, lengths = np.random.default_rng(12), 0.7, np.array([300, 300, 100, 100])
    known, means, ratios = valid_draws(np.empty((4, 300)), lengths), [], []
    for _ in range(300):
        x = rng.normal(size=(4, 300))
        x[:, 0] /= math.sqrt(1.0 - phi**2)
        for k in range(1, 300):
            x[:, k] += phi * x[:, k - 1]
        x = np.where(known, x, np.nan)
        draws = {"x": x, "x2": x**2}
        estimates = {name: estimate(values, lengths=lengths) for name, values in draws.items()}
        means.append(estimates["x"])
        ratios.append(
            derived_estimate(
                lambda mean: mean["x2"] - mean["x"] ** 2, draws, estimates, lengths=lengths
            )
        )
    for found, exact in ((means, 0.0), (ratios, 1.0 / (1.0 - phi**2))):
        values, quoted = (np.array([getattr(it, key) for it in found]) for key in ("mean", "error"))
        assert quoted.mean() == pytest.approx(values.std(), rel=0.12)
        assert abs(values.mean() - exact) < 4.0 * values.std() / math.sqrt(300)
        assert np.mean(np.abs(values - exact) < quoted) == pytest.approx(0.68, abs=0.08)
    assert np.mean([it.tau for it in means]) == pytest.approx(0.5 * (1 + phi) / (1 - phi), rel=0.1)
    assert np.mean([it.rhat for it in means]) < 1.05 and means[0].samples == 100
    assert 0.7 < np.mean([it.ess_bulk / it.ess for it in means]) < 1.2


def test_a_short_chain_elsewhere_is_noticed():
    x = np.random.default_rng(13).normal(size=(4, 400))
    x[3] += 5.0
    assert any(
        "chains disagree" in doubt
        for doubt in estimate(x, lengths=np.array([400, 400, 400, 100])).doubts
    )


def test_variance_of_the_mean_of_whole_chains():
    """One draw of each chain, or chains that never move: what is known of independent numbers."""
    x = np.random.default_rng(1).normal(size=(50, 1))
    for count in (1, 2, 10):
        assert mean_variance(np.tile(x, count)) == pytest.approx(x.var(ddof=1) / 50)


def test_chains_that_differ_count_as_such():
    """Long chains about different means.

    Only the number of chains counts, however quiet each of them is.
    """
    rng = np.random.default_rng(2)
    means = rng.normal(size=(200, 1))
    x = means + 1e-3 * rng.normal(size=(200, 60))
    assert math.sqrt(mean_variance(x)) == pytest.approx(means.std() / math.sqrt(200), rel=0.01)


def test_an_alternating_series_has_an_error_still():
    x = np.tile([1.0, -1.0], (2, 50)) + 1e-3 * np.random.default_rng(3).normal(size=(2, 100))
    assert 0.0 < mean_variance(x) < x.var() / x.size


def test_jackknife_of_a_mean():
    x = np.random.default_rng(4).normal(size=(1, 4, 96))
    mean, error, _ = jackknife(lambda means: means[0], x, 12)
    assert mean == pytest.approx(x.mean()) and jackknife(lambda means: means[0], x, 13)[
        0
    ] == pytest.approx(x.mean())
    assert error == pytest.approx(math.sqrt(mean_variance(x[0].reshape(4, 12, 8).mean(2))))


def test_jackknife_removes_the_bias_of_a_square():
    """The square of a mean is too large by the variance of the mean, the jackknife's is not; bins
    need not be of one size.
    """
    rng, values = np.random.default_rng(5), []
    for _ in range(4000):
        values.append(jackknife(lambda means: means[0] ** 2, rng.normal(size=(1, 2, 11)), 4)[0])
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(4000) < 1 / 22 / 4


def test_jackknife_keeps_correlations():
    """A ratio of proportional observables does not fluctuate, whatever each of them does."""
    x = 5.0 + np.random.default_rng(6).normal(size=(4, 90))
    mean, error, _ = jackknife(lambda means: means[1] / means[0], np.stack((x, 3.0 * x)), 9)
    assert mean == pytest.approx(3.0) and error < 1e-12
    assert (
        jackknife(lambda means: means[1] / means[0], np.stack((x, 3.0 * x[::-1, ::-1])), 9)[1]
        > 0.05
    )


def test_jackknife_of_a_single_bin():
    mean, error, bins = jackknife(lambda means: means[0], np.ones((1, 1, 5)), 1)
    assert mean == 1.0 and math.isnan(error) and bins == 1


def test_derived_estimate_uses_bins_of_a_few_tau():
    rng = np.random.default_rng(7)
    fast, slow, constant = (
        rng.normal(size=(4, 600)),
        np.repeat(rng.normal(size=(4, 60)), 10, axis=1),
        np.ones((4, 600)),
    )
    draws = {"fast": fast, "slow": slow, "constant": constant}
    estimates = {name: estimate(x) for name, x in draws.items()}
    result = derived_estimate(
        lambda means: means["fast"] + means["slow"] / means["constant"], draws, estimates
    )
    assert estimates["slow"].tau == pytest.approx(5.0, rel=0.2)
    assert result.bins == 4 * int(600 / (BIN_LENGTH * estimates["slow"].tau))
    assert (
        result.tau == estimates["slow"].tau
        and result.ess == estimates["slow"].ess
        and result.samples == 600
    )
    assert result.error == pytest.approx(
        math.hypot(estimates["fast"].error, estimates["slow"].error), rel=0.15
    )
    in_bins = {name: x.reshape(4, 120, 5).mean(2) for name, x in draws.items()}
    binned = derived_estimate(
        lambda means: means["fast"] + means["slow"] / means["constant"],
        in_bins,
        estimates,
        bin_size=5,
    )
    assert binned.bins == result.bins and binned.samples == 600
    assert binned.mean == pytest.approx(result.mean) and binned.error == pytest.approx(
        result.error, rel=0.05
    )


def test_derived_estimate_of_constants():
    result = derived_estimate(
        lambda means: 2.0 * means["a"], {"a": np.ones((2, 9))}, {"a": estimate(np.ones((2, 9)))}
    )
    assert result.mean == 2.0 and result.error == 0.0 and result.doubts == []


def test_doubts():
    fine = Estimate(
        1.0,
        0.1,
        tau=2.0,
        rhat=1.001,
        ess=900.0,
        ess_bulk=800.0,
        ess_tail=700.0,
        samples=1000,
        bins=60,
    )
    assert fine.doubts == []
    poor = Estimate(
        1.0, 0.1, tau=10.0, rhat=1.07, ess=90.0, ess_bulk=80.0, ess_tail=37.4, samples=140, bins=8
    )
    assert poor.doubts == [
        "chain too short: 14 tau",
        "R-hat 1.07: chains disagree",
        "only 37 effective draws of the tails",
        "only 8 bins for the jackknife",
    ]


def test_the_smallest_effective_size_is_named_for_what_it_is():
    fine = {"tau": 1.0, "samples": 1000, "ess": 285.0, "ess_bulk": 240.0, "ess_tail": 200.0}
    for key, text in (
        ("ess", "only 97 effective samples"),
        ("ess_bulk", "only 97 effective draws of the bulk"),
        ("ess_tail", "only 97 effective draws of the tails"),
    ):
        assert Estimate(1.0, 0.1, **(fine | {key: 97.0})).doubts == [text]


def test_what_is_not_finite_has_no_estimate_and_a_doubt():
    x = np.random.default_rng(14).normal(size=(5, 40))
    x[1, 3] = np.nan
    x[4, 7:9] = np.inf
    draws = {"x": x, "y": np.random.default_rng(15).normal(size=(5, 40))}
    estimates = {name: estimate(values) for name, values in draws.items()}
    assert math.isnan(estimates["x"].mean) and math.isnan(estimates["x"].error)
    assert estimates["x"].doubts == ["unknown: not finite in 3 of 200 draws, chains 1, 4"]
    made = derived_estimate(lambda means: means["x"] + means["y"], draws, estimates)
    assert math.isnan(made.mean) and made.doubts == ["unknown: made of x, which is unknown"]
    ended = np.where(valid_draws(x, np.array([40, 3, 40, 40, 7])), x, np.nan)
    # what lies behind an end is no draw
    assert estimate(ended, lengths=np.array([40, 3, 40, 40, 7])).unknown == ""
    pole = derived_estimate(lambda means: 1.0 / (0.0 * means["y"]), {"y": draws["y"]}, estimates)
    assert pole.doubts == ["unknown: mean or error is no number", *estimates["y"].doubts]


def test_chains_that_never_move_have_an_infinite_rhat():
    found = estimate(np.repeat(np.arange(4.0)[:, None], 50, axis=1))
    assert found.rhat == math.inf and "R-hat inf: chains disagree" in found.doubts


def test_an_analysis_that_fails_is_a_doubt():
    found = attempted(lambda: estimate(None))
    assert (
        math.isnan(found.mean)
        and math.isnan(found.error)
        and found.doubts[0].startswith("unknown: AttributeError: ")
    )


def test_the_largest_number():
    assert (
        largest([math.nan, 1.0, 2.0]) == 2.0
        and math.isnan(largest([]))
        and math.isnan(largest([math.nan]))
    )


def peaked(excess: float, spread: float, seed: int) -> Estimate:
    """A correlation length from draws of two modes whose ratio is 1 + excess."""
    length, rng = StaggeredCorrelationLength(Lattice((4, 4)), 2.0, 0.0), np.random.default_rng(seed)
    draws = {
        "m2_staggered": 1.0 + excess + spread * rng.normal(size=(8, 200)),
        "m2_next_staggered": 1.0 + spread * rng.normal(size=(8, 200)),
    }
    estimates = {name: estimate(x) for name, x in draws.items()}
    return derived_estimate(length.value, draws, estimates, negative=length.negative)


def test_a_correlation_length_survives_bins_without_a_peak_and_says_why_there_is_none():
    """Small ratios: some bins of the jackknife, or all draws, have their peak elsewhere."""
    lengths = [peaked(0.003, 0.3, seed) for seed in range(100)]
    known = [it for it in lengths if not it.unknown]
    assert 30 < len(known) < 100 and all(
        it.mean > 0.0 and math.isfinite(it.error) and it.error > 0.0 for it in known
    )
    assert all(
        math.isnan(it.mean) and "no peak there" in it.doubts[0] for it in lengths if it.unknown
    )
    assert all(peaked(-0.5, 0.3, seed).unknown for seed in range(10))
    far = peaked(3.0, 0.3, 1)
    assert (
        far.mean == pytest.approx(math.sqrt(3.0) / math.sqrt(2.0), abs=4 * far.error)
        and far.error < 0.02
    )


def test_chains_far_apart_are_doubted_and_long_ones_are_not():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(4, 500))
    assert estimate(x).doubts == []
    assert any(
        "chains disagree" in doubt for doubt in estimate(x + [[0.0], [0.0], [0.0], [5.0]]).doubts
    )
    assert any(
        "too short" in doubt
        for doubt in estimate(np.cumsum(rng.normal(size=(4, 500)), axis=1)).doubts
    )


def test_tails_are_looked_at():
    """Chains of one mean but different spreads: only the tails tell."""
    x = np.random.default_rng(9).normal(size=(4, 500)) * [[1.0], [1.0], [1.0], [4.0]]
    assert estimate(x).rhat > 1.05


def test_derived_quantities_need_their_inputs():
    lattice = Lattice((4, 4))
    cheap = cheap_observables(lattice)
    names = {q.name for q in derived_quantities(cheap, lattice, 2.0, 0.0)}
    assert DERIVED.keys() - names == {
        "specific_heat",
        "specific_heat_fixed_density",
        "compressibility",
        "total_specific_heat",
        "total_specific_heat_fixed_density",
    }
    assert (
        len(
            derived_quantities(
                [*cheap, "energy_fluctuation", "energy_number_fluctuation", "number_fluctuation"],
                lattice,
                2.0,
                0.0,
            )
        )
        == len(DERIVED) - 2
    )  # those of the total energy
    fluctuations = ["energy_fluctuation", "energy_number_fluctuation", "number_fluctuation"]
    all_names = [*cheap, *fluctuations, *CLASSICAL]
    names = {q.name for q in derived_quantities(all_names, lattice, 2.0, 0.0)}
    assert DERIVED.keys() - names == {"specific_heat", "specific_heat_fixed_density"}
    assert all(set(q.inputs) <= OBSERVABLES.keys() for q in DERIVED.values())


def test_values_in_known_states():
    lattice = Lattice((4, 6))
    values = {q.name: q for q in derived_quantities(OBSERVABLES, lattice, 2.0, 0.0)}
    assert values["binder_staggered"].value(
        {"m2_staggered": np.array(1.0), "m4_staggered": np.array(1.0)}
    ) == pytest.approx(1.0)
    free = {
        "m2_uniform": np.array(1 / 24),
        "m4_uniform": np.array(5 / 3 / 24**2 - 2 / 3 / 24**3),
        "m2_next_uniform": np.array(1 / 24),
    }
    assert values["binder_uniform"].value(free) == pytest.approx(1 / 24)
    assert values["susceptibility_uniform"].value(free) == pytest.approx(2.0)
    assert values["correlation_length_uniform"].value(free) == pytest.approx(0.0)
    assert (
        values["correlation_length_uniform"].value({**free, "m2_next_uniform": np.array(1 / 23)})
        < 0.0
    )
    assert values["grand_potential"].value({"log_weight": np.array(3.0)}) == -1.5
    # S(q) = 1 / (4 sin^2(qx/2) + 4 sin^2(qy/2) + 1/9): the second moment gives its length
    at, beside = 9.0, 1.0 / (4.0 * math.sin(math.pi / 6) ** 2 + 1 / 9)
    assert values["correlation_length_staggered"].value(
        {"m2_staggered": at, "m2_next_staggered": beside}
    ) == pytest.approx(3.0)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_the_autocorrelation_time_of_a_known_process(rho):
    generator = np.random.default_rng(3)
    series = [generator.standard_normal(500)]
    for _ in range(400):
        noise = generator.standard_normal(500)
        series.append(rho * series[-1] + np.sqrt(1.0 - rho**2) * noise)
    expected = 0.5 * (1.0 + rho) / (1.0 - rho)
    assert autocorrelation_time(np.stack(series, 1)) == pytest.approx(expected, rel=0.1)
