"""Tables from results.h5."""

import math
from pathlib import Path

import h5py
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpcslmc.measure.statistics import bracket


def _number(value: float, digits: str) -> str:
    return format(value, digits) if math.isfinite(value) else "-"


def print_report(path: Path) -> None:
    """Print what a run learned and measured, from its results.h5."""
    console = Console(width=100, force_terminal=False, no_color=True)
    with h5py.File(path, "r") as file:
        if "learning/rounds" in file:
            console.print(_learning_table(file["learning/rounds"]))
            for remark in file["learning/remarks"].asstr():
                console.print(escape(remark))
        console.print(_summary_table(file))


def _learning_table(rounds: h5py.Group) -> Table:
    table = Table(title="Learning: acceptance of the exact test in each round", box=box.SIMPLE, title_justify="left")
    for heading in ("round", "exact\nevaluations", "validation MSE\nof log W", "MSE / N", "acceptance\nmeasured",
                    "erfc(s/2)", "exp(-s)"):
        table.add_column(heading, justify="right")
    columns = {name: rounds[name][()] for name in rounds}
    for k in range(len(columns["round"])):
        table.add_row(str(columns["round"][k]), str(columns["evaluations"][k]), f"{columns['mse'][k]:.4g}",
                      f"{columns['mse_per_site'][k]:.3g}",
                      bracket(columns["acceptance"][k], columns["acceptance_error"][k]),
                      f"{columns['predicted_erfc'][k]:.3f}", f"{columns['predicted_exp'][k]:.3f}")
    return table


def _summary_table(file: h5py.File) -> Table:
    summary = {name: file[f"summary/{name}"][()] for name in file["summary"]}
    table = Table(title="Observables: mean (standard error in brackets)", box=box.SIMPLE, title_justify="left")
    for heading, justify in (("observable", "left"), ("mean", "right"), ("tau / samples", "right"), ("R-hat", "right"),
                             ("n_eff", "right")):
        table.add_column(heading, justify=justify)
    for k, name in enumerate(summary["observable"]):
        label = file[f"draws/{name.decode()}"].attrs["label"]
        table.add_row(escape(label), bracket(summary["mean"][k], summary["error"][k]), _number(summary["tau"][k], ".2f"),
                      _number(summary["rhat"][k], ".4f"), _number(summary["ess"][k], ".0f"))
    return table
