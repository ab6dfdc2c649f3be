"""The documentation's way to a Binder crossing: its page is its file, its error is the spread,
and it reads what the program writes.
"""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_jobs import make_job, run, write_results

import hpcslmc
from hpcslmc.parallel.world import World

DOCS = Path(hpcslmc.__file__).parent / "docs"
EXAMPLE = DOCS / "examples/binder_crossing.py"
TEMPERATURE = np.array([0.8, 0.9, 1.0, 1.1, 1.2])
STEEP = {4: 0.5, 8: 1.0}


@pytest.fixture(scope="module")
def example() -> dict:
    return runpy.run_path(str(EXAMPLE))


def moments(rng: np.random.Generator, size: int, chains: int = 16) -> np.ndarray:
    """Chain means of |m|^2 and |m|^4 whose Binder ratio is 1/2 at T = 1.03, steeper for the
    larger size; dependent along the ladder.
    """
    m2 = (
        0.3
        + 0.03 * rng.normal(size=(chains, 1))
        + 0.003 * rng.normal(size=(chains, len(TEMPERATURE)))
    )
    ratio = 0.5 - STEEP[size] * (TEMPERATURE - 1.03)
    m4 = (
        m2**2
        * (2.5 - ratio)
        / 1.5
        * (1.0 + 0.01 * rng.normal(size=(chains, 1)) + 0.01 * rng.normal(size=m2.shape))
    )
    return np.array([m2, m4])


def test_the_crossing_and_its_error_are_right(example):
    """Against the spread of many independent pairs of runs."""
    rng = np.random.default_rng(1)
    found = np.array(
        [example["crossing"](TEMPERATURE, moments(rng, 4), moments(rng, 8)) for _ in range(400)]
    )
    value, error = found.T
    assert abs(value.mean() - 1.03) < 0.3 * value.std() and value.std() < 0.03
    assert error.mean() == pytest.approx(value.std(), rel=0.12)
    assert np.mean(np.abs(value - value.mean()) < error) == pytest.approx(0.68, abs=0.08)


def test_ratios_that_do_not_cross_give_no_temperature(example):
    rng = np.random.default_rng(2)
    same = moments(rng, 4)
    apart = np.array([same[0], 0.8 * same[1]])
    assert np.isnan(example["crossing"](TEMPERATURE, same, apart)[0])


def test_it_reads_what_the_program_writes(tmp_path, example):
    results = {}
    for name, seed in (("small", 1), ("large", 2)):
        simulation = run(
            make_job(ensemble={"temperature": [0.5, 0.2]}, method="exact", samples=8, seed=seed),
            World(),
        )
        write_results(tmp_path / f"{name}.h5", simulation, {"hpcslmc": "0"})
        results[name] = example["read"](str(tmp_path / f"{name}.h5"))
    temperature, found = results["small"]
    assert temperature.tolist() == [0.5, 0.2] and found.shape == (2, 8, 2)
    said = subprocess.run(
        [sys.executable, str(EXAMPLE), str(tmp_path / "small.h5"), str(tmp_path / "large.h5")],
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0 and said.stdout.startswith("T* = "), said.stderr


def test_the_page_holds_the_example():
    page, code = (DOCS / "results.md").read_text(), EXAMPLE.read_text()
    assert code in page
