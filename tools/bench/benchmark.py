"""Processor time of an independent sample, by sampler and lattice size.

    python tools/bench/benchmark.py [--sizes 6 8 12 16] [--ranks 2] [--scale 1.0]
    [--methods NAME ...] [--finished]

T = 0.05, J = 1, half filling. Every sampler runs as a job of its own under mpirun, on as many
chains, and measures the same observables; finished runs are not repeated. The time of an
independent sample is the processor time of all ranks while sampling, divided by the effective
number of samples of |m(pi,pi)|^2 (and of the energy): that of the exact tests, the moves and the
measurements. What comes before sampling is shown apart: thermalisation and learning together, and
their share when 10,000 independent samples are taken.

Metropolis by diagonalisation makes the same chain as Metropolis by Green's functions, number by
number; its time of a sample is theirs with a sweep's time replaced by that of one diagonalisation a
site, measured here. Models of attention are learned on 8x8 at most, those of message passing on
12x12 by jobs/curriculum/run, and used unchanged on larger lattices; the linear model is fitted at
each size. Errors are those of a jackknife over eight groups of chains.

The table and a figure (PNG, PDF) go to out/benchmark. Reference figures of other programs: see
REFERENCES.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from timing import medians

from hpcslmc.analysis.results import Results
from hpcslmc.analysis.statistics import bracket, estimate
from hpcslmc.cli.launch import run_under_mpi, variant
from hpcslmc.job.load import load_job
from hpcslmc.job.schema import Job
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream
from hpcslmc.weight.diagonalise import Diagonalise

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import NullLocator  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "out/benchmark"
GROUPS = 8
AMORTISED = 10_000
SHORTEST = 5.0
"""Fewest samples of a chain, in autocorrelation times."""
SIZES = {6: (64, 400), 8: (64, 250), 12: (32, 150), 16: (16, 150), 24: (8, 120), 32: (8, 80)}
"""Chains and samples of a chain, by length of the lattice."""
THERMALISATION = 30
"""Exact moves before anything is learned or kept.

More than 20 autocorrelation times of |m(pi,pi)|^2 for either move.
"""
EXACT, METROPOLIS, LINEAR, ATTENTION, MESSAGES, SHORT, GUIDED, DENSE = (
    "exact HMC",
    "Metropolis, Green's functions",
    "SLMC, linear",
    "SLMC, attention",
    "SLMC, messages",
    "SLMC, messages, 1 trajectory",
    "HMC guided by messages",
    "Metropolis, diagonalisation",
)
FEWER = {
    METROPOLIS: {12: (16, 120), 16: (8, 80), 24: (8, 30), 32: (4, 24)},
    EXACT: {24: (8, 50), 32: (8, 100)},
    LINEAR: {32: (8, 60)},
    ATTENTION: {12: (8, 100), 16: (8, 80), 24: (8, 60), 32: (8, 40)},
}
"""...of samplers that are slow, or slow to thermalise."""
COLOURS = dict(
    zip(
        (DENSE, METROPOLIS, EXACT, LINEAR, ATTENTION, MESSAGES, SHORT, GUIDED),
        ("#000000", "#56B4E9", "#D55E00", "#999999", "#0072B2", "#009E73", "#CC79A7", "#E69F00"),
    )
)
REFERENCES = {6: 0.0101, 8: 0.067, 12: 1.03, 16: 9.8}
"""Seconds of one Metropolis sweep of SPF, an exact C++ code that diagonalises, by length.

Measured elsewhere, on one core.
"""


@dataclass(frozen=True)
class Cost:
    """Processor seconds of an independent sample of |m(pi,pi)|^2 and of the energy, with errors; of
    one sample; before sampling.

    A chain that is too short for its tau gives a lower bound only.
    """

    order: tuple[float, float]
    energy: tuple[float, float]
    sample: float
    before: float
    tau: float
    acceptance: float
    samples: int

    @property
    def resolved(self) -> bool:
        """Whether a chain has samples enough for its tau."""
        return self.samples >= SHORTEST * self.tau

    def shown(self, pair: tuple[float, float]) -> str:
        """One of the costs, or its lower bound."""
        return bracket(*pair) if self.resolved else f"> {pair[0]:.2g}"


def directory(method: str, length: int) -> Path:
    """Where a sampler's run is."""
    return OUT / f"{length}x{length}" / method.replace(" ", "_").replace(",", "")


