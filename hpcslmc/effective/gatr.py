"""Geometric-algebra transformer: multivectors that attend to each other and multiply."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hpcslmc.effective.clifford import Algebra, dot
from hpcslmc.effective.model import Architecture
from hpcslmc.effective.network import SiteNetwork, mix, total, weights
from hpcslmc.effective.options import GATrOptions
from hpcslmc.effective.scores import dot_scores, from_heads, gated, normed, to_heads
from hpcslmc.physics.lattice import Lattice

ALGEBRAS = {"euclidean": Algebra(), "projective": Algebra(0.0), "conformal": Algebra(-1.0)}


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

    inv(x) are the scalars s of x and the norms of its grades.

    Algebras of points, ``projective`` and ``conformal``, have one more unit, and S + e in the place
    of S. A spin is a vector and has no place: what they have for translations comes along at twice
    the cost. Without e^2, in the projective one, it never comes back to the rest: log W_eff is that
    of ``euclidean`` with the same parameters.

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
        self.algebra = ALGEBRAS[architecture.settings.get("algebra", "euclidean")]
        grades, hidden = self.algebra.grade_count, 4 * channels
        of_grades = (grades * channels, channels)
        self.site = weights(start=(channels, functions))
        self.layers = nn.ModuleList(
            weights(
                kernel=(channels, functions),
                value=of_grades,
                out=of_grades,
                left=of_grades,
                right=of_grades,
                spin=of_grades,
                gate=(2 * channels, (grades + 1) * channels),
                back=(grades * channels, 2 * channels),
                mix=(hidden, (grades + 1) * channels),
                bias=(hidden, 1),
                energy=(1, hidden),
                **({"query": (2 * grades * channels, channels)} if architecture.scores else {}),
            )
            for _ in range(architecture.layers)
        )

    def energy(self, spins: Tensor) -> Tensor:
        """Return the sum of all sites' energies, (chains,) float64."""
        spins, algebra = spins[None], self.algebra
        own = torch.cat((spins, dot(spins, spins)), 1)
        start = self.kernels.convolve(self.cast(self.site)["start"], own)
        x = algebra.vectors(*torch.cat((own + start[:1], start[1:])).split((3, 1), 1))
        energy = spins.new_zeros(spins.shape[2], dtype=torch.float64)
        for block in map(self.cast, self.layers):
            y = self._normed(x)
            x = x + algebra.mix(block["out"], self._heard(block, y))
            y = self._normed(x)
            gates = silu(mix(block["gate"], algebra.invariants(y)))[:, None]
            left, right, spin = (algebra.mix(block[name], y) for name in ("left", "right", "spin"))
            both = torch.cat((algebra.product(left, right), algebra.vertex(spins, spin)))
            x = x + algebra.mix(block["back"], gates * both)
            hidden = silu(mix(block["mix"], algebra.invariants(x), block["bias"]))
            energy = energy + total(block["energy"], hidden)
        return energy

    def _normed(self, x: Tensor) -> Tensor:
        """Divide multivectors by their norm over channels, to which an e of no square adds none."""
        counted = sum(map(bool, self.algebra.metric))
        return normed(x, counted=counted)

    def _heard(self, block: dict[str, Tensor], y: Tensor) -> Tensor:
        """Return what each site hears from all others."""
        algebra = self.algebra
        values = algebra.mix(block["value"], y)
        if not self.architecture.scores:
            return self.kernels.convolve(block["kernel"], values)
        heads, grades = self.architecture.heads, block["query"].unflatten(0, (2, -1))
        query, key = (algebra.mix(one, y) for one in grades)
        metric = algebra.inner(query, torch.ones_like(query))
        queries, keys = to_heads(metric, heads), to_heads(key, heads)
        kernels = self.kernels.between(block["kernel"][:heads])
        attention = gated(kernels, dot_scores(queries, keys))
        return from_heads(attention @ to_heads(values, heads), len(algebra.grades))
