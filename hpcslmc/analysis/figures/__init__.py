"""Figures of finished runs, for print.

Width of one or two columns, colours of Okabe and Ito, error bars, units.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np

from hpcslmc.analysis.figures.comparison import autocorrelation, observables
from hpcslmc.analysis.figures.configuration import exchange, spins
from hpcslmc.analysis.figures.functions import (
    correlations,
    energy_function,
    other_function,
    spectral_function,
    structure_factor,
)
from hpcslmc.analysis.figures.learning import acceptance_by_round, learning_curve
from hpcslmc.analysis.figures.style import STYLE, Drawing, short_names
from hpcslmc.analysis.results import Results
from hpcslmc.errors import described_error


def save_figures(runs: Mapping[str, Results], folder: Path) -> tuple[list[str], list[str]]:
    """Draw all figures of the runs, as PNG and PDF.

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
    names: list[str] = []
    failures: list[str] = []
    with matplotlib.rc_context(matplotlib.RcParams(STYLE)):
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
    """Save a figure; returns False if there is none."""
    if figure is None:
        return False
    for ending in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{ending}")
        figure.set_layout_engine("none")  # it is laid out, once is enough
    return True


def _figures(runs: Mapping[str, Results]) -> Iterator[tuple[str, Callable[[], Drawing]]]:
    """List the figures and their drawing functions.

    First those that compare the runs, then those of each run.
    """
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
    others = {name for run in runs.values() for name in run.profiles} - {*compared, *single}
    single |= {name: partial(other_function, name=name) for name in sorted(others)}
    for name, compare in compared.items():
        yield name, partial(compare, runs)
    short = short_names(list(runs))
    for name, draw in single.items():
        for run, results in runs.items():
            yield name if len(runs) == 1 else f"{name}_{short[run]}", partial(draw, results)
