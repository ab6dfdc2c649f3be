r"""Hall conductivity of two-dimensional crystals at zero frequency, by Kubo's formula.

.. math::
    \sigma_{xy} = \frac{e^2}{h} \frac{2\pi}{A} \sum_{m \ne n} (f_n - f_m)
        \frac{\mathrm{Im} \langle m|J_x|n \rangle \langle n|J_y|m \rangle}{(E_m - E_n)^2}

with the currents J = -dH/dA of a vector potential A, and A the area of the lattice: the integral of
the Berry curvature Omega = -2 Im sum <n|dH/dkx|m><m|dH/dky|n> / (E_n - E_m)^2 over what is filled,
and the Chern number of filled bands. Both spins count. It is 0 where time reversal, with or without
a rotation of the spins, is a symmetry: on coplanar spins and without flux.

Thouless, Kohmoto, Nightingale, den Nijs, PRL 49, 405 (1982).
"""

import math

import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.electrons import SpectralObservable
from hpcslmc.measure.observables import Needs
from hpcslmc.measure.transport import DEGENERATE, current
from hpcslmc.physics.lattice import Lattice


class HallConductivity(SpectralObservable):
    """Hall conductivity sigma_xy, in units of e^2 / h.

    At fixed spins, whose mean is 0 where S -> -S leaves W as it is. Measured where the job names
    it. All eigenvectors and two products of matrices, O(N^3).
    """

    name, label, needs = "hall_conductivity", "Hall conductivity [e^2/h]", Needs.STATES

    @staticmethod
    def exists(lattice: Lattice) -> bool:
        return lattice.dimension == 2

    @staticmethod
    def is_usual(lattice: Lattice) -> bool:
        return False

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return self.electrons.at(spins, evaluation).of_states(self._hall)

    def _hall(self, levels: Tensor, states: Tensor) -> Tensor:
        along_x, along_y = (current(self.electrons, states, direction) for direction in (0, 1))
        # -i J is anti-Hermitian: <m|Jx|n><n|Jy|m> = <m|-i Jx|n> <m|-i Jy|n>^*
        curl = along_x.imag * along_y.real - along_x.real * along_y.imag
        gaps = levels[:, :, None] - levels[:, None, :]
        occupation = self.electrons.occupation(levels)
        filled = occupation[:, None, :] - occupation[:, :, None]
        apart = gaps.abs() > DEGENERATE * self.electrons.hamiltonian.bound
        terms = torch.where(apart, filled * curl / gaps.square(), 0.0)
        return 2.0 * math.pi / self.lattice.volume * terms.sum((1, 2))


class HallConductivity2(HallConductivity):
    """Square of the Hall conductivity, whose sign the spins may turn over."""

    name, label = "hall_conductivity2", "(Hall conductivity)^2 [e^4/h^2]"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return super().measure(spins, evaluation).square()
