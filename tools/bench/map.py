"""Where learning holds: acceptance and cost of an independent sample, by J, filling, T and size.

    python tools/bench/map.py [--lengths 8 16 32] [--points J,mu,T ...] [--J 1 2 4 8 16]
    [--fillings 1 0.9 0.7 0.5 0.3] [--T 0.1 0.05 0.02] [--chains 16] [--samples 100] [--limit 3600]
    [--trajectory L] [--finished] [--markdown]

Each point is a job of its own that names no key of learning, with the defaults of every other key
but ``--trajectory``, if that is given, on one core. The table has the acceptance of the exact test,
the error of log W at the end of learning, tau of the energy and of the largest S(q), and processor
time of an independent sample of each in units of one exact log W of that lattice, which is timed on
the run's own spins, now and then while it samples: what slows the machine down slows both.
``--points`` are chemical potentials in place of fillings. Points that have been measured are lines
of ``--results``, to which several of these processes may add, and are not run again; ``--finished``
shows and draws all that is there, ``--markdown`` prints the table of a page: acceptance, then the
cost of an independent sample of the energy and of the largest S(q). A point that failed is shown
with its reason.
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.statistics import bracket, estimate
from hpcslmc.job.load import make_job
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.physics.field import structure_factor
from hpcslmc.simulation.build import required
from hpcslmc.simulation.simulation import Simulation

TIMINGS = 12
"""Times that the exact log W of all chains is timed while a point samples."""


def job_of(point: dict) -> dict:
    """The job of a point: its parameters, and nothing about learning."""
    ensemble = {"temperature": point["T"]}
    hamiltonian = {"J": point["J"]}
    if "mu" in point:
        hamiltonian["mu"] = point["mu"]
    elif point["filling"] != 1.0:
        ensemble["filling"] = point["filling"]
    sampling = {key: point[key] for key in ("chains", "samples", "trajectory") if key in point}
    effective = {"model": point["model"]} if point["model"] else {}
    return {
        "lattice": {"shape": [point["length"]] * 2},
        "hamiltonian": hamiltonian,
        "ensemble": ensemble,
        "effective": effective,
        "sampling": sampling,
    }


def measure(point: dict) -> dict:
    """Run a point's job to its end, and work out what the table shows."""
    simulation = Simulation(make_job(job_of(point)))
    rung, shape = simulation.rungs[0], (point["length"],) * 2
    powers: list[np.ndarray] = []
    seconds = {"before": 0.0, "sampling": 0.0}
    exact: list[float] = []
    every = max(1, point["samples"] // TIMINGS)
    began = time.process_time()

    def note() -> None:
        nonlocal began
        sampling = simulation.phase.name == "sample" and simulation.phase.done > 0
        seconds["sampling" if sampling else "before"] += time.process_time() - began
        if sampling:
            spins = rung.measured
            powers.append(structure_factor(spins, shape).flatten(1).numpy())
            if len(powers) % every == 0:
                start = time.process_time()
                rung.weight.density.evaluate(spins)
                exact.append((time.process_time() - start) / len(spins))
        began = time.process_time()

    simulation.run(note)
    learning, exact_s = required(rung.learning), float(np.mean(exact))
    powers_of = np.stack(powers, 1)  # (chains, samples, momenta)
    peak = int(powers_of.mean((0, 1)).argmax())
    draws = {name: rung.bins.draws[:, :, k] for k, name in enumerate(rung.bins.names)}
    series = {"energy": draws["energy"], "peak": powers_of[:, :, peak]}
    total = point["chains"] * point["samples"]
    sample_s = seconds["sampling"] / total

    def cost(of: np.ndarray) -> float:
        """Exact log W that an independent sample costs."""
        return sample_s / exact_s * of.size / estimate(of).ess

    def error(of: np.ndarray) -> float:
        """Half the difference between two halves of the chains."""
        half = len(of) // 2
        return 0.5 * abs(cost(of[:half]) - cost(of[half:]))

    acceptance = estimate(draws["acceptance"])
    return {
        "acceptance": [acceptance.mean, acceptance.error],
        "mse": learning.history[-1]["mse_per_site"],
        "density": float(draws["density"].mean()),
        "peak": [2 * part / point["length"] for part in divmod(peak, point["length"])],
        "tau": {name: estimate(of).tau for name, of in series.items()},
        "cost": {name: [cost(of), error(of)] for name, of in series.items()},
        "exact_s": exact_s,
        "sample": sample_s / exact_s,
        "learned_share": seconds["before"] / seconds["sampling"],
        "remarks": learning.remarks,
        "trajectory": rung.sampler.describe(),
    }


def finished(path: Path) -> list[dict]:
    """Results of the points that have been measured."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_point(path: Path, point: dict, limit_s: int) -> None:
    """Measure a point in a process of its own, and add a line of results.

    After ``limit_s`` seconds it counts as one that cannot be reached.
    """
    command = [sys.executable, __file__, "--measure", json.dumps(point)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        found = json.loads(lines[-1]) if done.returncode == 0 else {"failed": lines[-1]}
    except subprocess.TimeoutExpired:
        found = {"failed": f"not in {limit_s} s"}
    with path.open("a") as results:
        results.write(json.dumps({"point": point, **found}) + "\n")


def frequencies(remarks: list[str]) -> str:
    """Frequencies of the determinants of each level, in units of pi T."""
    found = [re.search(r"determinants at (.*) pi T|no determinants", remark) for remark in remarks]
    return "; ".join(match[1] or "none" for match in found if match)


def tabulated(results: list[dict]) -> Table:
    """The table of all points."""
    table = Table(
        *("L", "J", "n", "T", "acceptance", "MSE / N", "w / pi T"),
        *(
            "q / pi",
            "tau energy",
            "tau S(q)",
            "sample",
            "cost energy",
            "cost S(q)",
            "before / sampling",
        ),
        title="Cost of a sample, and of an independent one, in exact log W",
    )
    for result in results:
        point = result["point"]
        start = [str(point["length"]), f"{point['J']:g}"]
        if "failed" in result:
            table.add_row(
                *start, f"{point.get('filling', '')}", f"{point['T']:g}", result["failed"]
            )
            continue
        table.add_row(
            *start,
            f"{result['density']:.3f}",
            f"{point['T']:g}",
            bracket(*result["acceptance"]),
            f"{result['mse']:.1e}",
            frequencies(result["remarks"]),
            "({:.2g}, {:.2g})".format(*result["peak"]),
            *(f"{result['tau'][name]:.2f}" for name in ("energy", "peak")),
            f"{result['sample']:.3g}",
            *(bracket(*result["cost"][name]) for name in ("energy", "peak")),
            f"{result['learned_share']:.2g}",
        )
    return table


def markdown(results: list[dict]) -> str:
    """The table of a page: a row for each size, J and filling, a column for each temperature."""
    temperatures = sorted({r["point"]["T"] for r in results}, reverse=True)
    rows: dict[tuple, dict[float, str]] = {}
    for result in results:
        point = result["point"]
        place = point["length"], point["J"], point.get("filling", f"mu = {point.get('mu')}")
        if "failed" in result:
            words = result["failed"]
        else:
            costs = (bracket(*result["cost"][name]) for name in ("energy", "peak"))
            words = "; ".join((bracket(*result["acceptance"]), *costs))
        rows.setdefault(place, {})[point["T"]] = words
    head = ["L", "J", "n", *(f"T = {T:g}" for T in temperatures)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for (length, J, n), found in sorted(
        rows.items(), key=lambda row: (*row[0][:2], str(row[0][2]))
    ):
        cells = [str(length), f"{J:g}", str(n), *(found.get(T, "") for T in temperatures)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results: list[dict], path: Path) -> None:
    """Draw acceptance and cost against filling, a panel for each size and temperature.

    A cross on the lower edge is a point that was not reached.
    """
    good = [r for r in results if "failed" not in r]
    sizes = sorted({r["point"]["length"] for r in results})
    temperatures = sorted({r["point"]["T"] for r in results}, reverse=True)
    couplings = sorted({r["point"]["J"] for r in results})
    figure, axes = plt.subplots(
        2 * len(sizes),
        len(temperatures),
        figsize=(4.2 * len(temperatures), 5.2 * len(sizes)),
        squeeze=False,
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    floor = min([0.9, *(r["acceptance"][0] - 0.02 for r in good)])
    for (row, length), (column, T) in itertools.product(enumerate(sizes), enumerate(temperatures)):
        above, below = axes[2 * row, column], axes[2 * row + 1, column]
        for number, J in enumerate(couplings):
            place = {"length": length, "T": T, "J": J}
            here = [r for r in results if place.items() <= r["point"].items()]
            of = sorted(
                (r["density"], *r["acceptance"], *max(r["cost"].values()))
                for r in here
                if "failed" not in r
            )
            density, acceptance, error, cost, spread = zip(*of, strict=True) if of else ((),) * 5
            how = {"marker": "o", "capsize": 2, "color": f"C{number}", "label": f"J = {J:g}"}
            above.errorbar(density, acceptance, error, **how)
            below.errorbar(density, cost, spread, **how)
            lost = [
                r["point"]["filling"] for r in here if "failed" in r and "filling" in r["point"]
            ]
            shifted = [n + 0.008 * (number - 2) for n in lost]
            above.plot(shifted, [floor + 0.003] * len(lost), "x", color=f"C{number}")
        if not any({"length": length, "T": T}.items() <= r["point"].items() for r in results):
            for empty in (above, below):
                empty.text(0.5, 0.5, "not measured", transform=empty.transAxes, ha="center")
        above.set(title=f"{length}x{length}, T = {T:g} t", ylim=(floor, 1.004))
        below.set(xlabel="electrons / site", yscale="log")
    for row in range(len(sizes)):
        axes[2 * row, 0].set_ylabel("acceptance of the exact test")
        axes[2 * row + 1, 0].set_ylabel(
            "exact log W an independent sample\nof energy or S(q), the slower"
        )
    axes[0, -1].legend(loc="lower left")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--points", nargs="+", default=[])
    parser.add_argument("--J", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0, 16.0])
    parser.add_argument("--fillings", type=float, nargs="+", default=[1.0, 0.9, 0.7, 0.5, 0.3])
    parser.add_argument("--T", type=float, nargs="+", default=[0.1, 0.05, 0.02])
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--model", default="")
    parser.add_argument("--trajectory", type=float)
    parser.add_argument("--results", type=Path, default=Path("out/map.jsonl"))
    parser.add_argument("--limit", type=int, default=3600, help="seconds a point may take")
    parser.add_argument("--finished", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        prepare_process()
        print(json.dumps(measure(options.measure)))
        return
    options.results.parent.mkdir(parents=True, exist_ok=True)
    if options.points:
        given = [
            dict(zip(("J", "mu", "T"), map(float, p.split(",")), strict=True))
            for p in options.points
        ]
    else:
        grid = itertools.product(options.J, options.fillings, options.T)
        given = [dict(zip(("J", "filling", "T"), values, strict=True)) for values in grid]
    run = {"chains": options.chains, "samples": options.samples, "model": options.model}
    if options.trajectory is not None:
        run["trajectory"] = options.trajectory
    points = [{"length": length} | p | run for length in options.lengths for p in given]
    for number, point in enumerate([] if options.finished else points):
        if point not in [result["point"] for result in finished(options.results)]:
            run_point(options.results, point, options.limit)
        print(f"{number + 1}/{len(points)}", point, file=sys.stderr, flush=True)
    results = finished(options.results)
    if not options.finished:
        results = [result for result in results if result["point"] in points]
    if options.markdown:
        print(markdown(results))
    else:
        Console(width=190).print(tabulated(results))
    if results and not all("failed" in r for r in results):
        draw(results, options.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
