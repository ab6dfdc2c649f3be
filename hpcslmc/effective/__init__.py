"""Models of log W_eff(S): one file per architecture, one protocol, one registry."""

from hpcslmc.effective.free_electrons import FreeElectrons
from hpcslmc.effective.model import Architecture, EffectiveModel
from hpcslmc.physics.lattice import Lattice
from hpcslmc.plugins import MODELS

__all__ = ["MODELS", "Architecture", "EffectiveModel", "FreeElectrons", "make_model", "on_lattice"]


def make_model(architecture: Architecture, lattice: Lattice) -> EffectiveModel:
    """The registered model of that architecture."""
    return MODELS[architecture.name](lattice, architecture)


def on_lattice(model: EffectiveModel, lattice: Lattice) -> EffectiveModel:
    """The same model on another lattice.

    The same parameters, shared and not copied, and a constant of its own.
    """
    other = make_model(model.architecture, lattice)
    for name, parameter in model.named_parameters():
        module, _, own = name.rpartition(".")
        other.get_submodule(module)._parameters[own] = parameter
    return other
