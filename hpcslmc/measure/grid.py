"""Grids that functions are measured on."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Axis(NamedTuple):
    """One axis of a grid.

    Attributes
    ----------
    values : (points,) float64
    unit : str
    """

    values: np.ndarray
    unit: str


Grid = Mapping[str, Axis]
"""Axes by name, in the order of a function's dimensions."""
