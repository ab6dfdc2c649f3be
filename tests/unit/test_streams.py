import numpy as np
import pytest
import torch

from hpcslmc.streams import Stream, philox4x32


@pytest.mark.parametrize(
    ("word", "key", "expected"),
    [
        # known answers published with Random123 (kat_vectors, philox4x32, 10 rounds)
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(word, key, expected):
    words = philox4x32(
        tuple(torch.tensor([w]) for w in word), tuple(torch.tensor([k]) for k in key)
    )
    assert [int(w) for w in words] == expected


def test_a_chain_draws_the_same_wherever_it_lives():
    together = Stream(7, torch.arange(10), "move")
    apart = Stream(7, torch.tensor([3, 8]), "move")
    for _ in range(3):
        assert torch.equal(together.normal(5, 3)[[3, 8]], apart.normal(5, 3))


def test_streams_differ_by_seed_chain_and_purpose():
    draws = [
        Stream(seed, torch.tensor([chain]), purpose).uniform(4)
        for seed in (0, 1)
        for chain in (0, 1)
        for purpose in ("a", "b")
    ]
    assert len({tuple(d[0].tolist()) for d in draws}) == 8


def test_a_restored_stream_goes_on():
    stream = Stream(1, torch.arange(3), "x")
    stream.uniform(5)
    state = stream.state_dict()
    expected = stream.normal(7)
    restored = Stream(1, torch.arange(3), "x")
    restored.load_state_dict(state)
    assert torch.equal(restored.normal(7), expected)


def test_moments_of_uniform_and_normal_numbers():
    stream = Stream(3, torch.arange(1000), "x")
    uniform, normal = stream.uniform(501).numpy(), stream.normal(501).numpy()
    assert uniform.min() > 0.0 and uniform.max() < 1.0
    n = uniform.size
    z = [
        (uniform.mean() - 0.5) * np.sqrt(12 * n),
        (np.square(uniform).mean() - 1 / 3) / np.sqrt(4 / 45 / n),
        normal.mean() * np.sqrt(n),
        (np.square(normal).mean() - 1) * np.sqrt(n / 2),
        (normal**4).mean() / np.sqrt(96 / n) - 3 / np.sqrt(96 / n),
        (normal[:, 1:] * normal[:, :-1]).mean() * np.sqrt(n),
        (normal[1:] * normal[:-1]).mean() * np.sqrt(n),
    ]
    assert np.abs(z).max() < 4.0, z
