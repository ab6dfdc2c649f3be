"""Three figures of self-learning Monte Carlo on the 6x6 benchmark, from runs of
jobs/benchmark_6x6.toml and its variants.

    python tools/study/talk_figures.py [--ranks 2] [--samples 300]

(a) acceptance against layers: attention and CNN of 1 to 6 layers beside the linear model, and
message passing; (b) staggered magnetisation and energy against temperature, self-learning against
exact moves; (c) acceptance against the validation error of log W with exp(-s) and erfc(s/2), and
that error against the number of parameters.

Runs go to out/talk_figures/NAME and are not repeated where they are finished; figures (PNG and PDF)
and the table beside them.
"""

import argparse
import csv
import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.statistics import bracket
from hpcslmc.cli.launch import run_under_mpi, variant
from hpcslmc.job.load import load_job
from hpcslmc.job.schema import Job

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "out/talk_figures"
REFERENCE = ROOT / "jobs/benchmark_6x6_reference.csv"
COLOURS = {
    "linear": "#000000",
    "attention": "#0072B2",
    "cnn": "#E69F00",
    "messages": "#009E73",
}  # Okabe and Ito
MARKERS = {"linear": "D", "attention": "o", "cnn": "s", "messages": "^"}
LABELS = {"linear": "linear", "attention": "attention", "cnn": "CNN", "messages": "message passing"}
LAYERS = range(1, 7)
TEMPERATURES = (0.05, 0.08, 0.12, 0.2, 0.4)

# sections of the job that differ from the benchmark, by name
MODELS = {
    "linear": {"effective": {"model": "linear"}},
    **{
        f"{name} {layers}": {"effective": {"model": name, "layers": layers}}
        for name in ("attention", "cnn")
        for layers in LAYERS
    },
    **{
        f"messages {layers}, {channels} channels": {
            "effective": {"model": "messages", "layers": layers, "channels": channels, "shells": 9},
            "learning": {"force_weight": 0.5, "batch_size": 64, "steps": steps},
        }
        for layers, channels, steps in ((1, 2, 1500), (1, 4, 1500), (1, 8, 1500), (2, 12, 2500))
    },
    "messages 1, 8 channels, no forces": {
        "effective": {"model": "messages", "layers": 1, "channels": 8, "shells": 9},
        "learning": {"batch_size": 64, "steps": 1500},
    },
}
SCAN = {
    f"{method} at {t:g}": {
        "ensemble": {"temperature": t},
        "sampling": {"method": method},
        "effective": {"model": "attention", "layers": 3},
    }
    for t in TEMPERATURES
    for method in ("slmc", "exact")
}


@dataclass
class Result:
    """What a run found.

    Means with standard errors, and of the round that was kept the validation error and acceptance.
    """

    observables: dict[str, tuple[float, float]]
    parameters: int = 0
    mse: float = math.nan


def run_one(base: Job, name: str, changes: dict, ranks: int, samples: int) -> Result:
    """Run a variant of the benchmark, or go on from where it is."""
    changes = changes | {
        section: changes.get(section, {}) | keys
        for section, keys in {"learning": {"rounds": 1}, "sampling": {"samples": samples}}.items()
    }
    job = variant(base, changes, OUT / name.replace(",", "").replace(" ", "_"))
    found = run_under_mpi(job, ranks)
    summary = found.summary
    result = Result(
        {
            observable: (float(summary.of(observable)), float(summary.of(observable, "error")))
            for observable in summary.names
        }
    )
    rounds = found.rounds
    if len(rounds["mse"]):
        result.mse = float(rounds["mse"][np.argmax(rounds["acceptance"])])
    model = Path(job.output.directory) / "model.h5"
    if model.exists():
        with h5py.File(model) as file:
            file.visititems(lambda _, item: add(result, item))
    return result


def add(result: Result, item: h5py.Group | h5py.Dataset) -> None:
    if isinstance(item, h5py.Dataset):
        result.parameters += item.size


def family(name: str) -> str:
    """Kind of model of a variant."""
    return name.split()[0].rstrip(",")


def layers_figure(results: dict[str, Result]) -> None:
    """Draw figure (a)."""
    figure, axes = pyplot.subplots(figsize=(4.6, 3.4), layout="constrained")
    linear = results["linear"].observables["acceptance"]
    for kind in ("attention", "cnn"):
        points = [linear] + [
            results[f"{kind} {layers}"].observables["acceptance"] for layers in LAYERS
        ]
        axes.errorbar(
            [0, *LAYERS],
            *zip(*points),
            marker=MARKERS[kind],
            color=COLOURS[kind],
            label=LABELS[kind],
            capsize=2,
        )
    for name in [
        name for name in results if family(name) == "messages" and name.endswith("channels")
    ]:
        acceptance, error = results[name].observables["acceptance"]
        layers, _, channels = name.removeprefix("messages ").partition(", ")
        axes.errorbar(
            [int(layers)],
            [acceptance],
            [error],
            marker=MARKERS["messages"],
            color=COLOURS["messages"],
            linestyle="",
            label=LABELS["messages"] if channels.startswith("2 ") else None,
            capsize=2,
        )
        shift = {"2": -12, "4": -4}.get(channels.split()[0], 2)  # else the labels would overlap
        axes.annotate(
            channels,
            (int(layers), acceptance),
            xytext=(-6, shift),
            textcoords="offset points",
            fontsize=7,
            ha="right",
        )
    axes.set(
        xlabel="layers (0: linear model)", ylabel="acceptance of the exact test", ylim=(0.0, 1.0)
    )
    axes.legend(frameon=False, loc="lower right")
    save(figure, "acceptance_layers")


