"""Models of log W_eff(S): one file per architecture, one protocol, one registry."""

from hpcslmc.effective.attention import Attention
from hpcslmc.effective.cnn import CNN
from hpcslmc.effective.linear import Linear
from hpcslmc.effective.messages import Messages
from hpcslmc.effective.model import EffectiveModel
from hpcslmc.lattice import Lattice

MODELS: dict[str, type[EffectiveModel]] = {"linear": Linear, "attention": Attention, "cnn": CNN,
                                          "messages": Messages}


def make_model(name: str, lattice: Lattice, shells: int, layers: int) -> EffectiveModel:
    """The registered model of that name on the first ``shells`` neighbour shells of the lattice."""
    return MODELS[name](lattice, lattice.shells[:shells], layers)