def changes(method: str, length: int, base: Job) -> dict[str, dict]:
    """What makes the base job one of a sampler."""
    shells = len(Lattice((length, length)).shells)
    learning = {"rounds": 1, "configurations": 60, "steps": 800, "batch_size": 64}
    if method in (EXACT, METROPOLIS):
        return {
            "sampling": {
                "method": "exact",
                "exact_move": "hmc" if method == EXACT else "metropolis",
                "moves": 1,
            }
        }
    if method == LINEAR:
        return {
            "effective": {"model": "linear", "shells": shells},
            "learning": learning | {"steps": 100},
        }
    if method == ATTENTION and length > 8:
        effective = {
            "model": "attention",
            "layers": 3,
            "shells": 14,
            "start_from": str(directory(method, 8)),
        }
        return {"effective": effective, "learning": {"rounds": 0, "configurations": 20}}
    if method == ATTENTION:
        return {
            "effective": {"model": "attention", "layers": 3, "shells": min(shells, 14)},
            "learning": learning | {"force_weight": 0.5},
        }
    if length < 12:
        effective = {"model": "messages", "layers": 1, "channels": 8, "shells": shells}
        learning |= {"force_weight": 0.5, "steps": 1500}
    else:
        effective = {
            "model": "messages",
            "layers": 1,
            "channels": 8,
            "start_from": str(ROOT / "out/curriculum/12x12"),
            "shells": 14,
        }
        learning = {"rounds": 0, "configurations": 20}
    sampling = {SHORT: {"moves": 1}, GUIDED: {"method": "guided", "moves": 1}}.get(method, {})
    return {"effective": effective, "learning": learning, "sampling": sampling}


def independent(draws: np.ndarray, seconds: float) -> tuple[float, float]:
    """Seconds of an independent sample from draws (chains, draws) that took so many seconds, and
    its standard error by jackknife.
    """

    def cost(part: np.ndarray) -> float:
        return seconds * len(part) / len(draws) / estimate(part).ess

    groups = np.array_split(np.arange(len(draws)), min(GROUPS, len(draws)))
    without = [cost(np.delete(draws, group, 0)) for group in groups]
    return cost(draws), float(np.std(without) * np.sqrt(len(groups) - 1))


def cost(results: Results) -> Cost:
    """Of a finished run."""
    seconds, order = results.cpu_seconds["sample"], results.draws["m2_staggered"]
    energy, acceptance = results.draws["energy"], results.draws["acceptance"]
    before = sum(results.cpu_seconds[phase] for phase in ("thermalise", "learn", "tune"))
    return Cost(
        independent(order, seconds),
        independent(energy, seconds),
        seconds / order.size,
        before,
        estimate(order).tau,
        float(acceptance.mean()),
        order.shape[1],
    )


def sweep_by_diagonalisation(length: int) -> float:
    """Processor seconds of a Metropolis sweep of one chain with all eigenvalues for every site."""
    lattice = Lattice((length, length))
    weight = Diagonalise(Ensemble(Hamiltonian(lattice, 1.0, 1.0), 20.0, 0.0))
    spins = Stream(1, torch.arange(4), "start").directions(lattice.sites)
    seconds = medians({"log W": lambda: weight.log_weight(spins)}, clock=time.process_time)
    return seconds["log W"] / len(spins) * lattice.sites


def by_diagonalisation(metropolis: Cost, length: int) -> Cost:
    """The cost of the same chain with other sweeps."""
    sweep = sweep_by_diagonalisation(length)
    ratio = sweep / metropolis.sample
    return Cost(
        *(tuple(ratio * x for x in pair) for pair in (metropolis.order, metropolis.energy)),
        sweep,
        metropolis.before * ratio,
        metropolis.tau,
        metropolis.acceptance,
        metropolis.samples,
    )


