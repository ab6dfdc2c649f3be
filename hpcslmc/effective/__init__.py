"""Models of log W_eff(S): one file per architecture, one protocol, one registry.

The names are imported when they are first asked for: a job is checked without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcslmc.effective.free_electrons import FreeElectrons
    from hpcslmc.effective.model import Architecture, EffectiveModel, make_model, on_lattice
    from hpcslmc.effective.options import Options, ShellOptions
    from hpcslmc.plugins import MODELS

__all__ = [
    "MODELS",
    "Architecture",
    "EffectiveModel",
    "FreeElectrons",
    "Options",
    "ShellOptions",
    "make_model",
    "on_lattice",
]

_PLACES = {
    "MODELS": "plugins",
    "Architecture": "effective.model",
    "EffectiveModel": "effective.model",
    "FreeElectrons": "effective.free_electrons",
    "Options": "effective.options",
    "ShellOptions": "effective.options",
    "make_model": "effective.model",
    "on_lattice": "effective.model",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"hpcslmc.{_PLACES[name]}"), name)
