"""What a run says of itself, and what status makes of it."""

import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from small_jobs import make_job, run

from hpcslmc.analysis.statistics import estimate
from hpcslmc.cli import commands
from hpcslmc.cli.launch import MPI
from hpcslmc.cli.main import main
from hpcslmc.cli.status import StatusFile, describe
from hpcslmc.errors import UserError
from hpcslmc.parallel.world import World
from hpcslmc.simulation.convergence import Convergence
from hpcslmc.storage.lock import Lock

MORE = {"acceptance": 0.75, "rounds": [[0.5, 0.8], [0.9]], "convergence": "tau 2.00 samples"}


@pytest.fixture
def directory(tmp_path):
    """Of a run that is half way through its samples."""
    file = StatusFile(tmp_path, 0.0, {"job": "4x4 lattice", "layout": "8 chains on 2 ranks"})
    for done in (10, 50):
        time.sleep(0.02)
        file.show("sample", done, 100, **MORE)
    (tmp_path / "checkpoint.h5").write_bytes(b"x" * 2500)
    return tmp_path


def test_a_living_run_is_described_and_left_alone(directory):
    lock = Lock(directory)
    lock.acquire()
    before = {
        path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.iterdir()
    }
    text = "\n".join(describe(directory))
    assert {
        path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.iterdir()
    } == before
    lock.release()
    for said in (
        f"runs (process {os.getpid()}",
        "sample: 50 of 100 (50 %)",
        "left of this phase",
        "0.50, 0.80; 0.90",
        "acceptance   0.75",
        "tau 2.00",
        "2.5 kB",
    ):
        assert said in text


def test_the_time_left_is_what_the_pace_says(directory):
    (directory / "status.json").write_text(
        json.dumps(json.loads((directory / "status.json").read_text()) | {"per_s": 0.1})
    )
    assert "0.1 a second, 8 min 20 s left" in "\n".join(describe(directory))


def test_dead_stopped_and_finished_runs(directory):
    assert "does not run: it ended without a word" in describe(directory)[0]
    file = StatusFile(directory, 0.0, {"job": "", "layout": ""})
    file.show("sample", 60, 100, **MORE)
    file.end("a signal came")
    assert "stopped 0 s ago, a signal came" in describe(directory)[0]
    file.end("finished")
    assert "finished 0 s ago" in describe(directory)[0] and "left of this phase" not in "\n".join(
        describe(directory)
    )


@pytest.mark.parametrize(
    "age, says", [(10.0, "runs (process 1 on elsewhere"), (1000.0, "does not run")]
)
def test_a_run_on_another_host_is_judged_by_its_silence(directory, age, says):
    (directory / "running.lock").write_text(
        json.dumps(
            {"host": "elsewhere", "pid": 1, "started": "1", "slurm_job": None, "slurm_restart": 0}
        )
    )
    os.utime(directory / "running.lock", (time.time() - age,) * 2)
    assert says in describe(directory)[0]


def test_the_lock_of_a_dead_process_is_no_run(directory):
    (directory / "running.lock").write_text(
        json.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started": "another time",
                "slurm_job": None,
                "slurm_restart": 0,
            }
        )
    )
    assert "does not run" in describe(directory)[0]


@pytest.mark.parametrize("content", ["", "{", '{"format": "another"}', "[]"])
def test_a_status_file_that_cannot_be_read_leaves_the_rest(directory, content):
    (directory / "status.json").write_text(content)
    assert describe(directory)[0].endswith("does not run") and "2.5 kB" in describe(directory)[1]


