r"""Kernels between sites as functions of momentum, and convolutions with them.

A kernel is a real function K_ab(r) of the displacement between two sites, in cells, and of their
sublattices, the same in both directions: K_ab(r) = K_ba(-r). As a function of momentum it is a
Hermitian matrix,

.. math:: K_{ab}(k) = \sum_r K_{ab}(r) e^{i k \cdot r}

and on a crystal with one site a cell a real number. Its real numbers are its `spectra`.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from hpcslmc.physics.couplings import Couplings
from hpcslmc.physics.lattice import Lattice

DENSE_SITES = 100
"""Most cells for which one matrix transforms all directions at once; beyond, several are cheaper.
"""


def hartley(length: int) -> np.ndarray:
    """Return the symmetric orthogonal matrix (cos + sin)(2 pi k x / length) / sqrt(length)."""
    return _cas(2.0 * np.pi * np.outer(np.arange(length), np.arange(length)) / length)


def _cas(angles: np.ndarray) -> np.ndarray:
    """Return cos + sin of angles (n, n), over the root of n."""
    return (np.cos(angles) + np.sin(angles)) / math.sqrt(len(angles))


def spectra(functions: np.ndarray) -> np.ndarray:
    """Return the real numbers of kernels, (n, numbers) float64.

    With one sublattice one number for each cell; with m of them (m, 2 m, cells): what the Hartley
    waves at k and at -k contribute to each sublattice at k.

    Parameters
    ----------
    functions : (n, cells, sublattices, sublattices) complex128
        K_ab(k), Hermitian.
    """
    if functions.shape[-1] == 1:
        return functions[:, :, 0, 0].real
    matrices = np.moveaxis(functions, 1, -1)
    return np.concatenate((matrices.real, -matrices.imag), 2).reshape(len(functions), -1)


class AxisHartley(nn.Module):
    """Hartley transforms along each axis of fields on the cells of a lattice, their own inverse.

    They are real, and diagonalise kernels that are even along each axis as the Fourier transform
    does: O(N^{1 + 1/d}) a field.

    Parameters
    ----------
    shape : tuple of int
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        matrices = [hartley(length) for length in shape]
        if math.prod(shape) <= DENSE_SITES:
            whole = matrices[0]
            for matrix in matrices[1:]:
                whole = np.kron(whole, matrix)
            shape, matrices = (math.prod(shape),), [whole]
        self.shape = shape
        for axis, matrix in enumerate(matrices):
            self.register_buffer(f"_axis{axis}", torch.as_tensor(matrix), persistent=False)

    def forward(self, fields: Tensor) -> Tensor:
        """Transform fields (..., cells)."""
        *others, last = (matrix.to(fields.dtype) for matrix in self.buffers())
        if not others:
            return fields @ last
        grid = fields.unflatten(-1, self.shape) @ last
        for matrix in reversed(others):
            grid = (matrix @ grid).flatten(-2)
        return grid


class Hartley(nn.Module):
    """The Hartley transform of fields on the cells of a lattice, its own inverse.

    The sum over r of (cos + sin)(k . r) f(r): it diagonalises kernels with K(r) = K(-r). By one
    matrix on small lattices, beyond by fast Fourier transforms, O(N log N) a field.

    Parameters
    ----------
    lattice : Lattice
    """

    _whole: Tensor | None

    def __init__(self, lattice: Lattice) -> None:
        super().__init__()
        self.shape, whole = lattice.shape, None
        if lattice.cells <= DENSE_SITES:
            whole = torch.as_tensor(_cas(lattice.phases @ lattice.cell_coordinates.T))
        self.register_buffer("_whole", whole, persistent=False)

    def forward(self, fields: Tensor) -> Tensor:
        """Transform fields (..., cells)."""
        if self._whole is not None:
            return fields @ self._whole.to(fields.dtype)
        axes = tuple(range(-len(self.shape), 0))
        waves = torch.fft.fftn(fields.unflatten(-1, self.shape), dim=axes, norm="ortho")
        return (waves.real - waves.imag).flatten(-len(self.shape))


def is_even_along_axes(couplings: Couplings) -> bool:
    """True if the reflection of each axis is a symmetry of h, on a crystal with one site a cell."""
    found = {tuple(operation.rotation.ravel().tolist()) for operation in couplings.symmetries}
    one = np.eye(couplings.crystal.dimension, dtype=int)
    reflections = [one - 2 * np.outer(axis, axis) for axis in one]
    wanted = {tuple(reflection.ravel().tolist()) for reflection in reflections}
    return len(couplings.crystal.names) == 1 and wanted <= found


