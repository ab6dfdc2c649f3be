"""Figures of finished runs, for print.

Width of one or two columns, colours of Okabe and Ito, error bars, units.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import EllipsisType
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpcslmc.analysis.results import ProfileResult, Results
from hpcslmc.analysis.statistics import fluctuates
from hpcslmc.errors import described_error

COLUMN, PAGE = 3.4, 7.0
"""Widths in inches."""
# Okabe and Ito
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
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
SHOWN = {  # observables against temperature or size, and their axes' labels
    "energy": r"energy $\langle e\rangle$ [$t$]",
    "density": "electrons per site",
    "specific_heat": r"specific heat at fixed $\mu$",
    "specific_heat_fixed_density": r"specific heat at fixed $n$",
    "m2_staggered": r"$\langle|m_{(\pi,\pi)}|^2\rangle$",
    "m2_uniform": r"$\langle|m_{(0,0)}|^2\rangle$",
    "susceptibility_staggered": r"$\chi_{(\pi,\pi)}$ [$1/t$]",
    "binder_staggered": r"Binder ratio at $(\pi,\pi)$",
    "correlation_length_staggered": r"$\xi_{(\pi,\pi)}$ [$a$]",
    "compressibility": r"$d\langle n\rangle/d\mu$ [$1/t$]",
    "drude_weight": r"Drude weight $D$ [$t$]",
    "acceptance": "acceptance",
}
CORRELATED = {
    "energy": "energy",
    "m2_staggered": r"$|m_{(\pi,\pi)}|^2$",
    "m2_uniform": r"$|m_{(0,0)}|^2$",
}
MAPS = 4
"""Most temperatures of a ladder that are shown side by side."""

PEAK = 5.0
"""Ratio of largest to smallest S(q) from which on it is shown on a logarithmic scale."""
WIDE = 4.0
"""Ratio of temperatures from which on their axis is logarithmic, in every figure."""
MARGIN = 0.05
"""Of an axis beyond its first and last point."""
TICKS = 12
"""Most temperatures that a colour bar names."""
OUTLINED, ARROWS = 16, 24
"""Longest sides of lattices whose arrows have an outline, and that have arrows at all; beyond there
are colours alone.
"""

Drawing = Figure | None


def save_figures(runs: Mapping[str, Results], folder: Path) -> tuple[list[str], list[str]]:
    """Draw all that the runs have, as PNG and PDF.

    Parameters
    ----------
    runs : mapping of str to Results
        By output directory.
    folder : Path
        Made if it is not there.

    Returns
    -------
    names : list of str
        Of the figures.
    failures : list of str
        A sentence for each figure that could not be drawn; it does not cost the others.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names, failures = [], []
    with matplotlib.rc_context(STYLE):
        for name, draw in _figures(runs):
            try:
                with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                    drawn = _save(draw(), folder, name)
            except OSError:
                raise
            except Exception as error:
                failures.append(f"the figure {name} cannot be drawn: {described_error(error)}")
            else:
                names += [name] if drawn else []
    return names, failures


def _save(figure: Drawing, folder: Path, name: str) -> bool:
    """Save a figure, if there is one; returns whether there is."""
    if figure is None:
        return False
    for ending in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{ending}")
        figure.set_layout_engine("none")  # it is laid out, once is enough
    return True


def _figures(runs: Mapping[str, Results]) -> Iterator[tuple[str, Callable[[], Drawing]]]:
    """Those that compare the runs, then those of each: names, and what draws them."""
    compared: dict[str, Callable[[Mapping[str, Results]], Drawing]] = {
        "observables_temperature": lambda runs: observables(runs, "T"),
        "observables_size": lambda runs: observables(runs, "L"),
        "acceptance_by_round": acceptance_by_round,
        "autocorrelation": autocorrelation,
    }
    single: dict[str, Callable[[Results], Drawing]] = {
        "structure_factor": structure_factor,
        "correlations": correlations,
        "spins": spins,
        "learning_curve": learning_curve,
        "exchange": exchange,
        "density_of_states": lambda run: energy_function(
            run, "density_of_states", r"$E$ [$t$]", "states per site [$1/t$]"
        ),
        "optical_conductivity": lambda run: energy_function(
            run, "optical_conductivity", r"$\omega$ [$t$]", r"Re $\sigma(\omega)$ [$e^2/\hbar$]"
        ),
        "spectral_function": spectral_function,
    }
    for name, draw in compared.items():
        yield name, partial(draw, runs)
    short = _short_names(list(runs))
    for name, draw in single.items():
        for run, results in runs.items():
            yield name if len(runs) == 1 else f"{name}_{short[run]}", partial(draw, results)


