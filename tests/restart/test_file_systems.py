"""File systems that lack something, environments that ask for locks, HDF5 without MPI, and folders
that may not be entered.
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from job_files import QUIET

from hpcslmc.cli.launch import MPI, Launcher

JOB = (
    QUIET.replace("rounds = 2", "rounds = 1\nkeep_data = true")
    .replace("samples = 152", "samples = 16")
    .replace("steps = 60", "steps = 5")
    .replace("configurations = 10", "configurations = 4")
    .replace("moves = 15", "moves = 3")
)
OTHER = JOB.replace("chains = 8", "chains = 8\nseed = 2").replace('"out"', '"other"')
LATER = (
    JOB.replace('model = "attention"\nlayers = 1\nshells = 3', 'start_from = "out"')
    .replace("keep_data = true", 'replay = ["out"]')
    .replace('"out"\ncheck', '"later"\ncheck')
)
LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/stat.h>
int flock(int file, int operation) { errno = LOCK_ERROR; return -1; }
int posix_fallocate(int file, long offset, long length) { return EOPNOTSUPP; }
int posix_fallocate64(int file, long offset, long length) { return EOPNOTSUPP; }
int link(const char *old, const char *new) { errno = EPERM; return -1; }
int linkat(int a, const char *old, int b, const char *new, int flags) { errno = EPERM; return -1; }
int fsync(int file)
{
    struct stat about;
    int (*original)(int) = (int (*)(int)) dlsym(RTLD_NEXT, "fsync");
    if (fstat(file, &about) == 0 && S_ISDIR(about.st_mode)) { errno = EINVAL; return -1; }
    return original(file);
}
"""
PROBES = {  # what the library has to have broken, so that the tests below mean something
    "locks": "import h5py; h5py.File('probe.h5', 'w', locking=True)",
    "room": "import os; os.posix_fallocate(os.open('probe', os.O_RDWR | os.O_CREAT), 0, 10)",
    "links": "import os; open('one', 'w'); os.link('one', 'two')",
    "folders": "import os; os.fsync(os.open('.', os.O_RDONLY))",
}


def own_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("hpcslmc:")]


def alone(folder: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    """The program on one rank without mpirun."""
    return subprocess.run(
        [sys.executable, "-m", "hpcslmc.run", *arguments],
        cwd=folder,
        env=os.environ | MPI,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        **options,
    )


@pytest.mark.parametrize(
    "ranks, error, locking",
    [
        (1, "ENOLCK", "TRUE"),
        pytest.param(2, "EOPNOTSUPP", "no such word", marks=pytest.mark.validate),
    ],
)
def test_a_file_system_that_lacks_locks_and_more(launcher, monkeypatch, ranks, error, locking):
    """Every command, whatever the environment asks of HDF5."""
    source, library = launcher.folder / "lacking.c", launcher.folder / "lacking.so"
    source.write_text(LIBRARY)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", f"-DLOCK_ERROR={error}", "-o", library, source, "-ldl"],
        check=True,
    )
    monkeypatch.setenv("LD_PRELOAD", str(library))
    for what, probe in PROBES.items():
        assert subprocess.run(
            [sys.executable, "-c", probe], cwd=launcher.folder, stderr=subprocess.DEVNULL
        ).returncode, f"{what} work"
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", locking)
    launcher.write(JOB)
    for name, text in (
        ("more", JOB.replace("samples = 16", "samples = 32")),
        ("other", OTHER.replace("samples = 16", "samples = 32")),
        ("later", LATER),
    ):
        (launcher.folder / f"{name}.toml").write_text(text)
    for job in ("job.toml", "more.toml", "other.toml", "later.toml"):
        result = launcher.run(ranks, job)
        assert result.returncode == 0, (job, result.stderr)
        assert ("going on from" in result.stdout) == (job == "more.toml")
    for arguments in (
        ["status", "out"],
        ["report", "out", "other"],
        ["merge", "merged", "out", "other"],
    ):
        result = alone(launcher.folder, *arguments)
        assert result.returncode == 0 and result.stderr == "", (arguments, result.stderr)
    assert {"checkpoint.h5", "checkpoint.previous.h5", "results.h5", "model.h5", "data.h5"} <= set(
        os.listdir(launcher.folder / "out")
    )
    assert (launcher.folder / "merged/results.h5").exists()


WITHOUT_MPI = """
import types
import h5py
class File(h5py.File):
    def __init__(self, *arguments, driver=None, **options):
        if driver == "mpio":
            raise ValueError("h5py was built without MPI support, can't use mpio driver")
        super().__init__(*arguments, driver=driver, **options)
h5py.File = File
h5py.get_config = lambda: types.SimpleNamespace(mpi=False)
"""


def test_hdf5_without_mpi(launcher, monkeypatch):
    """One rank needs no other; several say what they need."""
    (launcher.folder / "sitecustomize.py").write_text(WITHOUT_MPI)
    monkeypatch.setenv("PYTHONPATH", str(launcher.folder), prepend=os.pathsep)
    launcher.write(JOB)
    result = launcher.run(2, "job.toml")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert (
        len(own_lines(result.stderr)) == 1
        and "this h5py is not built for MPI" in result.stderr
        and "run on one rank" in result.stderr
    )
    for text in (JOB, JOB.replace("samples = 16", "samples = 32")):
        launcher.write(text)
        result = launcher.run(1, "job.toml")
        assert (
            result.returncode == 0
            and "Traceback" not in result.stderr
            and " serial" in result.stdout
        ), result.stderr
    assert "going on from" in result.stdout


