"""Functions of the displacement between two sites, which models make their kernels of."""

import numpy as np
import torch
from torch import Tensor, nn

from hpcslmc.effective.model import Architecture
from hpcslmc.effective.momentum import Convolutions, Pairs
from hpcslmc.effective.shells import on_site, shell_links, shell_waves
from hpcslmc.physics.lattice import Lattice

MATRIX_SITES = 150
"""Most sites of several sublattices for which a matrix a channel smears faster than transforms do.
"""


class Kernels(nn.Module):
    """Kernels that are learned combinations of fixed functions.

    The functions are shells of the infinite lattice (`shell_waves`) and the free electrons'
    propagators and bubbles at a few imaginary frequencies (`FreeElectrons`), which carry how things
    depend on the size of the lattice and on temperature.

    Parameters
    ----------
    lattice : Lattice
    architecture : Architecture
        Its shells and its physics.
    dressed : bool
        Whether there are propagators of electrons among random spins, too.

    Attributes
    ----------
    waves : (functions, numbers) buffer
        Their spectra at the momenta of the lattice.
    pairs : Pairs
        Those of them that are couplings between spins: shells and bubbles.

    Notes
    -----
    Convolutions are products in the Hartley basis, O(N^1.5) a field in two dimensions; kernels
    between all pairs of sites O(N^2).
    """

    waves: Tensor

    def __init__(self, lattice: Lattice, architecture: Architecture, dressed: bool = False) -> None:
        super().__init__()
        physics, shape = architecture.physics, lattice.shape
        self.convolutions = Convolutions(lattice, physics.couplings)
        self.by_matrices = lattice.sublattices > 1 and lattice.sites <= MATRIX_SITES
        links = shell_links(physics.couplings, tuple(architecture.shells))
        sites = shell_waves(lattice, on_site(physics.couplings))
        shells = shell_waves(lattice, links)
        bubbles = physics.electrons.bubbles(shape)
        propagators = [physics.electrons.propagators(shape)]
        if dressed:
            propagators.append(physics.dressed_propagators(shape))
        waves = np.concatenate((sites, shells, *propagators, bubbles))
        self.register_buffer("waves", torch.as_tensor(waves), persistent=False)
        couplings = np.concatenate((shells, bubbles))
        self.pairs = Pairs(self.convolutions, couplings, physics.magnetic(lattice))

    def __len__(self) -> int:
        return len(self.waves)

    def convolve(self, weights: Tensor, fields: Tensor) -> Tensor:
        """Smear fields (channels, ..., sites) with kernels of weights (channels, functions)."""
        if self.by_matrices:
            smeared = fields.flatten(1, -2) @ self.between(weights)
            return smeared.view(len(weights), *fields.shape[1:])
        spectra = weights @ self.waves.to(weights.dtype)
        return self.convolutions(
            spectra.reshape(len(weights), *[1] * (fields.ndim - 2), -1), fields
        )

    def between(self, weights: Tensor) -> Tensor:
        """Return kernels (n, sites, sites) of weights (n, functions), between all pairs."""
        return self.convolutions.between(weights @ self.waves.to(weights.dtype))
