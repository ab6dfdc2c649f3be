"""Exact log W, energy and density from determinants at the Matsubara-like nodes."""

import math
from abc import abstractmethod
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.weight.density_sum import DensitySum, density_sum
from hpcslmc.weight.method import ExactWeight
from hpcslmc.weight.nodes import EnergySum, MatsubaraNodes, energy_sum, model_nodes


class Determinants(ExactWeight):
    r"""Exact weight from det A_k of A_k = 1 + i (h - mu) / w_k at any frequencies w_k.

    .. math::
        \log W &= \beta (\mu - \bar e) N + 2N \log 2 + 2 \sum_k a_k \log|\det A_k| \\
        n &= 1 + b_0 \beta (\mu - \bar e) - \frac{1}{2N} \sum_k b_k \arg\det A_k \\
        e &= \bar e + \mu (n - 1) - \frac{2}{\beta N} \sum_k c_k \log|\det A_k|

    because tr h = 2 N \bar e, with the mean on-site energy \bar e, and det A_k is the product
    of 1 + i (E_n - mu) / w_k over all eigenvalues. Energy and density take four more
    frequencies than log W. Lattices of more than 800 sites take a few more for the density;
    where there would be too many, both come with the forces. At half filling
    (`Ensemble.is_half_filled`: mu = 0 on a bipartite lattice) E_n and -E_n come in pairs, the
    density is 1, no arguments are needed, and the energy takes five frequencies.

    Attributes
    ----------
    nodes : MatsubaraNodes
        w_k and a_k of log W.
    energies : EnergySum or None
        c_k; None where there would be too many frequencies.
    densities : DensitySum or None
        b_k away from half filling.
    """

    def __init__(self, ensemble: Ensemble, group: World | None = None) -> None:
        super().__init__(ensemble, group)
        self.nodes: MatsubaraNodes = model_nodes(ensemble)
        self._copied: dict[bytes, Tensor] = {}
        self._mean = ensemble.hamiltonian.mean_level
        self.energies: EnergySum | None = None
        self.densities: DensitySum | None = None
        beta, bound = ensemble.beta, ensemble.bound
        if ensemble.is_half_filled:
            self.energies = energy_sum(self.nodes, beta, bound)
        else:
            try:
                self.densities = density_sum(self.nodes, ensemble)
                more = beta * self.densities.frequencies
                self.energies = energy_sum(self.nodes, beta, bound, more)
            except ValueError:  # forces are cheaper
                pass

    @property
    def needs_arguments(self) -> bool:
        """True if the density is a sum over arguments of determinants."""
        return self.densities is not None

    @abstractmethod
    def log_dets(self, spins: Tensor, frequencies: np.ndarray) -> Tensor:
        """Return log det A_k (chains, K) of spins (chains, sites, 3) at frequencies (K,).

        complex128 with imaginary parts modulo 2 pi where arguments are needed, else log|det A_k|,
        float64.

        Collective over the group.
        """

    def log_weight(self, spins: Tensor) -> Tensor:
        """Evaluate log W, (chains,) float64, of spins (chains, sites, 3)."""
        return self._evaluation(self.log_dets(spins, self.nodes.frequencies)).log_weight

    def with_energy(self, spins: Tensor, known: Evaluation) -> Evaluation:
        """Complete as every weight, by a few more determinants instead of forces.

        Collective over the group.
        """
        if self.energies is None:
            return super().with_energy(spins, known)
        part, arguments = known.energy_part, known.arguments
        if part is None or (arguments is None and self.needs_arguments):
            own = self._evaluation(self.log_dets(spins, self.nodes.frequencies))
            part, arguments = own.energy_part, own.arguments
        more = self.log_dets(spins, self.energies.frequencies)
        assert part is not None, "evaluations have it where there is a sum for the energy"
        energy = part + self._energy(more.real, self.energies.weights)
        if self.densities is None:
            return replace(known, energy=energy, density=torch.ones_like(energy))
        assert arguments is not None, "evaluations have them where there is a sum for the density"
        sites = self.ensemble.sites
        trace = -2.0 * sites * self.beta * (self.mu - self._mean)  # of beta (h - mu)
        density = self.densities.density(torch.cat((arguments, more.imag), 1), trace, sites)
        energy = energy + (self._mean + self.mu * (density - 1.0))
        return replace(known, energy=energy, density=density)

    def _evaluation(self, log_dets: Tensor) -> Evaluation:
        """Return the evaluation that follows from log det A_k (chains, K) at the nodes."""
        constant = self.ensemble.sites * (self.beta * (self.mu - self._mean) + 2.0 * math.log(2.0))
        moduli, part = log_dets.real, None
        if self.energies is not None:
            part = self._energy(moduli, self.energies.node_weights)
        return Evaluation(
            constant + 2.0 * moduli @ self._on_device(self.nodes.weights),
            energy_part=part,
            arguments=log_dets.imag if log_dets.is_complex() else None,
        )

    def _energy(self, log_abs_dets: Tensor, weights: np.ndarray) -> Tensor:
        scale = -2.0 / (self.beta * self.ensemble.sites)
        return scale * log_abs_dets @ self._on_device(weights)

    def _on_device(self, numbers: np.ndarray) -> Tensor:
        """Return numbers of the nodes on the Hamiltonian's device, where they are copied once."""
        key = numbers.tobytes()
        if key not in self._copied:
            self._copied[key] = torch.as_tensor(numbers, device=self.hamiltonian.device)
        return self._copied[key]
