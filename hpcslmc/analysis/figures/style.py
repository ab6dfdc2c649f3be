"""Style that all figures share: sizes, colours, axes, legends, and what a run is called."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import EllipsisType

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from hpcslmc.analysis.results import Results
from hpcslmc.job.words import values

COLUMN, PAGE = 3.4, 7.0
"""Widths of figures in one column and across the page, in inches."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Palette of Okabe and Ito, told apart by colour-blind readers too."""
MARKERS = "osD^vPX"
STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "errorbar.capsize": 1.5,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "image.cmap": "viridis",
}
MAPS = 4
"""Most temperatures of a ladder that are shown side by side."""
WIDE = 4.0
"""Ratio of temperatures from which their axis is logarithmic, in every figure."""
MARGIN = 0.05
"""Share of an axis that is left free beyond its first and last point."""
TICKS = 12
"""Most temperatures that a colour bar names."""

Drawing = Figure | None


def short_names(paths: list[str]) -> dict[str, str]:
    """Shorten directories to their last parts, as many as tell them apart, for names of files."""
    parts = {path: Path(path).resolve().parts for path in paths}
    for count in range(1, max(map(len, parts.values())) + 1):
        short = {
            path: "_".join(own[-count:]).replace("/", "").replace(" ", "_")
            for path, own in parts.items()
        }
        if len(set(short.values())) == len(paths):
            break
    return short


def run_titles(runs: Mapping[str, Results]) -> dict[str, str]:
    """Title runs by the parameters that differ between them, or else by their directories."""

    def parameters(run: Results) -> dict[str, str]:
        job = run.parsed_job
        learned = job.finest.model if job.sampling.method != "exact" else ""
        method = {"slmc": "", "guided": "guided ", "exact": "exact"}[job.sampling.method]
        return {
            "lattice": "×".join(map(str, job.lattice.shape)),
            "T": "" if run.is_ladder else f"$T={float(run.temperature):.4g}$",
            "J": f"$J={values(job.hamiltonian.J)}$",
            "electrons": filling_or_mu(run, ...),
            "how": method + learned,
        }

    found = {name: parameters(run) for name, run in runs.items()}
    differ = [
        key for key in next(iter(found.values())) if len({own[key] for own in found.values()}) > 1
    ]
    titles = {
        name: ", ".join(filter(None, (own[key] for key in differ))) for name, own in found.items()
    }
    if len(set(titles.values())) == len(runs):
        return titles
    return short_names(list(runs))


def filling_or_mu(run: Results, at: tuple | EllipsisType) -> str:
    """Label the filling that was asked for, or else the chemical potential.

    The latter at one temperature, or of several from end to end.
    """
    filling = run.parsed_job.ensemble.filling
    if filling is not None:
        return f"$n={filling:g}$"
    low, high = float(np.min(run.mu[at])), float(np.max(run.mu[at]))
    return f"$\\mu={low:.3g}$" if low == high else f"$\\mu={low:.3g}$ to ${high:.3g}$"


def curve_styles(count: int) -> list[dict]:
    """Return colours and markers of so many curves; no colour comes twice."""
    colours: Sequence = COLOURS[:count]
    if count > len(COLOURS):
        colours = [matplotlib.colormaps["turbo"](x) for x in np.linspace(0.02, 0.98, count)]
    return [
        {"color": colour, "marker": MARKERS[k % len(MARKERS)]} for k, colour in enumerate(colours)
    ]


def ordered_colours(count: int) -> list:
    """Return colours of an ordered family, dark to light, all dark enough on white."""
    if count == 1:
        return [COLOURS[0]]
    return [matplotlib.colormaps["viridis"](x) for x in np.linspace(0.0, 0.85, count)]


def temperature_colours(runs: Iterable[Results]) -> dict[float, tuple]:
    """Return a colour for each temperature of the runs, from the lowest to the highest."""
    temperatures = sorted({float(t) for run in runs for t in np.atleast_1d(run.temperature)})
    return dict(zip(temperatures, ordered_colours(len(temperatures)), strict=True))


def temperature_bar(figure: Figure, panels: list[Axes], colours: Mapping[float, tuple]) -> None:
    """Draw a colour bar with a field for each temperature beside the panels."""
    count = len(colours)
    scale = ScalarMappable(
        BoundaryNorm(np.arange(count + 1) - 0.5, count), ListedColormap(list(colours.values()))
    )
    ticks = np.unique(np.linspace(0, count - 1, min(count, TICKS)).round().astype(int))
    bar = figure.colorbar(scale, ax=panels, ticks=ticks, label=r"temperature $T$ [$t$]")
    bar.ax.set_yticklabels([f"{list(colours)[k]:.4g}" for k in ticks])
    bar.ax.tick_params(length=0)
    bar.ax.minorticks_off()


def legend(figure: Figure, axes: Axes) -> None:
    """Draw the legend above the panels; none where there is nothing to tell apart."""
    handles, labels = axes.get_legend_handles_labels()
    if any(labels):
        rows = -(-len(labels) // (4 if figure.get_figwidth() == PAGE else 3))
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=-(-len(labels) // rows),
            columnspacing=1.2,
        )


def temperature_axis(axes: Axes, values: list[float]) -> None:
    """Make the horizontal axis one of temperatures, over all of them whatever is drawn.

    It is logarithmic where they differ by more than a factor of ``WIDE``.
    """
    low, high = min(values), max(values)
    if high > WIDE * low:
        _log_axis(axes, values)
        axes.set_xlim(low * (low / high) ** MARGIN, high * (high / low) ** MARGIN)
    else:
        axes.set_xlim(low - MARGIN * (high - low), high + MARGIN * (high - low))


def _log_axis(axes: Axes, values: list[float]) -> None:
    """Make the horizontal axis logarithmic, with plain numbers.

    They are the values themselves, or 1, 2, 5 of each decade where the values are many.
    """
    axes.set_xscale("log")
    ticks = sorted(set(values))
    if len(ticks) > 6 or min(b / a for a, b in pairwise(ticks)) < 1.3:
        ticks = [
            m * 10.0**e
            for e in range(-5, 5)
            for m in (1, 2, 5)
            if 0.9 * ticks[0] <= m * 10.0**e <= 1.1 * ticks[-1]
        ]
    axes.set_xticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()


def shown_temperatures(run: Results) -> list[tuple]:
    """Choose at most ``MAPS`` temperatures from end to end; the only one without a ladder."""
    if not run.is_ladder:
        return [()]
    return [(int(k),) for k in np.unique(np.linspace(0, len(run.temperature) - 1, MAPS).round())]


def temperature_label(run: Results, at: tuple) -> str:
    """Label the temperature of a run at an index, for titles and legends."""
    return f"$T={run.temperature[at]:.4g}$"


def row_of_panels(count: int, height: float) -> tuple[Figure, np.ndarray]:
    """Make panels side by side with a common vertical axis."""
    figure = Figure(
        figsize=(COLUMN if count == 1 else PAGE, height if count == 1 else 0.62 * height)
    )
    panels = figure.subplots(1, count, squeeze=False)[0]
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    return figure, panels
