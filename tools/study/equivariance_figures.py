"""Figures, exponents and a table of the study of equivariance, from what its trainings have found.

    python tools/study/equivariance_figures.py [--file out/equivariance/study.h5]

equivariance.png and table.txt lie beside the file. Panels: (a) error of log W against compute with
power laws of the best size, (b) error against data, (c) the best size against compute, (d) how far
from invariant log W_eff is, (e) acceptance against processor time, (f) acceptance against error of
all trainings, (g) error and (h) acceptance against layers.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from equivariance import FILE
from equivariance_arms import AVERAGED
from equivariance_results import (
    Results,
    Rows,
    best,
    chance,
    groups,
    law,
    mean_error,
    read,
    read_designs,
)
from power_laws import Fitted
from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.statistics import bracket

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.axis import XAxis  # noqa: E402
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter  # noqa: E402

STYLES = {
    "plain": ("#999999", "o"),
    "plain, augmented": ("#E69F00", "o"),
    "plain, augmented and averaged": ("#D55E00", "v"),
    "relative": ("#882255", "s"),
    "relative, augmented": ("#CC79A7", "s"),
    "gatr": ("#0072B2", "^"),
    "gatr, wrong group": ("#000000", "x"),
    "messages": ("#009E73", "D"),
    "torchmd_et": ("#56B4E9", "P"),
    "spins alone": ("#332288", "p"),
    "attention": ("#8C564B", "*"),
}
ERROR = r"var$(\log W - \log W_{\rm eff})\, /\, N$"
COMPUTE, ACCEPTANCE = "FLOPs of training", "acceptance of the exact test"
LAWS = {"erfc(s/2)": "-", "exp(-s)": "--"}
DESIGNS = Path(__file__).with_name("designs.jsonl")
"""All models, trained for a short time, on several lattices (tools/study/study_models.py)."""
LATTICES = ("o", "s", "^", "D")
"""Markers of the designs' lattices."""
LONG_AXIS = 1e3
"""Ratio of the ends of an axis from which powers of ten are labels enough."""
LEAST_ERROR = 1e-4
"""Least mean squared error of log W that is drawn."""


def by_arm(rows: Rows) -> dict[str, Rows]:
    """Rows by arm, in the order of the styles."""
    found = {arm: [row for row in rows if row["arm"] == arm] for arm in STYLES}
    return {arm: those for arm, those in found.items() if those}


def draw(axes: Axes, arm: str, points: list[Rows], x: str, y: str, **style: object) -> None:
    """Draw means with errors over trainings, of one arm."""
    colour, marker = STYLES[arm]
    axes.errorbar(
        [mean_error(rows, x)[0] for rows in points],
        *zip(*(mean_error(rows, y) for rows in points)),
        **{"color": colour, "marker": marker, "label": arm, "capsize": 2, "markersize": 4} | style,
    )


def draw_law(axes: Axes, arm: str, fitted: Fitted, scales: np.ndarray) -> None:
    """Draw a power law and the band of 90 % of the draws."""
    colour, _ = STYLES[arm]
    grid = np.geomspace(scales.min(), scales.max())
    low, high = np.quantile([one(grid) for one in fitted.laws], (0.05, 0.95), axis=0)
    axes.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(grid, fitted.law(grid), color=colour, linewidth=1)


def compute_figure(results: Results, axes: Axes) -> None:
    """Draw figure (a)."""
    for arm, rows in by_arm(results.compute).items():
        points, fitted = best(rows), law(rows, "budget", "flops")
        draw(axes, arm, points, "flops", "error", linestyle="" if fitted else "-")
        if fitted:
            draw_law(axes, arm, fitted, np.array([mean_error(p, "flops")[0] for p in points]))
    axes.set(xlabel=COMPUTE, ylabel=ERROR, xscale="log", yscale="log")


