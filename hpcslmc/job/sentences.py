"""One sentence for the user about what is wrong in a job file."""

import difflib
from collections.abc import Iterable

from hpcslmc.errors import UserError
from hpcslmc.job.schema import Job

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


def sentence(error: dict) -> str:
    """Turn pydantic's description of an error into one sentence."""
    location = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        section = Job.model_fields[location[0]].annotation if len(location) > 1 else Job
        key = cut(location[-1])
        where = (
            f"[{location[0]}] has no key '{key}'"
            if len(location) > 1
            else f"no section or key '{key}'"
        )
        owners = [
            name
            for name, field in Job.model_fields.items()
            if location[-1] in field.annotation.model_fields
        ]
        if owners:
            return f"{where}: it belongs to [{owners[0]}]."
        return f"{where}: {hint(location[-1], list(section.model_fields))}"
    place = f"[{location[0]}]" + (f" {location[1]}" if len(location) > 1 else "")
    found = cut(repr(error["input"]))
    if error["type"] == "missing":
        return f"{place} is missing and has no default."
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"{place} has to be a section of keys, not {found}."
    if error["type"] in ("too_short", "too_long", "tuple_type"):
        return f"{place} = {found}: input should be two integers, as in [6, 6]."
    if error["type"] == "string_pattern_mismatch":
        return f"{place} = {found}: a path has no control characters."
    wanted = error["msg"][0].lower() + error["msg"][1:]
    if len(location) > 2 and location[-1].isdigit():
        place += f" (entry {int(location[-1]) + 1})"
    return f"{place} = {found}: {wanted}."