def obey_permissions() -> None:
    """Take from root what lets it enter every folder, in this process and those that it becomes."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a finished run in a folder that may not be entered, ``locked``, and another in
    a folder of it.
    """
    launcher = Launcher(tmp_path_factory.mktemp("finished"))
    launcher.write(JOB)
    assert launcher.run(1, "job.toml").returncode == 0
    locked = launcher.folder / "locked"
    (launcher.folder / "out").rename(locked)
    (locked / "inner/done").mkdir(parents=True)
    for name in ("results.h5", "model.h5", "data.h5", "status.json"):
        (locked / "inner/done" / name).write_bytes((locked / name).read_bytes())
    for name, place in (("locked", "locked"), ("inner", "locked/inner/done")):
        for key, text in (
            ("directory", JOB.replace('"out"', f'"{place}"')),
            ("start_from", LATER.replace('"out"', f'"{place}"').replace("replay", "# ")),
            ("replay", JOB.replace("keep_data = true", f'replay = ["{place}"]')),
        ):
            (launcher.folder / f"{key}-{name}.toml").write_text(text)
    locked.chmod(0o600)
    yield launcher.folder
    locked.chmod(0o700)


BARRED = [
    *(
        [f"{key}-{name}.toml"]
        for key in ("directory", "start_from", "replay")
        for name in ("locked", "inner")
    ),
    ["locked/job.toml"],
    ["directory-locked.toml", "--restart"],
    *(
        [command, place]
        for command in ("status", "report")
        for place in ("locked", "locked/inner/done")
    ),
    ["merge", "locked", "locked/inner/done", "locked"],
    ["merge", "locked/inner/new", "locked", "locked/inner/done"],
]


@pytest.mark.parametrize("arguments", BARRED, ids=" ".join)
def test_a_folder_that_may_not_be_entered(finished, arguments):
    before = sorted(os.listdir(finished))
    result = alone(finished, *arguments, preexec_fn=obey_permissions)
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert (
        len(own_lines(result.stderr)) == 1
        and "Permission denied" in own_lines(result.stderr)[0]
        and "locked" in own_lines(result.stderr)[0]
    )
    assert sorted(set(os.listdir(finished)) - {"out"}) == before


def test_paths_of_a_job_may_name_the_home_folder_and_variables(launcher, monkeypatch):
    """In every path; the job that is stored says what was written.

    A variable that is not set is named before anything is done.
    """
    monkeypatch.setenv("HOME", str(launcher.folder / "home"))
    monkeypatch.setenv("SCRATCH_OF_TEST", str(launcher.folder / "scratch"))
    monkeypatch.delenv("ABSENT_OF_TEST", raising=False)
    launcher.write(JOB.replace('"out"', '"~/runs"'))
    (launcher.folder / "later.toml").write_text(
        LATER.replace('start_from = "out"', 'start_from = "~/runs"')
        .replace('["out"]', '["${HOME}/runs/data.h5"]')
        .replace('"later"', '"$SCRATCH_OF_TEST/later"')
    )
    for job in ("job.toml", "later.toml"):
        result = launcher.run(2, job)
        assert result.returncode == 0, result.stderr
    assert (launcher.folder / "home/runs/results.h5").exists() and (
        launcher.folder / "scratch/later/results.h5"
    ).exists()
    assert not {"~", "$SCRATCH_OF_TEST", "${HOME}"} & set(os.listdir(launcher.folder))
    printed = launcher.run(2, "validate", "later.toml").stdout
    for key, value in (
        ("directory", "$SCRATCH_OF_TEST/later"),
        ("start_from", "~/runs"),
        ("replay", ["${HOME}/runs/data.h5"]),
    ):
        assert f"{key} = {json.dumps(value)}" in printed
    for key, written in (
        ("[output] directory", JOB.replace('"out"', '"$ABSENT_OF_TEST/out"')),
        (
            "[effective] start_from",
            LATER.replace('start_from = "out"', 'start_from = "${ABSENT_OF_TEST}"'),
        ),
        (
            "[learning] replay",
            LATER.replace('["out"]', '["$ABSENT_OF_TEST"]').replace('"out"', '"~/runs"'),
        ),
    ):
        launcher.write(written)
        result = launcher.run(2, "job.toml")
        assert result.returncode == 2 and "Traceback" not in result.stderr
        (line,) = own_lines(result.stderr)
        assert key in line and "the environment variable ABSENT_OF_TEST is not set" in line


def test_a_checkpoint_takes_no_second_copy_of_the_arrays(launcher):
    """Of one array and of a whole job, written and read, on one rank and on two."""
    tool = Path(__file__).parents[2] / "tools/bench/checkpoint_cost.py"
    for ranks in (1, 2):
        result = subprocess.run(
            [
                "mpirun",
                "-n",
                str(ranks),
                sys.executable,
                tool,
                "--gib",
                "0.25",
                "--shape",
                "16",
                "16",
                "--folder",
                ".",
            ],
            cwd=launcher.folder,
            env=os.environ | MPI,
            text=True,
            timeout=300,
            capture_output=True,
        )
        assert result.returncode == 0 and result.stdout.count(" yes ") == 4, (
            result.stdout + result.stderr
        )
        assert os.listdir(launcher.folder) == []
