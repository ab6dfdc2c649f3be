"""Equivariant transformer of TorchMD-NET: scalars attend, vectors come along."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hpcslmc.effective.clifford import cross, dot
from hpcslmc.effective.model import Architecture
from hpcslmc.effective.network import VectorNetwork, mix, total, weights
from hpcslmc.effective.options import HeadOptions
from hpcslmc.effective.scores import dot_scores, from_heads, normed, to_heads
from hpcslmc.physics.lattice import Lattice


class TorchMDET(VectorNetwork):
    r"""Linear model plus site energies of scalars x, polar vectors v and axial vectors u.

    A layer, with heads h, capital letters linear maps of channels, and o linear in y:

    .. math::
        \alpha_{hij} &= \kappa_h(r_{ij}) \, {\rm silu}(Q x_i \cdot K x_j + b_h(r_{ij})) \\
        y_i &= \sum_j \alpha_{hij} V x_j, \quad
        w_i = \sum_j \alpha_{hij} (A v_j + a_j S_j), \quad
        z_i = \sum_j \alpha_{hij} (B u_j + S_j \times C v_j) \\
        x_i &\leftarrow x_i + o_1 + o_2 (D v_i \cdot E w_i) + o_3 (F u_i \cdot G z_i), \quad
        v_i \leftarrow v_i + \tanh(o_4) w_i + S_i \times H z_i, \quad
        u_i \leftarrow u_i + \tanh(o_5) z_i + S_i \times I w_i

    The spin of the other site takes the place of the direction to it. All sums carry the weights
    alpha, those of vectors too, so that nothing jumps.

    Notes
    -----
    O(layers (C^2 N + C N^2)). Tholke and De Fabritiis, arXiv:2202.02541.
    """

    Options = HeadOptions
    gains: ClassVar[dict[str, float]] = {
        "start": 0.3,
        "kernel": 0.5,
        "location": 0.5,
        "energy": 0.0,
        "bias": 0.0,
        "out": 0.3,
        "heard_polar": 0.3,
        "heard_axial": 0.3,
    }

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture)
        channels, heads = architecture.channels, architecture.heads
        functions = len(self.kernels)
        self.layers = nn.ModuleList(
            weights(
                kernel=(heads, functions),
                location=(heads, functions),
                scalar=(4 * channels, channels),
                polar=(3 * channels, channels),
                axial=(2 * channels, channels),
                heard_polar=(2 * channels, channels),
                heard_axial=(2 * channels, channels),
                out=(5 * channels, channels),
                mix=(2 * channels, channels),
                bias=(2 * channels, 1),
                energy=(1, 2 * channels),
            )
            for _ in range(architecture.layers)
        )

    def energy(self, spins: Tensor) -> Tensor:
        """Return the sum of all sites' energies, (chains,) float64."""
        channels, heads = self.architecture.channels, self.architecture.heads
        spins = spins[None]
        x, v, u = self.start(spins)
        energy = spins.new_zeros(spins.shape[2], dtype=torch.float64)
        for block in map(self.cast, self.layers):
            query, key, value, amplitude = mix(block["scalar"], normed(x)).split(channels)
            polar, crossed, left = mix(block["polar"], v).split(channels)
            axial, right = mix(block["axial"], u).split(channels)
            scores = dot_scores(to_heads(query, heads), to_heads(key, heads))
            location = self.kernels.between(block["location"])
            alpha = self.kernels.between(block["kernel"]) * silu(scores + location)
            sent = (value, polar + amplitude * spins, axial + cross(spins, crossed))
            heard = from_heads(alpha @ to_heads(torch.cat(sent, 1), heads), 7)
            y, w, z = heard.split((1, 3, 3), 1)
            out = mix(block["out"], y).split(channels)
            to_left, turned_w = mix(block["heard_polar"], w).split(channels)
            to_right, turned_z = mix(block["heard_axial"], z).split(channels)
            x = x + out[0] + out[1] * dot(left, to_left) + out[2] * dot(right, to_right)
            v = v + torch.tanh(out[3]) * w + cross(spins, turned_z)
            u = u + torch.tanh(out[4]) * z + cross(spins, turned_w)
            hidden = silu(mix(block["mix"], x[:, 0], block["bias"]))
            energy = energy + total(block["energy"], hidden)
        return energy
