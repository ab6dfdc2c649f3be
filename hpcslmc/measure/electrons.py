r"""What is measured of the electrons' spectrum, and the spectrum itself, worked out once for all
that want it.

At fixed spins the electrons are free, and their numbers fluctuate: f (1 - f) is the variance of the
occupation of a level.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.observables import Needs, Observable
from hpcslmc.physics.hamiltonian import Hamiltonian

WORK_BYTES = 2**28
"""Size of the work arrays of functions of states, which are up to eight times as large as the
states.
"""


class Electrons:
    """Eigenvalues and eigenvectors of h(S), kept until other spins are asked for.

    Parameters
    ----------
    hamiltonian : Hamiltonian
    beta, mu : float
    spectrum : callable, optional
        All eigenvalues, (chains, 2 sites) ascending, of spins (chains, sites, 3); may be collective
        over a group of ranks. Only who asks for levels needs it.

    Attributes
    ----------
    bonds : list of (Bonds, Tensor, Tensor)
        Bonds of each kind, and the sites at their starts and ends on the Hamiltonian's device.

    Notes
    -----
    Eigenvectors are found by each rank for itself, whatever the group: O(N^3) per chain, two to
    four times the time of the eigenvalues alone, and 64 N^2 bytes a chain to keep. ``levels`` does
    not take the eigenvalues that come with them, which differ in rounding: what is measured would
    depend on what was asked for before, and a resumed run has forgotten that.
    """

    def __init__(
        self,
        hamiltonian: Hamiltonian,
        beta: float,
        mu: float,
        spectrum: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.hamiltonian, self.beta, self.mu = hamiltonian, beta, mu
        self.bonds = [
            (
                bonds,
                torch.as_tensor(bonds.start, device=hamiltonian.device),
                torch.as_tensor(bonds.end, device=hamiltonian.device),
            )
            for bonds in hamiltonian.bonds
        ]
        self._spectrum = spectrum
        self._spins: Tensor | None = None
        self._levels: Tensor | None = None
        self._eigensystem: tuple[Tensor, Tensor] | None = None

    def _forget_others(self, spins: Tensor) -> None:
        if self._spins is None or not torch.equal(self._spins, spins):
            self._spins, self._levels, self._eigensystem = spins.clone(), None, None

    def levels(self, spins: Tensor) -> Tensor:
        """(chains, 2 sites) float64, all eigenvalues of h(S), ascending, of spins (chains, sites,
        3).
        """
        self._forget_others(spins)
        if self._levels is None:
            self._levels = self._spectrum(spins)
        return self._levels

    def eigensystem(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """Levels, and states (chains, 2 sites, 2 sites) complex128 with eigenvector n in column n,
        row 2 i + a for site i and spin a.
        """
        self._forget_others(spins)
        if self._eigensystem is None:
            self._eigensystem = tuple(torch.linalg.eigh(self.hamiltonian.dense(spins)))
        return self._eigensystem

    def of_states(self, spins: Tensor, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """A function of levels and states, worked out for as many chains at a time as memory
        allows; (chains, ...) as it is.
        """
        levels, states = self.eigensystem(spins)
        batch = max(1, WORK_BYTES // (8 * states.element_size() * states[0].numel()))
        return torch.cat(
            [function(*part) for part in zip(levels.split(batch), states.split(batch))]
        )

    def occupation(self, levels: Tensor) -> Tensor:
        """Fermi function of energies."""
        return torch.special.expit(-self.beta * (levels - self.mu))

    def fluctuation(self, levels: Tensor) -> Tensor:
        """f (1 - f) of energies, without cancellation where f is close to 1."""
        return self.occupation(levels) * torch.special.expit(self.beta * (levels - self.mu))


class SpectralObservable(Observable):
    """An observable that needs the spectrum.

    Parameters
    ----------
    electrons : Electrons
    """

    needs = Needs.LEVELS

    def __init__(self, electrons: Electrons) -> None:
        super().__init__(electrons.hamiltonian.lattice, electrons.hamiltonian.device)
        self.electrons = electrons


class EnergyFluctuation(SpectralObservable):
    r"""Covariance of the electrons' E and E - mu N at fixed spins, per site; their part of the
    specific heat.

    .. math::

        \frac1N \sum_n E_n (E_n - \mu) f(E_n) \left[1 - f(E_n)\right]
            = T^2 \left. \frac{\partial e}{\partial T} \right|_S

    One diagonalisation, O(N^3).
    """

    name, label = "energy_fluctuation", "electrons' cov(E, E - mu N) at fixed spins / N [t^2]"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        levels = self.electrons.levels(spins)
        return (levels * (levels - self.electrons.mu) * self.electrons.fluctuation(levels)).sum(
            -1
        ) / self.lattice.sites


class EnergyNumberFluctuation(SpectralObservable):
    r"""Covariance of the electrons' E and N at fixed spins, per site; their part of the specific
    heat at fixed density.

    .. math:: \frac1N \sum_n E_n f(E_n) \left[1 - f(E_n)\right] = T \left. \frac{\partial
    e}{\partial \mu} \right|_S

    One diagonalisation, O(N^3).
    """

    name, label = "energy_number_fluctuation", "electrons' cov(E, N) at fixed spins / N [t]"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        levels = self.electrons.levels(spins)
        return (levels * self.electrons.fluctuation(levels)).sum(-1) / self.lattice.sites


class NumberFluctuation(SpectralObservable):
    r"""Variance of the number of electrons at fixed spins, per site; their part of the
    compressibility.

    .. math::

        \frac1N \sum_n f(E_n) \left[1 - f(E_n)\right]
            = T \left. \frac{\partial n}{\partial \mu} \right|_S

    One diagonalisation, O(N^3).
    """

    name, label = "number_fluctuation", "electrons' var(N) at fixed spins / N"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return self.electrons.fluctuation(self.electrons.levels(spins)).sum(-1) / self.lattice.sites
