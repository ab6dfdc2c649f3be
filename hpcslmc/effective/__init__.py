"""Models of log W_eff(S): one file per architecture, one protocol, one registry."""

from hpcslmc.effective.attention import Attention
from hpcslmc.effective.cnn import CNN
from hpcslmc.effective.electrons import FreeElectrons
from hpcslmc.effective.linear import Linear
from hpcslmc.effective.messages import Messages
from hpcslmc.effective.model import Architecture, EffectiveModel
from hpcslmc.lattice import Lattice

__all__ = ["MODELS", "Architecture", "EffectiveModel", "FreeElectrons", "make_model", "on_lattice"]

MODELS: dict[str, type[EffectiveModel]] = {"linear": Linear, "attention": Attention, "cnn": CNN,
                                          "messages": Messages}


def make_model(architecture: Architecture, lattice: Lattice) -> EffectiveModel:
    """The registered model of that architecture."""
    return MODELS[architecture.name](lattice, architecture)


def on_lattice(model: EffectiveModel, lattice: Lattice) -> EffectiveModel:
    """The same model on another lattice: the same parameters, shared and not copied, and a constant of its own."""
    other = make_model(model.architecture, lattice)
    for name, parameter in model.named_parameters():
        module, _, own = name.rpartition(".")
        other.get_submodule(module)._parameters[own] = parameter
    return other
