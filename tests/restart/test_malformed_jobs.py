"""Malformed job files.

Tools/fuzz_jobs.py runs all of them under mpirun; here the parser gets them, and a few are run.
"""

import random

import pytest
from fuzz_jobs import Case, choose, job, other_cases, parse, problems_of, run

CASES = choose(150, random.Random(1))


def name(case: Case) -> str:
    return f"{case.kind}: {case.what}"


@pytest.mark.parametrize("ranks", [1, 4])
def test_the_parser_refuses_every_one_in_one_sentence(tmp_path, ranks):
    problems, refused = [], 0
    for k, case in enumerate(case for case in CASES if case.parsed and ranks >= case.least_ranks):
        folder = tmp_path / str(k)
        folder.mkdir()
        problem = parse(case, folder, ranks)
        problems += [f"{name(case)}: {problem}"] if problem else []
        refused += not problem
    assert problems == [] and refused > 130


@pytest.mark.parametrize(
    "what, ranks",
    [
        ("text: a word", 4),
        ("no file: a fifo", 4),
        ("directory: below a file", 4),
        ("start_from: other parameters", 1),
    ],
)
def test_a_job_ends_in_time_and_writes_nothing(tmp_path, what, ranks):
    (case,) = [case for case in other_cases() if name(case) == what]
    problem, _ = run(case, tmp_path, ranks)
    assert problem == ""


def test_the_fuzzer_notices_a_job_that_is_not_refused(tmp_path):
    good = Case("good", "job", job(), "chains")
    assert parse(good, tmp_path, 4) == "not refused"
    assert "does not name 'chains'" in problems_of("[sampling] samples is wrong.", good)
    assert "control characters" in problems_of("chains\nhpcslmc: chains", good)
    assert "characters" in problems_of("chains" * 200, good)