def _short_names(paths: list[str]) -> dict[str, str]:
    """A name of each directory for files: its last parts, as many as tell it from the others."""
    parts = {path: Path(path).resolve().parts for path in paths}
    for count in range(1, max(map(len, parts.values())) + 1):
        short = {
            path: "_".join(own[-count:]).replace("/", "").replace(" ", "_")
            for path, own in parts.items()
        }
        if len(set(short.values())) == len(paths):
            break
    return short


def _styles(count: int) -> list[dict]:
    """Colours and markers of so many curves; no colour comes twice."""
    colours = (
        COLOURS
        if count <= len(COLOURS)
        else [matplotlib.colormaps["turbo"](x) for x in np.linspace(0.02, 0.98, count)]
    )
    return [
        {"color": colour, "marker": MARKERS[k % len(MARKERS)]}
        for k, colour in enumerate(colours[:count])
    ]


def _family(count: int) -> list:
    """Colours of an ordered family, dark to light, all dark enough on white."""
    return (
        [matplotlib.colormaps["viridis"](x) for x in np.linspace(0.0, 0.85, count)]
        if count > 1
        else [COLOURS[0]]
    )


def _temperature_colours(runs: Iterable[Results]) -> dict[float, tuple]:
    """A colour for each temperature of the runs, from the lowest to the highest."""
    temperatures = sorted({float(t) for run in runs for t in np.atleast_1d(run.temperature)})
    return dict(zip(temperatures, _family(len(temperatures)), strict=True))


def _temperature_bar(figure: Figure, panels: list[Axes], colours: Mapping[float, tuple]) -> None:
    """A colour bar with a field for each temperature, beside the panels."""
    count = len(colours)
    scale = ScalarMappable(
        BoundaryNorm(np.arange(count + 1) - 0.5, count), ListedColormap(list(colours.values()))
    )
    ticks = np.unique(np.linspace(0, count - 1, min(count, TICKS)).round().astype(int))
    bar = figure.colorbar(scale, ax=panels, ticks=ticks, label=r"temperature $T$ [$t$]")
    bar.ax.set_yticklabels([f"{list(colours)[k]:.4g}" for k in ticks])
    bar.ax.tick_params(length=0)
    bar.ax.minorticks_off()


def _titles(runs: Mapping[str, Results]) -> dict[str, str]:
    """What tells the runs from each other: the parameters that differ, or the directories."""

    def parameters(run: Results) -> dict[str, str]:
        job = run.parsed_job
        learned = job.effective.model if job.sampling.method != "exact" else ""
        return {
            "lattice": f"{job.lattice.shape[0]}×{job.lattice.shape[1]}",
            "T": "" if run.is_ladder else f"$T={float(run.temperature):.4g}$",
            "J": f"$J={job.hamiltonian.J:g}$",
            "electrons": _electrons(run, ...),
            "how": {"slmc": "", "guided": "guided ", "exact": "exact"}[job.sampling.method]
            + learned,
        }

    found = {name: parameters(run) for name, run in runs.items()}
    differ = [
        key for key in next(iter(found.values())) if len({own[key] for own in found.values()}) > 1
    ]
    titles = {
        name: ", ".join(filter(None, (own[key] for key in differ))) for name, own in found.items()
    }
    return (
        titles
        if len(set(titles.values())) == len(runs)
        else _short_names(list(runs))
        if len(runs) > 1
        else {name: "" for name in runs}
    )


def _electrons(run: Results, at: tuple | EllipsisType) -> str:
    """The filling, where one was asked for, or else the chemical potential at a temperature; of
    several temperatures from end to end.
    """
    filling = run.parsed_job.ensemble.filling
    if filling is not None:
        return f"$n={filling:g}$"
    low, high = float(np.min(run.mu[at])), float(np.max(run.mu[at]))
    return f"$\\mu={low:.3g}$" if low == high else f"$\\mu={low:.3g}$ to ${high:.3g}$"


