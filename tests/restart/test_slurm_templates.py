"""The Slurm templates, with bash in Slurm's place: signal, checkpoint, requeue, second life."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from job_files import JOB

from hpcslmc.cli.launch import MPI

JOBS = Path(__file__).parents[2] / "jobs"


def executable(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("template", ["slurm_cpu.sh", "slurm_gpu.sh"])
def test_signal_requeues_and_the_second_life_finishes(tmp_path, template):
    (tmp_path / "job.toml").write_text(JOB.replace("samples = 152", "samples = 100"))
    commands = tmp_path / "commands"
    commands.mkdir()
    executable(
        commands / "scontrol",
        f"""case $1 in
show) echo JobId=$3 JobState=$(cat {tmp_path}/state) ;;
*) echo $@ >> {tmp_path}/scontrol.log ;;
esac""",
    )
    (tmp_path / "state").write_text("RUNNING")
    # Slurm would tell mpirun the ranks
    executable(commands / "mpirun", f'exec {shutil.which("mpirun")} -n 2 "$@"')
    environment = os.environ | MPI | {"HPCSLMC_VENV": sys.prefix, "SLURM_JOB_ID": "123"}
    # the environment's activation puts its own folder first in PATH, and mpirun is not there
    environment["PATH"] = f"{commands}:{environment['PATH']}"

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", str(JOBS / template), "job.toml"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    process = start()
    while not (tmp_path / "out/checkpoint.h5").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 75, out
    assert "run the same command to go on" in out
    assert (tmp_path / "scontrol.log").read_text() == "requeue 123\n"
    assert not (tmp_path / "out/results.h5").exists()
    if template == "slurm_cpu.sh":
        in_early_life(start(), signal.SIGUSR1, 138)
        assert (tmp_path / "scontrol.log").read_text() == 2 * "requeue 123\n"
        (tmp_path / "state").write_text("CANCELLED")
        in_early_life(start(), signal.SIGTERM, 138)
        (tmp_path / "state").write_text("RUNNING")
        (tmp_path / "scontrol.log").write_text("requeue 123\n")
    process = start()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert "resumed" in out and (tmp_path / "out/results.h5").exists()
    assert (tmp_path / "scontrol.log").read_text() == "requeue 123\n"


def in_early_life(process: subprocess.Popen, number: signal.Signals, code: int) -> None:
    """A signal that comes before the ranks have begun to listen."""
    time.sleep(0.4)
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == code, out
