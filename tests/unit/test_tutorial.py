"""A newcomer's path: every command of the tutorial and of the README.

They are what tools/validate/walkthrough.py finds on the pages.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hpcslmc.cli.launch import MPI
from hpcslmc.job.load import load_job

ROOT = Path(__file__).parents[2]
TUTORIAL, README, TOOLS = "hpcslmc/docs/tutorial.md", "README.md", "hpcslmc/docs/tools.md"


def walkthrough(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools/validate/walkthrough.py"), *arguments],
        capture_output=True,
        text=True,
    )


def commands(tree: Path = ROOT) -> list[dict]:
    result = walkthrough("--json", "--tree", str(tree))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def plant(tree: Path, **pages: str) -> None:
    """Write a README and the other pages of a made-up project."""
    (tree / "hpcslmc/docs").mkdir(parents=True, exist_ok=True)
    (tree / README).write_text(pages.get("readme", ""))
    for name in ("tutorial", "running", "models", "tools"):
        (tree / f"hpcslmc/docs/{name}.md").write_text(pages.get(name, ""))


def of_tutorial() -> list[dict]:
    return [command for command in commands() if command["page"] == TUTORIAL and command["job"]]


def test_every_job_of_the_tutorial_is_valid(tmp_path):
    jobs = {command["job"] for command in of_tutorial()}
    assert len(jobs) == 6
    for text in jobs:
        (tmp_path / "job.toml").write_text(
            re.sub(r"start_from = .*", 'model = "linear"', text).replace("rounds = 0", "rounds = 1")
        )
        load_job(str(tmp_path / "job.toml"), ranks=2)


@pytest.mark.validate
def test_every_command_of_the_tutorial_runs(tmp_path):
    for command in of_tutorial():
        (tmp_path / "job.toml").write_text(command["job"])
        words = shlex.split(command["text"])
        words = [sys.executable if word == "python" else word for word in words]
        result = subprocess.run(
            words, cwd=tmp_path, env=os.environ | MPI, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, (command["text"], result.stderr)
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
    """Those on the smallest job, one after the other in one shell."""
    for name in ("jobs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    texts = [
        command["text"]
        for command in commands()
        if command["page"] == README and command["ran"] and "smoke" in command["text"]
    ]
    assert len(texts) == 6
    result = subprocess.run(
        ["bash", "-euc", "\n".join(["source tools/environment", *texts])],
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
    """It says itself whether a tool or a job script is on no page."""
    result = walkthrough("--list")
    assert result.returncode == 0 and result.stderr == ""
    texts = [command["text"] for command in commands()]
    assert len([text for text in texts if "python" in text and "tools/" in text]) > 20
    assert any("jobs/curriculum/run" in text for text in texts)
    assert {command["text"] for command in commands() if not command["ran"]} > {
        "python tools/validate/walkthrough.py"
    }
    for command in commands()[:2]:
        assert f"`{command['text']}`" in (ROOT / TUTORIAL).read_text()


def test_formulas_and_trees_are_no_commands(tmp_path):
    plant(
        tmp_path,
        readme="    H = -t sum\n    tools/test   # all\n```toml\n    python no\n```\nsay `python "
        "tools/speed.py` or\n    tools/              set-up\n    source a\n",
        tools="    python b\n",
    )
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/test").touch(mode=0o755)
    found = [(c["page"], c["text"]) for c in commands(tmp_path) if c["page"] != TUTORIAL]
    assert found == [
        (README, "tools/test"),
        (README, "python tools/speed.py"),
        (README, "source a"),
        (TOOLS, "python b"),
    ]


def test_a_page_that_changes_what_is_not_there_is_noticed(tmp_path):
    job, command = "```toml\na = 1\nb = 2\n```\n", "```sh\npython c\n```\n"
    plant(tmp_path, tutorial=f"{job}```diff\n-a = 1\n+a = 3\n```\n{command}")
    assert commands(tmp_path)[-1]["job"] == "a = 3\nb = 2\n"
    plant(tmp_path, tutorial=f"{job}```diff\n-c = 1\n+c = 2\n```\n{command}")
    result = walkthrough("--list", "--tree", str(tmp_path))
    assert result.returncode == 1 and "0 times" in result.stderr


def test_the_walkthrough_times_commands_in_one_session_and_notices_failures(tmp_path):
    texts = [
        "source ./settings",
        "python check.py",
        "python -c 'raise SystemExit(5)'; true",
        "python tools/validate/walkthrough.py",
        "python tools/bench/profile_job.py JOB",
        "python -c 'import time; time.sleep(50)'",
    ]
    tree = tmp_path / "tree"
    plant(
        tree,
        tutorial=f"```toml\nthe job\n```\n```sh\n{texts[0]}\n{texts[1]}\n```\n",
        readme="".join(f"    {text}\n" for text in texts[2:]),
    )
    (tree / "tools/bench").mkdir(parents=True)
    (tree / "tools/setup").write_text("#!/bin/sh\n")
    (tree / "tools/setup").chmod(0o755)
    (tree / "tools/environment").touch()
    (tree / "settings").write_text("export A_SETTING=7\n")
    (tree / "check.py").write_text(
        "import os, pathlib\nassert os.environ['A_SETTING'] == '7'\n"
        "print(pathlib.Path('job.toml').read_text())\n"
    )
    (tree / "tools/bench/profile_job.py").write_text("import sys\nprint(sys.argv[1:])\n")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "Begin")):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *words], cwd=tree, check=True)
    result = walkthrough(
        "--tree", str(tree), "--folder", str(tmp_path / "walk"), "--longest-s", "2"
    )
    lines = re.findall(r"^ +([\d.]+) +(\d+)  (.*)$", result.stdout, re.MULTILINE)
    assert [(text, int(code)) for _, code, text in lines] == [
        ("tools/setup", 0),
        ("source tools/environment", 0),
        (texts[0], 0),
        (texts[1], 0),
        (f"{texts[2]}  FAILED", 5),
        (texts[4], 0),
        (f"{texts[5]}  FAILED", 124),
    ]
    assert 1.5 < float(lines[-1][0]) < 20.0 and result.returncode == 1
    assert "2 failed" in result.stdout and f"{texts[3]}: is this" in result.stdout
    log = (tmp_path / "walk/walkthrough.log").read_text()
    assert f"$ {texts[1]}\nthe job\n" in log and "['jobs/smoke.toml']" in log
