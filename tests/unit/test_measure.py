import math
import warnings

import numpy as np
import pytest
import torch
from helpers import make_diagonalise, random_spins

from hpcslmc.analysis.statistics import bracket, estimate
from hpcslmc.measure.bins import Bins
from hpcslmc.measure.observables import observables
from hpcslmc.physics.lattice import Lattice


def measured(spins: torch.Tensor, shape: tuple[int, int]) -> dict[str, float]:
    evaluation = make_diagonalise(shape).evaluate(spins)
    return {o.name: float(o.measure(spins, evaluation)[0]) for o in observables(Lattice(shape))}


def test_neel_and_ferromagnetic_states():
    sign = torch.as_tensor(Lattice((4, 6)).staggered_sign)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(1, 24, 3)
    values = measured(up * sign[:, None], (4, 6))
    assert values["m2_staggered"] == pytest.approx(1) and values["nn_correlation"] == pytest.approx(
        -1
    )
    values = measured(up, (4, 6))
    assert values["m2_uniform"] == pytest.approx(1) and values["nn_correlation"] == pytest.approx(1)


def test_against_plain_loops():
    shape, spins = (4, 3), random_spins(1, 12)
    s, values = spins[0].numpy().reshape(4, 3, 3), measured(spins, (4, 3))
    bonds = [
        s[x, y] @ s[(x + 1) % 4, y] + s[x, y] @ s[x, (y + 1) % 3]
        for x in range(4)
        for y in range(3)
    ]
    assert values["nn_correlation"] == pytest.approx(sum(bonds) / 24)
    assert values["m2_uniform"] == pytest.approx(np.square(s.sum((0, 1)) / 12).sum())
    assert "m2_staggered" not in values  # (pi, pi) is no momentum of a lattice with an odd length
    assert values["log_weight"] == pytest.approx(
        float(make_diagonalise(shape).log_weight(spins)[0]) / 12
    )


def test_bins_average_and_survive_a_restart_half_full():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(151, 3, 2))

    def fill(bins: Bins, part: np.ndarray) -> None:
        for sample in part:
            bins.add({"a": torch.tensor(sample[:, 0]), "b": torch.tensor(sample[:, 1])})

    whole, half, rest = (Bins(["a", "b"], 3, 4) for _ in range(3))
    fill(whole, samples)
    fill(half, samples[:70])
    rest.load(half.chain_state(), half.state_dict())
    fill(rest, samples[70:])
    assert whole.draws.shape == (3, 37, 2)
    assert np.allclose(whole.draws[:, 5], samples[20:24].mean(axis=0))
    assert np.array_equal(whole.draws, rest.draws)
    assert np.array_equal(whole.chain_state()["partial"], rest.chain_state()["partial"])
    assert np.allclose(whole.variances, samples[:148].reshape(37, 4, 3, 2).var(axis=1).mean(axis=0))
    assert np.array_equal(whole.variances, rest.variances)


