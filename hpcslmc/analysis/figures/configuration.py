"""Figures of a run: its last configuration, and the exchange along its ladder."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from hpcslmc.analysis.figures.crystals import spin_map
from hpcslmc.analysis.figures.style import (
    COLOURS,
    COLUMN,
    Drawing,
    row_of_panels,
    shown_temperatures,
    temperature_axis,
    temperature_label,
)
from hpcslmc.analysis.results import Results
from hpcslmc.measure.momenta import is_square

OUTLINED, ARROWS = 16, 24
"""Longest sides of lattices whose arrows have an outline, and that have arrows at all.

Beyond there are colours alone.
"""


def spins(run: Results) -> Drawing:
    """Draw the last configuration of the first chain, turned so that most lies in the plane.

    Direction in colour, and as arrows where they have room.
    """
    chosen = shown_temperatures(run)
    figure, panels = row_of_panels(len(chosen), 3.0)
    for axes, at in zip(panels, chosen):
        own = run.spins[0][:, :, *at]
        turned = own @ np.linalg.eigh(own.T @ own)[1][:, ::-1]  # first axis: the main one
        horizontal, vertical = turned[:, 1], turned[:, 0]
        image: ScalarMappable
        if is_square(run.lattice):
            image = _square_map(axes, run.lattice.shape, horizontal, vertical)
        else:
            most = (ARROWS**2, OUTLINED**2)
            image = spin_map(axes, run.lattice, horizontal, vertical, most)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set(
            title=temperature_label(run, at),
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


def _square_map(
    axes: Axes, shape: tuple[int, ...], horizontal: np.ndarray, vertical: np.ndarray
) -> AxesImage:
    """Draw spins of a square lattice, each in a square."""
    horizontal, vertical = horizontal.reshape(shape), vertical.reshape(shape)
    image = axes.imshow(
        np.arctan2(vertical, horizontal).T,
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
    return image


def exchange(run: Results) -> Drawing:
    """Draw the acceptance of exchange between neighbours; errors from the spread of the ladders."""
    if not run.exchange:
        return None
    accepted = run.exchange["accepted"]
    tried = run.exchange["tried"]
    share = run.exchange_acceptance
    chains = len(accepted)
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
    temperature_axis(axes, run.temperature.tolist())
    return figure
