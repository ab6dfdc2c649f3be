"""Sections of a job file, and the numbers in them; a component's own options are one too."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
PathName = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]+$")]
Count = Annotated[int, Field(ge=1, lt=2**31)]


class Section(BaseModel):
    """Keys with types and bounds; unknown keys are refused, and values never converted."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def one_or_several(value: object) -> str:
    """Tell a list from a single value: tags of a union of both."""
    return "several" if isinstance(value, list | tuple) else "one"
