"""Every job of the folder jobs/, with fewer of everything on a smaller lattice, runs to its end
with warnings as errors.
"""

import re
from pathlib import Path

import pytest

from hpcslmc.cli.launch import Launcher

JOBS = Path(__file__).parents[2] / "jobs"
FEWER = {
    "shells": "3",
    "moves": "10",
    "rounds": "1",
    "configurations": "3",
    "steps": "5",
    "batch_size": "16",
    "chains": "8",
    "samples": "4",
    "rungs": "3",
    "density_of_states": "2",
    "directory": '"out"',
}


def reduced(text: str) -> str:
    """The job with fewer of everything, and without what an earlier job has learned."""
    text = re.sub(
        r"start_from = .*",
        'model = "linear"\nshells = 3',
        re.sub(r"rounds = 0", "rounds = 1", text),
    )
    text = re.sub(r"(?m)^(replay|keep_data|budget) = .*\n", "", text)
    if "site_file" not in text:  # which has values for every site
        text = re.sub(r"(?m)^shape = \[\d+, \d+\]$", "shape = [6, 6]", text)
    text = text.replace('"jobs/', f'"{JOBS}/')
    for key, value in FEWER.items():
        text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
    return text


PATHS = [
    pytest.param(
        path,
        id=str(path.relative_to(JOBS)),
        marks=[] if path.name == "smoke.toml" else pytest.mark.validate,
    )
    for path in sorted(JOBS.rglob("*.toml"))
]


@pytest.mark.parametrize("path", PATHS)
def test_every_job_runs(launcher: Launcher, path: Path):
    launcher.write(reduced(path.read_text()))
    result = launcher.run(2, "job.toml")
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr and (launcher.folder / "out/results.h5").exists()
