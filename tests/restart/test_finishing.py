"""The end of a run: whatever its analysis meets, results.h5 is there, and what is doubtful is
said. With warnings as errors.
"""

import math

import h5py
import numpy as np

from hpcslmc.analysis.results_file import read
from hpcslmc.cli.launch import Launcher
from hpcslmc.cli.main import main
from hpcslmc.storage.hdf5 import differing

EXACT = """
[lattice]
shape = [4, 4]
[ensemble]
temperature = 0.1
[thermalisation]
moves = 20
[sampling]
method = "exact"
chains = 4
samples = 40
bin_size = 4
[output]
directory = "out"
"""
NO_NUMBER = '''
import os

import torch

from hpcslmc.measure.observables import Observable
from hpcslmc.measure.registry import OBSERVABLES

class Ratio(Observable):
    """0 / 0 in the job's last chain from its 23rd sample on."""

    name, label, samples = "ratio", "a ratio", 0

    def measure(self, spins, evaluation):
        Ratio.samples += 1
        value = spins[:, 0, 2].clone()
        if Ratio.samples > 22 and os.environ["OMPI_COMM_WORLD_RANK"] == "1":
            value[-1] = torch.nan
        return value

OBSERVABLES[Ratio.name] = Ratio
'''


def own_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("hpcslmc:")]


def test_an_observable_that_is_no_number_is_named_at_once_and_costs_nothing(launcher: Launcher):
    (launcher.folder / "ratio.py").write_text(NO_NUMBER)
    launcher.write(EXACT)
    result = launcher.run(2, "--import", "ratio", "job.toml")
    assert result.returncode == 0, result.stderr
    assert own_lines(result.stderr) == [
        "hpcslmc: ratio of chain 3 is not finite at sample 23: its mean and error will be nan"
    ]
    assert result.stderr.index("of chain 3") < result.stderr.index("sample: 40/40")
    assert "No estimate (not finite in 5 of 40 draws, chain 3): a ratio" in result.stdout
    summary = read(launcher.folder / "out").summary
    assert (
        math.isnan(summary.of("ratio"))
        and math.isnan(summary.of("ratio", "error"))
        and summary.of("energy", "error") > 0.0
    )

    launcher.write(EXACT.replace("samples = 40", "samples = 60"))
    extended = launcher.run(2, "--import", "ratio", "job.toml")
    assert (
        extended.returncode == 0
        and "going on from out/checkpoint.h5 at sample 40/60" in extended.stdout
    ), extended.stderr
    with h5py.File(launcher.folder / "out/results.h5") as file:
        assert np.isnan(file["draws/ratio"]).sum() == 5


def test_a_finished_run_without_results_gets_them(launcher: Launcher):
    """Density near half filling at strong coupling fluctuates by 1e-10: its bins have a tau all
    the same.
    """
    launcher.write(
        EXACT.replace("[ensemble]", "[hamiltonian]\nJ = 8.0\nmu = 0.3\n[ensemble]")
        .replace("moves = 20", "moves = 50")
        .replace("samples = 40\nbin_size = 4", "samples = 100\nbin_size = 10\nseed = 2")
    )
    first = launcher.run(1, "job.toml")
    assert first.returncode == 0, first.stderr
    results = read(launcher.folder / "out")
    assert (
        0.0 < results.summary.of("density", "error") < 1e-9
        and 0.2 < results.summary.of("density", "tau") < 5.0
    )
    (launcher.folder / "out/results.h5").rename(launcher.folder / "kept.h5")
    again = launcher.run(1, "job.toml")
    assert again.returncode == 0 and "finished: going on" in again.stdout
    assert differing(launcher.folder / "kept.h5", launcher.folder / "out/results.h5") == []


FAILING = """
from hpcslmc.simulation import convergence
from hpcslmc.analysis import tables as report
from hpcslmc.analysis import statistics

def fail(*arguments):
    raise ZeroDivisionError("injected")

statistics.jackknife = fail
{}
"""


def test_an_analysis_that_fails_loses_no_results(launcher: Launcher, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(launcher.folder), prepend=":")
    launcher.write(EXACT)
    for more, said in (
        (
            "report._ladder_sheet = report._summary_sheet = fail",
            "the table of observables cannot be made",
        ),
        (
            "report.print_tables = fail; convergence.Convergence.finish = fail",
            "looking at them failed",
        ),
    ):
        (launcher.folder / "failing.py").write_text(FAILING.format(more))
        result = launcher.run(2, "--import", "failing", "job.toml")
        assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr
        assert f"{said}: ZeroDivisionError: injected" in result.stdout + result.stderr
        summary = read(launcher.folder / "out").summary
        assert math.isnan(summary.of("binder_staggered")) and summary.of("energy", "error") > 0.0
        assert (
            summary.doubts[summary.names.index("binder_staggered")]
            == "unknown: ZeroDivisionError: injected"
        )


def test_one_chain_is_a_run_like_others(launcher: Launcher, capsys):
    launcher.write(
        EXACT.replace("chains = 4", "chains = 1")
        .replace("samples = 40", "samples = 200")
        .replace('"out"', '"out"\nprogress_every_s = 0.1')
    )
    result = launcher.run(1, "job.toml")
    assert result.returncode == 0, result.stderr
    assert "nan" not in result.stdout + result.stderr and "Warning" not in result.stderr
    assert "R-hat" not in result.stderr
    assert main(["status", str(launcher.folder / "out")]) == 0
    convergence = capsys.readouterr().out.split("convergence")[1]
    assert "tau" in convergence and "R-hat" not in convergence and "nan" not in convergence


def test_samples_that_fill_no_bin_are_said(launcher: Launcher):
    launcher.write(EXACT.replace("samples = 40", "samples = 43"))
    result = launcher.run(2, "job.toml")
    sentence = (
        "[sampling] samples = 43 in bins of 4: the last 3 fill no bin and enter no mean of an "
        "observable; samples = 40 or 44 leaves none over"
    )
    assert result.returncode == 0 and own_lines(result.stderr) == [f"hpcslmc: {sentence}"]
    assert sentence in " ".join(result.stdout.split())
    launcher.write(EXACT)
    assert own_lines(launcher.run(2, "job.toml").stderr) == [
        "hpcslmc: changed since the checkpoint: sampling.samples (was 43, is 40)"
    ]
