"""Least squares of linear effective models on exact forces, and the choice of their terms."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpcslmc.effective.model import ForceFitted
from hpcslmc.parallel.world import World

WANTED_ACCEPTANCE = 0.975
"""Predicted acceptance from which no further terms are taken."""
CONDITION = 1e-13
"""Smallest eigenvalue of the normal equations that counts, in units of the largest."""

Configurations = tuple[Tensor, Tensor, Tensor]
"""Spins (rows, sites, 3), log W (rows,) and tangential forces (rows, sites, 3)."""


@dataclass(frozen=True)
class Selection:
    """Terms of a model, with the couplings that forces give them.

    Attributes
    ----------
    couplings : (couplings,) float64
        Zero for terms that are not taken.
    mse : float
        Mean squared error of log W on the configurations for validation, its mean removed.
    """

    couplings: np.ndarray
    mse: float

    @property
    def acceptance(self) -> float:
        """Acceptance of independent proposals that the error predicts."""
        return math.erfc(0.5 * math.sqrt(self.mse))


def fit_to_forces(
    model: ForceFitted,
    training: Iterable[tuple[ForceFitted, Configurations]],
    validation: Configurations,
    world: World,
) -> Selection:
    r"""Fit the couplings K of a linear model, and choose its terms. Collective.

    .. math:: \min_K \sum_{S} \sum_i \Big|F_i - \sum_m K_m
        \left.\frac{\partial C_m}{\partial S_i}\right|_\perp \Big|^2

    One configuration gives 2 sites numbers, so few are enough. Each selection of terms is fitted,
    and judged by its error of log W in other chains; the first is taken that predicts
    ``WANTED_ACCEPTANCE``, selections of few terms before those of many, or else the best.

    Parameters
    ----------
    model : ForceFitted
        Its ``couplings`` and ``guiding`` are set.
    training : iterable of (model, configurations)
        This rank's; the model on their lattice.
    validation : configurations
        This rank's, of the model's own lattice.
    world : World

    Returns
    -------
    Selection

    Notes
    -----
    A gradient of every term for each configuration, then one small linear system a selection.
    """
    terms = np.arange(len(model.couplings))
    normal, target = _normal_equations(training, terms, world)
    covariance = _covariance(model, validation, world)
    best: Selection | None = None
    for number in model.selections:  # few terms first
        found = [_fitted(normal, target, covariance, chosen) for chosen in number]
        better = min(found, key=lambda selection: selection.mse)
        if best is None or better.mse < best.mse:
            best = better
        if best.acceptance >= WANTED_ACCEPTANCE:
            break
    assert best is not None, "a model has terms"
    guiding = model.cheap_terms
    with torch.no_grad():
        model.couplings.copy_(torch.as_tensor(best.couplings))
        model.guiding.copy_(torch.as_tensor(_solution(normal, target, guiding)))
    return best


def _normal_equations(
    training: Iterable[tuple[ForceFitted, Configurations]], terms: np.ndarray, world: World
) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix (terms, terms) and the right side (terms,), added up over all ranks."""
    sums = np.zeros((len(terms), len(terms) + 1))
    for model, (spins, _, forces) in training:
        for row in range(len(spins)):  # one at a time: a gradient for each term takes memory
            gradients = _tangential(model.correlation_forces(spins[row : row + 1]), spins[row])
            columns = torch.cat((gradients[0].flatten(1), forces[row].reshape(1, -1)))
            sums += (columns[:-1] @ columns.T).cpu().numpy()
    sums = world.sum(sums)
    return sums[:, :-1], sums[:, -1]


def _tangential(vectors: Tensor, spins: Tensor) -> Tensor:
    return vectors - (vectors * spins).sum(-1, keepdim=True) * spins


def _covariance(model: ForceFitted, configurations: Configurations, world: World) -> np.ndarray:
    """Return the covariance (terms + 1,) * 2 of all correlations and log W, over all ranks."""
    spins, log_weight, _ = configurations
    correlations = spins.new_zeros(0, len(model.couplings))  # of a rank without such chains
    if len(spins):
        correlations = model.correlations(spins)
    columns = torch.cat((correlations, log_weight[:, None]), 1).cpu().numpy()
    total = world.sum(np.append(columns.sum(0), len(columns)))
    centred = columns - total[:-1] / total[-1]
    return world.sum(centred.T @ centred) / total[-1]


def _fitted(
    normal: np.ndarray, target: np.ndarray, covariance: np.ndarray, chosen: np.ndarray
) -> Selection:
    """Return the best couplings of some terms, and their error."""
    couplings = np.zeros(len(target))
    couplings[chosen] = _solution(normal, target, chosen)
    error = np.append(couplings, -1.0)
    return Selection(couplings, max(float(error @ covariance @ error), 0.0))


def _solution(normal: np.ndarray, target: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Solve the normal equations of some terms, scaled, and without directions of no weight."""
    matrix = normal[np.ix_(chosen, chosen)]
    scale = np.sqrt(np.maximum(np.diag(matrix), np.finfo(float).tiny))
    scaled = np.linalg.lstsq(
        matrix / np.outer(scale, scale), target[chosen] / scale, rcond=CONDITION
    )[0]
    return scaled / scale
