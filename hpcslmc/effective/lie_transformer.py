"""LieTransformer on the sphere of spins: attention by content, distance and angle."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hpcslmc.effective.clifford import dot
from hpcslmc.effective.model import Architecture
from hpcslmc.effective.network import SiteNetwork, mix, total, weights
from hpcslmc.effective.options import LieTransformerOptions
from hpcslmc.effective.scores import dot_scores, from_heads, normed, sink_softmax, to_heads
from hpcslmc.physics.lattice import Lattice

ORDERS = 3
"""Legendre polynomials of the angle between two spins."""


class LieTransformer(SiteNetwork):
    r"""Linear model plus site energies of fields on SO(3)/SO(2), one point of which is a spin.

    Scalars f attend to each other; with P_p of the angle and kernels of the distance as location,
    the average over the stabilisers of both spins is exact:

    .. math::
        A_{hij} &= Q f_i \cdot K f_j + \sum_p \kappa_{hp}(r_{ij}) P_p(S_i \cdot S_j), \quad
        \alpha_{hij} = \kappa'_h(r_{ij}) A_{hij} \\
        f_i &\leftarrow f_i + O \sum_j \alpha_{hij} V f_j, \quad f_i \leftarrow f_i + {\rm MLP}(f_i)

    The average loses directions about a spin. With ``tangents`` they come back as fields of the
    irreps m = +-1 of SO(2), held without a gauge as vectors t orthogonal to S:

    .. math:: t_i \leftarrow t_i + (1 - S_i S_i^T) \sum_j \alpha_{hij} (T t_j + v_j S_j), \quad
        f_i \leftarrow f_i + M [t_i \cdot D t_i]

    With ``softmax`` alpha is normalised, with a sink (`sink_softmax`).

    Notes
    -----
    O(layers (C^2 N + C N^2)). Hutchinson et al., arXiv:2012.10885; Xu, Lei, Dobriban and Daniilidis
    (2023) for fields on homogeneous spaces.
    """

    Options = LieTransformerOptions
    gains: ClassVar[dict[str, float]] = {
        "kernel": 0.5,
        "location": 0.5,
        "energy": 0.0,
        "bias": 0.0,
        "out": 0.3,
        "send": 0.3,
        "norms": 0.3,
    }

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture, dressed=True)
        channels, heads = architecture.channels, architecture.heads
        functions = len(self.kernels)
        of_tangents = {
            "send": (2 * channels, channels),
            "turn": (channels, channels),
            "norms": (channels, channels),
        }
        self.site = weights(
            kernel=(ORDERS * channels, functions),
            mix=(channels, ORDERS * channels),
            bias=(channels, 1),
        )
        self.layers = nn.ModuleList(
            weights(
                kernel=(heads, functions),
                location=(ORDERS * heads, functions),
                attend=(3 * channels, channels),
                out=(channels, channels),
                mix=(2 * channels, channels),
                bias=(2 * channels, 1),
                back=(channels, 2 * channels),
                energy=(1, 2 * channels),
                **(of_tangents if architecture.tangents else {}),
            )
            for _ in range(architecture.layers)
        )

    def energy(self, spins: Tensor) -> Tensor:
        """Return the sum of all sites' energies, (chains,) float64."""
        channels = self.architecture.channels
        angles = legendre(spins)
        site, spins = self.cast(self.site), spins[None]
        kernels = self.kernels.between(site["kernel"]).unflatten(0, (ORDERS, channels))
        start = torch.einsum("pcij,pbij->pcbi", kernels, angles).flatten(0, 1)
        f = silu(mix(site["mix"], start, site["bias"]))[:, None]
        t = torch.zeros_like(f).expand(-1, 3, -1, -1)
        energy = spins.new_zeros(spins.shape[2], dtype=torch.float64)
        for block in map(self.cast, self.layers):
            f, t = self._attend(block, angles, spins, f, t)
            hidden = silu(mix(block["mix"], normed(f), block["bias"]))
            f = f + mix(block["back"], hidden)
            energy = energy + total(block["energy"], hidden[:, 0])
        return energy

    def _attend(
        self, block: dict[str, Tensor], angles: Tensor, spins: Tensor, f: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return scalars and tangents after they have attended to each other."""
        channels, heads = self.architecture.channels, self.architecture.heads
        scalars = normed(f)
        query, key, value = mix(block["attend"], scalars).split(channels)
        location = self.kernels.between(block["location"]).unflatten(0, (ORDERS, heads))
        scores = dot_scores(to_heads(query, heads), to_heads(key, heads))
        scores = scores + torch.einsum("phij,pbij->bhij", location, angles)
        kernels = self.kernels.between(block["kernel"])
        softmax = self.architecture.softmax
        alpha = sink_softmax(kernels, scores) if softmax else kernels * scores
        if not self.architecture.tangents:
            heard = from_heads(alpha @ to_heads(value, heads), 1)
            return f + mix(block["out"], heard), t
        amplitude, onward = block["send"].split(channels)
        sent = torch.cat((value, mix(onward, t) + mix(amplitude, scalars) * spins), 1)
        heard, along = from_heads(alpha @ to_heads(sent, heads), 4).split((1, 3), 1)
        t = t + along - spins * dot(spins, along)
        norms = dot(t, mix(block["turn"], t))
        return f + mix(block["out"], heard) + mix(block["norms"], norms), t


def legendre(spins: Tensor) -> Tensor:
    """Return Legendre polynomials P_0 to P_2 of S_i . S_j, (3, chains, sites, sites)."""
    vectors = spins.permute(1, 2, 0)
    cosine = vectors @ vectors.mT
    return torch.stack((torch.ones_like(cosine), cosine, 1.5 * cosine.square() - 0.5))
