"""Models of log W_eff(S): one file per architecture, one protocol, one registry.

The names are imported when they are first asked for: a job is checked without torch.
"""

from typing import TYPE_CHECKING

from hpcslmc.plugins import MODELS, lazy_attributes

if TYPE_CHECKING:
    from hpcslmc.effective.free_electrons import FreeElectrons, Physics
    from hpcslmc.effective.model import (
        Architecture,
        EffectiveModel,
        check_symmetry,
        make_model,
        on_lattice,
    )
    from hpcslmc.effective.options import Options, ShellOptions

__all__ = [
    "MODELS",
    "Architecture",
    "EffectiveModel",
    "FreeElectrons",
    "Options",
    "Physics",
    "ShellOptions",
    "check_symmetry",
    "make_model",
    "on_lattice",
]

_PLACES = {
    "Architecture": "hpcslmc.effective.model:Architecture",
    "EffectiveModel": "hpcslmc.effective.model:EffectiveModel",
    "FreeElectrons": "hpcslmc.effective.free_electrons:FreeElectrons",
    "Options": "hpcslmc.effective.options:Options",
    "Physics": "hpcslmc.effective.free_electrons:Physics",
    "ShellOptions": "hpcslmc.effective.options:ShellOptions",
    "check_symmetry": "hpcslmc.effective.model:check_symmetry",
    "make_model": "hpcslmc.effective.model:make_model",
    "on_lattice": "hpcslmc.effective.model:on_lattice",
}

__getattr__ = lazy_attributes(__name__, _PLACES)
