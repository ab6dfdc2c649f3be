"""Options of the effective models: keys of [effective] that belong to a model."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Strict, Tag

from hpcslmc.errors import UserError
from hpcslmc.physics.catalogue import SQUARE
from hpcslmc.section import Count, Positive, Section, one_or_several

if TYPE_CHECKING:
    from hpcslmc.physics.lattice import Lattice

Layers = Annotated[int, Field(ge=1, le=100)]
Channels = Annotated[int, Field(ge=1, le=1024)]
CANDIDATES = (1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 22.0)
"""Frequencies of the determinant model to choose from, in units of pi T."""
MOST_SHELLS = 14
"""Neighbour shells of models fitted to forces, on lattices that have as many."""
LAST_SHELL = 10**5
"""Largest squared distance, or number, of a shell that a file is believed."""
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


def available_shells(lattice: "Lattice") -> int:
    """Count the neighbour shells of a square lattice, or how many any other can have."""
    if lattice.crystal == SQUARE:
        return len(lattice.shells)
    return lattice.sublattices * lattice.sites // 2


def nearest_shells(lattice: "Lattice", count: int) -> list[int]:
    """Return the names of the nearest neighbour shells (`hpcslmc.effective.shells`).

    Their squared distances on a square lattice, their numbers on every other.

    Raises
    ------
    UserError
        The lattice has fewer.
    """
    available = available_shells(lattice)
    if count > available:
        raise UserError(
            f"[effective] shells = {count}: a {'x'.join(map(str, lattice.shape))} "
            f"lattice has only {available} neighbour shells."
        )
    if lattice.crystal != SQUARE:
        return list(range(1, count + 1))
    return [int(distance2) for distance2 in lattice.shells[:count]]


def count_shells(shells: object) -> int:
    """Count the shells of a model's settings; ValueError if they are none.

    Positive integers in order, squared distances or numbers.
    """
    if not isinstance(shells, list | tuple) or not all(
        type(name) is int and 0 < name <= LAST_SHELL for name in shells
    ):
        raise ValueError("the shells are no squared distances or numbers")
    if list(shells) != sorted(set(shells)):
        raise ValueError("the shells are not in order")
    return len(shells)


class ShellOptions(Options):
    """Options of a model of neighbour shells, which it is built from by their names."""

    shells: Count = 6
    """Number of neighbour shells the model sees, nearest first."""

    def settings(self, lattice: "Lattice") -> dict[str, Any]:
        return super().settings(lattice) | {"shells": nearest_shells(lattice, self.shells)}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        return super().of({**settings, "shells": count_shells(settings.get("shells"))})


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


Heads = Annotated[int, Field(ge=1, le=64)]


class AttentionOptions(BlockOptions):
    """Options of the attention of spins."""

    heads: Heads = 1
    """Number of matrices of attention in a block, which add up."""
    renormalise: bool = True
    """Make spins of length one again after each block."""


class HeadOptions(MessageOptions):
    """Options of a model whose channels attend in groups."""

    layers: Layers = 2
    """Number of blocks."""
    channels: Channels = 16
    """Number of scalars, and of vectors of each kind, of a site."""
    heads: Heads = 4
    """Number of groups, a divisor of the channels."""

    def settings(self, lattice: "Lattice") -> dict[str, Any]:
        if self.channels % self.heads:
            raise UserError(
                f"[effective] heads = {self.heads} cannot share channels = {self.channels} equally."
            )
        return super().settings(lattice)


class EquiformerOptions(HeadOptions):
    """Options of the Equiformer."""

    pairs: bool = False
    """Gate what is sent for each pair of sites, by both: dear, for small lattices."""


class ForceOptions(MessageOptions):
    """Options of direct forces."""

    layers: Layers = 2
    """Number of blocks."""
    channels: Channels = 16
    """Number of scalars, and of vectors of each kind, of a site."""


class GATrOptions(HeadOptions):
    """Options of the geometric-algebra transformer."""

    channels: Channels = 8
    """Number of multivectors of a site."""
    scores: bool = False
    """Let content modulate the kernels: attention between all pairs in place of convolutions."""
    algebra: Literal["euclidean", "projective", "conformal"] = "euclidean"
    """Of the multivectors: that of an electron's spin, or one of points in space."""


