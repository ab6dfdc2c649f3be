"""The fermions as a learned model may know them before it has seen any data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from hpcslmc.effective.momentum import spectra
from hpcslmc.errors import UserError
from hpcslmc.physics.couplings import Couplings
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice

FREQUENCIES = 5
"""Number of imaginary frequencies that propagators are taken at."""
MOST_ITERATIONS, CONVERGED = 1000, 1e-10
"""Of the self-energy of electrons among random spins; how close is nothing that matters."""
LARGE = 4096
"""Sites of the lattice that stands for an infinite one where functions of momentum are normalised.
"""


def large_shape(couplings: Couplings) -> tuple[int, ...]:
    """Return the shape of the lattice that stands for an infinite one."""
    crystal = couplings.crystal
    side = round((LARGE / len(crystal.names)) ** (1.0 / crystal.dimension))
    return (side,) * crystal.dimension


@dataclass(frozen=True, init=False)
class FreeElectrons:
    """Electrons without spins to scatter from.

    Parameters
    ----------
    t : float, complex, or a sequence of them, or Couplings
        Hopping on the square lattice by shell of neighbours, or couplings on any, whose J does not
        count.
    mu : float
        Chemical potential.
    beta : float
        Inverse temperature.
    site_potential : sequence of float, optional
        On-site energy of each site of one lattice, in place of those of its sublattice.

    Attributes
    ----------
    couplings : Couplings
        With J = 0.
    """

    couplings: Couplings
    mu: float
    beta: float
    site_potential: tuple[float, ...] | None

    def __init__(
        self,
        t: complex | Sequence[complex] | Couplings,
        mu: float,
        beta: float,
        site_potential: Sequence[float] | None = None,
    ) -> None:
        couplings = t if isinstance(t, Couplings) else Couplings.make(t=t)
        values = {
            "couplings": replace(couplings, J=(0.0,) * len(couplings.J)),
            "mu": mu,
            "beta": beta,
            "site_potential": None if site_potential is None else tuple(site_potential),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def frequencies(self) -> np.ndarray:
        """(5,) float64, imaginary frequencies in equal ratios.

        They run from the lowest Matsubara frequency pi / beta to where the bands end, 4 t on the
        square lattice.
        """
        lowest = math.pi / self.beta
        widest = max(self.couplings.hopping_bound, 2.0 * lowest)
        return np.geomspace(lowest, widest, FREQUENCIES)

    @cached_property
    def _is_symmetric(self) -> bool:
        """True if it is the same to hop back and forth, G_ij = G_ji."""
        return self.couplings.is_real and self.couplings.is_scalar

    def propagators(self, shape: tuple[int, ...]) -> np.ndarray:
        r"""Return Re g_w and Im g_w at the momenta of a lattice, (10, numbers) float64.

        .. math:: g_w(k) = (i w + \mu - h_0(k))^{-1}

        between sublattices, averaged over the spin and the two directions of a pair of sites, as
        `spectra`. Scaled to a mean square of 1 for each site of a large lattice, by factors that do
        not depend on this one.
        """
        return self.normalised(lambda own: self.parts(self._green(own), own), shape)

    def bubbles(self, shape: tuple[int, ...]) -> np.ndarray:
        r"""Return the coupling of two spins in second order at each frequency, (5, numbers).

        Scaled as ``propagators``.

        .. math:: b_w(r_{ij}) = {\rm Re} \, g_w(r_{ij}) g_w(r_{ji}), \quad i \ne j

        Momenta are those of the lattice: how the coupling depends on its size is in it.
        """
        return self.normalised(self._bubbles, shape)

    def normalised(
        self, functions: Callable[[tuple[int, ...]], np.ndarray], shape: tuple[int, ...]
    ) -> np.ndarray:
        """Return functions of momentum (n, numbers), scaled to a mean square of 1 for a site."""
        m = len(self.couplings.crystal.names)
        numbers_of_site = 1.0 if m == 1 else 2.0 * m
        squares = np.square(functions(large_shape(self.couplings))).mean(1, keepdims=True)
        scale = np.sqrt(numbers_of_site * squares)
        return functions(shape) / np.where(scale > 0.0, scale, 1.0)

    def resolvents(self, levels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return (z - h_0(k))^-1 averaged over the spin, (n, cells, sublattices, sublattices).

        Parameters
        ----------
        levels : (n, sublattices) complex128
            z, one for each sublattice.
        shape : tuple of int
        """
        couplings = self.couplings
        hamiltonian = Hamiltonian(Lattice(shape, couplings.crystal), couplings)
        m = levels.shape[1]
        if m == 1 and self._is_symmetric:
            bands = np.full(np.prod(shape), couplings.potential[0]) + hamiltonian.bands
            return (1.0 / (levels - bands))[..., None, None]
        spins = 1 if couplings.is_scalar else 2
        h = hamiltonian.bloch()[:, :: 3 - spins, :: 3 - spins]
        diagonal = np.repeat(levels, spins, 1)[:, None, :, None] * np.eye(m * spins)
        inverses = np.linalg.inv(diagonal - h)
        return np.trace(inverses.reshape(*inverses.shape[:2], m, spins, m, spins), 0, 3, 5) / spins

    def parts(self, green: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return real and imaginary parts in space of functions (n, ...), (2 n, numbers)."""
        adjoint = green.conj().swapaxes(-1, -2)
        both = np.concatenate((0.5 * (green + adjoint), -0.5j * (green - adjoint)))
        if not self._is_symmetric:  # what is real in space is its own conjugate at -k
            both = 0.5 * (both + _opposite(both, shape).conj())
        return spectra(both)

    def _green(self, shape: tuple[int, ...]) -> np.ndarray:
        levels = (1j * self.frequencies + self.mu)[:, None]
        return self.resolvents(np.repeat(levels, len(self.couplings.J), 1), shape)

    def _bubbles(self, shape: tuple[int, ...]) -> np.ndarray:
        green = self._green(shape)
        there = back = _over_cells(np.fft.ifftn, green, shape)
        if not self._is_symmetric:
            back = _over_cells(np.fft.ifftn, _opposite(green, shape).swapaxes(-1, -2), shape)
        products = _over_cells(np.fft.fftn, there * back, shape)
        products = 0.5 * (products + products.conj().swapaxes(-1, -2))
        for a in range(green.shape[-1]):
            products[..., a, a] -= products[..., a, a].real.mean(1, keepdims=True)
        return spectra(products)


def _over_cells(
    transform: Callable[..., np.ndarray], functions: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Transform functions (n, cells, ...) over the cells of a lattice."""
    grid = functions.reshape(len(functions), *shape, *functions.shape[2:])
    return transform(grid, axes=range(1, 1 + len(shape))).reshape(functions.shape)


def _opposite(functions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return functions (n, cells, ...) of momentum at -k."""
    axes = tuple(range(1, 1 + len(shape)))
    grid = functions.reshape(len(functions), *shape, *functions.shape[2:])
    return np.roll(np.flip(grid, axes), 1, axes).reshape(functions.shape)


@dataclass(frozen=True)
class Physics:
    """Parameters that log W of a configuration depends on, besides the lattice.

    Parameters
    ----------
    electrons : FreeElectrons
    J : float or tuple of float
        Their coupling to the spins, of all sites or of each sublattice.
    site_J : tuple of float, optional
        That of each site of one lattice, in its place.
    """

    electrons: FreeElectrons
    J: float | tuple[float, ...]
    site_J: tuple[float, ...] | None = None

    @classmethod
    def of(cls, ensemble: Ensemble) -> "Physics":
        """Return the parameters of an ensemble."""
        hamiltonian = ensemble.hamiltonian
        couplings = hamiltonian.couplings
        site_J = site_potential = None
        if not hamiltonian.is_uniform:
            site_J = tuple(hamiltonian.site_J.tolist())
            site_potential = tuple(hamiltonian.site_potential.tolist())
        electrons = FreeElectrons(couplings, ensemble.mu, ensemble.beta, site_potential)
        same = len(set(couplings.J)) == 1
        return cls(electrons, couplings.J[0] if same else couplings.J, site_J)

    @cached_property
    def couplings(self) -> Couplings:
        """All couplings, for a lattice of any size."""
        free = self.electrons.couplings
        J = self.J if isinstance(self.J, tuple) else (self.J,) * len(free.J)
        return replace(free, J=J)

    def ensemble(self, lattice: Lattice, device: torch.device | str = "cpu") -> Ensemble:
        """Return the ensemble on a lattice.

        Raises
        ------
        UserError
            The lattice is of another crystal, or not the one that values of single sites are for.
        """
        if lattice.crystal != self.couplings.crystal:
            raise UserError(
                f"A lattice {list(lattice.shape)} of another crystal than that of the couplings "
                "cannot have them."
            )
        site_J = _of_lattice("site_J", self.site_J, lattice)
        potential = _of_lattice("site_potential", self.electrons.site_potential, lattice)
        hamiltonian = Hamiltonian(
            lattice, self.couplings, device=device, site_J=site_J, site_potential=potential
        )
        return Ensemble(hamiltonian, self.electrons.beta, self.electrons.mu)

    def magnetic(self, lattice: Lattice) -> np.ndarray:
        """Return the sites whose spin the electrons see, (sites,) bool."""
        return self.ensemble(lattice).hamiltonian.coupled

    def dressed_propagators(self, shape: tuple[int, ...]) -> np.ndarray:
        r"""Return Re g_w and Im g_w of electrons among random spins, (10, numbers) float64.

        .. math:: g_w(k) = (i w + \mu - h_0(k) - \Sigma(i w))^{-1}

        Scaled as those of free electrons. What is left of the spins scatters less: an expansion in
        the number of spins on a line converges faster, and at large J at all.
        """
        electrons = self.electrons

        def dressed(own: tuple[int, ...]) -> np.ndarray:
            return electrons.parts(electrons.resolvents(self._dressed_levels, own), own)

        return electrons.normalised(dressed, shape)

    @cached_property
    def _dressed_levels(self) -> np.ndarray:
        return self.levels_among_spins(self.electrons.frequencies)

    def levels_among_spins(self, frequencies: np.ndarray) -> np.ndarray:
        r"""Return i w + \mu - \Sigma(i w) of each sublattice, (n, sublattices) complex128.

        In the coherent-potential approximation of electrons among random spins.

        A site with a spin in the effective medium scatters nothing on average: with V = +-J/2

        .. math:: \langle t \rangle = \left\langle \frac{V - \Sigma}{1 - (V - \Sigma) g}
            \right\rangle = 0, \quad g = \frac1N \sum_k \left(\frac{1}{i w + \mu - \Sigma - h_0(k)}
            \right)_{aa}

        Soven, Phys. Rev. 156, 809 (1967).

        Parameters
        ----------
        frequencies : (n,) float64
            In units of energy.
        """
        electrons, shape = self.electrons, large_shape(self.couplings)
        free = (1j * frequencies + electrons.mu)[:, None]
        lattice = Lattice(shape, self.couplings.crystal)
        potentials = Hamiltonian(lattice, self.couplings).site_levels[:, None]
        sigma = np.repeat(-0.5j * abs(potentials).max(0), len(free), 0)
        for _ in range(MOST_ITERATIONS):
            green = electrons.resolvents(free - sigma, shape)
            local = np.stack([green[..., a, a].mean(1) for a in range(sigma.shape[1])], axis=1)
            scattered = ((potentials - sigma) / (1.0 - (potentials - sigma) * local)).mean(0)
            sigma = sigma + 0.5 * scattered / (1.0 + scattered * local)
            if abs(scattered).max() < CONVERGED:
                break
        return free - sigma


def _of_lattice(name: str, values: tuple[float, ...] | None, lattice: Lattice) -> np.ndarray | None:
    """Return the values of a lattice's sites; UserError if they are of another lattice."""
    if values is None:
        return None
    if len(values) != lattice.sites:
        raise UserError(
            f"{name} is given for the {len(values)} sites of one lattice, and says nothing of a "
            f"lattice of {lattice.sites} sites."
        )
    return np.array(values)
