"""Energy of the classical spins by themselves, its gradient, and its part of log W."""

import numpy as np
import torch
from torch import Tensor

from hpcslmc.physics.classical_couplings import ClassicalCouplings
from hpcslmc.physics.lattice import Lattice


class ClassicalEnergy:
    """E_cl of all spins of a lattice.

    Parameters
    ----------
    lattice : Lattice
    couplings : ClassicalCouplings
    magnetic : (sites,) bool
        Where there are spins.
    device : torch.device or str

    Notes
    -----
    A sum over at most z neighbours of each site: O(sites z) a configuration. Spins that are not
    there take no part.
    """

    def __init__(
        self,
        lattice: Lattice,
        couplings: ClassicalCouplings,
        magnetic: np.ndarray,
        device: torch.device | str = "cpu",
    ) -> None:
        neighbours, matrices = _tables(lattice, couplings, magnetic)
        self.lattice, self.couplings = lattice, couplings
        self._neighbours = torch.as_tensor(neighbours, device=device)
        self._matrices = torch.as_tensor(matrices, device=device)
        present = torch.as_tensor(magnetic.astype(float), device=device)[:, None]
        self._field = present * torch.as_tensor(couplings.field, dtype=torch.float64, device=device)
        self._axis = 2.0 * couplings.easy_axis * present
        self._axis = self._axis * torch.tensor([0.0, 0.0, 1.0], device=device)

    def pair_field(self, spins: Tensor) -> Tensor:
        """Return the gradient of the bonds' energy, (chains, sites, 3)."""
        return torch.einsum("izab,cizb->cia", self._matrices, spins[:, self._neighbours])

    def energy(self, spins: Tensor) -> Tensor:
        """Return E_cl (chains,) of spins (chains, sites, 3)."""
        return self.energy_and_gradient(spins)[0]

    def energy_and_gradient(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """Return E_cl (chains,) and dE_cl/dS_i (chains, sites, 3) of spins (chains, sites, 3)."""
        pairs, axis = self.pair_field(spins), self._axis * spins
        energy = (spins * (0.5 * pairs - self._field - 0.5 * axis)).sum((1, 2))
        return energy, pairs - self._field - axis

    def change(self, spins: Tensor, sites: Tensor, turned: Tensor) -> Tensor:
        """Return the change of E_cl (chains,) where one spin of each chain is turned.

        Parameters
        ----------
        spins : (chains, sites, 3) float64
        sites : (chains,) int64
        turned : (chains, 3) float64
            The new spins.
        """
        chain = torch.arange(len(spins), device=spins.device)
        old, around = spins[chain, sites], spins[chain[:, None], self._neighbours[sites]]
        itself = (self._neighbours[sites] == sites[:, None])[..., None]
        around = torch.where(itself, 0.0, around)  # a constant, if it is its own neighbour
        pairs = torch.einsum("czab,czb->ca", self._matrices[sites], around)
        axis = 0.5 * self._axis[sites]
        return ((turned - old) * (pairs - self._field[sites] - axis * (turned + old))).sum(-1)


def _tables(
    lattice: Lattice, couplings: ClassicalCouplings, magnetic: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each site's neighbours (sites, z) and the matrices A to them (sites, z, 3, 3).

    Sites with fewer than others have themselves, with a matrix of zeros.
    """
    sites = np.arange(lattice.sites)
    start, end, matrix = [sites[:0]], [sites[:0]], [np.zeros((0, 3, 3))]
    for bond in couplings.bonds:
        first, second = lattice.bond_ends(bond.link)
        for one, other, coupling in (
            (first, second, bond.matrix),
            (second, first, bond.matrix.T),
        ):
            there = magnetic[one] & magnetic[other]
            start.append(one[there])
            end.append(other[there])
            matrix.append(np.broadcast_to(coupling, (there.sum(), 3, 3)))
    starts = np.concatenate(start)
    order = np.argsort(starts, kind="stable")
    counts = np.bincount(starts, minlength=lattice.sites)
    place = np.arange(counts.max(initial=0)) < counts[:, None]
    neighbours = np.repeat(sites[:, None], place.shape[1], axis=1)
    neighbours[place] = np.concatenate(end)[order]
    matrices = np.zeros((*place.shape, 3, 3))
    matrices[place] = np.concatenate(matrix)[order]
    return neighbours, matrices
