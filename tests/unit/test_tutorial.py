"""A newcomer's path: every command of the tutorial, in order, in one folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from launcher import MPI

import hpcslmc
from hpcslmc.config import load_job

PAGE = Path(hpcslmc.__file__).parent / "docs/tutorial.md"


def applied(text: str, diff: str) -> str:
    """A job file with a page's lines changed: each block of - lines becomes the + lines after it."""
    for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)*)", diff, re.MULTILINE):
        before, after = (re.sub(r"^[-+]", "", block, flags=re.MULTILINE) for block in (old, new))
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def steps() -> list[tuple[str, str]]:
    return re.findall(r"```(toml|diff|sh)\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_every_job_of_the_tutorial_is_valid(tmp_path):
    text, jobs = "", 0
    for kind, block in steps():
        if kind != "sh":
            text = block if kind == "toml" else applied(text, block)
            (tmp_path / "job.toml").write_text(re.sub(r"start_from = .*", 'model = "linear"', text).replace("rounds = 0", "rounds = 1"))
            load_job(str(tmp_path / "job.toml"), ranks=2)
            jobs += 1
    assert jobs == 6


@pytest.mark.validate
def test_every_command_of_the_tutorial_runs(tmp_path):
    path = tmp_path / "job.toml"
    for kind, block in steps():
        if kind == "sh":
            for command in block.splitlines():
                words = [sys.executable if word == "python" else word for word in shlex.split(command)]
                result = subprocess.run(words, cwd=tmp_path, env=os.environ | MPI, capture_output=True, text=True, timeout=300)
                assert result.returncode == 0, (command, result.stderr)
        else:
            path.write_text(block if kind == "toml" else applied(path.read_text(), block))
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"first", "both", "compared", "sizes", "ladder"}
    assert (tmp_path / "out/ladder/report/observables_temperature.pdf").exists()


@pytest.mark.validate
def test_the_commands_of_the_readme_run_a_job(tmp_path):
    """Those of its section on running a job, one after the other in one shell; what has to be filled in is left out."""
    root = PAGE.parents[2]
    for name in ("jobs", "tools"):
        (tmp_path / name).symlink_to(root / name)
    section = (root / "README.md").read_text().split("## Running a job")[1].split("### The job file")[0]
    commands = [line.strip() for line in re.findall(r"^    (?:source|mpirun|python) .*$", section, re.MULTILINE) if " OUT " not in line]
    assert len(commands) == 7
    result = subprocess.run(["bash", "-euc", "\n".join(commands)], cwd=tmp_path, env=os.environ | MPI, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/smoke/before-restart-1/results.h5").exists() and (tmp_path / "out/smoke/report/spins.pdf").exists()
