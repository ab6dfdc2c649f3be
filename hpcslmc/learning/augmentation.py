"""Augmentation of training data: images of configurations under random symmetries of log W."""

from typing import NamedTuple

import torch
from torch import Tensor

from hpcslmc.effective.model import EffectiveModel
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.streams import Stream


class Symmetries(NamedTuple):
    """Symmetries of log W, of spins times of sites, one for each of some configurations.

    Attributes
    ----------
    rotations : (..., 3, 3) float64
        Orthogonal matrices that turn or reflect all spins of a configuration.
    sources : (..., sites) int64
        For each site, the one whose spin comes there.
    """

    rotations: Tensor
    sources: Tensor

    def part(self, rows: Tensor | slice | int) -> "Symmetries":
        """Return some rows of the elements."""
        return Symmetries(self.rotations[rows], self.sources[rows])

    def image(self, vectors: Tensor) -> Tensor:
        """Return the image of spins or forces (..., sites, 3), each under its own element."""
        moved = vectors.gather(-2, self.sources[..., None].expand_as(vectors))
        return moved @ self.rotations.mT


class Augmentation:
    """Random symmetries of log W.

    log W of an image is that of the configuration, and its forces are the image of the forces: the
    labels of an augmented batch are exact.

    Parameters
    ----------
    hamiltonian : Hamiltonian
        Whose symmetries they are.
    device : torch.device or str
    """

    def __init__(self, hamiltonian: Hamiltonian, device: torch.device | str = "cpu") -> None:
        self._translations = torch.as_tensor(hamiltonian.translations, device=device)
        self._operations = torch.as_tensor(hamiltonian.symmetries, device=device)
        self._hamiltonian = hamiltonian

    @classmethod
    def of(cls, model: EffectiveModel) -> "Augmentation":
        """Return the symmetries of the weight that a model is for, on its device."""
        return cls(model.hamiltonian, model.constant.device)

    def draw(self, stream: Stream, *shape: int) -> Symmetries:
        """Draw elements uniformly, (chains, *shape): Haar measure on O(3), all of the space group.

        Of rotations and reflections of the spins only those that leave log W as it is. The numbers
        are the stream's own, hence the same whichever rank holds a chain.
        """
        device = self._translations.device
        factors = torch.linalg.qr(stream.normal(*shape, 3, 3).to(device))
        signs = factors.R.diagonal(dim1=-2, dim2=-1).sign()
        first, second = stream.uniform(2, *shape).to(device).unbind(1)
        moved = self._translations[(first * len(self._translations)).long()]
        turned = self._operations[(second * len(self._operations)).long()]
        sources = turned.gather(-1, moved)
        return Symmetries(self._hamiltonian.spin_elements(factors.Q * signs[..., None, :]), sources)
