"""A newcomer's path.

Every command of the tutorial, in order, in one folder; what tools/walkthrough.py makes of the
pages.
"""

import os
import re
import shlex
import subprocess
import sys

import pytest
import walkthrough
from launcher import MPI
from walkthrough import (
    LEFT_OUT,
    README,
    REDUCED,
    ROOT,
    SET_UP,
    TUTORIAL,
    Command,
    applied,
    commands,
    readme,
    tutorial,
    walk,
)

from hpcslmc.job.load import load_job


def test_every_job_of_the_tutorial_is_valid(tmp_path):
    jobs = {command.job for command in tutorial((ROOT / TUTORIAL).read_text())}
    assert len(jobs) == 6
    for text in jobs:
        (tmp_path / "job.toml").write_text(
            re.sub(r"start_from = .*", 'model = "linear"', text).replace("rounds = 0", "rounds = 1")
        )
        load_job(str(tmp_path / "job.toml"), ranks=2)


@pytest.mark.validate
def test_every_command_of_the_tutorial_runs(tmp_path):
    for command in tutorial((ROOT / TUTORIAL).read_text()):
        (tmp_path / "job.toml").write_text(command.job)
        words = [sys.executable if word == "python" else word for word in shlex.split(command.text)]
        result = subprocess.run(
            words, cwd=tmp_path, env=os.environ | MPI, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, (command.text, result.stderr)
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {
        "first",
        "both",
        "compared",
        "sizes",
        "ladder",
    }
    assert (tmp_path / "out/ladder/report/observables_temperature.pdf").exists()


@pytest.mark.validate
def test_the_commands_of_the_readme_run_a_job(tmp_path):
    """Those of its section on running a job, one after the other in one shell."""
    for name in ("jobs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    section = (ROOT / README).read_text().split("## Running a job")[1].split("### The job file")[0]
    texts = [command.text for command in readme(section) if command.text not in LEFT_OUT]
    assert len(texts) == 7
    result = subprocess.run(
        ["bash", "-euc", "\n".join(texts)],
        cwd=tmp_path,
        env=os.environ | MPI,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/smoke/before-restart-1/results.h5").exists() and (
        tmp_path / "out/smoke/report/spins.pdf"
    ).exists()


def test_the_walkthrough_meets_every_command():
    texts = [command.text for command in commands()]
    assert set(REDUCED) | set(LEFT_OUT) <= set(texts) and not set(REDUCED) & set(LEFT_OUT)
    programs = [
        path
        for path in (ROOT / "tools").glob("*.py")
        if 'if __name__ == "__main__"' in path.read_text()
    ]
    assert len(programs) > 15
    for path in (
        *programs,
        *(ROOT / "tools").glob("[a-z]*[!y]"),
        ROOT / "jobs/curriculum/run",
        *(ROOT / "jobs").glob("*.sh"),
    ):
        assert path.is_dir() or any(str(path.relative_to(ROOT)) in text for text in texts), path
    assert all(f"`{text}`" in (ROOT / TUTORIAL).read_text() for text in SET_UP)


def test_formulas_and_trees_are_no_commands():
    page = (
        "    H = -t sum\n    tools/test   # all\n```toml\n    python no\n```\nsay `python "
        "tools/speed.py` or\n"
        "    tools/              set-up\n    source a\n"
    )
    assert [command.text for command in readme(page)] == [
        "tools/test",
        "python tools/speed.py",
        "source a",
    ]


def test_a_page_that_changes_what_is_not_there_is_noticed():
    assert applied("a = 1\nb = 2\n", "-a = 1\n+a = 3\n") == "a = 3\nb = 2\n"
    with pytest.raises(ValueError, match="0 times"):
        applied("a = 1\n", "-c = 1\n+c = 2\n")


def test_the_walkthrough_times_commands_in_one_session_and_notices_failures(tmp_path, monkeypatch):
    (tmp_path / "settings").write_text("export A_SETTING=7\n")
    texts = [
        "source ./settings",
        "test $A_SETTING = 7 && cat job.toml",
        "false; true",
        "python tools/walkthrough.py",
        "python tools/accuracy.py",
        "sleep 5",
    ]
    monkeypatch.setattr(
        walkthrough,
        "commands",
        lambda: [Command("page", text, "the job\n" if "cat" in text else "") for text in texts],
    )
    monkeypatch.setitem(REDUCED, "python tools/accuracy.py", ("exit 3", "why", 3))
    monkeypatch.setattr(walkthrough, "LONGEST_S", 0.5)
    runs = list(walk(tmp_path, tmp_path / "log"))
    assert [(run.command.text, run.code) for run in runs] == [
        *zip(texts[:3], (0, 0, 1)),
        (texts[4], 3),
        (texts[5], 124),
    ]
    assert runs[3].ran == "exit 3" and runs[3].right == 3 and 0.4 < runs[4].seconds < 3.0
    assert "$ test $A_SETTING = 7 && cat job.toml\nthe job\n" in (tmp_path / "log").read_text()