class LieConvOptions(MessageOptions):
    """Options of convolutions with zonal kernels."""

    layers: Layers = 3
    """Number of convolutions."""
    channels: Channels = 16
    """Number of scalars of a site."""


class LieTransformerOptions(HeadOptions):
    """Options of the LieTransformer."""

    tangents: bool = False
    """Fields of the irreps m = +-1 too: vectors orthogonal to each spin."""
    softmax: bool = False
    """Normalise the attention, with a sink."""


class TransformerOptions(HeadOptions):
    """Options of the plain transformer."""

    relative: bool = False
    """Let displacements bias the attention, in place of positions of the sites."""
    average: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of group elements that log W_eff is averaged over."""


Acceptance = Annotated[float, Field(gt=0, lt=1)]
Acceptances = Annotated[
    Annotated[Acceptance, Tag("one")]
    | Annotated[tuple[Acceptance, ...], Strict(False), Field(min_length=1), Tag("several")],
    Discriminator(one_or_several),
]


class LinearOptions(Options):
    """Options of couplings by neighbour shell that are fitted to forces."""

    shells: Count | None = None
    """Number of neighbour shells, nearest first.

    14, or as many as the lattice has, if none is given.
    """

    def settings(self, lattice: "Lattice") -> dict[str, Any]:
        count = self.shells or min(MOST_SHELLS, available_shells(lattice))
        return super().settings(lattice) | {"shells": nearest_shells(lattice, count)}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        return super().of({**settings, "shells": count_shells(settings.get("shells"))})


class DeterminantOptions(LinearOptions):
    """Options of the determinant model, whose couplings stand for determinants left out."""

    frequencies: (
        Annotated[tuple[Positive, ...], Strict(False), Field(min_length=1, max_length=16)] | None
    ) = None
    """Imaginary frequencies of the determinants, in units of pi T.

    If none are given, validation chooses them among ``CANDIDATES``.
    """
    determinants: Annotated[int, Field(ge=0, le=100)] | None = None
    """Number of determinants.

    If none is given, all frequencies that are; or the fewest, none to three, that predict the
    acceptance.
    """
    acceptance: Acceptances = 0.975
    """Acceptance of independent proposals on this lattice that the determinants are to reach.

    Or a list: of none of them, of one, ...
    """

    tries: bool = False
    """Try more determinants in every further round of learning, as long as that pays.

    It pays if an independent sample is expected to cost less.
    """
    precision: Literal["double", "single"] = "double"
    """Of the determinants and their forces: single takes half the time, and keeps six digits.

    It serves a model whose proposals another one screens.
    """

    @property
    def acceptances(self) -> tuple[float, ...]:
        """Acceptances that none, one, ... determinants are to reach, the last for all more."""
        return self.acceptance if isinstance(self.acceptance, tuple) else (self.acceptance,)

    @property
    def candidates(self) -> tuple[float, ...]:
        """Frequencies to choose from, in units of pi T."""
        return self.frequencies or CANDIDATES

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of determinants to choose from, fewest first."""
        if self.determinants is not None:
            return (min(self.determinants, len(self.candidates)),)
        return (len(self.frequencies),) if self.frequencies else (0, 1, 2, 3)

    @property
    def described(self) -> str:
        """The determinants, and the number of shells if that is given."""
        *_, most = self.numbers
        wanted = " or ".join(f"{acceptance:g}" for acceptance in self.acceptances)
        asked = f"at most {most}, for an acceptance of {wanted}"
        number = f"{most} of them" if len(self.numbers) == 1 else asked
        where = ", ".join(f"{frequency:g}" for frequency in self.candidates)
        words = [f"at {where} pi T" if self.frequencies else number]
        if self.shells is not None:
            words.append(_said("shells", self.shells))
        if self.precision != "double":
            words.append(f"{self.precision} precision")
        return ", ".join(words)


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
