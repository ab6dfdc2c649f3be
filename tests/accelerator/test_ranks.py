"""Which device each rank of a job takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import simulated_accelerator
from simulated_accelerator import set_devices

from hpcslmc.cli.launch import MPI
from hpcslmc.parallel.hardware import device as own_device
from hpcslmc.parallel.world import World

JOB = """
[lattice]
shape = [4, 4]
[ensemble]
temperature = 0.5
[thermalisation]
moves = 2
[sampling]
method = "exact"
chains = 4
samples = 4
[output]
directory = "out"
"""


@pytest.mark.parametrize(
    ("local_rank", "devices", "expected"),
    [(0, 1, "simulated:0"), (1, 2, "simulated:1"), (5, 2, "simulated:1"), (1, 0, "cpu")],
)
def test_accelerators_are_shared_out_by_local_rank(local_rank, devices, expected):
    set_devices(devices)
    world = World()
    world.local_rank = local_rank
    assert own_device(world) == expected


def run(folder: Path, *devices: int) -> subprocess.CompletedProcess:
    """Run the job on as many ranks as numbers of devices are given, one for each rank."""
    (folder / "job.toml").write_text(JOB)
    command = ["mpirun"]
    for count in devices:
        command += [":"] if len(command) > 1 else []
        command += ["-n", "1", "env", f"SIMULATED_ACCELERATORS={count}", sys.executable]
        command += ["-m", "hpcslmc.run", "--import", "simulated_accelerator", "job.toml"]
    support = str(Path(simulated_accelerator.__file__).parents[1])
    path = os.pathsep.join(filter(None, (support, os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | MPI | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_job_takes_the_accelerators_that_there_are(tmp_path):
    result = run(tmp_path, 1, 1)
    assert result.returncode == 0, result.stderr
    assert "4 chains on 2 ranks, simulated:0, 1 thread a rank" in result.stdout


def test_ranks_with_and_without_an_accelerator_are_refused(tmp_path):
    result = run(tmp_path, 1, 0)
    assert result.returncode == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("hpcslmc")] == [
        "hpcslmc: the ranks of a job have to work on devices of one kind, and rank 0 has "
        "simulated, rank 1 has cpu: ask for an accelerator for every rank, or for none."
    ]
