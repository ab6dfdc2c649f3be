"""Figures that compare runs: observables, and their autocorrelation functions."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from hpcslmc.analysis.figures.style import (
    PAGE,
    Drawing,
    curve_styles,
    filling_or_mu,
    legend,
    ordered_colours,
    run_titles,
    shown_temperatures,
    temperature_axis,
    temperature_label,
)
from hpcslmc.analysis.results import Results
from hpcslmc.analysis.statistics import fluctuates
from hpcslmc.autocorrelation import autocorrelation_function
from hpcslmc.job.words import values
from hpcslmc.measure.derived import main_order
from hpcslmc.measure.modes import measured_points

SHOWN = {  # observables against temperature or size, and their axes' labels
    "energy": r"energy $\langle e\rangle$ [$t$]",
    "density": "electrons per site",
    "specific_heat": r"specific heat at fixed $\mu$",
    "specific_heat_fixed_density": r"specific heat at fixed $n$",
    "m2_staggered": r"$\langle|m_{(\pi,\pi)}|^2\rangle$",
    "m2_uniform": r"$\langle|m_0|^2\rangle$",
    "susceptibility_staggered": r"$\chi_{(\pi,\pi)}$ [$1/t$]",
    "binder_staggered": r"Binder ratio at $(\pi,\pi)$",
    "correlation_length_staggered": r"$\xi_{(\pi,\pi)}$ [$a$]",
    "compressibility": r"$d\langle n\rangle/d\mu$ [$1/t$]",
    "drude_weight": r"Drude weight $D$ [$t$]",
    "acceptance": "acceptance",
}
UNIFORM_ORDER = {
    "susceptibility_uniform": r"$\chi_0$ [$1/t$]",
    "binder_uniform": r"Binder ratio of $m_0$",
    "correlation_length_uniform": r"$\xi_0$ [$a$]",
}
"""Shown too where the uniform order is the main one."""
CORRELATED = {
    "energy": "energy",
    "m2_staggered": r"$|m_{(\pi,\pi)}|^2$",
    "m2_uniform": r"$|m_0|^2$",
}


def observables(runs: Mapping[str, Results], against: str) -> Drawing:
    """Draw means with errors against temperature ("T") or linear size ("L").

    There is a curve for each set of other parameters. None if there is one point only.
    """
    # sort the points into curves by all parameters but the horizontal axis
    points: dict[tuple, list[tuple]] = {}
    for run in runs.values():
        job = run.parsed_job
        length = float(np.prod(job.lattice.shape) ** (1.0 / len(job.lattice.shape)))
        how = job.sampling.method if job.sampling.method == "exact" else job.finest.model
        for at in np.ndindex(run.temperature.shape):
            temperature = float(run.temperature[at])
            electrons = filling_or_mu(run, ... if against == "T" else at)
            other = (
                f"$T={temperature:.4g}$"
                if against == "L"
                else "×".join(map(str, job.lattice.shape))
            )
            key = (other, f"$J={values(job.hamiltonian.J)}$", electrons, how)
            points.setdefault(key, []).append((temperature if against == "T" else length, run, at))
    curves = {key: sorted(curve, key=lambda point: point[0]) for key, curve in points.items()}
    xs = sorted({x for curve in curves.values() for x, *_ in curve})
    if max(len({x for x, *_ in curve}) for curve in curves.values()) < 2:
        return None
    measured = {name for run in runs.values() for name in run.summary.names}
    shown = SHOWN | (UNIFORM_ORDER if main_order(measured) == "uniform" else {})
    labels = _with_points(shown, runs, ("m2_", "susceptibility_", "binder_", "correlation_length_"))
    names = [
        name
        for name in labels
        if any(
            name in run.summary.names and run.summary.of(name, "error").any()
            for run in runs.values()
        )
    ]
    # name curves by the parameters in which they differ
    differing = [k for k in range(4) if len({key[k] for key in curves}) > 1]
    rows = -(-len(names) // 3)
    figure = Figure(figsize=(PAGE, 1.75 * rows + 0.3))
    panels = figure.subplots(rows, 3, squeeze=False).ravel()
    for axes, name in zip(panels, names):
        for (key, curve), style in zip(curves.items(), curve_styles(len(curves)), strict=True):
            known = [
                (x, run.summary.of(name)[at], run.summary.of(name, "error")[at])
                for x, run, at in curve
                if name in run.summary.names
            ]
            if known:
                x, mean, error = zip(*known)
                axes.errorbar(x, mean, error, label=", ".join(key[k] for k in differing), **style)
        axes.set(
            xlabel=r"temperature $T$ [$t$]" if against == "T" else r"linear size $L$ [$a$]",
            ylabel=labels[name],
        )
        if against == "L":
            axes.set_xticks(xs, labels=[f"{x:.3g}" for x in xs])
        else:
            temperature_axis(axes, xs)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    legend(figure, panels[0])
    return figure


def _with_points(
    labels: Mapping[str, str], runs: Mapping[str, Results], prefixes: tuple[str, ...]
) -> dict[str, str]:
    """Return labels with those of the same quantities at the momenta that the runs name."""
    found = dict(labels)
    for run in runs.values():
        for point in measured_points(run.summary.names):
            names = [prefix + point for prefix in prefixes]
            found |= {name: run.summary.labels[name] for name in names if name in run.summary.names}
    return found


def autocorrelation(runs: Mapping[str, Results]) -> Drawing:
    """Draw autocorrelation functions of the slow observables; errors from the chains' spread."""
    labels = _with_points(CORRELATED, runs, ("m2_",))
    names = [
        name
        for name in labels
        if any(
            name in run.draws and fluctuates(run.draws[name][run.valid]) for run in runs.values()
        )
    ]
    if not names:
        return None
    figure = Figure(figsize=(PAGE, 2.6))
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    titles = run_titles(runs)
    curves = [(run_name, at) for run_name, run in runs.items() for at in shown_temperatures(run)]
    shades = (
        ordered_colours(len(curves))
        if len(runs) == 1
        else [style["color"] for style in curve_styles(len(curves))]
    )
    colours = dict(zip(curves, shades, strict=True))
    for axes, name in zip(panels, names):
        longest = 1.0
        for run_name, run in runs.items():
            chosen = shown_temperatures(run)
            for at in chosen:
                colour = colours[run_name, at]
                draws = run.draws[name][:, :, *at]
                if not fluctuates(draws[run.valid]):
                    continue
                tau = float(run.summary.of(name, "tau")[at])
                lags = min(int(run.valid.sum(1).min()) // 2, max(10, int(8.0 * tau / run.bin_size)))
                rho, error = autocorrelation_function(draws, run.valid, lags)
                own_temperature = temperature_label(run, at) if len(chosen) > 1 else ""
                label = ", ".join(filter(None, (titles[run_name], own_temperature)))
                time = np.arange(lags) * run.bin_size
                axes.plot(time, rho, color=colour, label=label)
                axes.fill_between(
                    time, rho - error, rho + error, color=colour, alpha=0.25, linewidth=0
                )
                longest = max(longest, time[-1])
        axes.axhline(0.0, color="#999999", linewidth=0.6, zorder=0)
        axes.set(xlabel="time [samples]", xlim=(0.0, longest), title=labels[name])
    panels[0].set(ylabel="autocorrelation function")
    legend(figure, panels[0])
    return figure