def temperature_figure(results: dict[str, Result]) -> None:
    """Draw figure (b)."""
    figure, panels = pyplot.subplots(1, 2, figsize=(7.4, 3.2), layout="constrained")
    shown = (
        ("m2_staggered", r"staggered magnetisation $\langle |m_{(\pi,\pi)}|^2 \rangle$"),
        ("energy", r"electronic energy per site [$t$]"),
    )
    for axes, (observable, label) in zip(panels, shown):
        for method, marker, colour, fill, name in (
            ("exact", "o", "#000000", "none", "exact moves (HMC)"),
            ("slmc", "x", "#0072B2", "full", "self-learning"),
        ):
            points = [results[f"{method} at {t:g}"].observables[observable] for t in TEMPERATURES]
            axes.errorbar(
                TEMPERATURES,
                *zip(*points),
                marker=marker,
                color=colour,
                linestyle="",
                label=name,
                capsize=3,
                fillstyle=fill,
                markersize=8 if method == "exact" else 5,
            )
        axes.set(xlabel=r"temperature $T / t$", ylabel=label, xscale="log")
        axes.set_xticks(TEMPERATURES, labels=[f"{t:g}" for t in TEMPERATURES])
        axes.minorticks_off()
        axes.legend(frameon=False)
    save(figure, "temperature")


def scaling_figure(results: dict[str, Result]) -> None:
    """Draw figure (c)."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(7.4, 3.2), layout="constrained")
    mse = np.geomspace(2e-3, 3.0)
    left.plot(mse, np.exp(-np.sqrt(mse)), color="#999999", linestyle="--", label=r"$\exp(-s)$")
    left.plot(
        mse,
        [math.erfc(s / 2.0) for s in np.sqrt(mse)],
        color="#999999",
        label=r"$\mathrm{erfc}(s/2)$",
    )
    for kind in COLOURS:
        found = [result for name, result in results.items() if family(name) == kind]
        style = {
            "marker": MARKERS[kind],
            "color": COLOURS[kind],
            "linestyle": "",
            "label": LABELS[kind],
        }
        left.errorbar(
            [r.mse for r in found],
            *zip(*(r.observables["acceptance"] for r in found)),
            capsize=2,
            **style,
        )
        right.plot([r.parameters for r in found], [r.mse for r in found], **style)
    left.set(
        xlabel=r"validation MSE of $\log W$, $s^2$",
        ylabel="acceptance of the exact test",
        xscale="log",
        ylim=(0.0, 1.0),
    )
    right.set(xlabel="parameters", ylabel=r"validation MSE of $\log W$", xscale="log", yscale="log")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    save(figure, "scaling")


def save(figure, name: str) -> None:
    for ending in ("png", "pdf"):
        figure.savefig(OUT / f"{name}.{ending}", dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--samples", type=int, default=150, help="samples of each of the 64 chains")
    options = parser.parse_args()
    base = load_job(str(ROOT / "jobs/benchmark_6x6.toml"), options.ranks)
    with REFERENCE.open() as file:
        reference = {
            row["observable"]: (float(row["mean"]), float(row["error"]))
            for row in csv.DictReader(file)
        }
    results = {}
    for k, (name, changes) in enumerate((variants := MODELS | SCAN).items()):
        print(f"{k + 1}/{len(variants)}: {name}", flush=True)
        results[name] = run_one(base, name, changes, options.ranks, options.samples)
    models = {name: results[name] for name in MODELS}
    table = Table(
        "model",
        "parameters",
        "validation MSE",
        "acceptance",
        "erfc(s/2)",
        "exp(-s)",
        "z of |m(pi,pi)|^2",
        "z of the energy",
        title=(
            "6x6, T = 0.05, J = 1: acceptance of the exact test while sampling; deviations from "
            "the reference in standard errors"
        ),
    )
    for name, result in models.items():
        s = math.sqrt(result.mse)
        scores = [
            (result.observables[o][0] - reference[o][0])
            / math.hypot(result.observables[o][1], reference[o][1])
            for o in ("m2_staggered", "energy")
        ]
        table.add_row(
            name,
            str(result.parameters),
            f"{result.mse:.4g}",
            bracket(*result.observables["acceptance"]),
            f"{math.erfc(s / 2.0):.3f}",
            f"{math.exp(-s):.3f}",
            *(f"{z:+.1f}" for z in scores),
        )
    with open(OUT / "table.txt", "w") as file:
        for console in (Console(width=150, force_terminal=False), Console(width=150, file=file)):
            console.print(table)
    layers_figure(models)
    temperature_figure(results)
    scaling_figure(models)
    print(f"figures and table.txt are in {OUT}")


if __name__ == "__main__":
    main()