def show(costs: dict[tuple[str, int], Cost]) -> Table:
    """One row a sampler and size."""
    table = Table(
        "lattice",
        "sampler",
        "acceptance",
        "tau of |m|^2\n(samples)",
        "CPU s\na sample",
        "CPU s an independent\nsample of |m|^2",
        "...of the energy",
        "ratio to Metropolis\nby diagonalisation",
        "CPU s before\nsampling",
        f"...a sample of\n{AMORTISED}",
        title="Processor time of an independent sample (standard error)",
    )
    for length in sorted({length for _, length in costs}):
        dense = costs.get((DENSE, length))
        for method in COLOURS:
            if it := costs.get((method, length)):
                bound = "" if not dense or dense.resolved else "> "
                ratio = (
                    f"{bound}{dense.order[0] / it.order[0]:.1f}" if dense and it.resolved else "-"
                )
                table.add_row(
                    f"{length}x{length}",
                    method,
                    f"{it.acceptance:.3f}",
                    f"{it.tau:.2f}",
                    f"{it.sample:.3g}",
                    it.shown(it.order),
                    it.shown(it.energy),
                    ratio,
                    f"{it.before:.0f}",
                    f"{it.before / AMORTISED:.2g}",
                )
        if dense and length in REFERENCES:
            seconds = 2.0 * dense.tau * REFERENCES[length]
            table.add_row(
                f"{length}x{length}",
                "SPF (C++), measured elsewhere, same tau",
                "",
                f"{dense.tau:.2f}",
                f"{REFERENCES[length]:.3g}",
                f"{seconds:.3g}",
                "",
                f"{dense.order[0] / seconds:.1f}",
                "",
                "",
            )
        table.add_section()
    return table


def draw(costs: dict[tuple[str, int], Cost]) -> None:
    """Seconds of an independent sample against the number of sites."""
    figure, axes = pyplot.subplots(figsize=(5.2, 4.0), layout="constrained")
    for method, colour in COLOURS.items():
        points = sorted(
            (length**2, *it.order)
            for (name, length), it in costs.items()
            if name == method and it.resolved
        )
        if points:
            sites, seconds, errors = zip(*points, strict=True)
            axes.errorbar(
                sites,
                seconds,
                errors,
                marker="o",
                markersize=4,
                capsize=2,
                color=colour,
                label=method,
            )
    elsewhere = [
        (length**2, 2.0 * costs[DENSE, length].tau * seconds)
        for length, seconds in REFERENCES.items()
        if (DENSE, length) in costs
    ]
    if elsewhere:
        axes.plot(
            *zip(*elsewhere),
            marker="D",
            fillstyle="none",
            linestyle="",
            color=COLOURS[DENSE],
            label="SPF (C++), measured elsewhere, same tau",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="sites $N$",
        ylabel=r"CPU seconds per independent sample of $|m_{(\pi,\pi)}|^2$",
    )
    axes.set_xticks(sorted({length**2 for _, length in costs}))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False, fontsize=6)
    for kind in ("png", "pdf"):
        figure.savefig(OUT / f"benchmark.{kind}", dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=COLOURS,
        default=[method for method in COLOURS if method != DENSE],
        metavar="NAME",
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of samples")
    parser.add_argument(
        "--finished", action="store_true", help="show the runs that are there, start none"
    )
    options = parser.parse_args()
    prepare_process()
    costs: dict[tuple[str, int], Cost] = {}
    for length in options.sizes:
        base = load_job(str(ROOT / "jobs/benchmark_6x6.toml"), options.ranks)
        for method in options.methods:
            if options.finished and not (directory(method, length) / "results.h5").exists():
                continue
            chains, samples = FEWER.get(method, {}).get(length, SIZES[length])
            made = changes(method, length, base) | {"thermalisation": {"moves": THERMALISATION}}
            made["sampling"] = {
                "chains": chains,
                "samples": max(8, round(options.scale * samples)),
            } | made.get("sampling", {})
            made["lattice"] = {"shape": (length, length)}
            costs[method, length] = cost(
                run_under_mpi(variant(base, made, directory(method, length)), options.ranks)
            )
            print(
                f"{length}x{length}, {method}: "
                f"{costs[method, length].shown(costs[method, length].order)} CPU s",
                flush=True,
            )
        if (METROPOLIS, length) in costs:
            costs[DENSE, length] = by_diagonalisation(costs[METROPOLIS, length], length)
    table = show(costs)
    Console(width=190, force_terminal=False).print(table)
    with (OUT / "benchmark.txt").open("w") as file:
        Console(width=190, file=file).print(table)
    draw(costs)


if __name__ == "__main__":
    main()