class Convolutions(nn.Module):
    r"""Convolutions of fields on a lattice with kernels, by the Hartley transform over its cells.

    Of a kernel that is not even, as between two sublattices, the waves H f of a field become

    .. math:: (H K f)_a(k) = \sum_b {\rm Re} K_{ab}(k) (H f)_b(k) - {\rm Im} K_{ab}(k) (H f)_b(-k)

    Parameters
    ----------
    lattice : Lattice
    couplings : Couplings
        Whose symmetries the kernels have.
    """

    _opposite: Tensor
    _place: Tensor | None

    def __init__(self, lattice: Lattice, couplings: Couplings) -> None:
        super().__init__()
        along_axes = is_even_along_axes(couplings)
        self.transform = AxisHartley(lattice.shape) if along_axes else Hartley(lattice)
        self.cells, self.sublattices, self._lattice = lattice.cells, lattice.sublattices, lattice
        # the cell at -r, and the momentum -k
        opposite = np.mod(-lattice.cell_coordinates, lattice.shape)
        opposite = np.ravel_multi_index(tuple(opposite.T), lattice.shape)
        self.register_buffer("_opposite", torch.as_tensor(opposite), persistent=False)
        self.register_buffer("_place", None, persistent=False)

    def _matrices(self, spectra: Tensor) -> Tensor:
        return spectra.unflatten(-1, (self.sublattices, 2 * self.sublattices, self.cells))

    def _waves(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Return waves at k (..., sublattices, cells), and those at k and then at -k."""
        waves = self.transform(fields.unflatten(-1, (self.cells, self.sublattices)).mT)
        return waves, torch.cat((waves, waves[..., self._opposite]), -2)

    def forward(self, spectra: Tensor, fields: Tensor) -> Tensor:
        """Convolve fields (..., sites) with kernels of spectra (..., numbers)."""
        if self.sublattices == 1:
            return self.transform(spectra * self.transform(fields))
        waves = torch.einsum("...abk,...bk->...ak", self._matrices(spectra), self._waves(fields)[1])
        return self.transform(waves).mT.flatten(-2)

    def between(self, spectra: Tensor) -> Tensor:
        """Return kernels (n, sites, sites) of spectra (n, numbers), between all pairs."""
        if self.sublattices > 1:
            real, minus_imaginary = self._matrices(spectra).chunk(2, -2)
            spectra = real - minus_imaginary
        # the Hartley transform of a kernel, up to the factor of one site's delta
        table = self.transform(spectra) / self.cells**0.5
        return table.flatten(1)[:, self._places()]

    def _places(self) -> Tensor:
        """Return where in a table each pair of sites is, (sites, sites); it is made when needed."""
        if self._place is None:
            lattice, m = self._lattice, self.sublattices
            cell, sublattice = np.divmod(np.arange(lattice.sites), m)
            displacement = lattice.displacement[cell[:, None], cell]
            place = (sublattice[:, None] * m + sublattice) * self.cells + displacement
            self._place = torch.as_tensor(place, device=self._opposite.device)
        return self._place

    def products(self, spins: Tensor) -> Tensor:
        """Return what spectra multiply in sum_ij K_ij S_i . S_j, (chains, numbers).

        |S(k)|^2 with one sublattice. ``spins`` are (chains, sites, 3).
        """
        fields = spins.permute(2, 0, 1)
        if self.sublattices == 1:
            return self.transform(fields).square().sum(0)
        waves, both = self._waves(fields)
        return torch.einsum("ycak,ycbk->cabk", waves, both).flatten(1)


class Pairs(nn.Module):
    r"""Couplings between spins by functions of the displacement.

    .. math:: \sum_n K_n C_n, \quad C_n = \frac12 \sum_{ij} \varphi_n(r_{ij}) S_i \cdot S_j

    Parameters
    ----------
    convolutions : Convolutions
    functions : (couplings, numbers) float64
        Spectra of phi_n.
    magnetic : (sites,) bool
        Sites with a spin that the electrons see; pairs with others are left out.

    Attributes
    ----------
    waves : (couplings, numbers) buffer
    """

    waves: Tensor
    _seen: Tensor | None

    def __init__(
        self, convolutions: Convolutions, functions: np.ndarray, magnetic: np.ndarray
    ) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.register_buffer("waves", torch.as_tensor(functions), persistent=False)
        # without any such site the spins do not matter, and neither do the couplings
        some = magnetic.any() and not magnetic.all()
        seen = torch.as_tensor(magnetic, dtype=torch.float64)[:, None] if some else None
        self.register_buffer("_seen", seen, persistent=False)

    def __len__(self) -> int:
        return len(self.waves)

    def seen(self, spins: Tensor) -> Tensor:
        """Return spins (..., sites, 3) with zeros where the electrons see none."""
        return spins if self._seen is None else spins * self._seen

    def sums(self, spins: Tensor) -> Tensor:
        """Return C_n, (chains, couplings), of spins (chains, sites, 3)."""
        return 0.5 * self.products(spins) @ self.waves.T

    def products(self, spins: Tensor) -> Tensor:
        """Return what spectra multiply, (chains, numbers), of spins (chains, sites, 3)."""
        return self.convolutions.products(self.seen(spins))

    def forces(self, spins: Tensor) -> Tensor:
        """Return the gradients of all C_n, (chains, couplings, sites, 3)."""
        return torch.stack([self._field(wave, spins) for wave in self.waves], 1)

    def field(self, couplings: Tensor, spins: Tensor) -> Tensor:
        """Return what couplings (couplings,) exert on spins (chains, sites, 3), of that shape."""
        return self._field(couplings @ self.waves, spins)

    def _field(self, spectrum: Tensor, spins: Tensor) -> Tensor:
        fields = self.convolutions(spectrum, self.seen(spins).permute(2, 0, 1))
        return self.seen(fields.permute(1, 2, 0))