def test_bins_of_observables_with_intervals():
    """Each bin holds the measurements that fall into it; draws of all observables stay aligned,
    also after a restart in between.
    """
    rng = np.random.default_rng(4)
    samples = rng.normal(size=(20, 2, 2))

    def fill(bins: Bins, part: range) -> None:
        for k in part:
            values = {"a": torch.tensor(samples[k, :, 0]), "b": torch.tensor(samples[k, :, 1])}
            assert bins.due == (["a", "b"] if k % 3 == 2 else ["a"])
            bins.add({name: values[name] for name in bins.due})

    bins, resumed = Bins(["a", "b"], 2, 6, {"b": 3}), Bins(["a", "b"], 2, 6, {"b": 3})
    fill(bins, range(16))
    resumed.load(
        {key: torch.tensor(value) for key, value in bins.chain_state().items()}, bins.state_dict()
    )
    fill(bins, range(16, 20))
    fill(resumed, range(16, 20))
    assert bins.draws.shape == (2, 3, 2)
    assert np.allclose(bins.draws[:, 1, 0], samples[6:12, :, 0].mean(0)) and np.allclose(
        bins.draws[:, 1, 1], samples[[8, 11], :, 1].mean(0)
    )
    inside = [
        samples[start:18:step, :, k].reshape(3, 6 // step, 2).var(1).mean(0)
        for k, start, step in ((0, 0, 1), (1, 2, 3))
    ]
    assert np.allclose(bins.variances, np.stack(inside, 1))
    for mine, theirs in zip(
        bins.chain_state().values(), resumed.chain_state().values(), strict=True
    ):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("size", [1e-10, 3e-9, 1.0])
def test_autocorrelation_in_bins_of_what_hardly_fluctuates(size):
    """Independent numbers close to 1 are worth what they are worth, in bins or not, however
    little they fluctuate.
    """
    samples = 1.0 + size * np.random.default_rng(5).normal(size=(1000, 8, 1))
    one, ten = Bins(["a"], 8, 1), Bins(["a"], 8, 10)
    for sample in samples:
        for bins in (one, ten):
            assert bins.add({"a": torch.tensor(sample[:, 0])}) == {}
    single, binned = (
        estimate(bins.draws[:, :, 0], bins.size, float(bins.variances[:, 0].mean()))
        for bins in (one, ten)
    )
    assert one.variances.max() == 0.0
    assert binned.ess == pytest.approx(8000, rel=0.1) and binned.ess == pytest.approx(
        single.ess, rel=0.1
    )
    assert binned.tau == pytest.approx(0.5, rel=0.1) and binned.error == pytest.approx(
        size / math.sqrt(8000), rel=0.1
    )


def test_what_is_no_number_is_named_and_kept():
    bins = Bins(["a", "b"], 3, 2)
    assert bins.add({"a": torch.ones(3), "b": torch.tensor([0.0, math.nan, math.inf])}) == {"b": 1}
    assert bins.add({"a": torch.ones(3), "b": torch.tensor([0.0, 1.0, -math.inf])}) == {"b": 2}
    assert np.array_equal(
        bins.draws[:, 0], [[1.0, 0.0], [1.0, math.nan], [1.0, math.nan]], equal_nan=True
    )
    assert np.array_equal(
        bins.variances, [[0.0, 0.0], [0.0, math.nan], [0.0, math.nan]], equal_nan=True
    )


def test_an_interval_that_does_not_divide_a_bin():
    with pytest.raises(ValueError, match="bins of 4 samples"):
        Bins(["a", "b"], 2, 4, {"b": 3})


def test_loading_tensors_is_no_deprecated_conversion():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bins = Bins(["a"], 2, 1)
        bins.load(
            {
                "complete": torch.zeros(2, 3, 1),
                "deviations": torch.zeros(2, 1),
                "partial": torch.zeros(2, 2, 1),
            },
            {"samples_in_partial": 0},
        )
    assert bins.draws.shape == (2, 3, 1)
    with pytest.raises(ValueError, match="2 chains and 1 observables"):
        Bins(["a", "b"], 2, 1).load(bins.chain_state(), bins.state_dict())


def test_estimate_of_an_autoregressive_chain():
    """x' = r x + noise has tau_int = 1/2 (1 + r) / (1 - r)."""
    rng, r, chains, draws = np.random.default_rng(1), 0.8, 64, 4000
    x = np.empty((chains, draws))
    x[:, 0] = rng.normal(size=chains) / math.sqrt(1 - r * r)
    for k in range(1, draws):
        x[:, k] = r * x[:, k - 1] + rng.normal(size=chains)
    result = estimate(x)
    assert result.tau == pytest.approx(4.5, rel=0.05)
    assert result.error == pytest.approx(math.sqrt(2 * 4.5 / x.size / (1 - r * r)), rel=0.05)
    assert result.rhat == pytest.approx(1.0, abs=0.01)
    assert abs(result.mean) < 4 * result.error
    in_bins = x.reshape(chains, -1, 4)
    binned = estimate(in_bins.mean(-1), 4, in_bins.var(-1).mean())
    assert binned.tau == pytest.approx(4.5, rel=0.1) and binned.error == pytest.approx(
        result.error, rel=0.05
    )


def test_estimate_of_chains_that_disagree():
    x = np.random.default_rng(2).normal(size=(4, 500))
    assert estimate(x + np.array([[0.0], [0.0], [0.0], [5.0]])).rhat > 1.3


def test_estimate_of_a_constant():
    assert (
        estimate(np.ones((4, 100)) + 1e-15 * np.random.default_rng(3).normal(size=(4, 100))).error
        == 0.0
    )


@pytest.mark.parametrize(
    ("mean", "error", "text"),
    [
        (-1.695601, 0.000052, "-1.69560(5)"),
        (0.2916, 0.0013, "0.2916(13)"),
        (33.9308, 0.00101, "33.9308(10)"),
        (12.3456, 0.096, "12.35(10)"),
        (1234.5, 23.0, "1230(20)"),
        (0.5, 0.0195, "0.50(2)"),
        (1.0, 0.0, "1"),
    ],
)
def test_bracket(mean, error, text):
    assert bracket(mean, error) == text
