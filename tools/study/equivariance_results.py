"""What the trainings of the study of equivariance have found, sorted, and power laws of it."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from equivariance_arms import AVERAGED, DATA_SIZES, SCALED
from power_laws import Fitted, bootstrap

Rows = list[dict]
LEAST_POINTS = 4
"""Points that a power law with a floor takes."""


class Results(NamedTuple):
    """Results of trainings, by what they are for; a training may be in several lists.

    Attributes
    ----------
    rows : list of dict
        Of all trainings.
    compute : list of dict
        Of those with all data, at a budget.
    data : list of dict
        Of those that share budget and size with others on fewer data.
    depth : list of dict
        Of those with given steps.
    """

    rows: Rows
    compute: Rows
    data: Rows
    depth: Rows


def read(path: Path) -> Results:
    """All results in a file; ``error`` is the variance of log W - log W_eff by site."""
    with h5py.File(path) as file:
        rows = [dict(row.attrs) for cell in file["results"].values() for row in cell.values()]
        sites = int(file.attrs["sites"])
    for row in rows:
        row["error"] = row["mse"] / sites
    budgeted, most = [row for row in rows if row["budget"]], DATA_SIZES[-1]
    scaled = {*SCALED, *AVERAGED.values()}
    starved = {of_size(row) for row in budgeted if row["configurations"] < most}
    return Results(
        rows,
        [row for row in budgeted if row["configurations"] == most and row["arm"] in scaled],
        [row for row in budgeted if of_size(row) in starved],
        [row for row in rows if not row["budget"]],
    )


def read_designs(path: Path) -> dict[str, Rows]:
    """MSE and acceptance of the designs of tools/study/study_models.py, by lattice and J."""
    found: dict[str, Rows] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        row = json.loads(line)
        length = row["length"]
        where = f"{length}x{length}, J = {row['J']:g}" + (
            f", mu = {row['mu']:g}" if row["mu"] else ""
        )
        accepted, error = row["acceptance"]
        row = {"mse": row["mse"] * length**2, "acceptance": accepted, "acceptance_error": error}
        found.setdefault(where, []).append(row)
    return found


def of_size(row: dict) -> tuple[str, float, float]:
    """What trainings on different data share."""
    return row["arm"], row["channels"], row["budget"]


def groups(rows: Rows, *keys: str) -> dict[tuple, Rows]:
    """Rows that agree in some keys, in order of these."""
    found: dict[tuple, Rows] = {}
    for row in sorted(rows, key=lambda row: [row[key] for key in keys]):
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def mean_error(rows: Rows, key: str) -> tuple[float, float]:
    """Mean over trainings, and its standard error from their spread; nan of one alone."""
    values = np.array([row[key] for row in rows])
    spread = values.std(ddof=1) if len(values) > 1 else math.nan
    return float(values.mean()), float(spread / math.sqrt(len(values)))


def best(rows: Rows, at: str = "budget") -> list[Rows]:
    """For each value of a key the trainings of the size whose mean error is least."""
    sizes = [list(groups(those, "channels").values()) for those in groups(rows, at).values()]
    return [min(some, key=lambda those: mean_error(those, "error")[0]) for some in sizes]


def law(rows: Rows, at: str, scale: str) -> Fitted | None:
    """Power law of the best size at each value of a key, chosen anew in every draw.

    None where they are too few. The values of ``scale`` are what the law is in.
    """
    keys = at, scale, "error"
    points = list(groups(rows, at, "channels").values())
    if len(groups(rows, at)) < LEAST_POINTS:
        return None

    def choose(drawn: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        means = np.array([some.mean(0) for some in drawn])
        of_value = [means[means[:, 0] == value] for value in np.unique(means[:, 0])]
        chosen = np.array([some[some[:, 2].argmin()] for some in of_value])
        return chosen[:, 1], chosen[:, 2]

    return bootstrap([np.array([[row[k] for k in keys] for row in p]) for p in points], choose)


def chance(law: str, mse: np.ndarray) -> np.ndarray:
    """Acceptance that a law of s, s^2 the mean squared error, predicts."""
    s = np.sqrt(mse)
    return np.exp(-s) if law == "exp(-s)" else np.array([math.erfc(x / 2.0) for x in s])
