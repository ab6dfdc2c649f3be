r"""Observables of the electrons' spectrum, and the spectrum itself, computed once for all of them.

At fixed spins the electrons are free, and their numbers fluctuate: f (1 - f) is the variance of the
occupation of a level.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.observables import Needs, Observable
from hpcslmc.physics.ensemble import Ensemble

WORK_BYTES = 2**28
"""Size of the work arrays of functions of states, which are up to eight times as large as the
states.
"""


class Electrons:
    """The electrons of an ensemble, whose levels and states are measured at fixed spins.

    Parameters
    ----------
    ensemble : Ensemble
    spectrum : callable, optional
        All eigenvalues, (chains, 2 sites) ascending, of spins (chains, sites, 3); may be collective
        over a group of ranks. Only who asks for levels needs it.

    Attributes
    ----------
    bonds : list of (Bonds, Tensor, Tensor)
        Bonds of each kind, and the sites at their starts and ends on the Hamiltonian's device.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        spectrum: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.ensemble, self.hamiltonian = ensemble, ensemble.hamiltonian
        self.beta, self.mu = ensemble.beta, ensemble.mu
        self.bonds = [
            (
                bonds,
                torch.as_tensor(bonds.start, device=self.hamiltonian.device),
                torch.as_tensor(bonds.end, device=self.hamiltonian.device),
            )
            for bonds in self.hamiltonian.bonds
        ]
        self.spectrum = spectrum

    def at(self, spins: Tensor, evaluation: Evaluation) -> "SpectralEvaluation":
        """Return the evaluation with levels and states of its spins; itself if it has them."""
        if isinstance(evaluation, SpectralEvaluation):
            return evaluation
        return SpectralEvaluation(**vars(evaluation), electrons=self, spins=spins)

    def classical(self, spins: Tensor) -> Tensor:
        """Return the classical spins' own energy per site, (chains,) of (chains, sites, 3)."""
        energy = self.ensemble.classical
        if energy is None:
            return spins.new_zeros(len(spins))
        return energy.energy(spins) / spins.shape[1]

    def occupation(self, levels: Tensor) -> Tensor:
        """Fermi function of energies."""
        return self.ensemble.occupation(levels)

    def fluctuation(self, levels: Tensor) -> Tensor:
        """f (1 - f) of energies, without cancellation where f is close to 1."""
        return self.occupation(levels) * torch.special.expit(self.beta * (levels - self.mu))


@dataclass(frozen=True, kw_only=True)
class SpectralEvaluation(Evaluation):
    """An evaluation with the electrons' levels and states.

    They are computed when they are first asked for, once for all that measure them.

    Attributes
    ----------
    electrons : Electrons
    spins : (chains, sites, 3) float64

    Notes
    -----
    Eigenvectors are found by each rank for itself, whatever the group: O(N^3) per chain, two to
    four times the time of the eigenvalues alone, and 64 N^2 bytes a chain while they are kept.
    ``levels`` does not take the eigenvalues that come with them, which differ in rounding: what is
    measured would depend on what else is measured.
    """

    electrons: Electrons
    spins: Tensor

    @cached_property
    def levels(self) -> Tensor:
        """(chains, 2 sites) float64, all eigenvalues of h(S), ascending.

        Those of the exact weight where it has them.
        """
        if self.spectrum is not None:
            return self.spectrum
        if self.electrons.spectrum is None:
            raise ValueError("levels are asked for, and there is nothing to compute them with")
        return self.electrons.spectrum(self.spins)

    @cached_property
    def eigensystem(self) -> tuple[Tensor, Tensor]:
        """Levels, and states (chains, 2 sites, 2 sites) complex128.

        Eigenvector n is column n; row 2 i + a is site i, spin a.
        """
        levels, states = torch.linalg.eigh(self.electrons.hamiltonian.dense(self.spins))
        return levels, states

    def of_states(self, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return a function (chains, ...) of levels and states.

        Computed for as many chains at a time as memory allows.
        """
        levels, states = self.eigensystem
        batch = max(1, WORK_BYTES // (8 * states.element_size() * states[0].numel()))
        return torch.cat(
            [function(*part) for part in zip(levels.split(batch), states.split(batch))]
        )


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
    r"""Covariance of the electrons' E and E - mu N at fixed spins, per site.

    The electrons' part of the specific heat.

    .. math::

        \frac1N \sum_n E_n (E_n - \mu) f(E_n) \left[1 - f(E_n)\right]
            = T^2 \left. \frac{\partial e}{\partial T} \right|_S

    One diagonalisation, O(N^3).
    """

    name, label = "energy_fluctuation", "electrons' cov(E, E - mu N) at fixed spins / N [t^2]"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        levels = self.electrons.at(spins, evaluation).levels
        return (levels * (levels - self.electrons.mu) * self.electrons.fluctuation(levels)).sum(
            -1
        ) / self.lattice.sites


class EnergyNumberFluctuation(SpectralObservable):
    r"""Covariance of the electrons' E and N at fixed spins, per site.

    The electrons' part of the specific heat at fixed density.

    .. math::

        \frac1N \sum_n E_n f(E_n) \left[1 - f(E_n)\right]
            = T \left. \frac{\partial e}{\partial \mu} \right|_S

    One diagonalisation, O(N^3).
    """

    name, label = "energy_number_fluctuation", "electrons' cov(E, N) at fixed spins / N [t]"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        levels = self.electrons.at(spins, evaluation).levels
        return (levels * self.electrons.fluctuation(levels)).sum(-1) / self.lattice.sites


class NumberFluctuation(SpectralObservable):
    r"""Variance of the number of electrons at fixed spins, per site.

    The electrons' part of the compressibility.

    .. math::

        \frac1N \sum_n f(E_n) \left[1 - f(E_n)\right]
            = T \left. \frac{\partial n}{\partial \mu} \right|_S

    One diagonalisation, O(N^3).
    """

    name, label = "number_fluctuation", "electrons' var(N) at fixed spins / N"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return (
            self.electrons.fluctuation(self.electrons.at(spins, evaluation).levels).sum(-1)
            / self.lattice.sites
        )