def observables(runs: Mapping[str, Results], against: str) -> Drawing:
    """Means with errors against temperature ("T") or linear size ("L"), a curve for each set of
    other parameters; None if there is one point only.
    """
    points: dict[tuple, list[tuple]] = {}
    for run in runs.values():
        job = run.parsed_job
        length, how = (
            float(np.sqrt(np.prod(job.lattice.shape))),
            job.sampling.method if job.sampling.method == "exact" else job.effective.model,
        )
        for at in np.ndindex(run.temperature.shape):
            temperature, electrons = (
                float(run.temperature[at]),
                _electrons(run, ... if against == "T" else at),
            )
            other = (
                f"$T={temperature:.4g}$"
                if against == "L"
                else "×".join(map(str, job.lattice.shape))
            )
            key = (other, f"$J={job.hamiltonian.J:g}$", electrons, how)
            points.setdefault(key, []).append((temperature if against == "T" else length, run, at))
    curves = {key: sorted(curve, key=lambda point: point[0]) for key, curve in points.items()}
    xs = sorted({x for curve in curves.values() for x, *_ in curve})
    if max(len({x for x, *_ in curve}) for curve in curves.values()) < 2:
        return None
    names = [
        name
        for name in SHOWN
        if any(
            name in run.summary.names and run.summary.of(name, "error").any()
            for run in runs.values()
        )
    ]
    told = [k for k in range(4) if len({key[k] for key in curves}) > 1]
    rows = -(-len(names) // 3)
    figure = Figure(figsize=(PAGE, 1.75 * rows + 0.3))
    panels = figure.subplots(rows, 3, squeeze=False).ravel()
    for axes, name in zip(panels, names):
        for (key, curve), style in zip(curves.items(), _styles(len(curves)), strict=True):
            known = [
                (x, run.summary.of(name)[at], run.summary.of(name, "error")[at])
                for x, run, at in curve
                if name in run.summary.names
            ]
            if known:
                x, mean, error = zip(*known)
                axes.errorbar(x, mean, error, label=", ".join(key[k] for k in told), **style)
        axes.set(
            xlabel=r"temperature $T$ [$t$]" if against == "T" else r"linear size $L$ [$a$]",
            ylabel=SHOWN[name],
        )
        if against == "L":
            axes.set_xticks(xs, labels=[f"{x:.3g}" for x in xs])
        else:
            _temperature_axis(axes, xs)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    _legend(figure, panels[0])
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    """Above the panels, in no curve's way; none where there is nothing to tell apart."""
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


def _temperature_axis(axes: Axes, values: list[float]) -> None:
    """An axis of temperatures: logarithmic where they differ by more than a factor, over all of
    them whatever is drawn.
    """
    low, high = min(values), max(values)
    if high > WIDE * low:
        _log_axis(axes, values)
        axes.set_xlim(low * (low / high) ** MARGIN, high * (high / low) ** MARGIN)
    else:
        axes.set_xlim(low - MARGIN * (high - low), high + MARGIN * (high - low))


def _log_axis(axes: Axes, values: list[float]) -> None:
    """A logarithmic axis with plain numbers.

    The values themselves, or 1, 2, 5 of each decade where they are many.
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


def _chosen(run: Results) -> list[tuple]:
    """Indices of at most ``MAPS`` temperatures, from end to end; the only one where there is no
    list.
    """
    if not run.is_ladder:
        return [()]
    return [(int(k),) for k in np.unique(np.linspace(0, len(run.temperature) - 1, MAPS).round())]


def _at(run: Results, at: tuple) -> str:
    return f"$T={run.temperature[at]:.4g}$"


def _row(count: int, height: float) -> tuple[Figure, np.ndarray]:
    """Panels side by side with a common axis upwards."""
    figure = Figure(
        figsize=(COLUMN if count == 1 else PAGE, height if count == 1 else 0.62 * height)
    )
    panels = figure.subplots(1, count, squeeze=False)[0]
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    return figure, panels


def structure_factor(run: Results) -> Drawing:
    """S(q) as a map over the Brillouin zone, (0, 0) in its middle; on one scale for all
    temperatures.
    """
    if "structure_factor" not in run.profiles:
        return None
    mean, chosen, axis_of = (
        run.profiles["structure_factor"].mean,
        _chosen(run),
        run.profiles["structure_factor"].axes,
    )
    steps = [
        np.arange(-(n // 2), n // 2 + 1) for n in mean.shape[:2]
    ]  # from edge to edge of the zone
    zone = np.ix_(*(k % len(axis.values) for k, axis in zip(steps, axis_of.values(), strict=True)))
    edges = [
        2.0 * np.pi / n * (np.append(k, k[-1] + 1) - 0.5)
        for k, n in zip(steps, mean.shape, strict=False)
    ]
    maps = [mean[:, :, *at][zone] for at in chosen]
    low, high = min(values.min() for values in maps), max(values.max() for values in maps)
    # a logarithmic scale shows what is around a peak
    norm = LogNorm(low, high) if high > PEAK * low > 0.0 else Normalize(0.0, high)
    figure, panels = _row(len(chosen), 2.9 if len(chosen) == 1 else 3.4)
    for axes, at, values in zip(panels, chosen, maps, strict=True):
        image = axes.pcolormesh(*edges, values.T, norm=norm, rasterized=True)
        axes.set(
            xlabel=r"$q_x a$",
            ylabel=r"$q_y a$" if axes is panels[0] else "",
            title=_at(run, at),
            aspect="equal",
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([-np.pi, 0.0, np.pi], labels=[r"$-\pi$", "0", r"$\pi$"])
        axes.set(xlim=(-np.pi, np.pi), ylim=(-np.pi, np.pi))
    figure.colorbar(image, ax=list(panels), label="$S(q)$", shrink=0.8 if len(chosen) == 1 else 0.6)
    return figure


def correlations(run: Results) -> Drawing:
    """C(r) against distance, the two sublattices told apart."""
    if "correlations" not in run.profiles:
        return None
    profile = run.profiles["correlations"]
    lx, ly = profile.mean.shape[:2]
    x, y = np.meshgrid(
        *(np.minimum(np.arange(n), n - np.arange(n)) for n in (lx, ly)), indexing="ij"
    )
    distance2, odd = x**2 + y**2, (x + y) % 2 == 1
    figure = Figure(figsize=(COLUMN, 2.7))
    axes = figure.subplots()
    chosen = _chosen(run)
    for at, colour in zip(chosen, _family(len(chosen))):
        for parity, fill, label in ((False, "full", _at(run, at)), (True, "none", None)):
            shells = np.unique(distance2[(odd == parity) & (distance2 > 0)])
            by_shell = np.stack(
                [
                    profile.chains[:, (odd == parity) & (distance2 == d2), *at].mean(1)
                    for d2 in shells
                ],
                1,
            )
            averaged = replace(profile, chains=by_shell)
            axes.errorbar(
                np.sqrt(shells),
                averaged.mean,
                averaged.error,
                marker="s" if parity else "o",
                fillstyle=fill,
                linestyle="",
                color=colour,
                label=label,
            )
    axes.axhline(0.0, color="#999999", linewidth=0.6, zorder=0)
    axes.set(xlabel=r"distance $|r|$ [$a$]", ylabel=r"$C(r)=\langle S_i\cdot S_{i+r}\rangle$")
    axes.set_title("full: same sublattice, open: the other", fontsize=7)
    _legend(figure, axes)
    return figure


def spins(run: Results) -> Drawing:
    """Last configuration of the first chain, turned so that most of it lies in the plane.

    Direction in colour, and as arrows where they have room.
    """
    chosen = _chosen(run)
    figure, panels = _row(len(chosen), 3.0)
    for axes, at in zip(panels, chosen):
        own = run.spins[0][:, :, *at]
        shape = run.parsed_job.lattice.shape
        turned = own @ np.linalg.eigh(own.T @ own)[1][:, ::-1]  # first axis: the main one
        horizontal, vertical = (turned[:, k].reshape(shape) for k in (1, 0))
        angle = np.arctan2(vertical, horizontal)
        image = axes.imshow(
            angle.T,
            origin="lower",
            cmap="twilight",
            vmin=-np.pi,
            vmax=np.pi,
            alpha=0.9,
            interpolation="nearest",
        )
        x, y = np.meshgrid(*map(np.arange, shape), indexing="ij")
        if max(shape) <= ARROWS:
            axes.quiver(
                x,
                y,
                horizontal,
                vertical,
                pivot="middle",
                scale=1.15,
                scale_units="xy",
                angles="xy",
                width=0.11,
                units="xy",
                color="black",
                edgecolor="white" if max(shape) <= OUTLINED else "none",
                linewidth=0.4,
            )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set(
            title=_at(run, at),
            xlabel=r"$x$ [$a$]",
            ylabel=r"$y$ [$a$]" if axes is panels[0] else "",
        )
        bar = figure.colorbar(
            image,
            ax=axes,
            shrink=0.8 if len(chosen) == 1 else 0.6,
            ticks=[-np.pi, 0.0, np.pi],
            label="direction in the plane" if axes is panels[-1] else None,
        )
        bar.ax.set_yticklabels([r"$-\pi$", "0", r"$\pi$"])
    return figure


class _Model(NamedTuple):
    """The learning history of one model: its temperature, which merged run learned it, and its
    rows, column by column.
    """

    temperature: float
    run: int
    table: dict[str, np.ndarray]


def _models(run: Results, table: Mapping[str, np.ndarray]) -> list[_Model]:
    """The models of a learning history, by merged run and temperature."""
    number, found = table.get("run", np.ones(len(table["round"]), dtype=int)), []
    for one in np.unique(number):
        for temperature in np.atleast_1d(run.temperature):
            own = (number == one) & (table["temperature"] == temperature)
            if own.any():
                found.append(
                    _Model(
                        float(temperature),
                        int(one),
                        {key: column[own] for key, column in table.items()},
                    )
                )
    return found


def _model_style(run: Results, model: _Model, colours: Mapping[float, tuple], style: dict) -> dict:
    """How a model's curve is drawn: its colour is its temperature's in a ladder, and its marker
    that of the merged run.
    """
    shown = {"marker": MARKERS[(model.run - 1) % len(MARKERS)]} if run.others else {}
    return style | shown | ({"color": colours[model.temperature]} if run.is_ladder else {})


def learning_curve(run: Results) -> Drawing:
    """Validation error and loss along the gradient steps of all rounds; None without any."""
    if not run.curve or not run.curve["step"].any():
        return None
    figure = Figure(figsize=(COLUMN, 2.6))
    axes = figure.subplots()
    models, first, length = (
        _models(run, run.curve),
        run.curve["round"].min(),
        run.curve["step"].max(),
    )
    colours, styles = _temperature_colours([run]), _styles(1 + len(run.others))
    for model in models:
        table, style = (
            model.table,
            _model_style(run, model, colours, styles[model.run - 1] | {"marker": "."}),
        )
        along = table["step"] + (table["round"] - first) * length
        for number in np.unique(table["round"]):
            part = table["round"] == number
            name = f"run {model.run}" if run.others else "validation MSE of $\\log W$"
            told = number == first and model.temperature == models[0].temperature
            axes.plot(along[part], table["mse"][part], label=name if told else None, **style)
            if len(models) == 1:
                axes.plot(
                    along[part],
                    table["loss"][part],
                    color=COLOURS[1],
                    linestyle="--",
                    label="training loss" if told else None,
                )
    for number in np.unique(run.curve["round"])[1:]:
        axes.axvline((number - first) * length, color="#CCCCCC", linewidth=0.6, zorder=0)
    axes.set(
        xlabel="gradient step, all rounds",
        ylabel="mean squared error" if len(models) == 1 else "validation MSE of $\\log W$",
        yscale="log",
    )
    if run.is_ladder:
        _temperature_bar(figure, [axes], colours)
    if len(models) == 1 or run.others:
        _legend(figure, axes)
    return figure


def acceptance_by_round(runs: Mapping[str, Results]) -> Drawing:
    """Acceptance measured and predicted, and the validation error per site, after each round of
    learning.

    Runs are told apart by their markers, the temperatures of ladders by their colours.
    """
    learned = {name: run for name, run in runs.items() if run.rounds}
    if not learned:
        return None
    figure = Figure(figsize=(PAGE, 2.5))
    left, right = figure.subplots(1, 2)
    titles, ladders = _titles(learned), any(run.is_ladder for run in learned.values())
    colours = _temperature_colours(learned.values())
    curves = [
        (name, run, model) for name, run in learned.items() for model in _models(run, run.rounds)
    ]
    owners = list(dict.fromkeys((name, model.run) for name, _, model in curves))
    styles = dict(zip(owners, _styles(len(owners)), strict=True))
    for name, _, model in curves:
        table, style = (
            model.table,
            styles[name, model.run] | ({"color": colours[model.temperature]} if ladders else {}),
        )
        left.errorbar(table["evaluations"], table["acceptance"], table["acceptance_error"], **style)
        left.plot(
            table["evaluations"],
            table["predicted_erfc"],
            color=style["color"],
            linestyle="--",
            linewidth=0.8,
        )
        right.plot(table["evaluations"], table["mse_per_site"], **style)
    for (name, number), style in styles.items():
        run = learned[name]
        title = ", ".join(filter(None, (titles[name], f"run {number}" if run.others else "")))
        left.plot(
            [], [], label=title or "measured", **(style | ({"color": "#666666"} if ladders else {}))
        )
    left.plot(
        [], [], color="#666666", linestyle="--", linewidth=0.8, label=r"predicted, erfc$(s/2)$"
    )
    left.set(xlabel="exact evaluations", ylabel="acceptance of the exact test", ylim=(0.0, 1.05))
    right.set(
        xlabel="exact evaluations", ylabel=r"validation MSE of $\log W$ per site", yscale="log"
    )
    most = max(run.rounds["evaluations"].max() for run in learned.values())
    for axes in (left, right):
        axes.set_xlim(0.0, (1.0 + MARGIN) * most)
    if ladders:
        _temperature_bar(figure, [left, right], colours)
    _legend(figure, left)
    return figure


def autocorrelation(runs: Mapping[str, Results]) -> Drawing:
    """Autocorrelation functions of the slow observables; errors from the spread of the chains."""
    names = [
        name
        for name in CORRELATED
        if any(
            name in run.draws and fluctuates(run.draws[name][run.there]) for run in runs.values()
        )
    ]
    if not names:
        return None
    figure = Figure(figsize=(PAGE, 2.6))
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    titles, curves = (
        _titles(runs),
        [(run_name, at) for run_name, run in runs.items() for at in _chosen(run)],
    )
    shades = (
        _family(len(curves))
        if len(runs) == 1
        else [style["color"] for style in _styles(len(curves))]
    )
    colours = dict(zip(curves, shades, strict=True))
    for axes, name in zip(panels, names):
        longest = 1.0
        for run_name, run in runs.items():
            chosen = _chosen(run)
            for at in chosen:
                colour = colours[run_name, at]
                draws = run.draws[name][:, :, *at]
                if not fluctuates(draws[run.there]):
                    continue
                tau = float(run.summary.of(name, "tau")[at])
                lags = min(int(run.there.sum(1).min()) // 2, max(10, int(8.0 * tau / run.bin_size)))
                rho, error = _autocorrelation(draws, run.there, lags)
                label = ", ".join(
                    filter(None, (titles[run_name], _at(run, at) if len(chosen) > 1 else ""))
                )
                time = np.arange(lags) * run.bin_size
                axes.plot(time, rho, color=colour, label=label)
                axes.fill_between(
                    time, rho - error, rho + error, color=colour, alpha=0.25, linewidth=0
                )
                longest = max(longest, time[-1])
        axes.axhline(0.0, color="#999999", linewidth=0.6, zorder=0)
        axes.set(xlabel="time [samples]", xlim=(0.0, longest), title=CORRELATED[name])
    panels[0].set(ylabel="autocorrelation function")
    _legend(figure, panels[0])
    return figure


def _autocorrelation(
    draws: np.ndarray, there: np.ndarray, lags: int
) -> tuple[np.ndarray, np.ndarray]:
    """Autocorrelation function about the mean of all draws (chains, draws) that are ``there``, and
    its standard error: (lags,) each.
    """
    chains, count = draws.shape
    transform = np.fft.rfft(np.where(there, draws - draws[there].mean(), 0.0), 2 * count, axis=1)
    each = np.fft.irfft(np.square(np.abs(transform)), 2 * count, axis=1)[:, :lags]
    each = each / each[:, 0].mean()
    rho = each.mean(0)
    deviation = each - rho * each[:, :1]  # of the ratio, to first order
    return rho, deviation.std(0, ddof=1) / np.sqrt(chains) if chains > 1 else np.zeros(lags)


def exchange(run: Results) -> Drawing:
    """Acceptance of exchange between neighbouring temperatures, error bars from the spread of the
    ladders.
    """
    if not run.exchange:
        return None
    accepted, tried = run.exchange["accepted"], run.exchange["tried"]
    share, chains = run.exchange_acceptance, len(accepted)
    # of the ratio of sums, to first order
    deviation = (accepted - share * tried) / np.maximum(tried.mean(0), 1)
    error = deviation.std(0, ddof=1) / np.sqrt(chains) if chains > 1 else None
    figure = Figure(figsize=(COLUMN, 2.2))
    axes = figure.subplots()
    middle = np.sqrt(run.temperature[1:] * run.temperature[:-1])
    axes.errorbar(middle, share, error, marker="o", color=COLOURS[0])
    for temperature in run.temperature:
        axes.axvline(temperature, color="#DDDDDD", linewidth=0.6, zorder=0)
    axes.set(xlabel=r"temperature $T$ [$t$]", ylabel="acceptance of exchange", ylim=(0.0, 1.0))
    _temperature_axis(axes, run.temperature.tolist())
    return figure


def energy_function(run: Results, name: str, xlabel: str, ylabel: str) -> Drawing:
    """A function of energy with its error as a band."""
    if name not in run.profiles:
        return None
    profile = run.profiles[name]
    (axis,) = profile.axes.values()
    figure = Figure(figsize=(COLUMN, 2.4))
    axes = figure.subplots()
    chosen = _chosen(run)
    for at, colour in zip(chosen, _family(len(chosen))):
        mean, error = profile.mean[:, *at], profile.error[:, *at]
        axes.plot(axis.values, mean, color=colour, label=_at(run, at))
        axes.fill_between(
            axis.values, mean - error, mean + error, color=colour, alpha=0.3, linewidth=0
        )
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(axis.values[0], axis.values[-1]))
    axes.set_ylim(bottom=0.0)
    _legend(figure, axes)
    return figure


def spectral_function(run: Results) -> Drawing:
    """A(k, omega) along (0,0), (pi,0), (pi,pi), (0,0)."""
    if "spectral_function" not in run.profiles:
        return None
    profile, chosen = run.profiles["spectral_function"], _chosen(run)
    path, corners = _path(profile)
    energy = profile.axes["energy"].values
    figure, panels = _row(len(chosen), 2.9)
    for axes, at in zip(panels, chosen):
        values = profile.mean[:, :, :, *at][path[:, 0], path[:, 1]]
        image = axes.pcolormesh(
            np.arange(len(path)),
            energy,
            values.T,
            shading="nearest",
            cmap="magma_r",
            rasterized=True,
        )
        axes.axhline(float(run.mu[at]), color="#666666", linewidth=0.6, linestyle="--")
        axes.set(ylabel=r"$\omega$ [$t$]" if axes is panels[0] else "", title=_at(run, at))
        axes.set_xticks(corners, labels=[r"$\Gamma$", "X", "M", r"$\Gamma$"])
        figure.colorbar(
            image, ax=axes, label=r"$A(k,\omega)$ [$1/t$]" if axes is panels[-1] else None
        )
    return figure


def _path(profile: ProfileResult) -> tuple[np.ndarray, list[int]]:
    """Grid points (points, 2) of the path, and where its corners are."""
    lx, ly = (len(profile.axes[name].values) for name in ("kx", "ky"))
    hx, hy = lx // 2, ly // 2
    diagonal = max(hx, hy)
    legs = [
        [(k, 0) for k in range(hx)],
        [(hx, k) for k in range(hy)],
        [
            (round(hx * (1 - k / diagonal)), round(hy * (1 - k / diagonal)))
            for k in range(diagonal + 1)
        ],
    ]
    return np.array(sum(legs, [])), [0, hx, hx + hy, hx + hy + diagonal]
