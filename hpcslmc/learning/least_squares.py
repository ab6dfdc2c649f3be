"""Least squares of linear effective models on exact forces, and the choice of their terms."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpcslmc.effective.model import ForceFitted
from hpcslmc.learning.validation import predicted_acceptance
from hpcslmc.parallel.world import World
from hpcslmc.physics.field import tangential

CONDITION = 1e-8
"""Smallest singular value of the scaled gradients that counts, in units of the largest."""

FITTED_CONFIGURATIONS, FITTED_FORCES = 32, 2**15
"""Fewest configurations, and components of forces, that couplings are fitted to."""

MOST_NUMBERS = 2**20
"""Most numbers of gradients that are held at once, unless one configuration has more."""

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
    number : int
        Which of the model's ``selections`` it is.
    """

    couplings: np.ndarray
    mse: float
    number: int

    @property
    def acceptance(self) -> float:
        """Acceptance of independent proposals that the error predicts."""
        return predicted_acceptance(self.mse)


@dataclass(frozen=True)
class Equations:
    """Equations of the least squares, from which the fit of any terms of a model follows.

    They depend on the terms and on the data, but not on couplings or on which terms are taken.

    Attributes
    ----------
    triangle : (terms + 1, terms + 1) float64
        Triangular factor of the terms' gradients, and of the exact forces, the last.
    covariance : (terms + 1, terms + 1) float64
        Of all terms and log W, on the configurations for validation.
    """

    triangle: np.ndarray
    covariance: np.ndarray


def equations(
    model: ForceFitted,
    training: Iterable[tuple[ForceFitted, Configurations]],
    validation: Configurations,
    world: World,
) -> Equations:
    """Work out the least squares of a model's terms, as of ``fit_to_forces``. Collective."""
    return Equations(
        _triangle(training, len(model.couplings), world), _covariance(model, validation, world)
    )


def moments(columns: Tensor, world: World) -> tuple[np.ndarray, np.ndarray]:
    """Return covariance (n, n) and mean (n,) of columns (rows, n), over all ranks. Collective."""
    rows = torch.cat((columns, torch.ones_like(columns[:, :1])), 1)
    sums = world.sum(rows.sum(0).cpu().numpy())
    mean = sums[:-1] / sums[-1]
    centred = columns - torch.as_tensor(mean, device=columns.device)
    return world.sum((centred.T @ centred).cpu().numpy()) / sums[-1], mean


def regression(covariance: np.ndarray) -> np.ndarray:
    """Return the coefficients (n,) that fit the last of n + 1 columns of this covariance."""
    scale = np.sqrt(np.maximum(np.diag(covariance)[:-1], np.finfo(float).tiny))
    normal, target = covariance[:-1, :-1] / np.outer(scale, scale), covariance[:-1, -1] / scale
    return np.linalg.lstsq(normal, target, rcond=1e-9)[0] / scale


def fitted_configurations(sites: int) -> int:
    """Return how many configurations of a lattice couplings are fitted to by their forces."""
    return max(FITTED_CONFIGURATIONS, FITTED_FORCES // (2 * sites))


def fit_to_forces(
    model: ForceFitted,
    training: Iterable[tuple[ForceFitted, Configurations]],
    validation: Configurations,
    world: World,
    least: int = 0,
) -> Selection:
    r"""Fit the couplings K of a linear model, and choose its terms. Collective.

    .. math:: \min_K \sum_{S} \sum_i \Big|F_i - \sum_m K_m
        \left.\frac{\partial C_m}{\partial S_i}\right|_\perp \Big|^2

    One configuration gives 2 sites numbers, so few are enough. Each selection of terms is fitted,
    and judged by its error of log W, which no coupling was fitted to; the first is taken that
    predicts the acceptance that the model wants, selections of few terms before those of many, or
    else the best from number ``least`` on.

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
    A gradient of every term for each configuration, then one small linear system a selection. By
    QR factors, of each rank's gradients and then of all ranks': normal equations would square the
    condition, and terms at near frequencies are nearly alike.
    """
    return choose_terms(model, equations(model, training, validation, world), least)


def choose_terms(model: ForceFitted, known: Equations, least: int = 0) -> Selection:
    """Fit the couplings, and choose the terms, as ``fit_to_forces`` does, from its equations."""
    triangle, covariance = known.triangle, known.covariance
    best: Selection | None = None
    pairs = zip(model.selections, model.wanted_acceptances, strict=True)
    for number, (selections, wanted) in itertools.islice(enumerate(pairs), least, None):
        found = [_fitted(triangle, covariance, chosen, number) for chosen in selections]
        better = min(found, key=lambda selection: selection.mse)
        if best is None or better.mse < best.mse:
            best = better
        if best.acceptance >= wanted:
            break
    assert best is not None, "a model has terms"
    with torch.no_grad():
        model.couplings.copy_(torch.as_tensor(best.couplings))
        if model.guiding is not None:
            model.guiding.copy_(torch.as_tensor(_solution(triangle, model.cheap_terms)))
    return best


def no_terms(model: ForceFitted, number: int) -> Selection:
    """Take no terms: the model of a log W on which no force is."""
    with torch.no_grad():
        model.couplings.zero_()
        if model.guiding is not None:
            model.guiding.zero_()
    return Selection(np.zeros(len(model.couplings)), 0.0, number)


def _triangle(
    training: Iterable[tuple[ForceFitted, Configurations]], terms: int, world: World
) -> np.ndarray:
    """Return the triangular factor (terms + 1,) * 2 of all ranks' gradients and forces.

    Its columns have the scalar products of the terms' gradients, and of the exact forces, the last.
    """
    triangle = np.zeros((0, terms + 1))
    for model, (spins, _, forces) in training:
        known = forces.flatten(1).any(1).nonzero()[:, 0]
        together = max(1, MOST_NUMBERS // (terms * forces[0].numel()))
        for rows in known.split(together):
            gradients = tangential(model.correlation_forces(spins[rows]), spins[rows][:, None])
            columns = torch.cat((gradients.flatten(2), forces[rows].flatten(1)[:, None]), 1)
            triangle = _joined([triangle, columns.mT.flatten(0, 1).cpu().numpy()])
    return _joined(world.all_of(triangle))


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the triangular factor of matrices on top of each other."""
    return np.asarray(np.linalg.qr(np.concatenate(parts), mode="r"))


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
    triangle: np.ndarray, covariance: np.ndarray, chosen: np.ndarray, number: int
) -> Selection:
    """Return the best couplings of some terms, and their error."""
    couplings = np.zeros(triangle.shape[1] - 1)
    couplings[chosen] = _solution(triangle, chosen)
    error = np.append(couplings, -1.0)
    return Selection(couplings, max(float(error @ covariance @ error), 0.0), number)


def _solution(triangle: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Solve the least squares of some terms, scaled, and without directions of no weight."""
    matrix, target = triangle[:, chosen], triangle[:, -1]
    scale = np.maximum(np.linalg.norm(matrix, axis=0), np.finfo(float).tiny)
    return np.linalg.lstsq(matrix / scale, target, rcond=CONDITION)[0] / scale
