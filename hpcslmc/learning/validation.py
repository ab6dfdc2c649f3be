"""Checks of a trained model over all ranks, and what its error predicts."""

import math

import numpy as np
import torch

from hpcslmc.effective import EffectiveModel
from hpcslmc.learning.data import DataSet
from hpcslmc.parallel.world import World
from hpcslmc.physics.field import tangential


def predicted_acceptance(mse: float) -> float:
    """Return the acceptance of independent proposals by a model with that error of log W."""
    return math.erfc(0.5 * math.sqrt(mse))


def check_identical(model: EffectiveModel, world: World) -> None:
    """Check that all ranks hold the same parameters to the last bit. Collective.

    Raises
    ------
    RuntimeError
        Where they differ; the chains would not sample one W_eff.
    """
    state = torch.cat([value.flatten() for value in model.state_dict().values()]).cpu().numpy()
    largest, smallest = np.split(world.maximum(np.concatenate((state, -state))), 2)
    if not np.array_equal(largest, -smallest):
        raise RuntimeError("the ranks' parameters of the effective model differ after training")


def force_error(model: EffectiveModel, data: DataSet, chunk_sites: int, world: World) -> float:
    """Return the mean squared error of all forces of a configuration. Collective.

    Over the configurations with forces of the validation chains, so many sites at once; 0 if there
    are none, as without a coupling J.
    """
    spins, _, forces = (of[data.validation_chains].flatten(0, 1) for of in data.stacked())
    known = forces.flatten(1).any(1).nonzero()[:, 0]
    total = 0.0
    for rows in known.split(max(1, chunk_sites // model.sites)) if len(known) else ():
        here = spins[rows]
        predicted = tangential(model.evaluate(here, forces=True).known_forces, here)
        total += float((forces[rows] - predicted).square().sum())
    squares, count = world.sum(np.array([total, len(known)]))
    return float(squares / max(count, 1.0))
