"""Kinds of the values in a checkpoint, and the comparison of what was found with them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from hpcslmc.storage.checkpoint import Array

LARGEST_WORD = 2**62
"""Largest counter that is held in 64 bits."""
LONGEST_TEXT = 1000
"""Longest line of text, in characters."""


@dataclass(frozen=True)
class Rows:
    """A list of values of one kind, from ``least`` to ``most`` of them."""

    kind: "Kind"
    least: int = 0
    most: int = LARGEST_WORD


Kind = Callable[[object], bool] | Array | Rows | dict[str, "Kind"]
"""Kind of a value: a test of it, an array, a list, or a group of exactly these keys."""


def whole(low: int, high: int = LARGEST_WORD) -> Kind:
    """Accept a whole number from low to high."""
    return lambda value: type(value) is int and low <= value <= high


def real(low: float = -math.inf, high: float = math.inf) -> Kind:
    """Accept a finite number from low to high."""
    return lambda value: type(value) is float and math.isfinite(value) and low <= value <= high


def one_of(*values: str) -> Kind:
    """Accept one of some words."""
    return lambda value: value in values


def whether(value: object) -> bool:
    """Accept True or False."""
    return isinstance(value, bool)


def always(value: object) -> bool:
    """Accept only True."""
    return value is True


def never(value: object) -> bool:
    """Accept only False."""
    return value is False


def measured(value: object) -> bool:
    """Accept a diagnostic float, which is not used to resume; nan is allowed."""
    return type(value) is float


def text(value: object) -> bool:
    """Accept a line of text."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()


def group(value: object) -> bool:
    """Accept any dict: diagnostic, or validated elsewhere."""
    return isinstance(value, dict)


def check(found: object, kind: Kind, where: str) -> None:
    """Raise ValueError, which names the place, unless what was found is of a kind."""
    if isinstance(kind, dict) and isinstance(found, dict):
        if found.keys() != kind.keys():
            raise ValueError(
                f"{where} lacks or does not know "
                f"{', '.join(sorted(found.keys() ^ kind.keys()))!r:.60}"
            )
        for key, inner in kind.items():
            check(found[key], inner, f"{where}/{key}")
    elif (
        isinstance(kind, Rows) and isinstance(found, list) and kind.least <= len(found) <= kind.most
    ):
        for number, value in enumerate(found):
            check(value, kind.kind, f"{where}/{number}")
    elif isinstance(kind, dict | Rows) or not (
        found == kind if isinstance(kind, Array) else kind(found)
    ):
        raise ValueError(f"{where} = {found!r:.60}")
