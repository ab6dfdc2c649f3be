"""What the README shows is true."""

import re
import tomllib
from pathlib import Path

from hpcslmc.job.load import load_job
from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job

ROOT = Path(__file__).parents[2]


def test_the_commented_job_file_shows_every_key_with_its_default():
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    shown = tomllib.loads(block)
    minimal = {"lattice": shown["lattice"], "ensemble": shown["ensemble"]}
    default = resolve(Job.model_validate(minimal))
    assert resolve(Job.model_validate(shown)) == default
    given = {key for key, value in default.keys().items() if value is not None}
    assert {f"{s}.{k}" for s, keys in shown.items() for k in keys} == given
    commented = set(re.findall(r"^# (\w+) = ", block, re.MULTILINE))
    assert commented == {key.split(".")[1] for key in default.keys().keys() - given}


def test_the_job_files_are_valid():
    paths = sorted((ROOT / "jobs").rglob("*.toml"))
    assert len(paths) >= 2
    learned = {tomllib.loads(path.read_text())["output"]["directory"] for path in paths}
    for path in paths:
        table = tomllib.loads(path.read_text())
        if "start_from" in table.get("effective", {}):  # needs the run of another of these jobs
            assert table["effective"]["start_from"] in learned
            Job.model_validate(table)
        else:
            load_job(str(path), ranks=2)