def data_figure(results: Results, axes: Axes) -> None:
    """Draw figure (b)."""
    for arm, rows in by_arm(results.data).items():
        points = list(groups(rows, "configurations").values())
        style = {"linestyle": "--" if "augmented" in arm else "-"}
        draw(axes, arm, points, "configurations", "error", **style)
    axes.set(xlabel="configurations to train on", ylabel=ERROR, xscale="log", yscale="log")


def size_figure(results: Results, axes: Axes) -> None:
    """Draw figure (c)."""
    for arm, rows in by_arm(results.compute).items():
        if arm not in AVERAGED.values():
            draw(axes, arm, best(rows), "flops", "parameters")
    axes.set(xlabel=COMPUTE, ylabel="parameters of the best size", xscale="log", yscale="log")


def invariance_figure(results: Results, axes: Axes) -> None:
    """Draw figure (d)."""
    for arm, rows in by_arm(results.compute).items():
        draw(axes, arm, best(rows), "flops", "invariance")
    label = r"deviation of $\log W_{\rm eff}$ over images"
    axes.set(xlabel=COMPUTE, ylabel=label, xscale="log", yscale="log", ylim=(1e-8, 1.0))


def acceptance_figure(results: Results, axes: Axes) -> None:
    """Draw figure (e)."""
    for arm, rows in by_arm(results.compute).items():
        draw(axes, arm, best(rows), "seconds", "acceptance")
    axes.set(xlabel="processor time of training [s]", ylabel=ACCEPTANCE, xscale="log")
    axes.set(ylim=(0.4, 1.0))


def laws_figure(results: Results, axes: Axes) -> None:
    """Draw figure (f)."""
    designs = read_designs(DESIGNS)
    errors = [row["mse"] for rows in (results.rows, *designs.values()) for row in rows]
    grid = np.geomspace(max(min(errors), LEAST_ERROR), max(errors))
    for name, style in LAWS.items():
        axes.plot(grid, chance(name, grid), color="#000000", linestyle=style, label=name)
    for arm, rows in by_arm(results.rows).items():
        colour, marker = STYLES[arm]
        style = {"color": colour, "marker": marker, "markersize": 3, "alpha": 0.5}
        axes.errorbar(*accepted(rows), label=arm, elinewidth=0.5, linestyle="", **style)
    for (where, rows), marker in zip(designs.items(), LATTICES, strict=False):
        style = {"color": "#000000", "marker": marker, "markersize": 4, "markerfacecolor": "none"}
        label = f"all models, {where}"
        axes.errorbar(*accepted(rows), label=label, elinewidth=0.5, linestyle="", **style)
    label = r"$s^2 = $ var$(\log W - \log W_{\rm eff})$"
    axes.set(xlabel=label, ylabel=ACCEPTANCE, xscale="log", ylim=(0.0, 1.02))
    axes.set_xlim(LEAST_ERROR)


def accepted(rows: Rows) -> list[list[float]]:
    """Errors of log W, acceptances, and their errors."""
    return [[row[key] for row in rows] for key in ("mse", "acceptance", "acceptance_error")]


def depth_error_figure(results: Results, axes: Axes) -> None:
    """Draw figure (g)."""
    for arm, rows in by_arm(results.depth).items():
        draw(axes, arm, list(groups(rows, "layers").values()), "layers", "error")
    axes.set(xlabel="layers", ylabel=ERROR, yscale="log")


def depth_acceptance_figure(results: Results, axes: Axes) -> None:
    """Draw figure (h)."""
    for arm, rows in by_arm(results.depth).items():
        draw(axes, arm, list(groups(rows, "layers").values()), "layers", "acceptance")
    axes.set(xlabel="layers", ylabel=ACCEPTANCE, ylim=(0.4, 1.0))


FIGURES: dict[str, Callable[[Results, Axes], None]] = {
    "compute": compute_figure,
    "data": data_figure,
    "size": size_figure,
    "invariance": invariance_figure,
    "acceptance": acceptance_figure,
    "laws": laws_figure,
    "depth_error": depth_error_figure,
    "depth_acceptance": depth_acceptance_figure,
}
"""Panels of the figure."""


