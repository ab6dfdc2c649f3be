"""Registries of what job files name, imported when it is first asked for, and plugins.

Plugins are users' own modules, which add to the registries.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hpcslmc.errors import UserError

if TYPE_CHECKING:
    from hpcslmc.effective import EffectiveModel
    from hpcslmc.parallel.world import World
    from hpcslmc.physics.ensemble import Ensemble
    from hpcslmc.weight.method import ExactWeight

T = TypeVar("T")


@dataclass(frozen=True)
class Builtin:
    """Built-in entry: the place of its code and what it declares.

    Attributes
    ----------
    place : str
        ``module:name``.
    declares : mapping of str to object
        Class attributes that a job is checked by before anything heavy is imported, or where they
        are, ``module:name``.
    """

    place: str
    declares: Mapping[str, object]


class Registry(MutableMapping[str, T], Generic[T]):
    """Mapping of names to objects.

    Those of the program are imported when they are first asked for, and cannot be replaced; plugins
    may add others.

    Parameters
    ----------
    own : mapping of str to T, str or Builtin
        Those of the program, or where they are, ``module:name``.
    taken : collection of str
        Names that mean something else.
    labelled : bool
        Whether each has a ``name``, the one it is known by, and a ``label``.
    """

    def __init__(
        self,
        own: "Mapping[str, T | str | Builtin]",
        taken: Collection[str] = (),
        labelled: bool = False,
    ) -> None:
        self._taken, self._labelled = {*own, *taken}, labelled
        self._declared = {
            name: entry.declares for name, entry in own.items() if isinstance(entry, Builtin)
        }
        self._found: dict[str, T | str] = {
            name: entry.place if isinstance(entry, Builtin) else entry
            for name, entry in own.items()
        }

    def __getitem__(self, name: str) -> T:
        found = self._found[name]
        if isinstance(found, str):
            found = self._found[name] = _at(found)
        return found

    def declared(self, name: str, attribute: str, default: object = None) -> Any:
        """Return a class attribute of an entry.

        The program's own are not imported for what the registry says of them.
        """
        declares = self._declared.get(name, {})
        if attribute not in declares:
            return getattr(self[name], attribute, default)
        value = declares[attribute]
        return _at(value) if isinstance(value, str) else value

    def __setitem__(self, name: str, value: T) -> None:
        """Add one under a name that is free, or one's own again.

        Raises
        ------
        ValueError
        """
        self.check(name, value)
        self._found[name] = value

    def check(self, name: str, value: object) -> None:
        """Check that a name is free, and fits what is to be added under it.

        Raises
        ------
        ValueError
        """
        if name in self._taken:
            raise ValueError(f"the program has {name!r} itself: choose another name")
        if not name.isidentifier():
            raise ValueError(f"{name!r} is no name: use letters, digits and underscores")
        if self._labelled and getattr(value, "name", None) != name:
            raise ValueError(f"{name!r} needs an attribute name = {name!r}")
        if self._labelled and not isinstance(getattr(value, "label", None), str):
            raise ValueError(f"{name!r} needs an attribute label, a text for tables and figures")

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _at(place: str) -> Any:
    """Import what is at ``module:name``."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def lazy_attributes(package: str, places: Mapping[str, str]) -> Callable[[str], object]:
    """Make the ``__getattr__`` of a package whose names are imported when first asked for.

    Parameters
    ----------
    package : str
        Its name, for the error.
    places : mapping of str to str
        Of each public name, ``module:name``.
    """

    def get(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return _at(places[name])

    return get


MODELS: "Registry[type[EffectiveModel]]" = Registry(
    {
        name: Builtin(
            f"hpcslmc.effective.{place}",
            {
                "Options": f"hpcslmc.effective.options:{options}",
                "is_density": name != "direct_forces",
            },
        )
        for name, place, options in (
            ("linear", "linear:Linear", "LinearOptions"),
            ("attention", "attention:Attention", "AttentionOptions"),
            ("cnn", "cnn:CNN", "BlockOptions"),
            ("messages", "messages:Messages", "MessageOptions"),
            ("lie_conv", "lie_conv:LieConv", "LieConvOptions"),
            ("lie_transformer", "lie_transformer:LieTransformer", "LieTransformerOptions"),
            ("torchmd_et", "torchmd_et:TorchMDET", "HeadOptions"),
            ("equiformer", "equiformer:Equiformer", "EquiformerOptions"),
            ("gatr", "gatr:GATr", "GATrOptions"),
            ("transformer", "transformer:Transformer", "TransformerOptions"),
            ("direct_forces", "direct_forces:DirectForces", "ForceOptions"),
            ("determinants", "determinants:Determinants", "DeterminantOptions"),
        )
    },
    taken=("auto",),
)
"""Effective models."""
_FORCES_IN_GROUPS = {"gives_forces": True, "shares_ranks": True}
WEIGHTS: "Registry[Callable[[Ensemble, World], ExactWeight]]" = Registry(
    {
        "diagonalise": Builtin(
            "hpcslmc.weight.diagonalise:Diagonalise", {"gives_forces": True, "shares_ranks": False}
        ),
        "blocks": Builtin("hpcslmc.weight.blocks:Blocks", _FORCES_IN_GROUPS),
        "matsubara": Builtin("hpcslmc.weight.matsubara:Matsubara", _FORCES_IN_GROUPS),
        "scalapack": Builtin(
            "hpcslmc.weight.distributed:Distributed", {"gives_forces": False, "shares_ranks": True}
        ),
    },
    taken=("auto",),
)
"""Exact weights, made of the ensemble and the ranks that share each evaluation."""


def import_module(name: str) -> str:
    """Import a plugin: a user's module, from the folder where the program was started too.

    Returns its name, and its version if it has one.

    Raises
    ------
    UserError
        It is not there, or fails: one sentence says where.
    """
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(
            f"--import {name}: give a module's name, as in --import my_model for my_model.py."
        )
    if os.getcwd() not in sys.path:  # last, so that nothing in the folder stands before a library
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"--import {name}: there is no such module in {os.getcwd()}, on PYTHONPATH or "
                "installed."
            ) from None
        frames = traceback.extract_tb(error.__traceback__)
        own = [
            frame
            for frame in frames
            if frame.filename not in (__file__, importlib.__file__)
            and not frame.filename.startswith("<frozen")
        ]
        # a SyntaxError says it itself
        where = f" in {own[0].filename}, line {own[0].lineno}" if own else ""
        raise UserError(
            f"--import {name}: the module fails{where}: {type(error).__name__}: "
            f"{' '.join(str(error).split())}."
        ) from None
    return " ".join(filter(None, (name, str(getattr(module, "__version__", "")))))
