"""Moves of Markov chains.

Reversible updates of batches of chains, and the exact test of self-learning Monte Carlo.
"""

from collections.abc import Callable

from torch import Tensor

from hpcslmc.density import Density
from hpcslmc.sampling.chains import Chains
from hpcslmc.sampling.exchange import Exchange
from hpcslmc.sampling.hmc import HMC, SHORT
from hpcslmc.sampling.images import RandomImages
from hpcslmc.sampling.metropolis import LocalChanges, Metropolis
from hpcslmc.sampling.move import Move, Step
from hpcslmc.sampling.slmc import SLMC, SLMCStep
from hpcslmc.streams import Stream

__all__ = [
    "HMC",
    "SLMC",
    "Chains",
    "Exchange",
    "LocalChanges",
    "Metropolis",
    "Move",
    "RandomImages",
    "SLMCStep",
    "Step",
    "make_move",
]


def make_move(
    name: str,
    density: Density,
    stream: Stream,
    trajectory: float | None = None,
    local: LocalChanges | None = None,
    guide: Callable[[Tensor], Tensor] | None = None,
    shortest: float = SHORT,
) -> Move:
    """Make the reversible move of that name under a density.

    It starts with a cautious step, and length of a trajectory, that are to be tuned; the length not
    below ``shortest``.
    """
    if name == "hmc":
        return HMC(density, stream, trajectory, guide=guide, shortest=shortest)
    return Metropolis(density, stream, width=0.5, local=local)
