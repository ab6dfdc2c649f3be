"""Correlations between the spins, in momentum space and in real space."""

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.grid import Axis, Grid
from hpcslmc.measure.momenta import operations
from hpcslmc.measure.observables import Needs
from hpcslmc.measure.zone import Zone
from hpcslmc.physics.lattice import Lattice
from hpcslmc.physics.symmetry import pair_classes


class StructureFactor:
    r"""Spin structure factor on the whole Brillouin zone.

    .. math::

        S(q) = N \langle |m_q|^2 \rangle
            = \frac1N \Big\langle \Big| \sum_i e^{i q.r_i} S_i \Big|^2 \Big\rangle,
        \qquad \overline{S(q)} = 1

    with the mean over all q that are measured; 1 for free spins; N at (pi, pi) in the Neel state.
    With several sites a cell r_i are their true positions, and q goes over as many reciprocal cells
    as it takes S(q) to repeat.

    Parameters
    ----------
    lattice : Lattice
    every : int
        Samples between two measurements.

    Notes
    -----
    One Fourier transform, O(N log N).
    """

    name, label, needs = "structure_factor", "S(q)", Needs.SPINS

    def __init__(self, lattice: Lattice, every: int) -> None:
        self.lattice, self.every = lattice, every
        self._zone = Zone(lattice)
        self.grid = self._zone.axes("q")

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains, *zone) float64 of spins (chains, sites, 3)."""
        modes = self._zone.transform(spins)
        return (modes.real.square() + modes.imag.square()).sum(-1)


class RealSpaceCorrelations(StructureFactor):
    r"""Spin correlations by distance on the square lattice, the Fourier transform of S(q).

    .. math:: C(r) = \frac1N \sum_i \langle S_i \cdot S_{i + r} \rangle, \qquad C(0) = 1

    Two Fourier transforms, O(N log N). Other lattices have ``PairCorrelations``.
    """

    name, label = "correlations", "C(r)"

    def __init__(self, lattice: Lattice, every: int) -> None:
        super().__init__(lattice, every)
        self.grid = {
            name: Axis(np.arange(float(length)), "a")
            for name, length in zip(("x", "y"), lattice.shape)
        }

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains, x, y) float64 of spins (chains, sites, 3)."""
        return torch.fft.ifftn(super().measure(spins, evaluation), dim=(1, 2)).real


class PairCorrelations:
    r"""Spin correlations by class of pairs, at the distance of the class.

    .. math:: C_c = \langle S_i \cdot S_j \rangle_{(i, j) \in c}

    Pairs are of one class where the crystal's space group makes them of each other; those of one
    distance may be of several. A pair of the periodic lattice counts at its nearest images.

    Parameters
    ----------
    lattice : Lattice
    every : int
        Samples between two measurements.

    Notes
    -----
    Fourier transforms of each sublattice and each pair of them, O(N log N).
    """

    name, label, needs = "correlations", "C(r)", Needs.SPINS

    def __init__(self, lattice: Lattice, every: int) -> None:
        self.lattice, self.every = lattice, every
        self._classes, distances = classes_within(lattice)
        self.grid: Grid = {"distance": Axis(distances, "a")}

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains, classes) float64 of spins (chains, sites, 3)."""
        lattice = self.lattice
        dims = tuple(range(1, 1 + lattice.dimension))
        cells = spins.unflatten(1, (*lattice.shape, lattice.sublattices))
        modes = torch.fft.fftn(cells, dim=dims, norm="ortho")
        pairs = torch.einsum("...ax,...bx->...ab", modes.conj(), modes)
        products = torch.fft.ifftn(pairs, dim=dims).real.flatten(1)
        classes = torch.as_tensor(self._classes, device=spins.device)
        count = len(self.grid["distance"].values)
        sums = torch.zeros(len(spins), count + 1, dtype=spins.dtype, device=spins.device)
        sums.index_add_(1, classes, products)
        return sums[:, 1:] / torch.bincount(classes, minlength=count + 1)[1:]


def classes_within(lattice: Lattice) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each pair of sites of a lattice, and the distance of each class.

    Returns
    -------
    classes : (cells * sublattices^2,) int
        Of a pair of sublattices and the cell from the one to the other, from 1; 0 for a site with
        itself.
    distances : (classes,) float64
    """
    count = lattice.sublattices
    classes = np.full((lattice.cells, count, count), -1)
    classes[0, range(count), range(count)] = 0
    distances: list[float] = []
    asked = 0
    while (classes < 0).any():
        done, asked = asked, 2 * asked + 8
        for one in pair_classes(lattice.crystal, operations(lattice.crystal), asked)[done:]:
            cells = np.mod([link.cell for link in one.links], lattice.shape)
            at = (
                np.ravel_multi_index(tuple(cells.T), lattice.shape),
                [link.start for link in one.links],
                [link.end for link in one.links],
            )
            new = classes[at] < 0
            if new.any():
                distances.append(one.length)
                classes[tuple(np.array(at)[:, new])] = len(distances)
    return classes.ravel(), np.array(distances)
