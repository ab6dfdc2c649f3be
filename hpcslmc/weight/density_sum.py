r"""Number of electrons from the arguments of the determinants whose moduli give log W.

With A_k = 1 + i (h - mu) / w_k, x = beta (E - mu) and frequencies times beta,

.. math:: \arg \det A_k = \sum_n \arctan\frac{x_n}{w_k}, \qquad
          \tanh\frac{x}{2} \approx b_0 x + \sum_k b_k \arctan\frac{x}{w_k}

A factorisation gives the arguments modulo 2 pi. The multiple is found from large to small w_k: the
arctangent at the next frequency is a sum over those at the frequencies before it and of x, with an
error per level so small that the error of the whole argument stays below pi, whatever the levels.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hpcslmc.weight.nodes import CERTIFY_POINTS, FIT_POINTS, MatsubaraNodes, grid

if TYPE_CHECKING:
    from hpcslmc.physics.ensemble import Ensemble

DENSITY_FREQUENCIES = math.pi * np.array((1.00004, 1.3757, 3.0684, 4.0784))
"""Frequencies, times beta, that energy and density need beside the nodes of log W.

Found by minimising the errors of both sums, and that of the predicted arguments, at beta R = 12 to
1000.
"""
MOST_FREQUENCIES = 20
"""Largest number of frequencies beside the nodes; forces are cheaper then."""
LARGEST_ERROR = 3.0
"""Largest error of a predicted argument. Below pi, with room for rounding."""


@dataclass(frozen=True)
class DensitySum:
    r"""Number of electrons from arguments that are known modulo 2 pi.

    Attributes
    ----------
    frequencies : (M,) float64
        w_k beside the nodes, in units of energy.
    order : list of int
        Nodes and these, K + M in all, in the order of falling w_k.
    predictions : (K + M, K + M) float64
        Row k predicts the argument at the k-th of them: coefficients of the sum of all x, and of
        the k arguments before it. On the Hamiltonian's device.
    weights : (K + M + 1,) float64
        b_0, and b_k in that order. On the Hamiltonian's device.
    error : float
        Largest error of tanh(beta e / 2) on \|e\| <= R, which is that of the electrons per site.
    argument_error : float
        Largest error of a predicted arctangent on \|e\| <= R; times the levels below
        ``LARGEST_ERROR``.
    """

    frequencies: np.ndarray
    order: list[int]
    predictions: Tensor
    weights: Tensor
    error: float
    argument_error: float

    def unwrap(self, arguments: Tensor, trace: float) -> Tensor:
        """Return the sum of all x and all arguments in order, (chains, K + M + 1).

        Parameters
        ----------
        arguments : (chains, K + M) float64
            Modulo 2 pi, of the nodes and of ``frequencies``.
        trace : float
            Sum of all x.
        """
        known = arguments.new_full((len(arguments), 1), trace)
        for row, number in zip(self.predictions, self.order, strict=True):
            predicted = known @ row[: known.shape[1]]
            turns = ((predicted - arguments[:, number]) / (2.0 * math.pi)).round()
            found = arguments[:, number] + 2.0 * math.pi * turns
            known = torch.cat((known, found[:, None]), 1)
        return known

    def density(self, arguments: Tensor, trace: float, sites: int) -> Tensor:
        """Return the electrons per site (chains,) from arguments as ``unwrap`` takes them."""
        return 1.0 - self.unwrap(arguments, trace) @ self.weights / (2.0 * sites)


def density_sum(nodes: MatsubaraNodes, ensemble: "Ensemble") -> DensitySum:
    """Find the number of electrons as a sum over nodes that were found for log W.

    Raises
    ------
    ValueError
        There are too many levels for ``MOST_FREQUENCIES`` to tell all multiples of 2 pi.

    Notes
    -----
    All by linear least squares. tools/study/matsubara_nodes.py measures errors: four frequencies
    serve up to 800 sites at all beta R up to 1.3e4; of larger lattices more are put where
    predictions are worst. Weights up to 3e4 magnify rounding. 20 ms for each frequency that is
    tried.
    """
    beta, reach = ensemble.beta, ensemble.beta * ensemble.bound
    levels = 2 * ensemble.sites
    lowest = beta * nodes.frequencies
    more = DENSITY_FREQUENCIES
    predictions, errors = _predict(np.append(lowest, more), reach)
    while levels * errors.max() > LARGEST_ERROR:
        if len(more) == MOST_FREQUENCIES:
            raise ValueError(
                f"the arguments of {levels} levels cannot be told by {MOST_FREQUENCIES} "
                "determinants more"
            )
        falling = np.sort(np.append(lowest, more))[::-1]
        worst = int(errors.argmax())
        above = falling[worst - 1] if worst else 4.0 * falling[0]
        more = np.append(more, math.sqrt(above * falling[worst]))
        predictions, errors = _predict(np.append(lowest, more), reach)
    frequencies = np.append(lowest, more)
    order = np.argsort(-frequencies)
    basis = _basis(reach, FIT_POINTS, frequencies[order])
    weights = _least_squares(basis, np.tanh(0.5 * basis[:, 0]))
    check = _basis(reach, CERTIFY_POINTS, frequencies[order])
    error = np.abs(check @ weights - np.tanh(0.5 * check[:, 0])).max()
    device = ensemble.hamiltonian.device
    return DensitySum(
        more / beta,
        order.tolist(),
        torch.as_tensor(predictions, device=device),
        torch.as_tensor(weights, device=device),
        float(error),
        float(errors.max()),
    )


def _predict(frequencies: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions as `DensitySum` has them, and the error of each on the whole range."""
    falling = np.sort(frequencies)[::-1]
    basis, check = (_basis(reach, points, falling) for points in (FIT_POINTS, CERTIFY_POINTS))
    count = len(falling)
    predictions, errors = np.zeros((count, count)), np.zeros(count)
    for k in range(count):
        row = _least_squares(basis[:, : k + 1], basis[:, k + 1])
        predictions[k, : k + 1] = row
        errors[k] = np.abs(check[:, : k + 1] @ row - check[:, k + 1]).max()
    return predictions, errors


def _basis(reach: float, points: int, frequencies: np.ndarray) -> np.ndarray:
    """Return x and all arctan(x / w) on a grid, (points - 1, frequencies + 1)."""
    x = grid(reach, points).astype(float)[:, None]
    return np.hstack((x, np.arctan(x / frequencies)))


def _least_squares(basis: np.ndarray, target: np.ndarray) -> np.ndarray:
    scale = np.linalg.norm(basis, axis=0)
    return np.linalg.lstsq(basis / scale, target, rcond=1e-13)[0] / scale
