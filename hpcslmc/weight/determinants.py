"""Exact log W, and at half filling energy, from determinants at the Matsubara-like nodes."""

import math
from abc import abstractmethod
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.weight.method import ExactWeight
from hpcslmc.weight.nodes import EnergySum, MatsubaraNodes, energy_sum, model_nodes


class Determinants(ExactWeight):
    r"""Exact weight from log|det A_k| of A_k = 1 + i (h - mu) / w_k at any frequencies w_k.

    .. math::
        \log W &= \beta\mu N + 2N \log 2 + 2 \sum_k a_k \log|\det A_k| \\
        e &= -\frac{2}{\beta N} \sum_k c_k \log|\det A_k| \quad (\mu = 0)

    because tr h = 0 and \|det A_k\|^2 is the product of 1 + (E_n - mu)^2 / w_k^2 over all
    eigenvalues. At half filling (`Ensemble.is_half_filled`: mu = 0 on a bipartite lattice) E_n
    and -E_n come in pairs, and the density is 1. The energy takes five more frequencies than log W;
    elsewhere it comes with the forces.

    Attributes
    ----------
    nodes : MatsubaraNodes
        w_k and a_k of log W.
    energies : EnergySum or None
        c_k, at half filling.
    """

    def __init__(self, ensemble: Ensemble, group: World | None = None) -> None:
        super().__init__(ensemble, group)
        self.nodes: MatsubaraNodes = model_nodes(ensemble)
        self._copied: dict[bytes, Tensor] = {}
        self.energies: EnergySum | None = None
        if ensemble.is_half_filled:
            self.energies = energy_sum(self.nodes, ensemble.beta, ensemble.bound)

    @abstractmethod
    def log_abs_dets(self, spins: Tensor, frequencies: np.ndarray) -> Tensor:
        """Return log|det A_k| (chains, K) float64 of spins (chains, sites, 3) at frequencies (K,).

        Collective over the group.
        """

    def log_weight(self, spins: Tensor) -> Tensor:
        """Evaluate log W, (chains,) float64, of spins (chains, sites, 3)."""
        return self._log_weight(self.log_abs_dets(spins, self.nodes.frequencies))

    def with_energy(self, spins: Tensor, known: Evaluation) -> Evaluation:
        """Complete as every weight; at half filling by five more determinants instead of forces.

        Collective over the group.
        """
        if self.energies is None:
            return super().with_energy(spins, known)
        part = known.energy_part
        if part is None:
            part = self._energy(
                self.log_abs_dets(spins, self.nodes.frequencies), self.energies.node_weights
            )
        rest = self._energy(
            self.log_abs_dets(spins, self.energies.frequencies), self.energies.weights
        )
        return replace(known, energy=part + rest, density=torch.ones_like(part))

    def _evaluation(self, log_dets: Tensor) -> Evaluation:
        """Return the evaluation that follows from log|det A_k| (chains, K) at the nodes."""
        part = None if self.energies is None else self._energy(log_dets, self.energies.node_weights)
        return Evaluation(self._log_weight(log_dets), energy_part=part)

    def _log_weight(self, log_dets: Tensor) -> Tensor:
        constant = self.ensemble.sites * (self.beta * self.mu + 2.0 * math.log(2.0))
        return constant + 2.0 * log_dets @ self._on_device(self.nodes.weights)

    def _energy(self, log_dets: Tensor, weights: np.ndarray) -> Tensor:
        scale = -2.0 / (self.beta * self.ensemble.sites)
        return scale * log_dets @ self._on_device(weights)

    def _on_device(self, numbers: np.ndarray) -> Tensor:
        """Return numbers of the nodes on the Hamiltonian's device, where they are copied once."""
        key = numbers.tobytes()
        if key not in self._copied:
            self._copied[key] = torch.as_tensor(numbers, device=self.hamiltonian.device)
        return self._copied[key]
