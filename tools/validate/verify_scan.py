"""A ladder of temperatures against independent runs at three of them, with z-scores, and the figure
of the ladder.

    python tools/validate/verify_scan.py [--job jobs/scan.toml] [--ranks 2] [--samples 600]

Runs the job, then exact HMC at the first, a middle and the last of its temperatures, with other
random numbers, and compares energy and order. Runs that are there already are not repeated. Exit
code 1 if any deviation exceeds 4 standard errors. The figure (PNG, PDF) is in the job's output
directory.
"""

import argparse
import math
import sys
from pathlib import Path

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.results import Summary
from hpcslmc.analysis.statistics import bracket
from hpcslmc.cli.launch import run_under_mpi, variant
from hpcslmc.job.load import load_job

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import LogLocator, NullLocator  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SHOWN = {
    "m2_staggered": r"$\langle |m_{(\pi,\pi)}|^2 \rangle$",
    "energy": r"electronic energy per site [$t$]",
}


def mean_and_error(summary: Summary, name: str) -> list[tuple[float, float]]:
    """Mean and standard error of an observable, at each temperature."""
    columns = (np.ravel(summary.of(name, column)).tolist() for column in ("mean", "error"))
    return list(zip(*columns, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--job", default=str(ROOT / "jobs/scan.toml"))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument(
        "--samples",
        type=int,
        default=600,
        help="of each chain of the independent runs, a trajectory apart",
    )
    options = parser.parse_args()
    base = load_job(options.job, options.ranks)
    directory = ROOT / base.output.directory
    together = run_under_mpi(variant(base, {}, directory), options.ranks)
    temperatures = together.temperature.tolist()
    ladder = {name: mean_and_error(together.summary, name) for name in SHOWN}
    alone: dict[int, Summary] = {}
    for k in (0, len(temperatures) // 2, len(temperatures) - 1):
        changes = {
            "ensemble": {"temperature": temperatures[k], "rungs": None},
            "sampling": {
                "method": "exact",
                "moves": 1,
                "seed": base.sampling.seed + 1,
                "samples": options.samples,
            },
        }
        job = variant(base, changes, directory / f"alone_{k}")
        alone[k] = run_under_mpi(job, options.ranks).summary
    table = Table(
        "T",
        "observable",
        "ladder",
        "independent run",
        "z",
        title=f"{base.lattice.shape[0]}x{base.lattice.shape[1]}: mean (standard error)",
    )
    worst = 0.0
    for k, found in alone.items():
        for name in SHOWN:
            mean, error = ladder[name][k]
            ((exact, exact_error),) = mean_and_error(found, name)
            z = (mean - exact) / math.hypot(error, exact_error)
            worst = max(worst, abs(z))
            table.add_row(
                f"{temperatures[k]:.4g}",
                name,
                bracket(mean, error),
                bracket(exact, exact_error),
                f"{z:+.1f}",
            )
    Console(width=110, force_terminal=False).print(table)
    figure, panels = pyplot.subplots(1, 2, figsize=(7.4, 3.2), layout="constrained")
    for axes, (name, label) in zip(panels, SHOWN.items()):
        axes.errorbar(
            temperatures,
            *zip(*ladder[name]),
            marker="o",
            markersize=4,
            color="#0072B2",
            capsize=2,
            label="ladder with exchange",
        )
        axes.errorbar(
            [temperatures[k] for k in alone],
            *zip(*(mean_and_error(found, name)[0] for found in alone.values())),
            marker="s",
            fillstyle="none",
            markersize=9,
            linestyle="",
            color="#D55E00",
            capsize=4,
            label="independent exact HMC",
        )
        axes.set(xlabel=r"temperature $T / t$", ylabel=label, xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(frameon=False, fontsize=8)
    for kind in ("png", "pdf"):
        figure.savefig(directory / f"scan.{kind}", dpi=200)
    print(f"largest deviation: {worst:.1f} standard errors; figure: {directory}/scan.png")
    return int(worst > 4.0)


if __name__ == "__main__":
    sys.exit(main())
