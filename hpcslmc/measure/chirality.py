"""Chirality of the spins: of three around the rings of a lattice, and of two along its bonds."""

import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure.momenta import is_square
from hpcslmc.measure.observables import Observable
from hpcslmc.measure.rings import ring_sites
from hpcslmc.physics.lattice import Lattice


class ScalarChirality(Observable):
    r"""Scalar chirality per triangle or plaquette in two dimensions, with its sign.

    .. math:: \chi = \frac1P \sum_p \frac1g \sum_{(ijk) \in p} S_i \cdot (S_j \times S_k)

    over the P rings of g corners: the triangles of nearest neighbours, or on lattices without any
    the smallest plaquettes, each with its g triangles of three successive corners, taken
    anticlockwise. On the square lattice they are (r, r+x, r+x+y), (r+x, r+x+y, r+y), and so on.
    4 / (3 sqrt 3) in the tetrahedral order of the triangular lattice. <chi> = 0 where W is even
    under S -> -S; a run that finds another value has not turned its spins over. Vanishes
    identically where a side of a square lattice has two sites, since each plaquette there has a
    partner of the opposite orientation.

    Notes
    -----
    Wen, Wilczek, Zee, PRB 39, 11413 (1989).
    """

    name, label = "scalar_chirality", "scalar chirality / plaquette"

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        super().__init__(lattice, device)
        self._corners = torch.as_tensor(ring_sites(lattice), device=device)
        if self._corners.shape[1] == 3:
            self.label = self.label.replace("plaquette", "triangle")

    @staticmethod
    def exists(lattice: Lattice) -> bool:
        if is_square(lattice):
            return min(lattice.shape) > 2
        return lattice.dimension == 2 and len(ring_sites(lattice)) > 0

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        if not is_square(self.lattice):
            return self.of_rings(spins).mean(1)
        a = spins.unflatten(1, self.lattice.shape)
        b, d = a.roll(-1, 1), a.roll(-1, 2)
        c = b.roll(-1, 2)
        # a.(b x c) + d.(a x b) = (c + d).(a x b), and so for the other two triangles
        triangles = (torch.linalg.cross(a, b) * (c + d) + torch.linalg.cross(c, d) * (a + b)).sum(
            (1, 2, 3)
        )
        return triangles / (4.0 * self.lattice.sites)

    def of_rings(self, spins: Tensor) -> Tensor:
        """Return the chirality of each ring, (chains, rings), of spins (chains, sites, 3)."""
        first = spins[:, self._corners]
        second, third = first.roll(-1, 2), first.roll(-2, 2)
        return (first * torch.linalg.cross(second, third)).sum(-1).mean(-1)


class ScalarChirality2(ScalarChirality):
    """Square of the lattice's mean scalar chirality; times N the susceptibility of chiral order."""

    name, label = "scalar_chirality2", "(scalar chirality / plaquette)^2"

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return super().measure(spins, evaluation).square()


class AbsoluteChirality(ScalarChirality):
    """Mean over all rings of the modulus of their scalar chirality, in any dimension.

    It needs no orientation, and is not 0 for free spins, whose triangles have a mean square of 2/9.
    """

    name, label = "scalar_chirality_abs", "|scalar chirality| of a ring"

    @staticmethod
    def exists(lattice: Lattice) -> bool:
        return len(ring_sites(lattice)) > 0

    @staticmethod
    def is_usual(lattice: Lattice) -> bool:
        return not is_square(lattice)

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return self.of_rings(spins).abs().mean(1)


class VectorChiralityX2(Observable):
    r"""Squared modulus of the square lattice's mean vector chirality over the bonds along x.

    .. math:: |\kappa_x|^2, \qquad \kappa_x = \frac1N \sum_i S_i \times S_{i + x}

    sin^2(q) for a planar spiral of pitch q along x. Vanishes identically where that side has two
    sites.

    Notes
    -----
    Villain, J. Phys. C 10, 4793 (1977).
    """

    name, label = "vector_chirality2_x", "|vector chirality|^2, bonds along x"
    side = 0

    @staticmethod
    def exists(lattice: Lattice) -> bool:
        return is_square(lattice) and lattice.shape[0] > 2

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        grid = spins.unflatten(1, self.lattice.shape)
        return torch.linalg.cross(grid, grid.roll(-1, 1 + self.side)).mean((1, 2)).square().sum(-1)


class VectorChiralityY2(VectorChiralityX2):
    """The same over the bonds along y."""

    name, label = "vector_chirality2_y", "|vector chirality|^2, bonds along y"
    side = 1

    @staticmethod
    def exists(lattice: Lattice) -> bool:
        return is_square(lattice) and lattice.shape[1] > 2
