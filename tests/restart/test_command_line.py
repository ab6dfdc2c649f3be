"""Bad input under mpirun.

One sentence from one rank, exit code 2, no traceback, no hang; and crashes.
"""

import os
import signal
import subprocess
import sys
import time

import pytest
from job_files import JOB

from hpcslmc.cli.launch import MPI

BAD = {
    "unknown key": (JOB.replace("chains = 8", "chainz = 8"), "did you mean 'chains'"),
    "wrong type": (JOB.replace("chains = 8", 'chains = "8"'), "[sampling] chains"),
    "impossible value": (JOB.replace("temperature = 0.1", "temperature = -1"), "greater than 0"),
    "ranks do not divide": (
        JOB.replace("chains = 8", "chains = 9"),
        "cannot be shared equally by 4 ranks",
    ),
    "not TOML": ("[lattice", "not valid TOML"),
    "directory is a file": (JOB.replace('"out"', '"job.toml"'), "[output] directory"),
}


def own_lines(text: str) -> list[str]:
    """What the program said itself, without mpirun's remarks on the exit code."""
    return [line for line in text.splitlines() if line.startswith("hpcslmc:")]


@pytest.mark.parametrize("case", BAD)
def test_one_sentence(launcher, case):
    text, expected = BAD[case]
    launcher.write(text)
    result = launcher.run(4, "job.toml")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(own_lines(result.stderr)) == 1 and expected in own_lines(result.stderr)[0]
    assert sorted(p.name for p in launcher.folder.iterdir()) == ["job.toml"]


WEIGHT = JOB.replace("[effective]", '[weight]\nmethod = "{}"\n[effective]')
METROPOLIS = WEIGHT.replace("[sampling]", '[sampling]\nmethod = "exact"\nexact_move = "metropolis"')
# job, source of a petsc4py that stands before the true one, environment, what the sentence says
LACKING = {
    "petsc": (WEIGHT.format("matsubara"), "raise ImportError('not there')", {}, "needs petsc4py"),
    "complex scalars": (
        WEIGHT.format("matsubara"),
        """
import types
import numpy
init = lambda: None
PETSc = types.SimpleNamespace(ScalarType=numpy.float64)
""",
        {},
        "has real ones",
    ),
    "mumps": (
        WEIGHT.format("matsubara"),
        """
import types
import numpy
init = lambda: None
PETSc = types.SimpleNamespace(
    ScalarType=numpy.complex128,
    Sys=types.SimpleNamespace(hasExternalPackage=lambda name: False),
)
""",
        {},
        "built with MUMPS",
    ),
    "scalapack": (
        METROPOLIS.format("scalapack"),
        "",
        {"HPCSLMC_SCALAPACK": "/absent/libscalapack.so"},
        "needs the ScaLAPACK library",
    ),
    "groups": (
        JOB.replace("[sampling]", "[sampling]\nranks_per_chain = 3"),
        "",
        {},
        "cannot be divided into groups",
    ),
}


@pytest.mark.parametrize("case", LACKING)
def test_what_is_lacking_is_one_sentence(launcher, monkeypatch, case):
    text, petsc, environment, expected = LACKING[case]
    launcher.write(text)
    if petsc:
        (launcher.folder / "petsc4py.py").write_text(petsc)
        monkeypatch.setenv("PYTHONPATH", str(launcher.folder), prepend=os.pathsep)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = launcher.run(2, "job.toml")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(own_lines(result.stderr)) == 1 and expected in own_lines(result.stderr)[0]


