r"""Exact fermion weight and forces without eigenvalues, by block elimination.

Log W is the sum over determinants of `hpcslmc.weight.determinants`; with the same nodes (w_k, a_k)
and A_k = 1 + i (h - mu) / w_k

.. math::
    f(h - \mu) = \tfrac12 + \tfrac2\beta \sum_k \tfrac{a_k}{w_k} \, \mathrm{Im} A_k^{-1},
    \qquad \mathrm{Im} B = (B - B^\dagger) / 2i
"""

from dataclasses import replace

import numpy as np
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.weight.determinants import Determinants
from hpcslmc.weight.elimination_choice import make_elimination


class Blocks(Determinants):
    r"""Exact weight and forces by block elimination at K imaginary frequencies.

    .. math:: \frac{\partial \log W}{\partial S_i} = -2 \frac{\partial}{\partial S_i}
        \mathrm{tr}\Big[V(S_i) \sum_k \frac{a_k}{w_k} \mathrm{Im} (A_k^{-1})_{ii}\Big]

    Notes
    -----
    K times the cost of an `Elimination`, which a group of ranks shares out.
    """

    def __init__(self, ensemble: Ensemble, group: World | None = None) -> None:
        super().__init__(ensemble, group)
        self.elimination = make_elimination(ensemble.hamiltonian, ensemble.mu, self.group)

    def log_dets(self, spins: Tensor, frequencies: np.ndarray) -> Tensor:
        """Return log det A_k (chains, K) as every `Determinants`. Collective over the group."""
        return self.elimination.log_dets(spins, frequencies, self.needs_arguments)

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate spins (chains, sites, 3).

        Returns log W, and with ``forces`` the gradient, energy and density.

        Collective over the group.
        """
        if not forces:
            return self._evaluation(self.log_dets(spins, self.nodes.frequencies))
        weights, frequencies = self.nodes.weights, self.nodes.frequencies
        found = self.elimination.inverses(
            spins, frequencies, weights / frequencies, weights, self.needs_arguments
        )
        sites = self.ensemble.sites
        trace = found.blocks.diagonal(dim1=-2, dim2=-1).real.sum((1, 2))
        density = 1.0 + 2.0 / (self.beta * sites) * trace
        energy = self._mean + self.mu * (density - 1.0) - 2.0 / (self.beta * sites) * found.trace
        return replace(
            self._evaluation(found.log_dets),
            forces=self.hamiltonian.site_forces(found.blocks, -2.0),
            energy=energy,
            density=density,
        )
