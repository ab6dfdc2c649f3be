"""Malformed job files: the parser gets all of them, and a few are run.

The campaign of tools/validate/fuzz_jobs.py, which runs all of them under mpirun, in small forms.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/validate/fuzz_jobs.py"


def fuzz(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def trials(result: subprocess.CompletedProcess) -> int:
    """How many were tried, all of them without a problem."""
    assert result.returncode == 0, result.stdout + result.stderr
    (count,) = re.findall(r"^\d+ files, (\d+) trials, 0 problems,", result.stdout, re.MULTILINE)
    return int(count)


@pytest.mark.parametrize("ranks", ["1", "4"])
def test_the_parser_refuses_every_one_in_one_sentence(ranks):
    assert trials(fuzz("--parse", "--ranks", ranks)) > 130


@pytest.mark.parametrize(
    "what, ranks",
    [
        ("text: a word", "4"),
        ("no file: a fifo", "4"),
        ("directory: below a file", "4"),
        ("start_from: other parameters", "1"),
    ],
)
def test_a_job_ends_in_time_and_writes_nothing(what, ranks):
    assert trials(fuzz("--count", "0", "--only", what, "--ranks", ranks)) == 1


def test_the_fuzzer_notices_what_is_wrong():
    result = fuzz("--control")
    assert result.returncode == 0 and "all faults are noticed" in result.stdout, result.stdout
