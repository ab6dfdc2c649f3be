"""Launching of jobs from Python as users launch them: under mpirun, in processes of their own."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from hpcslmc import environment
from hpcslmc.analysis.results import Results
from hpcslmc.analysis.results_file import read
from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import EffectiveSection, Job
from hpcslmc.plugins import MODELS
from hpcslmc.storage import names

MPI = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_btl": "self,vader",
}
"""Environment variables for Open MPI on one machine that may have fewer cores than ranks."""


def command(ranks: int, *arguments: str) -> list[str]:
    """Return the command line that runs the program on MPI ranks, with this Python."""
    return ["mpirun", "-n", str(ranks), sys.executable, "-m", "hpcslmc.run", *arguments]


def variant(base: Job, changes: Mapping[str, Mapping], directory: Path) -> Job:
    """Copy a job with other values in some sections, and with an output directory of its own.

    Another effective model takes over the options that it has too.

    Raises
    ------
    UserError
        If the new job makes no sense.
    """
    tables = base.model_dump()
    for section, keys in changes.items():
        tables[section] |= keys
    effective = changes.get("effective", {})
    model = str(effective.get("model"))
    if model in MODELS:
        known = {*EffectiveSection.model_fields, *effective}
        known |= MODELS.declared(model, "Options").model_fields.keys()
        kept = {key: value for key, value in tables["effective"].items() if key in known}
        tables["effective"] = kept
    tables["output"]["directory"] = str(directory)
    return resolve(Job.model_validate(tables))


def run_under_mpi(job: Job, ranks: int) -> Results:
    """Run a job in its output directory to the end, or resume it, and return its results.

    Nothing is started where the results of this very job are there already. The environment
    decides how MPI behaves, as in a shell.

    Raises
    ------
    subprocess.CalledProcessError
        If the job does not finish; its sentence is on standard error.
    """
    directory = Path(job.output.directory)
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / names.RESULTS).exists():
        results = read(directory)
        if results.job == job.toml():
            return results
    path = directory / "job.toml"
    path.write_text(job.toml())
    subprocess.run(command(ranks, str(path)), check=True, stdout=subprocess.DEVNULL)
    return read(directory)


class Launcher:
    """Launcher of jobs under mpirun in a folder, on one machine; finds or kills their processes.

    Parameters
    ----------
    folder : Path
        Where job.toml is, and where the jobs run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = {"HPCSLMC_LAUNCHER": str(uuid.uuid4())}

    def write(self, text: str) -> None:
        """Write job.toml."""
        (self.folder / "job.toml").write_text(text)

    def start(self, ranks: int, *arguments: str) -> subprocess.Popen[str]:
        """Start a job in the background."""
        return subprocess.Popen(
            command(ranks, *arguments),
            cwd=self.folder,
            env=environment.inherited() | MPI | self._mark,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a job to its end, which has to come within two minutes."""
        process = self.start(ranks, *arguments)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def processes(self) -> list[int]:
        """Return the process ids of this launcher's jobs: mpirun and all ranks."""
        ids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [pid for pid in ids if self._mark.items() <= _environment(pid).items()]

    def ranks(self) -> dict[int, int]:
        """Return the process id of each rank of a running job."""
        found = {}
        for pid in self.processes():
            rank = _environment(pid).get("OMPI_COMM_WORLD_RANK")
            if rank is not None:
                found[int(rank)] = pid
        return found

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill mpirun and all ranks at once (SIGKILL), and wait until they are gone."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.communicate()
        while self.processes():
            time.sleep(0.01)


def _environment(pid: int) -> dict[str, str]:
    """Return the environment variables of a process; none if it is gone or another user's."""
    try:
        text = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
