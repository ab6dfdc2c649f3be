"""Options of the effective models: keys of [effective] that belong to a model."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field

from hpcslmc.errors import UserError
from hpcslmc.section import Count, Section

if TYPE_CHECKING:
    from hpcslmc.physics.lattice import Lattice

Layers = Annotated[int, Field(ge=1, le=100)]
Channels = Annotated[int, Field(ge=1, le=1024)]
ABSENT = ("layers", "channels")
"""Settings that files of earlier versions hold for all models, 0 for those without."""


class Options(Section):
    """Options of a model: a field with its default for each key of the job file."""

    def settings(self, lattice: "Lattice") -> dict[str, Any]:
        """Return what the model is built from on lattices of all sizes, as plain values.

        Raises
        ------
        UserError
            The lattice does not have what the options ask for.
        """
        return self.model_dump(mode="json")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return the options that gave such settings.

        Raises
        ------
        pydantic.ValidationError
        """
        unknown = set(ABSENT) - cls.model_fields.keys()
        given = {key: value for key, value in settings.items() if value or key not in unknown}
        # as JSON, in which a tuple is a list
        return cls.model_validate_json(json.dumps(given, default=str))

    @property
    def described(self) -> str:
        """All options in a few words, the model's own before inherited ones."""
        given = self.model_dump(mode="json", exclude_none=True)
        return ", ".join(_said(key, given[key]) for key in reversed(given))


def _said(key: str, value: object) -> str:
    """Describe an option, such as "3 layers", "1 shell" or "cutoff 2.5"."""
    if isinstance(value, int) and key.endswith("s"):
        return f"{value} {key.removesuffix('s') if value == 1 else key}"
    return f"{key} {value}"


class ShellOptions(Options):
    """Options of a model of neighbour shells, which it is built from by their squared distances."""

    shells: Count = 6
    """Number of neighbour shells the model sees, nearest first."""

    def settings(self, lattice: "Lattice") -> dict[str, Any]:
        available = len(lattice.shells)
        if self.shells > available:
            raise UserError(
                f"[effective] shells = {self.shells}: a {lattice.shape[0]}x{lattice.shape[1]} "
                f"lattice has only {available} neighbour shells."
            )
        shells = [int(distance2) for distance2 in lattice.shells[: self.shells]]
        return super().settings(lattice) | {"shells": shells}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        shells = settings.get("shells")
        if not isinstance(shells, list | tuple) or not all(
            type(distance2) is int and distance2 > 0 for distance2 in shells
        ):
            raise ValueError("the shells are no squared distances")
        if list(shells) != sorted(set(shells)):
            raise ValueError("the shells are not in order")
        return super().of({**settings, "shells": len(shells)})


class BlockOptions(ShellOptions):
    """Options of a model of blocks on neighbour shells."""

    layers: Layers = 3
    """Number of blocks on top of the linear readout."""


class MessageOptions(ShellOptions):
    """Options of message passing."""

    layers: Layers = 1
    """Number of rounds of messages."""
    channels: Channels = 8
    """Number of vectors of a site."""


class GivenOptions(ShellOptions):
    """Options of a model that declares none: neighbour shells, and what else is given."""

    layers: Layers | None = None
    """Number of layers; 0 in the architecture if not given."""
    channels: Channels | None = None
    """Number of channels; 0 in the architecture if not given."""

    def settings(self, lattice: "Lattice") -> dict[str, Any]:
        absent = {key: getattr(self, key) or 0 for key in ABSENT}
        return super().settings(lattice) | absent

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        given = {key: value for key, value in settings.items() if value or key not in ABSENT}
        return super().of(given)