@pytest.mark.parametrize(
    "arguments", [["absent.toml"], [], ["job.toml", "--retsart"], ["validate"]]
)
def test_wrong_command_lines(launcher, arguments):
    launcher.write(JOB)
    result = launcher.run(2, *arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr and len(own_lines(result.stderr)) == 1


def test_help_is_printed_once(launcher):
    result = launcher.run(2, "--help")
    assert (
        result.returncode == 0
        and result.stdout.count("usage: python -m hpcslmc.run") == 1
        and result.stderr == ""
    )


OBSTACLES = (
    "results.h5",
    "results.part",
    "model.h5",
    "data.part",
    "checkpoint.h5",
    "checkpoint.part",
    "checkpoint.previous.h5",
    "status.part",
    "running.lock",
)


@pytest.mark.parametrize(
    "name, ranks", [(name, 4 if k % 3 == 0 else 1) for k, name in enumerate(OBSTACLES)]
)
def test_a_folder_in_place_of_a_file(launcher, name, ranks):
    """Noticed before any work is done; an earlier run's files and the folder stay as they are."""
    launcher.write(JOB)
    folder = launcher.folder / "out" / name
    folder.mkdir(parents=True)
    (folder.parent / "kept").touch()
    started = time.monotonic()
    result = launcher.run(ranks, "job.toml")
    assert result.returncode == 2 and time.monotonic() - started < 15.0
    assert (
        "Traceback" not in result.stderr
        and len(own_lines(result.stderr)) == 1
        and f"out/{name} is a folder" in own_lines(result.stderr)[0]
    )
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted((name, "kept"))


def test_a_file_in_place_of_a_rungs_folder(launcher):
    """Noticed when learning is over, on all ranks at once; what was done is in the checkpoint."""
    launcher.write(
        SHORT.replace("temperature = 0.1", "temperature = [0.5, 0.3]").replace(
            "samples = 152", "samples = 16"
        )
    )
    (launcher.folder / "out").mkdir()
    (launcher.folder / "out/T0.3").touch()
    result = launcher.run(2, "job.toml")
    assert result.returncode == 2 and own_lines(result.stderr) == [
        "hpcslmc: out/T0.3 cannot be made a folder (File exists): see to the disk, then run the "
        "same command again."
    ]
    assert (launcher.folder / "out/checkpoint.h5").exists()


def test_validate_prints_the_resolved_job(launcher):
    launcher.write(JOB)
    result = launcher.run(2, "validate", "job.toml")
    assert result.returncode == 0
    assert "force_weight = 0.0" in result.stdout and result.stdout.count("[lattice]") == 1


@pytest.fixture
def sabotage(launcher, monkeypatch):
    """sabotage(source): code that every rank runs when its Python starts."""

    def install(source: str) -> None:
        (launcher.folder / "sitecustomize.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(launcher.folder), prepend=os.pathsep)

    return install


def test_a_crash_ends_the_job_and_names_the_rank(launcher, sabotage):
    sabotage(CRASH)
    launcher.write(JOB)
    result = launcher.run(2, "job.toml")
    assert result.returncode == 1
    assert "hpcslmc: rank 1 failed, the job ends: ZeroDivisionError: injected" in result.stderr


SHORT = (
    JOB.replace("steps = 60", "steps = 5")
    .replace("configurations = 10", "configurations = 4")
    .replace("every_s = 0.1", "every_s = 1000")
)
FAULTS = {  # what a rank does at its first sample: source, exit code, lines that say so
    "an error that one rank alone notices": (
        "raise UserError('only here')",
        2,
        ["hpcslmc: only here"],
    ),
    "a failure of the numbers": (
        "raise Failure('the exact weight of chain 5 failed')",
        1,
        ["hpcslmc: rank 1 failed, the job ends: the exact weight of chain 5 failed"],
    ),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("where", ["measure", "construct"])
def test_one_rank_alone_ends_the_job_in_time(launcher, sabotage, case, where):
    """The other rank waits in a collective."""
    source, code, lines = FAULTS[case]
    function, target = {
        "measure": ("add(self, values)", "Bins.add = add"),
        "construct": ("__init__(self, *arguments)", "Bins.__init__ = __init__"),
    }[where]
    sabotage(ALONE.format(source=source, function=function, target=target))
    launcher.write(SHORT)
    result = launcher.run(2, "job.toml")
    assert result.returncode == code, result.stderr
    assert own_lines(result.stderr) == lines and "Traceback" not in result.stderr
    raised = float((launcher.folder / "raised").read_text())
    assert time.time() - raised < 10.0


ALONE = """
import os
if os.environ.get("OMPI_COMM_WORLD_RANK") == "1":
    import time
    from pathlib import Path
    from hpcslmc.errors import Failure, UserError
    from hpcslmc.measure import bins
    def {function}:
        Path("raised").write_text(str(time.time()))
        {source}
    bins.{target}
"""


def test_a_segmentation_fault_of_one_rank(launcher, sabotage):
    sabotage(
        ALONE.format(
            function="add(self, values)",
            target="Bins.add = add",
            source="import ctypes; ctypes.string_at(0)",
        )
    )
    launcher.write(SHORT)
    result = launcher.run(2, "job.toml")
    assert (
        result.returncode == 139
        and "process rank 1 with PID" in result.stderr
        and "Segmentation fault" in result.stderr
    )
    assert time.time() - float((launcher.folder / "raised").read_text()) < 10.0


def test_a_second_interrupt_ends_the_job_at_once(launcher, sabotage):
    """In a unit of work that takes a minute."""
    sabotage(
        ALONE.format(function="add(self, values)", target="Bins.add = add", source="time.sleep(60)")
    )
    launcher.write(SHORT)
    process = launcher.start(2, "job.toml")
    while not (launcher.folder / "raised").exists() and process.poll() is None:
        time.sleep(0.05)
    rank = launcher.ranks()[1]
    os.kill(rank, signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    struck = time.monotonic()
    os.kill(rank, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - struck < 10.0


CRASH = """
import os
if os.environ.get("OMPI_COMM_WORLD_RANK") == "1":
    from hpcslmc.measure import bins
    def add(self, values):
        raise ZeroDivisionError("injected")
    bins.Bins.add = add
"""


def alone(launcher, **environment: str) -> subprocess.CompletedProcess:
    """A run without mpirun, in an environment with some more variables."""
    return subprocess.run(
        [sys.executable, "-m", "hpcslmc.run", "job.toml", "--quiet"],
        cwd=launcher.folder,
        env=os.environ | MPI | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


EXACT = JOB.replace("[sampling]", '[sampling]\nmethod = "exact"').replace(
    "samples = 152", "samples = 16"
)


@pytest.mark.parametrize(
    "environment, code, said",
    [
        ({"OMP_NUM_THREADS": "0"}, 2, "OMP_NUM_THREADS = '0'"),
        (
            {
                "OMP_NUM_THREADS": "",
                "SLURM_RESTART_COUNT": "",
                "SLURM_JOB_ID": "",
                "SLURM_JOB_END_TIME": "0",
            },
            0,
            "is ignored",
        ),
        (
            {"OMP_NUM_THREADS": "1,2", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
            0,
            "one rank runs, and the Slurm job has 4 tasks",
        ),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, 2, "belongs to another MPI"),
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, 2, "PMI_SIZE = 4"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, 2, "a launcher started 4 tasks"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, 2, ""),
    ],
)
def test_what_the_environment_makes_of_a_run(launcher, environment, code, said):
    launcher.write(EXACT)
    result = alone(launcher, **environment)
    assert (
        result.returncode == code
        and said in result.stderr
        and len(result.stderr.splitlines()) == bool(said)
    ), result.stderr
    assert (launcher.folder / "out").exists() == (code == 0)