def label_decades(axis: XAxis) -> None:
    """Label each power of ten, and three times that on a short axis, where it is logarithmic."""
    if axis.get_scale() == "log":
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high < LONG_AXIS * low else (1.0,)))
        axis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
        axis.set_minor_formatter(NullFormatter())


def draw_all(results: Results, path: Path) -> None:
    """Draw all panels, with one legend."""
    figure, panels = pyplot.subplots(4, 2, figsize=(8.0, 11.0), layout="constrained")
    shown: dict[str, object] = {}
    for letter, function, axes in zip("abcdefgh", FIGURES.values(), panels.flat, strict=True):
        function(results, axes)
        if not axes.has_data():
            axes.remove()
            continue
        axes.set_title(f"({letter})", loc="left", fontsize=9)
        label_decades(axes.xaxis)
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    order = sorted(shown, key=lambda label: list((*STYLES, *LAWS, label)).index(label))
    handles = [shown[label] for label in order]
    figure.legend(handles, order, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def results_table(title: str, points: list[Rows], at: str) -> Table:
    """Means over trainings, with errors in brackets."""
    table = Table(
        "arm", at, "trainings", "parameters", "steps", "processor s", "var / N", "force error / N",
        "invariance", "acceptance", "erfc(s/2)", title=title,
    )  # fmt: skip
    for rows in points:
        first = rows[0]
        mse = np.array([row["mse"] for row in rows])
        table.add_row(
            first["arm"],
            f"{first[at]:.3g}",
            str(len(rows)),
            f"{first['parameters']:.0f}",
            f"{first['steps']:.0f}",
            f"{mean_error(rows, 'seconds')[0]:.0f}",
            bracket(*mean_error(rows, "error")),
            bracket(*mean_error(rows, "force_error")),
            f"{mean_error(rows, 'invariance')[0]:.1e}",
            bracket(*mean_error(rows, "acceptance")),
            f"{chance('erfc(s/2)', mse).mean():.3f}",
        )
    return table


def law_lines(results: Results) -> list[str]:
    """Exponents of all arms, and how far the laws of the acceptance are from what is measured."""
    lines = []
    for arm, rows in by_arm(results.compute).items():
        if fitted := law(rows, "budget", "flops"):
            smallest = min(mean_error(p, "error")[0] for p in best(rows))
            lines.append(f"{arm}: {fitted.words(smallest)}")
    for where, rows in {"the study": results.rows, **read_designs(DESIGNS)}.items():
        mse, chances, errors = map(np.array, accepted(rows))
        for name in LAWS:
            off = chances - chance(name, mse)
            lines.append(
                f"{where}: acceptance - {name}: mean {off.mean():+.3f}, root mean square "
                f"{np.sqrt(np.mean(off**2)):.3f} (statistical error "
                f"{np.sqrt(np.mean(errors**2)):.3f}, {len(mse)} trainings)"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, default=FILE)
    path = parser.parse_args().file
    results = read(path)
    draw_all(results, path.with_name("equivariance.png"))
    tables = [
        results_table(
            "Best size at each budget",
            [p for rows in by_arm(results.compute).values() for p in best(rows)],
            "budget",
        ),
        results_table(
            "Few data",
            [p for rows in by_arm(results.data).values() for p in best(rows, "configurations")],
            "configurations",
        ),
        results_table("Layers", list(groups(results.depth, "arm", "layers").values()), "layers"),
    ]
    with open(path.parent / "table.txt", "w") as file:
        for console in (Console(width=160, force_terminal=False), Console(width=160, file=file)):
            for table in tables:
                if table.row_count:
                    console.print(table)
            console.print("\n".join(law_lines(results)), highlight=False)
    print(f"equivariance.png and table.txt are in {path.parent}")


if __name__ == "__main__":
    main()
