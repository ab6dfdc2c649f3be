"""Variants of a job, for the tools that compare samplers.

Run where they are not finished, and read.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py

from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = {
    "energy": (-1.69560, 0.00005),
    "log_weight": (33.9308, 0.0010),
    "density": (1.0, 0.0),
    "m2_staggered": (0.2916, 0.0006),
    "m2_uniform": (0.02868, 0.00012),
    "nn_correlation": (-0.2838, 0.0007),
}
"""Of the 6x6 benchmark.

Exact HMC by an independent program, 76,800 configurations; mean and standard error.
"""


@dataclass(frozen=True)
class Measured:
    """An observable of a run.

    Mean, standard error, autocorrelation time in samples, effective samples.
    """

    mean: float
    error: float
    tau: float
    ess: float


def variant(base: Job, changes: dict[str, dict], directory: Path) -> Job:
    """The job with other values in some of its sections, and a directory of its own."""
    tables = base.model_dump()
    for section, keys in changes.items():
        tables[section] |= keys
    tables["output"]["directory"] = str(directory)
    return resolve(Job.model_validate(tables))


def run(job: Job, ranks: int) -> Path:
    """Run a job, or go on from where it is; its results file.

    Nothing is started where the results of this very job are there.
    """
    directory = Path(job.output.directory)
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / "results.h5").exists():
        with h5py.File(directory / "results.h5") as file:
            if file.attrs["job"] == job.toml():
                return directory / "results.h5"
    (directory / "job.toml").write_text(job.toml())
    subprocess.run(
        [
            "mpirun",
            "-n",
            str(ranks),
            sys.executable,
            "-m",
            "hpcslmc.run",
            str(directory / "job.toml"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return directory / "results.h5"


def measured(results: Path) -> dict[str, Measured]:
    """What a run at one temperature measured, by observable."""
    with h5py.File(results) as file:
        columns = [
            file[f"summary/{key}"][()] for key in ("observable", "mean", "error", "tau", "ess")
        ]
    return {
        name.decode(): Measured(*map(float, values)) for name, *values in zip(*columns, strict=True)
    }
