"""Figures of functions of momentum, distance or energy."""

from dataclasses import replace

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from hpcslmc.analysis.figures.crystals import (
    lengths_of_momenta,
    path_through,
    zone_map,
)
from hpcslmc.analysis.figures.style import (
    COLUMN,
    Drawing,
    legend,
    ordered_colours,
    row_of_panels,
    shown_temperatures,
    temperature_label,
)
from hpcslmc.analysis.results import ProfileResult, Results
from hpcslmc.measure.momenta import is_square

PEAK = 5.0
"""Ratio of largest to smallest S(q) from which the scale is logarithmic."""


def structure_factor(run: Results) -> Drawing:
    """Draw S(q) over the Brillouin zone, (0, 0) in its middle; one scale for all temperatures."""
    if "structure_factor" not in run.profiles:
        return None
    profile = run.profiles["structure_factor"]
    if not is_square(run.lattice):
        return _zone_of_crystal(run, profile)
    mean = profile.mean
    chosen = shown_temperatures(run)
    # From edge to edge of the zone
    steps = [np.arange(-(n // 2), n // 2 + 1) for n in mean.shape[:2]]
    zone = np.ix_(
        *(k % len(axis.values) for k, axis in zip(steps, profile.axes.values(), strict=True))
    )
    edges = [
        2.0 * np.pi / n * (np.append(k, k[-1] + 1) - 0.5)
        for k, n in zip(steps, mean.shape, strict=False)
    ]
    maps = [mean[:, :, *at][zone] for at in chosen]
    norm = _scale(maps)
    figure, panels = row_of_panels(len(chosen), 2.9 if len(chosen) == 1 else 3.4)
    for axes, at, values in zip(panels, chosen, maps, strict=True):
        image = axes.pcolormesh(*edges, values.T, norm=norm, rasterized=True)
        axes.set(
            xlabel=r"$q_x a$",
            ylabel=r"$q_y a$" if axes is panels[0] else "",
            title=temperature_label(run, at),
            aspect="equal",
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([-np.pi, 0.0, np.pi], labels=[r"$-\pi$", "0", r"$\pi$"])
        axes.set(xlim=(-np.pi, np.pi), ylim=(-np.pi, np.pi))
    figure.colorbar(image, ax=list(panels), label="$S(q)$", shrink=0.8 if len(chosen) == 1 else 0.6)
    return figure


def _scale(maps: list[np.ndarray]) -> Normalize:
    """Return one scale for all maps: logarithmic if it takes that to show what is around a peak."""
    low, high = min(values.min() for values in maps), max(values.max() for values in maps)
    return LogNorm(low, high) if high > PEAK * low > 0.0 else Normalize(0.0, high)


def _zone_of_crystal(run: Results, profile: ProfileResult) -> Figure:
    """Draw S(q) over the zone of a crystal in two dimensions; in others against |q|."""
    chosen, lattice, mean = shown_temperatures(run), run.lattice, profile.mean
    if lattice.dimension != 2:
        return _against(
            run,
            profile,
            lengths_of_momenta(lattice, profile.axes),
            (r"$|q|$ [$1/a$]", "$S(q)$"),
        )
    maps = [mean[:, :, *at] for at in chosen]
    norm = _scale(maps)
    figure, panels = row_of_panels(len(chosen), 2.9 if len(chosen) == 1 else 3.4)
    for axes, at, values in zip(panels, chosen, maps, strict=True):
        image = zone_map(axes, lattice, values, norm)
        axes.set(
            xlabel=r"$q_x$ [$1/a$]",
            ylabel=r"$q_y$ [$1/a$]" if axes is panels[0] else "",
            title=temperature_label(run, at),
        )
    figure.colorbar(image, ax=list(panels), label="$S(q)$", shrink=0.8 if len(chosen) == 1 else 0.6)
    return figure


def _against(
    run: Results, profile: ProfileResult, lengths: np.ndarray, labels: tuple[str, str]
) -> Figure:
    """Draw all values of a function, with their errors, against the lengths of its arguments."""
    figure = Figure(figsize=(COLUMN, 2.7))
    axes = figure.subplots()
    chosen = shown_temperatures(run)
    for at, colour in zip(chosen, ordered_colours(len(chosen))):
        mean, error = (x[..., *at].ravel() for x in (profile.mean, profile.error))
        axes.errorbar(
            lengths.ravel(),
            mean,
            error,
            marker="o",
            linestyle="",
            color=colour,
            label=temperature_label(run, at),
        )
    axes.axhline(0.0, color="#999999", linewidth=0.6, zorder=0)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    legend(figure, axes)
    return figure


def correlations(run: Results) -> Drawing:
    """Draw C(r) against distance, the two sublattices of a square lattice told apart."""
    if "correlations" not in run.profiles:
        return None
    profile = run.profiles["correlations"]
    if not is_square(run.lattice):
        (distance,) = profile.axes.values()
        labels = (r"distance $|r|$ [$a$]", r"$C(r)=\langle S_i\cdot S_j\rangle$")
        return _against(run, profile, distance.values, labels)
    lx, ly = profile.mean.shape[:2]
    x, y = np.meshgrid(
        *(np.minimum(np.arange(n), n - np.arange(n)) for n in (lx, ly)), indexing="ij"
    )
    distance2, odd = x**2 + y**2, (x + y) % 2 == 1
    figure = Figure(figsize=(COLUMN, 2.7))
    axes = figure.subplots()
    chosen = shown_temperatures(run)
    for at, colour in zip(chosen, ordered_colours(len(chosen))):
        for parity, fill, label in (
            (False, "full", temperature_label(run, at)),
            (True, "none", None),
        ):
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
    legend(figure, axes)
    return figure


def energy_function(
    run: Results, name: str, xlabel: str, ylabel: str, positive: bool = True
) -> Drawing:
    """Draw a function of one variable with its error as a band, from 0 on if it is positive."""
    if name not in run.profiles:
        return None
    profile = run.profiles[name]
    (axis,) = profile.axes.values()
    figure = Figure(figsize=(COLUMN, 2.4))
    axes = figure.subplots()
    chosen = shown_temperatures(run)
    for at, colour in zip(chosen, ordered_colours(len(chosen))):
        mean, error = profile.mean[:, *at], profile.error[:, *at]
        axes.plot(axis.values, mean, color=colour, label=temperature_label(run, at))
        axes.fill_between(
            axis.values, mean - error, mean + error, color=colour, alpha=0.3, linewidth=0
        )
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(axis.values[0], axis.values[-1]))
    if positive:
        axes.set_ylim(bottom=0.0)
    legend(figure, axes)
    return figure


def other_function(run: Results, name: str) -> Drawing:
    """Draw a function of one variable that has no figure of its own."""
    profile = run.profiles.get(name)
    if profile is None or len(profile.axes) != 1:
        return None
    ((variable, axis),) = profile.axes.items()
    positive = float(profile.mean.min()) >= 0.0
    return energy_function(run, name, f"{variable} [{axis.unit}]", profile.label, positive)


def spectral_function(run: Results) -> Drawing:
    """Draw A(k, omega) along (0,0), (pi,0), (pi,pi), (0,0); of crystals through their points."""
    if "spectral_function" not in run.profiles:
        return None
    profile = run.profiles["spectral_function"]
    chosen = shown_temperatures(run)
    lattice, names = run.lattice, [r"$\Gamma$", "X", "M", r"$\Gamma$"]
    if is_square(lattice):
        path, corners = _path(profile)
    else:
        path, corners, names = path_through(lattice)
    zone = tuple(np.mod(path, profile.mean.shape[: lattice.dimension]).T)
    energy = profile.axes["energy"].values
    figure, panels = row_of_panels(len(chosen), 2.9)
    for axes, at in zip(panels, chosen):
        values = profile.mean[..., *at][zone]
        values = values.sum(1) if "spin" in profile.axes else values
        image = axes.pcolormesh(
            np.arange(len(path)),
            energy,
            values.T,
            shading="nearest",
            cmap="magma_r",
            rasterized=True,
        )
        axes.axhline(float(run.mu[at]), color="#666666", linewidth=0.6, linestyle="--")
        axes.set(
            ylabel=r"$\omega$ [$t$]" if axes is panels[0] else "", title=temperature_label(run, at)
        )
        axes.set_xticks(corners, labels=names)
        figure.colorbar(
            image, ax=axes, label=r"$A(k,\omega)$ [$1/t$]" if axes is panels[-1] else None
        )
    return figure


def _path(profile: ProfileResult) -> tuple[np.ndarray, list[int]]:
    """Return the grid points (points, 2) of the path through the zone, and which are corners."""
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
