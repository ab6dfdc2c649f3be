"""One sentence for the user about what is wrong in a job file."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from hpcslmc.errors import UserError
from hpcslmc.job.schema import EffectiveSection, Job
from hpcslmc.plugins import MODELS

SHOWN = 60
"""Characters of a wrong value that a sentence repeats."""


def check_name(key: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is not known.

    Parameters
    ----------
    key : str
        What has that name.
    name : str
    known : iterable of str

    Raises
    ------
    UserError
    """
    if name not in (known := list(known)):
        raise UserError(
            f"{key} = {cut(repr(name))}: "
            f"{hint(name, known, ', or is --import missing', ', and what --import adds')}"
        )


def hint(name: str, known: list[str], otherwise: str = "", more: str = "") -> str:
    """Name the known name that is closest to a wrong one, or all known names."""
    lower = {known_name.lower(): known_name for known_name in known}
    close = difflib.get_close_matches(name[:SHOWN].lower(), lower, n=1, cutoff=0.5)
    return (
        f"did you mean '{lower[close[0]]}'{otherwise}?"
        if close
        else f"known are {', '.join(known)}{more}."
    )


def cut(text: str, length: int = SHOWN) -> str:
    """Put a text on one line and cut it to a length."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _keys(section: str) -> Collection[str]:
    """Return the keys of a section; the sections themselves for ""."""
    if not section:
        return Job.model_fields
    if section == "effective":  # one table or several
        return EffectiveSection.model_fields
    annotation: Any = Job.model_fields[section].annotation
    return annotation.model_fields


def _owner(key: str) -> str | None:
    """Return the section that a key belongs to, as its own or as an option of a model."""
    for section in Job.model_fields:
        if key in _keys(section):
            return section
    options = (MODELS.declared(name, "Options").model_fields for name in MODELS)
    return "effective" if any(key in fields for fields in options) else None


def unknown_key(section: str, key: str, known: list[str], more: Collection[str] = ()) -> str:
    """Say that a section ("" for the job) has no such key, and what may have been meant.

    Parameters
    ----------
    section, key : str
    known : list of str
        Keys that are listed if none is close.
    more : collection of str
        Keys that are not, to which ``--import`` adds.
    """
    where = f"[{section}] has no key '{cut(key)}'" if section else f"no section or key '{cut(key)}'"
    owner = _owner(key)
    if owner not in (None, section):
        return f"{where}: it belongs to [{owner}]."
    if not more:
        return f"{where}: {hint(key, known)}"
    close = difflib.get_close_matches(key[:SHOWN].lower(), more, n=1, cutoff=0.5)
    imports = ", or is --import missing", ", names of measurements, and what --import adds"
    return f"{where}: {hint(key, [*known, *close], *imports)}"


def sentence(error: Mapping[str, Any]) -> str:
    """Turn pydantic's description of an error into one sentence."""
    location = [str(part) for part in error["loc"] if part not in ("one", "several")]
    table = ""
    if location[0] == "effective" and len(location) > 1 and location[1].isdigit():
        table = f" (table {int(location.pop(1)) + 1})"
    if error["type"] == "extra_forbidden":
        section = location[0] if len(location) > 1 else ""
        return unknown_key(section, location[-1], list(_keys(section)))
    place = f"[{location[0]}]{table}" + (f" {location[1]}" if len(location) > 1 else "")
    found = cut(repr(error["input"]))
    if error["type"] == "missing" and location[-1].isdigit():
        return f"{place} = {found}: entry {int(location[-1]) + 1} is missing."
    if error["type"] == "missing":
        return f"{place} is missing and has no default."
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"{place} has to be a section of keys, not {found}."
    if error["type"] in ("too_short", "too_long") and location[:2] != ["lattice", "shape"]:
        return f"{place} = {found}: input should be a list with {_bounds(error['ctx'])}."
    if error["type"] in ("too_short", "too_long", "tuple_type"):
        return f"{place} = {found}: input should be two integers, as in [6, 6]."
    if error["type"] == "string_pattern_mismatch":
        return f"{place} = {found}: a path has no control characters."
    wanted = error["msg"][0].lower() + error["msg"][1:]
    if len(location) > 2 and location[-1].isdigit():
        place += f" (entry {int(location[-1]) + 1})"
    return f"{place} = {found}: {wanted}."


def _bounds(context: Mapping[str, int]) -> str:
    """Describe how long a list may be, by the side on which it is not."""
    if "min_length" in context:
        least = context["min_length"]
        return f"at least {least} {'entry' if least == 1 else 'entries'}"
    return f"at most {context['max_length']} entries"
