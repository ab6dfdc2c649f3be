r"""Observables of one configuration, batched over chains.

Modes are m_q = (1/N) sum_i exp(i q.r_i) S_i at the true positions of the sites, and Q = (pi, pi) of
the square lattice. A square of a mode is 1/N for free spins.
"""

from abc import ABC, abstractmethod
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.momenta import is_square, name_origin, smallest_steps, waves
from hpcslmc.measure.rings import nearest_links
from hpcslmc.physics.lattice import Lattice


class Needs(Enum):
    """Ingredients of a measurement, beside the spins."""

    SPINS = "the spins and their log W"
    ENERGIES = (
        "energy and density of the exact evaluation, for which most weights take more "
        "determinants, or forces"
    )
    LEVELS = "all eigenvalues of h(S)"
    STATES = "all eigenvalues and eigenvectors of h(S)"


class Observable(ABC):
    """A number per chain.

    Parameters
    ----------
    lattice : Lattice
    device : torch.device or str

    Attributes
    ----------
    name : str
        Name in results.h5.
    label : str
        As a physicist writes it, with its unit.
    needs : Needs
    """

    name: str
    label: str
    needs = Needs.SPINS

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        self.lattice = lattice
        self.label = name_origin(self.label, lattice)

    @staticmethod
    def exists(lattice: Lattice) -> bool:
        """Tell whether it is defined, and does not vanish identically, on that lattice."""
        return True

    @staticmethod
    def is_usual(lattice: Lattice) -> bool:
        """Tell whether it is measured where the job does not name it."""
        return True

    @abstractmethod
    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains,) float64 of spins (chains, sites, 3) and their exact evaluation."""


class LogWeight(Observable):
    """log W / N, the logarithm of the fermion weight per site.

    It is -beta times the electrons' grand potential per site. No cost.
    """

    name, label = "log_weight", "log W / N"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return evaluation.log_weight / self.lattice.sites


def _known(value: Tensor | None) -> Tensor:
    """Energy or density of an evaluation, which ``Needs.ENERGIES`` has made sure of."""
    assert value is not None, "an observable of the energies is measured with them alone"
    return value


class Energy(Observable):
    """Electronic energy per site, e = sum_n f(E_n) E_n / N."""

    name, label, needs = "energy", "electronic energy / N [t]", Needs.ENERGIES

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return _known(evaluation.energy)


class ElectronDensity(Observable):
    """Electrons per site, n = sum_n f(E_n) / N, between 0 and 2."""

    name, label, needs = "density", "electrons / N", Needs.ENERGIES

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return _known(evaluation.density)


class Energy2(Observable):
    """e^2, for the specific heat."""

    name, label, needs = "energy2", "(electronic energy / N)^2 [t^2]", Needs.ENERGIES

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return _known(evaluation.energy).square()


class EnergyDensity(Observable):
    """e n, the product of energy and electrons per site, for the specific heat away from mu = 0."""

    name, label, needs = (
        "energy_density",
        "electronic energy / N x electrons / N [t]",
        Needs.ENERGIES,
    )

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return _known(evaluation.energy) * _known(evaluation.density)


class ElectronDensity2(Observable):
    """n^2, for the compressibility."""

    name, label, needs = "density2", "(electrons / N)^2", Needs.ENERGIES

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return _known(evaluation.density).square()


class Magnetisation2(Observable):
    """|m_0|^2; 1 in the ferromagnet."""

    name, label = "m2_uniform", "|m(0,0)|^2"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return spins.mean(1).square().sum(-1)


class Magnetisation4(Magnetisation2):
    """|m_0|^4, for the Binder ratio; 5/(3 N^2) - 2/(3 N^3) for free spins."""

    name, label = "m4_uniform", "|m(0,0)|^4"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return super().measure(spins, evaluation).square()


class StaggeredMagnetisation2(Observable):
    """|m_Q|^2; 1 in the Neel state."""

    name, label = "m2_staggered", "|m(pi,pi)|^2"

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        super().__init__(lattice, device)
        self._sign = torch.as_tensor(lattice.staggered_sign, device=device) / lattice.sites

    @staticmethod
    def exists(lattice: Lattice) -> bool:
        return is_square(lattice) and lattice.has_staggered_momentum

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return (self._sign @ spins).square().sum(-1)


class StaggeredMagnetisation4(StaggeredMagnetisation2):
    """|m_Q|^4, for the Binder ratio."""

    name, label = "m4_staggered", "|m(pi,pi)|^4"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return super().measure(spins, evaluation).square()


class NextToUniform2(Observable):
    """|m_q|^2 at the momenta next to 0, for the correlation length.

    They are one step 2 pi / L off along the longer side, or the mean over both sides of a square;
    of other crystals along the reciprocal vectors whose step is the smallest. One matrix product
    with the phases of all sites.
    """

    name, label = "m2_next_uniform", "|m_q|^2 next to (0,0)"
    corner = 0.0

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        super().__init__(lattice, device)
        steps = smallest_steps(lattice)
        self._waves = torch.as_tensor(waves(lattice, self.corner + steps), device=device)
        self._directions = len(steps)

    @staticmethod
    def exists(lattice: Lattice) -> bool:
        return max(lattice.shape) > 1

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return (self._waves @ spins).square().sum((1, 2)) / self._directions


class NextToStaggered2(NextToUniform2):
    """|m_q|^2 at the momenta next to Q = (pi, pi), chosen as for ``NextToUniform2``."""

    name, label = "m2_next_staggered", "|m_q|^2 next to (pi,pi)"
    corner = np.pi

    @staticmethod
    def exists(lattice: Lattice) -> bool:
        return is_square(lattice) and lattice.has_staggered_momentum


class NeighbourCorrelation(Observable):
    """S_i . S_j averaged over all nearest-neighbour bonds, 2N on a square lattice; 0 if free."""

    name, label = "nn_correlation", "<S_i.S_j> nearest"

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        super().__init__(lattice, device)
        # the sublattice that bonds start from, and the sites where they end, in the order of cells
        self._bonds = [
            (link.start, torch.as_tensor(lattice.ends(link)[1], device=device))
            for link in nearest_links(lattice.crystal)
        ]

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        ahead = torch.zeros_like(spins)
        for sublattice, ends in self._bonds:
            ahead[:, sublattice :: self.lattice.sublattices] += spins.index_select(1, ends)
        return (spins * ahead).sum((1, 2)) / float(len(self._bonds) * self.lattice.cells)


ALWAYS: tuple[type[Observable], ...] = (
    LogWeight,
    Energy,
    ElectronDensity,
    StaggeredMagnetisation2,
    Magnetisation2,
    NeighbourCorrelation,
)
"""Observables that every run measures."""


def observables(lattice: Lattice, device: torch.device | str = "cpu") -> list[Observable]:
    """The observables that every run measures, as far as they exist on the lattice."""
    return [observable(lattice, device) for observable in ALWAYS if observable.exists(lattice)]
