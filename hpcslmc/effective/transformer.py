"""A plain transformer, which knows no symmetry: what equivariance is measured against."""

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from hpcslmc.effective.model import Architecture
from hpcslmc.effective.network import SiteNetwork, mix, total, weights
from hpcslmc.effective.options import TransformerOptions
from hpcslmc.effective.scores import dot_scores, from_heads, normed, to_heads
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream

WAVES = 4
"""Waves of the positions in each direction."""


class Transformer(SiteNetwork):
    r"""Linear model plus site energies of tokens that attend to each other by softmax.

    A token starts as a linear map of the three components of a spin and of waves of its position,
    cos and sin of 2 pi m x / L_x and of 2 pi m y / L_y with m up to 4. Neither rotations of the
    spins nor translations are built in, and log W_eff is invariant under neither: proposals are
    exact all the same, by the test. With ``relative`` the scores have a bias that depends on the
    displacement (`Kernels`), and tokens no position: symmetries of the lattice are built in then,
    rotations of the spins are not. With ``average`` it is averaged over so many fixed elements of
    the group, rotations and reflections of the spins with translations and symmetries of the
    lattice, and costs so many times as much.

    Notes
    -----
    O(average layers (C^2 N + C N^2)). Vaswani et al., arXiv:1706.03762, with layers normalised
    before.
    """

    Options = TransformerOptions
    invariant = False
    needs_symmetry = None
    gains: ClassVar[dict[str, float]] = {
        "energy": 0.0,
        "bias": 0.0,
        "location": 0.5,
        "out": 0.3,
        "back": 0.3,
    }
    _positions: Tensor
    _rotations: Tensor
    _images: Tensor

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture)
        channels = architecture.channels
        self.relative = architecture.settings.get("relative", False)  # files may be older than it
        positions = position_waves(lattice)
        self.register_buffer("_positions", positions, persistent=False)
        hamiltonian = architecture.physics.ensemble(lattice).hamiltonian
        rotations, images = _group_elements(hamiltonian, architecture.average)
        self.register_buffer("_rotations", rotations, persistent=False)
        self.register_buffer("_images", images, persistent=False)
        position = {} if self.relative else {"position": (channels, len(positions))}
        location = {"location": (architecture.heads, len(self.kernels))} if self.relative else {}
        self.site = weights(start=(channels, 3), **position)
        self.layers = nn.ModuleList(
            weights(
                attend=(3 * channels, channels),
                out=(channels, channels),
                mix=(2 * channels, channels),
                bias=(2 * channels, 1),
                back=(channels, 2 * channels),
                energy=(1, 2 * channels),
                **location,
            )
            for _ in range(architecture.layers)
        )

    def energy(self, spins: Tensor) -> Tensor:
        """Return the sum of all sites' energies, (chains,) float64, averaged as asked for."""
        energies = [
            self._energy(torch.tensordot(rotation, spins[..., image], 1))
            for rotation, image in zip(self._rotations.to(spins.dtype), self._images, strict=True)
        ]
        return torch.stack(energies).mean(0)

    def _energy(self, spins: Tensor) -> Tensor:
        heads, site = self.architecture.heads, self.cast(self.site)
        f = mix(site["start"], spins)[:, None]
        if not self.relative:
            f = f + (site["position"] @ self._positions.to(spins.dtype))[:, None, None]
        energy = spins.new_zeros(spins.shape[1], dtype=torch.float64)
        for block in map(self.cast, self.layers):
            query, key, value = (
                to_heads(one, heads) for one in mix(block["attend"], normed(f)).chunk(3)
            )
            scores = dot_scores(query, key)
            if self.relative:
                scores = scores + self.kernels.between(block["location"])
            f = f + mix(block["out"], from_heads(torch.softmax(scores, -1) @ value, 1))
            hidden = gelu(mix(block["mix"], normed(f), block["bias"]))
            f = f + mix(block["back"], hidden)
            energy = energy + total(block["energy"], hidden[:, 0])
        return energy


def position_waves(lattice: Lattice) -> Tensor:
    """Return cosines and sines of the cells' positions, and marks of the sublattices.

    (2 d waves, sites) float64, and as many rows more as there are sublattices, if several.
    """
    angle = 2.0 * math.pi * lattice.coordinates / np.array(lattice.shape)
    waves = [
        function(m * of)
        for m in range(1, WAVES + 1)
        for function in (np.cos, np.sin)
        for of in angle.T
    ]
    if lattice.sublattices > 1:
        waves += list(np.eye(lattice.sublattices)[:, lattice.sublattice])
    return torch.as_tensor(np.stack(waves))


def _group_elements(hamiltonian: Hamiltonian, number: int) -> tuple[Tensor, Tensor]:
    """Return rotations (n, 3, 3) of the spins and images (n, sites) of the sites, fixed ones.

    The identity comes first.
    """
    stream = Stream(1, torch.zeros(1, dtype=torch.int64), "group elements")
    lattice = hamiltonian.lattice
    rotations, images = [torch.eye(3, dtype=torch.float64)], [torch.arange(lattice.sites)]
    groups = hamiltonian.symmetries, hamiltonian.translations
    for _ in range(number - 1):
        rotations.append(hamiltonian.spin_elements(torch.linalg.qr(stream.normal(3, 3)[0]).Q))
        turned, moved = (group[int(stream.uniform(1)[0] * len(group))] for group in groups)
        images.append(torch.as_tensor(turned[moved]))
    return torch.stack(rotations), torch.stack(images)
