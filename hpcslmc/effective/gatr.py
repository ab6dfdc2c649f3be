"""Geometric-algebra transformer: multivectors that attend to each other and multiply."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hpcslmc.effective.clifford import GRADES, mix_grades, product, vertex
from hpcslmc.effective.model import Architecture
from hpcslmc.effective.network import SiteNetwork, mix, total, weights
from hpcslmc.effective.options import GATrOptions
from hpcslmc.effective.scores import dot_scores, from_heads, gated, normed, to_heads
from hpcslmc.physics.lattice import Lattice


class GATr(SiteNetwork):
    r"""Linear model plus site energies of multivectors, the algebra that an electron carries.

    Each site has C multivectors x, elements of Cl(3,0) (`clifford`), which start as S and
    convolutions of it. A block adds what others send, then products on the site; with |.| the norms
    over channels removed, and capital letters linear maps that mix channels and no grades:

    .. math::
        x_i &\leftarrow x_i + O \sum_j \kappa_h(r_{ij}) \left(1 + \langle Q x_i, K x_j \rangle
        \right) V x_j \\
        x_i &\leftarrow x_i + P \left[ g \, (A x_i)(B x_i), \; g' S_i (C x_i) \right], \quad g, g' =
        {\rm silu}(G \, {\rm inv}(x_i))

    inv(x) are the scalars s of x and the norms of its grades. A spin is a vector, and has no place:
    projective and conformal algebras have components for translations, which would stay idle.

    Notes
    -----
    Without scores (``scores = false``) the attention is a convolution, O(layers C (C N + N^1.5)),
    else O(layers (C^2 N + C N^2)). Brehmer et al., arXiv:2305.18415.
    """

    Options = GATrOptions
    gains: ClassVar[dict[str, float]] = {
        "start": 0.3,
        "kernel": 0.3,
        "query": 0.3,
        "energy": 0.0,
        "bias": 0.0,
        "out": 0.3,
        "back": 0.3,
    }

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture, dressed=True)
        channels, functions = architecture.channels, len(self.kernels)
        hidden = 4 * channels
        self.site = weights(start=(channels, functions))
        self.layers = nn.ModuleList(
            weights(
                kernel=(channels, functions),
                value=(4 * channels, channels),
                out=(4 * channels, channels),
                left=(4 * channels, channels),
                right=(4 * channels, channels),
                spin=(4 * channels, channels),
                gate=(2 * channels, 5 * channels),
                back=(4 * channels, 2 * channels),
                mix=(hidden, 5 * channels),
                bias=(hidden, 1),
                energy=(1, hidden),
                **({"query": (8 * channels, channels)} if architecture.scores else {}),
            )
            for _ in range(architecture.layers)
        )

    def energy(self, spins: Tensor) -> Tensor:
        """Return the sum of all sites' energies, (chains,) float64."""
        spins = spins[None]
        start = self.kernels.convolve(self.cast(self.site)["start"], spins)
        vectors = torch.cat((spins + start[:1], start[1:]))
        zero = torch.zeros_like(vectors[:, :1])
        x = torch.cat((zero, vectors, torch.zeros_like(vectors), zero), 1)
        energy = spins.new_zeros(spins.shape[2], dtype=torch.float64)
        for block in map(self.cast, self.layers):
            y = normed(x)
            x = x + mix_grades(block["out"], self._heard(block, y))
            y = normed(x)
            gates = silu(mix(block["gate"], invariants(y)))[:, None]
            both = torch.cat(
                (
                    product(mix_grades(block["left"], y), mix_grades(block["right"], y)),
                    vertex(spins, mix_grades(block["spin"], y)),
                )
            )
            x = x + mix_grades(block["back"], gates * both)
            hidden = silu(mix(block["mix"], invariants(x), block["bias"]))
            energy = energy + total(block["energy"], hidden)
        return energy

    def _heard(self, block: dict[str, Tensor], y: Tensor) -> Tensor:
        """Return what each site hears from all others."""
        values = mix_grades(block["value"], y)
        if not self.architecture.scores:
            return self.kernels.convolve(block["kernel"], values)
        heads, grades = self.architecture.heads, block["query"].unflatten(0, (2, -1))
        queries, keys = (to_heads(mix_grades(one, y), heads) for one in grades)
        kernels = self.kernels.between(block["kernel"][:heads])
        attention = gated(kernels, dot_scores(queries, keys))
        return from_heads(attention @ to_heads(values, heads), sum(GRADES))


def invariants(x: Tensor) -> Tensor:
    """Return scalars and squares of all grades of multivectors, (5 channels, chains, sites)."""
    squares = [grade.square().sum(1) for grade in x.split(GRADES, 1)]
    return torch.cat((x[:, 0], *squares))
