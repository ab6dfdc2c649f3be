"""What the README shows is true."""

import re
import tomllib
from pathlib import Path

from hpcslmc.config import Job, load_job, resolve

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
    paths = sorted((ROOT / "jobs").glob("*.toml"))
    assert len(paths) >= 2
    for path in paths:
        load_job(str(path), ranks=2)
