"""Figures of learning: validation error, loss and acceptance."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from hpcslmc.analysis.figures.style import (
    COLOURS,
    COLUMN,
    MARGIN,
    MARKERS,
    PAGE,
    Drawing,
    curve_styles,
    legend,
    run_titles,
    temperature_bar,
    temperature_colours,
)
from hpcslmc.analysis.results import Results


class _Model(NamedTuple):
    """Learning history of one model.

    Attributes
    ----------
    temperature : float
    run : int
        Which of the merged runs learned it, from 1.
    table : dict of str to array
        Columns of the history; (rows,) each.
    """

    temperature: float
    run: int
    table: dict[str, np.ndarray]


def _models(run: Results, table: Mapping[str, np.ndarray]) -> list[_Model]:
    """Divide a learning history into its models, by merged run and temperature."""
    number = table.get("run", np.ones(len(table["round"]), dtype=int))
    found = []
    for one in np.unique(number):
        for temperature in np.atleast_1d(run.temperature):
            own = (number == one) & (table["temperature"] == temperature)
            if own.any():
                columns = {key: column[own] for key, column in table.items()}
                found.append(_Model(float(temperature), int(one), columns))
    return found


def _model_style(run: Results, model: _Model, colours: Mapping[float, tuple], style: dict) -> dict:
    """Style a model's curve: in a ladder the colour of its temperature, and its run's marker."""
    shown = {"marker": MARKERS[(model.run - 1) % len(MARKERS)]} if run.others else {}
    return style | shown | ({"color": colours[model.temperature]} if run.is_ladder else {})


def learning_curve(run: Results) -> Drawing:
    """Draw validation error and loss along the gradient steps of all rounds; None without any."""
    if not run.curve or not run.curve["step"].any():
        return None
    figure = Figure(figsize=(COLUMN, 2.6))
    axes = figure.subplots()
    models = _models(run, run.curve)
    first = run.curve["round"].min()
    length = run.curve["step"].max()
    colours = temperature_colours([run])
    styles = curve_styles(1 + len(run.others))
    for model in models:
        table = model.table
        style = _model_style(run, model, colours, styles[model.run - 1] | {"marker": "."})
        along = table["step"] + (table["round"] - first) * length
        for number in np.unique(table["round"]):
            part = table["round"] == number
            name = f"run {model.run}" if run.others else "validation MSE of $\\log W$"
            in_legend = number == first and model.temperature == models[0].temperature
            axes.plot(along[part], table["mse"][part], label=name if in_legend else None, **style)
            if len(models) == 1:
                axes.plot(
                    along[part],
                    table["loss"][part],
                    color=COLOURS[1],
                    linestyle="--",
                    label="training loss" if in_legend else None,
                )
    for number in np.unique(run.curve["round"])[1:]:
        axes.axvline((number - first) * length, color="#CCCCCC", linewidth=0.6, zorder=0)
    axes.set(
        xlabel="gradient step, all rounds",
        ylabel="mean squared error" if len(models) == 1 else "validation MSE of $\\log W$",
        yscale="log",
    )
    if run.is_ladder:
        temperature_bar(figure, [axes], colours)
    if len(models) == 1 or run.others:
        legend(figure, axes)
    return figure


def acceptance_by_round(runs: Mapping[str, Results]) -> Drawing:
    """Draw acceptance, measured and predicted, and validation error after each learning round.

    Runs are told apart by their markers, the temperatures of ladders by their colours.
    """
    learned = {name: run for name, run in runs.items() if run.rounds}
    if not learned:
        return None
    figure = Figure(figsize=(PAGE, 2.5))
    left, right = figure.subplots(1, 2)
    titles = run_titles(learned)
    ladders = any(run.is_ladder for run in learned.values())
    colours = temperature_colours(learned.values())
    curves = [
        (name, run, model) for name, run in learned.items() for model in _models(run, run.rounds)
    ]
    owners = list(dict.fromkeys((name, model.run) for name, _, model in curves))
    styles = dict(zip(owners, curve_styles(len(owners)), strict=True))
    for name, _, model in curves:
        table = model.table
        style = styles[name, model.run]
        if ladders:
            style = style | {"color": colours[model.temperature]}
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
        temperature_bar(figure, [left, right], colours)
    legend(figure, left)
    return figure
