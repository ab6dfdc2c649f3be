"""Tables from results.h5."""

import math
from pathlib import Path

import h5py
import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpcslmc.measure.statistics import bracket


INGREDIENTS = {"energy2", "energy_density", "density2", "m4_staggered", "m4_uniform", "m2_next_staggered", "m2_next_uniform",
               "scalar_chirality2", "energy_fluctuation", "number_fluctuation"}
"""Observables that are kept for what is derived from them, and not shown."""
IN_LADDERS = ("density", "energy", "specific_heat", "m2_staggered", "m2_uniform", "binder_staggered", "correlation_length_staggered",
              "nn_correlation", "acceptance")
"""Observables that are shown for every temperature."""


def _number(value: float, digits: str) -> str:
    return format(value, digits) if math.isfinite(value) else "-"


def print_report(path: Path) -> None:
    """Print what a run learned and measured, from its results.h5."""
    with h5py.File(path, "r") as file:
        temperatures = file["temperature"][()]
        console = Console(width=150 if temperatures.ndim else 100, force_terminal=False, no_color=True)
        if "learning/rounds" in file:
            console.print(_learning_table(file["learning/rounds"], temperatures.ndim > 0))
            for remark in file["learning/remarks"].asstr():
                console.print(escape(remark))
        if temperatures.ndim:
            console.print(_ladder_table(file))
            if "exchange" in file:
                console.print(_exchange_line(file))
        else:
            console.print(_summary_table(file))
        for line in _doubts(file):
            console.print(escape(line))


def _ladder_table(file: h5py.File) -> Table:
    """What is asked for most, by temperature."""
    summary = _Summary(file)
    shown = [name for name in IN_LADDERS if name in summary.names and summary.error[summary.names.index(name)].any()]
    table = Table(title="Observables by temperature: mean (standard error in brackets)", box=box.SIMPLE, title_justify="left")
    mu = file["mu"][()]
    headings = ["T"] + (["mu"] if np.ptp(mu) else []) + [escape(summary.label[summary.names.index(name)]) for name in shown] + ["tau", "R-hat"]
    exchange = file["exchange/acceptance"][()] if "exchange" in file else None
    for heading in headings + (["exchange"] if exchange is not None else []):
        table.add_column(heading, justify="right")
    for k, temperature in enumerate(file["temperature"][()]):
        row = [f"{temperature:.4g}"] + ([f"{mu[k]:.4f}"] if np.ptp(mu) else [])
        for name in shown:
            at = summary.names.index(name), k
            row.append(bracket(summary.mean[at], summary.error[at]))
        row += [_number(np.nanmax(summary.tau[:, k]), ".2f"), _number(np.nanmax(summary.rhat[:, k]), ".4f")]
        if exchange is not None:
            row.append(f"{exchange[k]:.2f}" if k < len(exchange) else "")
        table.add_row(*row)
    return table


def _exchange_line(file: h5py.File) -> str:
    """How replicas travelled along the ladder."""
    trips, turns = int(file["exchange/trips"][()].sum()), int(file["exchange/tried"][()][:2].sum())
    often = f"{trips} journeys, one in {turns * file['exchange/trips'].size / trips:.0f} turns of a replica" if trips else "none"
    return f"tau, R-hat: the largest of all observables; exchange: accepted with the next row; from end to end of the ladder: {often}"


def _learning_table(rounds: h5py.Group, ladder: bool) -> Table:
    table = Table(title="Learning: acceptance of the exact test in each round", box=box.SIMPLE, title_justify="left")
    for heading in (*(["T"] if ladder else []), "round", "exact\nevaluations", "validation MSE\nof log W", "MSE / N", "acceptance\nmeasured",
                    "erfc(s/2)", "exp(-s)"):
        table.add_column(heading, justify="right")
    columns = {name: rounds[name][()] for name in rounds}
    for k in range(len(columns["round"])):
        table.add_row(*([f"{columns['temperature'][k]:.4g}"] if ladder else []), str(columns["round"][k]), str(columns["evaluations"][k]), f"{columns['mse'][k]:.4g}",
                      f"{columns['mse_per_site'][k]:.3g}",
                      bracket(columns["acceptance"][k], columns["acceptance_error"][k]),
                      f"{columns['predicted_erfc'][k]:.3f}", f"{columns['predicted_exp'][k]:.3f}")
    return table


class _Summary:
    """The summary of a results file, column by column."""

    def __init__(self, file: h5py.File) -> None:
        self.names = [name.decode() for name in file["summary/observable"][()]]
        self.label, self.doubts = (list(file[f"summary/{key}"].asstr()[()]) for key in ("label", "doubts"))
        self.mean, self.error, self.tau, self.rhat, self.ess = (file[f"summary/{key}"][()] for key in ("mean", "error", "tau", "rhat", "ess"))


def _summary_table(file: h5py.File) -> Table:
    summary = _Summary(file)
    table = Table(title="Observables: mean (standard error in brackets)", box=box.SIMPLE, title_justify="left")
    for heading, justify in (("observable", "left"), ("mean", "right"), ("tau / samples", "right"), ("R-hat", "right"),
                             ("n_eff", "right")):
        table.add_column(heading, justify=justify)
    for k, name in enumerate(summary.names):
        if name not in INGREDIENTS:
            table.add_row(escape(summary.label[k]), bracket(summary.mean[k], summary.error[k]), _number(summary.tau[k], ".2f"),
                          _number(summary.rhat[k], ".4f"), _number(summary.ess[k], ".0f"))
    return table


def _doubts(file: h5py.File) -> list[str]:
    """A line for each doubt and the observables that share it; of a ladder, with the temperature where it is worst."""
    summary, found = _Summary(file), {}
    temperatures = np.atleast_1d(file["temperature"][()])
    for k, name in enumerate(summary.names):
        for at, doubts in enumerate(np.atleast_1d(summary.doubts[k])):
            if name not in INGREDIENTS and doubts:
                where = f" at T = {temperatures[at]:.4g}" if len(temperatures) > 1 else ""
                found.setdefault(doubts + where, []).append(summary.label[k])
    return [f"Doubtful errors ({doubt}): {', '.join(labels)}" for doubt, labels in found.items()]
