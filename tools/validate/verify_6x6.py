"""The 6x6 benchmark (T = 0.05, J = 1, mu = 0) by any samplers, each against reference values.

Runs jobs/benchmark_6x6.toml as it is, with the linear model, and with the two exact moves alone, or
with the models that are named, on MPI ranks, and prints every observable with its deviation from
the reference in combined standard errors. Runs that are there already are extended, not repeated.
Exit code 1 if any deviation exceeds 3.

    python tools/validate/verify_6x6.py [--ranks 2] [--samples-scale 1.0]
    python tools/validate/verify_6x6.py --samplers gatr     # or any other of the networks
"""

import argparse
import csv
import math
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.statistics import bracket
from hpcslmc.cli.launch import run_under_mpi, variant
from hpcslmc.job.load import load_job

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "jobs/benchmark_6x6.toml"
REFERENCE = ROOT / "jobs/benchmark_6x6_reference.csv"
"""By exact HMC of an independent program: 76,800 configurations."""
VARIANTS = {  # name: (sections of the job that differ, samples per chain)
    "attention": ({}, 1000),
    "linear": ({"effective": {"model": "linear"}}, 1500),
    "exact HMC": ({"sampling": {"method": "exact"}}, 800),
    "exact Metropolis": ({"sampling": {"method": "exact", "exact_move": "metropolis"}}, 150),
}
NETWORKS = {
    name: (
        {
            "effective": {"model": name, "shells": 9},
            "learning": {"rounds": 2, "steps": 600, "batch_size": 64, "force_weight": 0.5},
        },
        200,
    )
    for name in ("lie_conv", "lie_transformer", "torchmd_et", "equiformer", "gatr", "transformer")
}
SAMPLERS = VARIANTS | NETWORKS


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument(
        "--samples-scale", type=float, default=1.0, help="multiplies the number of samples"
    )
    parser.add_argument(
        "--samplers", nargs="+", choices=SAMPLERS, default=list(VARIANTS), metavar="NAME"
    )
    options = parser.parse_args()
    with REFERENCE.open() as file:
        reference = {
            row["observable"]: (float(row["mean"]), float(row["error"]))
            for row in csv.DictReader(file)
        }
    base = load_job(str(JOB), options.ranks)
    table = Table(
        "observable",
        "reference",
        *options.samplers,
        title="mean (standard error), deviation in standard errors",
    )
    rows = {name: [bracket(*values)] for name, values in reference.items()} | {
        "acceptance": [""],
        "tau of |m(pi,pi)|^2": [""],
    }
    worst = 0.0
    for name in options.samplers:
        changes, samples = SAMPLERS[name]
        sampling = changes.get("sampling", {}) | {
            "samples": max(10, round(samples * options.samples_scale))
        }
        job = variant(
            base, changes | {"sampling": sampling}, ROOT / "out/verify_6x6" / name.replace(" ", "_")
        )
        found = run_under_mpi(job, options.ranks).summary
        for observable, (exact, exact_error) in reference.items():
            mean, error = found.of(observable), found.of(observable, "error")
            z = (mean - exact) / (math.hypot(exact_error, error) or 1e-9)
            worst = max(worst, abs(z))
            rows[observable].append(f"{bracket(mean, error)}  {z:+.1f}")
        rows["acceptance"].append(bracket(found.of("acceptance"), found.of("acceptance", "error")))
        rows["tau of |m(pi,pi)|^2"].append(f"{found.of('m2_staggered', 'tau'):.2f}")
    for observable, cells in rows.items():
        table.add_row(observable, *cells)
    Console(width=140, force_terminal=False).print(table)
    print(f"largest deviation: {worst:.1f} standard errors")
    return int(worst > 3.0)


if __name__ == "__main__":
    sys.exit(main())
