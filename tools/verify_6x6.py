"""The 6x6 benchmark (T = 0.05, J = 1, mu = 0) by four samplers, each against reference values.

Runs jobs/benchmark_6x6.toml as it is, with the linear model, and with the two exact moves alone, on MPI ranks, and
prints every observable with its deviation from the reference in combined standard errors. Runs that are there already
are extended, not repeated. Exit code 1 if any deviation exceeds 3.

    python tools/verify_6x6.py [--ranks 2] [--samples-scale 1.0]
"""

import argparse
import math
import subprocess
import sys
from pathlib import Path

import h5py
from rich.console import Console
from rich.table import Table

from hpcslmc.config import Job, load_job
from hpcslmc.measure.statistics import bracket

ROOT = Path(__file__).resolve().parent.parent

# Exact HMC by an independent program, 76,800 configurations: mean and standard error.
REFERENCE = {
    "energy": (-1.69560, 0.00005),
    "log_weight": (33.9308, 0.0010),
    "density": (1.0, 0.0),
    "m2_staggered": (0.2916, 0.0006),
    "m2_uniform": (0.02868, 0.00012),
    "nn_correlation": (-0.2838, 0.0007),
}

VARIANTS = {  # name: (sections of the job that differ, samples per chain)
    "attention": ({}, 1000),
    "linear": ({"effective": {"model": "linear", "layers": None}}, 1500),
    "exact HMC": ({"sampling": {"method": "exact"}}, 800),
    "exact Metropolis": ({"sampling": {"method": "exact", "exact_move": "metropolis"}}, 150),
}


def variant(base: Job, name: str, scale: float) -> Job:
    """The benchmark job by another sampler."""
    changes, samples = VARIANTS[name]
    tables = base.model_dump()
    for section, keys in changes.items():
        tables[section] |= keys
    tables["sampling"]["samples"] = max(10, round(samples * scale))
    tables["output"]["directory"] = str(ROOT / "out/verify_6x6" / name.replace(" ", "_"))
    return Job.model_validate(tables)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--samples-scale", type=float, default=1.0, help="multiplies the number of samples")
    options = parser.parse_args()
    base = load_job(str(ROOT / "jobs/benchmark_6x6.toml"), options.ranks)
    table = Table("observable", "reference", *VARIANTS, title="mean (standard error), deviation in standard errors")
    rows = {name: [bracket(*REFERENCE[name])] for name in REFERENCE} | {"acceptance": [""], "tau of |m(pi,pi)|^2": [""]}
    worst = 0.0
    for name in VARIANTS:
        job = variant(base, name, options.samples_scale)
        directory = Path(job.output.directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "job.toml").write_text(job.toml())
        subprocess.run(["mpirun", "-n", str(options.ranks), sys.executable, "-m", "hpcslmc.run", str(directory / "job.toml")],
                       check=True, stdout=subprocess.DEVNULL)
        with h5py.File(directory / "results.h5") as file:
            summary = {key: file[f"summary/{key}"][()] for key in ("observable", "mean", "error", "tau")}
        found = {o.decode(): (m, e, t) for o, m, e, t in zip(*summary.values())}
        for observable, (mean, error) in REFERENCE.items():
            measured, its_error, _ = found[observable]
            spread = math.hypot(error, its_error) or 1e-9
            z = (measured - mean) / spread
            worst = max(worst, abs(z))
            rows[observable].append(f"{bracket(measured, its_error)}  {z:+.1f}")
        rows["acceptance"].append(bracket(*found["acceptance"][:2]))
        rows["tau of |m(pi,pi)|^2"].append(f"{found['m2_staggered'][2]:.2f}")
    for observable, cells in rows.items():
        table.add_row(observable, *cells)
    Console(width=140, force_terminal=False).print(table)
    print(f"largest deviation: {worst:.1f} standard errors")
    return int(worst > 3.0)


if __name__ == "__main__":
    sys.exit(main())