def test_no_run_is_one_sentence(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no run" in line
    with pytest.raises(UserError):
        describe(tmp_path / "absent")


def test_a_full_disk_does_not_end_a_run(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hpcslmc.storage.files.os.replace", full)
    StatusFile(tmp_path, 0.0, {}).show("sample", 1, 2)
    assert not list(tmp_path.iterdir())


def test_the_command_is_quick_and_starts_no_mpi(directory):
    program = (
        "import sys; from hpcslmc.cli.main import main; code = main(sys.argv[1:]);"
        "print([name for name in ('mpi4py', 'torch', 'h5py') if name in sys.modules]); "
        "sys.exit(code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [sys.executable, "-c", program, "status", str(directory)],
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.stdout.endswith("[]\n")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0, (
        "seconds of work, however busy the machine is"
    )


def test_convergence_so_far_is_that_of_the_draws():
    simulation, looked = run(make_job(samples=40, method="exact"), World()), Convergence()
    looked.look(simulation.rungs, World())
    bins = simulation.rungs[0].bins
    found = [
        estimate(bins.draws[:, :, bins.names.index(name)])
        for name in ("log_weight", "m2_staggered", "m2_uniform")
    ]
    assert (
        f"tau {max(it.tau for it in found):.2f} " in looked.text
        and looked.short == f"R-hat {max(it.rhat for it in found):.3f} of 8 chains"
    )


def test_a_quiet_run_leaves_its_status_and_a_verbose_one_says_more(tmp_path):
    job = (
        make_job(samples=40, method="exact")
        .toml()
        .replace('directory = "out"', f'directory = "{tmp_path}/out"')
    )
    (tmp_path / "job.toml").write_text(job)

    def started(*arguments):
        command = [sys.executable, "-m", "hpcslmc.run", str(tmp_path / "job.toml"), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=os.environ | MPI, check=True
        )

    quiet = started("--quiet")
    assert quiet.stdout == quiet.stderr == ""
    told = json.loads((tmp_path / "out/status.json").read_text())
    assert (
        (told["state"], told["done"], told["total"]) == ("finished", 40, 40)
        and "R-hat" in told["convergence"]
        and 0.0 < told["acceptance"] <= 1.0
    )
    (tmp_path / "job.toml").write_text(job.replace("samples = 40", "samples = 60"))
    verbose = started("--verbose")
    assert (
        "checkpoint.h5 written in" in verbose.stderr
        and "Processor time" in verbose.stdout
        and "sample: 60/60" in verbose.stderr
    )
    assert "finished" in describe(tmp_path / "out")[0]


def test_lines_are_folded_to_the_terminal_and_nowhere_else(directory, monkeypatch, capsys):
    monkeypatch.chdir(directory)
    assert main(["status", "."]) == 0
    plain = capsys.readouterr().out
    monkeypatch.setattr(commands, "terminal_width", lambda: 50)
    assert main(["status", "."]) == 0
    folded = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in folded) <= 50 < max(len(line) for line in plain.splitlines())
    assert " ".join(" ".join(folded).split()) == " ".join(plain.split())


def test_a_look_at_many_draws_takes_blocks_and_finds_the_same(monkeypatch):
    """Correlated draws in blocks, whose tau and R-hat are those of all draws."""
    rng, chains, draws = np.random.default_rng(3), 8, 4000
    series = rng.normal(size=(chains, draws))
    for k in range(1, draws):
        series[:, k] += 0.9 * series[:, k - 1]
    bins = SimpleNamespace(
        draws=series[:, :, None], variances=np.zeros((len(series), 1)), names=["log_weight"], size=1
    )
    found = {}
    for most in (10**9, 8 * 400):
        monkeypatch.setattr("hpcslmc.simulation.convergence.MOST_NUMBERS", most)
        looked = Convergence()
        looked.look([SimpleNamespace(bins=bins)], World())
        found[most] = [
            float(number) for number in re.findall(r"(?:tau|R-hat) ([\d.]+)", looked.text)
        ]
    (tau, rhat), (tau_of_blocks, rhat_of_blocks) = found.values()
    assert (
        abs(tau_of_blocks / tau - 1.0) < 0.1
        and abs(rhat_of_blocks - rhat) < 0.005
        and 7.0 < tau < 13.0
    )
