"""Even functions of the displacement between two sites, which models make their kernels of."""

import numpy as np
import torch
from torch import Tensor, nn

from hpcslmc.effective.model import Architecture
from hpcslmc.effective.momentum import Hartley, shell_waves
from hpcslmc.physics.lattice import Lattice


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
    waves : (functions, sites) buffer
        At the momenta of the lattice.
    coupling_waves : (couplings, sites) buffer
        Those of them that are couplings between spins: shells and bubbles.

    Notes
    -----
    Convolutions are products in the Hartley basis, O(N^1.5) a field; kernels between all pairs of
    sites O(N^2).
    """

    waves: Tensor
    coupling_waves: Tensor
    _displacement: Tensor

    def __init__(self, lattice: Lattice, architecture: Architecture, dressed: bool = False) -> None:
        super().__init__()
        electrons, shape = architecture.electrons, lattice.shape
        self.sites, self.transform = lattice.sites, Hartley(shape)
        shells = shell_waves(shape, (0, *architecture.shells))
        bubbles = electrons.bubbles(shape)
        propagators = [electrons.propagators(shape)]
        if dressed:
            propagators.append(architecture.physics.dressed_propagators(shape))
        self._register("waves", np.concatenate((shells, *propagators, bubbles)))
        self._register("coupling_waves", np.concatenate((shells[1:], bubbles)))
        self.register_buffer(
            "_displacement", torch.as_tensor(lattice.displacement), persistent=False
        )

    def _register(self, name: str, numbers: np.ndarray) -> None:
        self.register_buffer(name, torch.as_tensor(numbers), persistent=False)

    def __len__(self) -> int:
        return len(self.waves)

    def convolve(self, weights: Tensor, fields: Tensor) -> Tensor:
        """Smear fields (channels, ..., sites) with kernels of weights (channels, functions)."""
        spectra = (weights @ self.waves.to(weights.dtype)).reshape(
            len(weights), *[1] * (fields.ndim - 2), self.sites
        )
        return self.transform(spectra * self.transform(fields))

    def between(self, weights: Tensor) -> Tensor:
        """Return kernels (n, sites, sites) of weights (n, functions), between all pairs."""
        spectra = weights @ self.waves.to(weights.dtype)
        # the Hartley transform of an even spectrum, up to the factor of one site's delta
        table = self.transform(spectra) / self.sites**0.5
        return table[:, self._displacement]

    def power(self, spins: Tensor) -> Tensor:
        """Return |S(k)|^2 (chains, sites) of spins (chains, sites, 3)."""
        return self.transform(spins.permute(2, 0, 1)).square().sum(0)

    def field(self, couplings: Tensor, spins: Tensor) -> Tensor:
        """Return what couplings (couplings,) exert on spins (chains, sites, 3), of that shape."""
        kernel = couplings @ self.coupling_waves
        return self.transform(kernel * self.transform(spins.permute(2, 0, 1))).permute(1, 2, 0)
