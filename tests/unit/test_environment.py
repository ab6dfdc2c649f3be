"""Hostile values of every environment variable that the program reads."""

import os
import re
from pathlib import Path

import pytest

import hpcslmc
from hpcslmc import environment
from hpcslmc.environment import terminal_width
from hpcslmc.errors import UserError
from hpcslmc.storage.lock import Lock

HOSTILE = (
    "",
    " ",
    "0",
    "-1",
    "+1",
    "1.0",
    "1e3",
    "abc",
    "0x10",
    "4,2",
    "nan",
    "inf",
    "\u0663",
    "9" * 30,
    "9" * 5000,
    "a\nhpcslmc: b",
    "\x1b[31m",
    "\udcff",
    "/",
    "..",
    "/dev/zero",
)
SET = "HDF5_USE_FILE_LOCKING"
"""Which the program sets, whatever it was."""
READERS = {
    "OMP_NUM_THREADS": environment.threads,
    "SLURM_JOB_ID": environment.slurm_job,
    "SLURM_RESTART_COUNT": environment.slurm_restarts,
    "SLURM_JOB_END_TIME": lambda: environment.slurm_end(1000.0),
    "SLURM_NTASKS": environment.allocated_tasks,
    "HPCSLMC_SCALAPACK": environment.scalapack,
    **{name: environment.launched for pair in environment.TASKS.items() for name in pair},
}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in READERS:
        monkeypatch.delenv(name, raising=False)


def test_one_module_reads_the_environment_and_this_test_knows_all_of_it():
    folder = Path(hpcslmc.__file__).parent
    reads = re.compile(r"\bgetenv|import environ\b|\bos\.environ\b(?!\[\"OMP_NUM_THREADS\"\] = )")
    assert [path.name for path in folder.rglob("*.py") if reads.search(path.read_text())] == [
        "environment.py"
    ]
    assert set(
        re.findall(r'"([A-Z0-9]+_[A-Z0-9_]+)"', (folder / "environment.py").read_text())
    ) == set(READERS) | {SET}


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", READERS)
def test_a_hostile_value_is_taken_ignored_or_one_sentence(monkeypatch, tmp_path, name, value):
    monkeypatch.setenv(name, value)
    try:
        READERS[name]()
        lock = Lock(tmp_path)
        assert lock.acquire() == ""
        lock.release()
        terminal_width()
    except UserError as error:
        assert name in ("OMP_NUM_THREADS", "HPCSLMC_SCALAPACK") and f"{name} = " in str(error)
        assert str(error).isprintable() and len(str(error)) < 250


@pytest.mark.parametrize(
    "value, threads",
    [("", 1), (" ", 1), ("3", 3), (" 2 ", 2), ("4,2", 4), ("4, 2,1", 4), ("1024", 1024)],
)
def test_threads(monkeypatch, value, threads):
    assert environment.threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert environment.threads() == threads


@pytest.mark.parametrize("value", ["0", "abc", "-1", "1.5", ",2", "1025", "9" * 30, "\u0663"])
def test_what_are_no_threads(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with pytest.raises(UserError, match="the threads of a rank are a number from 1 to 1024"):
        environment.threads()


@pytest.mark.parametrize(
    "value, end, remark",
    [
        ("2000", 2000.0, ""),
        ("4294967294", 4294967294.0, ""),
        ("900", None, "was over 100 s ago, and is ignored"),
        ("0", None, "is no time"),
        ("12:00", None, "SLURM_JOB_END_TIME = '12:00' is no time in seconds since 1970"),
        ("\u0663", None, "is no time"),
        ("9" * 30, None, "is no time"),
        ("", None, ""),
    ],
)
def test_slurms_end_of_the_job(monkeypatch, value, end, remark):
    monkeypatch.setenv("SLURM_JOB_END_TIME", value)
    found, said = environment.slurm_end(1000.0)
    assert found == end and remark in said and bool(said) == bool(remark)


@pytest.mark.parametrize(
    "name, value, job",
    [("SLURM_JOB_ID", "12", "12"), ("SLURM_JOB_ID", "", None), ("SLURM_JOB_ID", "x", None)],
)
def test_an_empty_job_is_none(monkeypatch, name, value, job):
    """Two processes of different hosts with an empty number must not count as lives of one job."""
    monkeypatch.setenv(name, value)
    assert environment.slurm_job() == job


@pytest.mark.parametrize(
    "variables, expected",
    [
        (
            {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"},
            ("OMPI_COMM_WORLD_SIZE", 4, 2),
        ),
        ({"PMI_SIZE": "3"}, ("PMI_SIZE", 3, 0)),
        (
            {"OMPI_COMM_WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "1"},
            ("OMPI_COMM_WORLD_SIZE", 1, 0),
        ),
        (
            {"MPI_LOCALNRANKS": "2", "MPI_LOCALRANKID": "1", "SLURM_NTASKS": "2"},
            ("MPI_LOCALNRANKS", 2, 1),
        ),
        (
            {"OMPI_COMM_WORLD_SIZE": "", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "x"},
            ("SLURM_STEP_NUM_TASKS", 8, 0),
        ),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, None),  # a batch script
    ],
)
def test_the_innermost_launcher_counts(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = environment.launched()
    assert (found and (found.variable, found.tasks, found.task)) == expected


def test_a_fifo_is_no_library(monkeypatch, tmp_path):
    """The loader would wait for ever."""
    os.mkfifo(tmp_path / "libscalapack.so")
    monkeypatch.setenv("HPCSLMC_SCALAPACK", str(tmp_path / "libscalapack.so"))
    with pytest.raises(UserError, match="Not a regular file"):
        environment.scalapack()
