"""Jobs as users start them: mpirun in a process of its own."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

MPI = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_btl": "self,vader",
}

JOB = """
[lattice]
shape = [4, 4]
[ensemble]
temperature = 0.1
[effective]
model = "attention"
layers = 1
shells = 3
[thermalisation]
moves = 15
[learning]
rounds = 2
configurations = 10
steps = 60
batch_size = 16
[sampling]
chains = 8
samples = 152
bin_size = 4
[output]
directory = "out"
checkpoint_every_s = 0.1
"""
QUIET = JOB.replace("checkpoint_every_s = 0.1", "checkpoint_every_s = 1000")
"""With a checkpoint at the beginning and the end."""


class Launcher:
    """Runs ``mpirun -n RANKS python -m hpcslmc.run ...`` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = f"HPCSLMC_TEST={uuid.uuid4()}"

    def write(self, text: str = JOB) -> None:
        """Write job.toml."""
        (self.folder / "job.toml").write_text(text)

    def start(self, ranks: int, *arguments: str) -> subprocess.Popen:
        """Start a job in the background."""
        name, value = self._mark.split("=")
        command = ["mpirun", "-n", str(ranks), sys.executable, "-m", "hpcslmc.run", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | MPI | {name: value},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, ranks: int, *arguments: str) -> subprocess.CompletedProcess:
        """Run a job to its end."""
        process = self.start(ranks, *arguments)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def processes(self) -> list[int]:
        """Processes of this launcher's jobs, mpirun and all ranks."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if self._mark.encode() in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def ranks(self) -> dict[int, int]:
        """Process of each rank of a running job."""
        found = {}
        for pid in self.processes():
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            found |= {
                int(entry.split(b"=")[1]): pid
                for entry in environment
                if entry.startswith(b"OMPI_COMM_WORLD_RANK=")
            }
        return found

    def kill(self, process: subprocess.Popen) -> None:
        """kill -9 everything at once."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.communicate()
        while self.processes():
            time.sleep(0.01)
