"""A trial of jobs/slurm_cpu.sh under a real Slurm on this machine: preempted, out of time, queued
again, finished.

    python tools/validate/slurm_trial.py [--install] [--launch mpirun] [--folder FOLDER]

Starts munged, slurmctld and slurmd with a configuration, ports and keys of their own in a folder of
their own, and stops them at the end; no service of the machine is touched. A job of two ranks is
submitted to a partition where others preempt it. In its first life a job of higher priority takes
its place; in its second a user asks it to leave by ``scancel --signal``; an administrator's
``scontrol requeue``, which gives no time for a checkpoint, ends the third, and its time limit of
two minutes the fourth. The fifth has half an hour. The results are compared bit for bit with those
of a run that nothing disturbed. The exit code is 1 if they differ, or if a life that was given
notice left without a checkpoint, or if a job that its user cancels is queued again. Preemption
gives notice by the user's signal to the batch script with ``--launch mpirun`` (a setting of the
cluster, ``preempt_send_user_signal``), and by Slurm's default, SIGTERM to the steps, with
``--launch "srun --mpi=pmix"``. Debian and Ubuntu, as root: ``--install`` installs Slurm.
"""

import argparse
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from victims import FAULTY_JOB, OUT, undisturbed

from hpcslmc.cli.launch import MPI, variant
from hpcslmc.storage.hdf5 import differing

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
TEMPLATE = Path(__file__).resolve().parents[2] / "jobs/slurm_cpu.sh"
TRIAL_JOB = variant(
    FAULTY_JOB, {"sampling": {"samples": 8000}, "output": {"checkpoint_every_s": 2.0}}, OUT
)
"""Longer than the fourth life, which has to meet its time limit."""
CONFIGURATION = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=5,bf_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
{notice}
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 GraceTime=60 MaxTime=60
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF MaxTime=60
"""
"""Credentials expire after 10 s, as a job that was queued again waits for that."""
PATIENCE_S = 300.0
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


class Cluster:
    """The three daemons of a Slurm on one machine.

    Parameters
    ----------
    folder : Path
        For their files.
    launch : str
        What the template starts the ranks with.
    """

    def __init__(self, folder: Path, launch: str) -> None:
        self.folder, self.host = folder, socket.gethostname().partition(".")[0]
        self.environment = (
            os.environ
            | MPI
            | {
                "SLURM_CONF": str(folder / "slurm.conf"),
                "HPCSLMC_VENV": sys.prefix,
                "HPCSLMC_LAUNCH": launch,
            }
        )
        notice = "SlurmctldParameters=preempt_send_user_signal" if launch == "mpirun" else ""
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
        (folder / "munge.key").chmod(0o400)
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(host=self.host, ports=free_ports(2), folder=folder, notice=notice)
        )
        self._daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        try:
            self._bring_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _bring_up(self) -> None:
        files = {
            name: f"--{name}-file={self.folder}/munge.{name}"
            for name in ("key", "pid", "log", "seed")
        }
        self._start(
            "munged",
            "--foreground",
            "--force",
            f"--socket={self.folder}/munge.socket",
            *files.values(),
        )
        wait_until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._start("slurmctld", "-D", "-c")
        self._start("slurmd", "-D", "-N", self.host)
        wait_until(self._is_up, "slurmctld and slurmd")

    def _is_up(self) -> bool:
        for daemon in self._daemons:
            if daemon.poll() is not None:
                name = Path(daemon.args[0]).name
                raise SystemExit(
                    f"{name} ended: {(self.folder / f'{name}.out').read_text()[-600:]}"
                )
        return "State=IDLE" in self.say("scontrol", "show", "node", self.host)

    def __exit__(self, *about: object) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(timeout=60)

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("w") as out:
            self._daemons.append(
                subprocess.Popen(
                    command, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
            )

    def say(self, *command: str) -> str:
        """What a command of Slurm prints."""
        result = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True
        )
        return result.stdout + result.stderr

    def submit(self, *options: str) -> str:
        """Submit a job; returns its number."""
        said = self.say("sbatch", *options)
        found = re.search(r"Submitted batch job (\d+)", said)
        if not found:
            raise SystemExit(f"sbatch: {said}")
        return found[1]

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        return dict(
            entry.split("=", 1)
            for entry in self.say("scontrol", "show", "job", number).split()
            if "=" in entry
        )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that has to come."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"in vain waited for {what}")
        time.sleep(0.2)


def trial(folder: Path, launch: str) -> list[str]:
    """Run the trial and print what happens; returns what was not as it should be."""
    started, problems = time.monotonic(), []

    def tell(what: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {what}", flush=True)

    whole = undisturbed(folder / "whole", 2, TRIAL_JOB)
    tell("the undisturbed run has finished")
    home = folder / "job"
    home.mkdir()
    (home / "job.toml").write_text(TRIAL_JOB.toml())
    log, newest = home / "job.log", home / "out/checkpoint.h5"
    with Cluster(folder, launch) as cluster:
        tell(f"Slurm is up: {cluster.say('sinfo', '--version').strip()}; {launch}")
        submission = (
            "--partition=low",
            "--nodes=1",
            "--ntasks-per-node=2",
            "--time=2",
            "--signal=B:USR1@20",
            f"--chdir={home}",
            f"--output={log}",
            str(TEMPLATE),
        )
        number = cluster.submit(*submission, "job.toml")
        strikes = {  # and whether there has to be time for a checkpoint
            "a job of higher priority preempts it": (
                lambda: cluster.submit(
                    "--partition=high",
                    "--ntasks=2",
                    "--time=1",
                    "--output=/dev/null",
                    "--wrap=sleep 3",
                ),
                True,
            ),
            "scancel --signal=TERM --batch": (
                lambda: cluster.say("scancel", "--signal=TERM", "--batch", number),
                True,
            ),
            "scontrol requeue": (lambda: cluster.say("scontrol", "requeue", number), False),
            "its time limit comes near": (lambda: None, True),
        }
        before, left = 0.0, 0
        for life, (what, (strike, notice)) in enumerate(strikes.items(), 1):
            wait_until(
                lambda: (
                    cluster.job(number)["JobState"] not in ENDED
                    and newest.exists()
                    and newest.stat().st_mtime > before
                ),
                f"a checkpoint of life {life}",
            )
            tell(f"life {life} writes checkpoints; {what}")
            strike()
            wait_until(
                lambda: (
                    (about := cluster.job(number))["Restarts"] == str(life)
                    and about["JobState"] == "PENDING"
                ),
                f"restart {life}",
            )
            before, last, left = time.time(), left, log.read_text().count("stopped, a signal came")
            tell(
                f"it is queued again, having left {'with' if left > last else 'without'} a "
                "checkpoint"
            )
            problems += [f"{what}: no checkpoint"] if notice and left == last else []
        cluster.say("scontrol", "update", f"JobId={number}", "TimeLimit=30")
        wait_until(lambda: cluster.job(number)["JobState"] in ENDED, "the end")
        about = cluster.job(number)
        tell(f"{about['JobState']}, exit code {about['ExitCode']}, Restarts={about['Restarts']}")
        (home / "cancelled.toml").write_text(variant(TRIAL_JOB, {}, Path("cancelled")).toml())
        other = cluster.submit(*submission, "cancelled.toml")
        wait_until((home / "cancelled/checkpoint.h5").exists, "a checkpoint of another job")
        cluster.say("scancel", other)
        wait_until(
            lambda: (
                "JobState=COMPLETING" not in (said := cluster.say("scontrol", "show", "job", other))
                and "JobState=RUNNING" not in said
            ),
            "its end",
        )
        time.sleep(15.0)
        state = cluster.job(other)
        tell(
            f"another, which its user cancelled: {state['JobState']}, Restarts={state['Restarts']}"
        )
        problems += ["the cancelled job was queued again"] if state["Restarts"] != "0" else []
    tell("Slurm is down")
    for line in (said := log.read_text()).splitlines():
        if line.startswith(
            ("stopped,", "resumed:", "hpcslmc:", "slurmstepd", "scontrol:", "srun:")
        ):
            print(f"          {line}")
    problems += ["a traceback"] if "Traceback" in said else []
    different = (
        differing(whole, home / "out/results.h5")
        if about["JobState"] == "COMPLETED"
        else ["not finished"]
    )
    print(
        f"results of {len(strikes) + 1} lives against those of one: "
        f"{', '.join(different) or 'the same bits'}"
    )
    return problems + [f"results: {name}" for name in different]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--install",
        action="store_true",
        help="apt-get install slurm-wlm and munge first, if they are missing",
    )
    parser.add_argument(
        "--launch",
        default="mpirun",
        help='what the template starts the ranks with: mpirun, or "srun --mpi=pmix"',
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="an empty or missing one, which is kept; default: a temporary one",
    )
    options = parser.parse_args()
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing and options.install:
        subprocess.run(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", "slurm-wlm", "munge"],
            check=True,
        )
    elif missing:
        raise SystemExit(
            f"there is no {', '.join(missing)}: run it as root with --install, or install "
            "slurm-wlm and munge"
        )
    with tempfile.TemporaryDirectory(prefix="slurm-trial-") as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(exist_ok=True)
        problems = trial(folder, options.launch)
    for problem in problems:
        print(f"problem: {problem}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
