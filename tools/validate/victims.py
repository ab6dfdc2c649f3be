"""Jobs that campaigns disturb, resume and compare with undisturbed ones, and what comes of it."""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from damage import CHAINS, SMOKE, load

from hpcslmc.cli.launch import Launcher, variant
from hpcslmc.errors import UserError
from hpcslmc.job.schema import Job
from hpcslmc.learning.rounds import STAGES
from hpcslmc.simulation.phases import PHASES
from hpcslmc.storage import checkpoint
from hpcslmc.storage.hdf5 import differing

OUT = Path("out")
FAULTY_JOB = variant(
    SMOKE,
    {
        "thermalisation": {"moves": 60},
        "learning": {"configurations": 40, "steps": 150, "batch_size": 16},
        "sampling": {"chains": CHAINS, "bin_size": 4, "samples": 200},
        "output": {"checkpoint_every_s": 0.3},
    },
    OUT,
)
"""Every phase long enough to be hit, with a checkpoint every 0.3 s."""


@dataclass
class Tally:
    """What came of one kind of fault.

    Attributes
    ----------
    faults, compared : int
        Faults injected, results compared with an undisturbed run.
    problems : list of str
        Everything that should not have been.
    seconds : list of float
        From the fault to the job's end.
    where : dict
        Faults by kind.
    differences : dict
        Largest difference of a draw on other ranks, by kind of job.
    """

    faults: int = 0
    compared: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    where: dict[str, int] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)

    def count(self, where: str) -> None:
        self.faults += 1
        self.where[where] = self.where.get(where, 0) + 1
        if self.faults % 10 == 0:
            print(
                f"{self.faults} faults, the last {where}; {self.compared} ends compared, "
                f"{len(self.problems)} problems",
                file=sys.stderr,
            )

    def expect(self, fine: bool, problem: str) -> None:
        """Note a problem unless all is fine."""
        if not fine:
            self.problems.append(problem)


def newest_plain(output: Path) -> dict | None:
    """Plain values of the checkpoint that a resume would take, all checksums compared; None if
    there is none yet.
    """
    newest = output / "checkpoint.h5"
    if not newest.exists() and not checkpoint.previous(newest).exists():
        return None
    return checkpoint.load_newest(newest, load)[0][1]


def position(plain: dict | None) -> tuple:
    """How far a run is; grows along a run."""
    if plain is None:
        return ()
    learning = plain["rungs"]["0"]["learning"]
    step = learning["trainers"]["0"].get("step", 0) if learning["stage"] == "train" else 0
    return (
        PHASES.index(plain["phase"]),
        learning["round"] + (learning["stage"] == "finished"),
        STAGES.index(learning["stage"]),
        int(step),
        learning["evaluations"],
        plain["done"],
    )


class Victim:
    """A job that is disturbed and resumed until it ends, and the undisturbed results on as many
    ranks.

    Parameters
    ----------
    folder : Path
        Empty or missing.
    ranks : int
    whole : Path
        Undisturbed results.
    """

    def __init__(
        self, folder: Path, ranks: int, whole: Path, tally: Tally, job: Job = FAULTY_JOB
    ) -> None:
        folder.mkdir(parents=True)
        self.launcher, self.ranks, self.whole, self.tally = Launcher(folder), ranks, whole, tally
        self.launcher.write(job.toml())
        self.output = folder / "out"
        self.position: tuple = ()

    def start(self) -> subprocess.Popen:
        return self.launcher.start(self.ranks, "job.toml")

    def wait_for_checkpoint(self, process: subprocess.Popen, writing: bool) -> bool:
        """Wait until this life has published a checkpoint (or writes one); False if it ended."""
        published, beside = self._stamp(), self.output / "checkpoint.part"
        while process.poll() is None:
            if self._stamp() != published:
                while writing and process.poll() is None and not beside.exists():
                    time.sleep(0.0005)
                return process.poll() is None
            time.sleep(0.002)
        return False

    def _stamp(self) -> tuple:
        try:
            about = (self.output / "checkpoint.h5").stat()
        except OSError:
            return ()
        return about.st_ino, about.st_mtime_ns

    def check_checkpoint(self) -> None:
        """A good checkpoint is there, and no earlier one than after the fault before."""
        try:
            now = position(newest_plain(self.output))
        except UserError as error:
            self.tally.problems.append(str(error))
            return
        self.tally.expect(now >= self.position, f"fell back from {self.position} to {now}")
        self.position = now

    def finish(self, process: subprocess.Popen) -> None:
        """Let a life run to its end and compare the results."""
        _, said = communicate(self.launcher, process)
        code = process.returncode
        self.tally.expect(code == 0, f"the last life ended with {code}: {said[-500:]}")
        if code == 0:
            self.compare()

    def compare(self) -> None:
        """Compare the results of a job that has ended."""
        different = differing(self.whole, self.output / "results.h5")
        self.tally.expect(not different, f"results differ on {self.ranks} ranks: {different}")
        self.tally.compared += 1


def communicate(
    launcher: Launcher, process: subprocess.Popen, within_s: float = 300.0
) -> tuple[str, str]:
    """Output of a job, which is killed if it does not end."""
    try:
        return process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        launcher.kill(process)
        return "", "hung"


def undisturbed(folder: Path, ranks: int, job: Job = FAULTY_JOB) -> Path:
    """Results of a job that nothing disturbs."""
    home = folder / f"whole-{ranks}"
    home.mkdir(parents=True)
    launcher = Launcher(home)
    launcher.write(variant(job, {"output": {"checkpoint_every_s": 1000.0}}, OUT).toml())
    process = launcher.start(ranks, "job.toml")
    _, said = communicate(launcher, process)
    if process.returncode:
        raise SystemExit(f"the undisturbed job failed: {said}")
    return home / "out/results.h5"
