"""The ensemble that electrons are in: their Hamiltonian, temperature and chemical potential."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpcslmc.physics.classical import ClassicalEnergy
from hpcslmc.physics.hamiltonian import Hamiltonian


@dataclass(frozen=True)
class Ensemble:
    r"""Grand canonical ensemble of electrons among classical spins.

    It is all that the weight of a configuration depends on, the electrons' part

    .. math:: \log W(S) = \log \mathrm{tr}\, e^{-\beta (H(S) - \mu N)}

    and -beta E_cl(S).

    Attributes
    ----------
    hamiltonian : Hamiltonian
    beta : float
        Inverse temperature in units of 1/t.
    mu : float
        Chemical potential in units of t.
    classical : ClassicalEnergy or None
        The spins' own energy.
    """

    hamiltonian: Hamiltonian
    beta: float
    mu: float
    classical: ClassicalEnergy | None = None

    @property
    def sites(self) -> int:
        """Sites of the lattice; there are two levels for each."""
        return self.hamiltonian.lattice.sites

    @property
    def bound(self) -> float:
        """Bound of all |E_n - mu|, whatever the spins."""
        return self.hamiltonian.bound + abs(self.mu)

    @property
    def is_half_filled(self) -> bool:
        """True if symmetry makes the density 1 for all spins."""
        return self.hamiltonian.is_half_filled(self.mu)

    @property
    def symmetries(self) -> np.ndarray:
        """(operations, sites) int, a group of site permutations that leave the weight as it is."""
        if self.classical is None:
            return self.hamiltonian.symmetries
        kept = self.classical.couplings.preserving(self.hamiltonian.operations)
        return self.hamiltonian.lattice.images(kept)

    def occupation(self, levels: Tensor) -> Tensor:
        """Return the Fermi function f of energies."""
        return torch.special.expit(-self.beta * (levels - self.mu))
