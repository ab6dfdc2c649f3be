"""Correlations between the spins, in momentum space and in real space."""

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.grid import Axis
from hpcslmc.measure.observables import Needs
from hpcslmc.measure.profiles import momenta
from hpcslmc.physics.field import structure_factor
from hpcslmc.physics.lattice import Lattice


class StructureFactor:
    r"""Spin structure factor on the whole Brillouin zone.

    .. math::

        S(q) = N \langle |m_q|^2 \rangle
            = \frac1N \Big\langle \Big| \sum_i e^{i q.r_i} S_i \Big|^2 \Big\rangle,
        \qquad \frac1N \sum_q S(q) = 1

    1 for free spins; N at (pi, pi) in the Neel state.

    Parameters
    ----------
    lattice : Lattice
    every : int
        Samples between two measurements.

    Notes
    -----
    One Fourier transform, O(N log N).
    """

    name, label, needs = "structure_factor", "S(q)", Needs.SPINS

    def __init__(self, lattice: Lattice, every: int) -> None:
        self.lattice, self.every = lattice, every
        self.grid = momenta(lattice, "q")

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains, qx, qy) float64 of spins (chains, sites, 3)."""
        return structure_factor(spins, self.lattice.shape)


class RealSpaceCorrelations(StructureFactor):
    r"""Spin correlations by distance, the Fourier transform of S(q).

    .. math:: C(r) = \frac1N \sum_i \langle S_i \cdot S_{i + r} \rangle, \qquad C(0) = 1

    Two Fourier transforms, O(N log N).
    """

    name, label = "correlations", "C(r)"

    def __init__(self, lattice: Lattice, every: int) -> None:
        super().__init__(lattice, every)
        self.grid = {
            name: Axis(np.arange(float(length)), "a")
            for name, length in zip(("x", "y"), lattice.shape)
        }

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains, x, y) float64 of spins (chains, sites, 3)."""
        return torch.fft.ifftn(super().measure(spins, evaluation), dim=(1, 2)).real
