"""Equiformer up to l = 1: attention by a small network, tensor products with the other spin."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hpcslmc.effective.clifford import cross, dot
from hpcslmc.effective.model import Architecture
from hpcslmc.effective.network import VectorNetwork, mix, total, weights
from hpcslmc.effective.options import EquiformerOptions
from hpcslmc.effective.scores import from_heads, normed, sink_softmax, to_heads
from hpcslmc.physics.lattice import Lattice

UNITS = 4
"""Hidden units of a head's score."""


class Equiformer(VectorNetwork):
    r"""Linear model plus site energies of irreps 0e, 1o and 1e: scalars x, vectors v, axial ones u.

    Tensor products with a spin lead from one to the next, S the spin of the site that sends:

    .. math:: x' = W_x [x, S \cdot v], \quad v' = W_v [v, x S, S \times u], \quad
        u' = W_u [u, S \times v]

    gated by scalars. What is sent (values) is such a product at the source; it is weighted by the
    score of a network of one hidden layer, and normalised with a sink (`sink_softmax`):

    .. math:: s_{hij} = a_h \cdot \sigma(U_h x_i + U'_h x_j + \kappa_h(r_{ij})),

    sigma a smooth leaky ReLU. A second product, with the site's own spin, makes the feed-forward
    part. Values are separable, hence sums over sites are products of matrices. Not with ``pairs``:
    each channel of what is sent is gated by the score's hidden units, so by both sites,

    .. math:: \alpha_{hij} \to \alpha_{hij}\, 2\, {\rm sigmoid}(G_c \cdot \sigma_{ij}).

    Notes
    -----
    O(layers (C^2 N + (C + heads units) N^2)), with ``pairs`` O(layers C heads units N^2). Liao and
    Smidt, arXiv:2206.11990.
    """

    Options = EquiformerOptions
    gains: ClassVar[dict[str, float]] = {
        "start": 0.3,
        "kernel": 0.5,
        "location": 0.5,
        "energy": 0.0,
        "bias": 0.0,
        "out": 0.5,
    }

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture)
        channels, heads = architecture.channels, architecture.heads
        self.pairs, functions = architecture.settings.get("pairs", False), len(self.kernels)

        self.layers = nn.ModuleList(
            weights(
                kernel=(heads, functions),
                location=(heads * UNITS, functions),
                score=(2 * heads * UNITS, channels),
                weigh=(heads, UNITS),
                **({"pair": (channels, heads * UNITS)} if self.pairs else {}),
                **of_product("value", channels),
                **of_product("own", channels),
                out=(3 * channels, channels),
                mix=(2 * channels, channels),
                bias=(2 * channels, 1),
                energy=(1, 2 * channels),
            )
            for _ in range(architecture.layers)
        )

    def energy(self, spins: Tensor) -> Tensor:
        """Return the sum of all sites' energies, (chains,) float64."""
        spins = spins[None]
        x, v, u = self.start(spins)
        energy = spins.new_zeros(spins.shape[2], dtype=torch.float64)
        for block in map(self.cast, self.layers):
            state = normed(x), normed(v), normed(u)
            values = torch.cat(tensor_product(block, "value", spins, *state), 1)
            heard = self._heard(block, state[0], values)
            x, v, u = take_in(block, spins, (x, v, u), heard)
            hidden = silu(mix(block["mix"], x[:, 0], block["bias"]))
            energy = energy + total(block["energy"], hidden)
        return energy

    def _heard(self, block: dict[str, Tensor], x: Tensor, values: Tensor) -> Tensor:
        """Return what each site hears of values (channels, 7, chains, sites)."""
        heads = self.architecture.heads
        units = self._units(block, x)
        scores = torch.zeros_like(units[0])
        for weight, unit in zip(block["weigh"].T, units, strict=True):
            scores = scores + weight[:, None, None] * unit
        alpha = sink_softmax(self.kernels.between(block["kernel"]), scores)
        if not self.pairs:
            return from_heads(alpha @ to_heads(values, heads), values.shape[1])
        # gate each channel for each pair of sites: (chains, channels, sites, sites)
        together = torch.stack(units, 2).flatten(1, 2)
        gates = 2.0 * torch.sigmoid(torch.einsum("cu,buij->bcij", block["pair"], together))
        each = alpha[:, :, None] * gates.unflatten(1, (heads, -1))
        return torch.einsum("bcij,cybj->cybi", each.flatten(1, 2), values)

    def _units(self, block: dict[str, Tensor], x: Tensor) -> list[Tensor]:
        """Return hidden units of scores of scalars, (chains, heads, sites, sites) each."""
        heads = self.architecture.heads
        here, there = (to_heads(one, heads) for one in mix(block["score"], x).split(heads * UNITS))
        location = self.kernels.between(block["location"]).unflatten(0, (heads, UNITS))
        return [  # all at once they would not fit a cache
            smooth_leaky(here[..., unit, None] + there[..., None, :, unit] + location[:, unit])
            for unit in range(UNITS)
        ]


def of_product(name: str, channels: int) -> dict[str, tuple[int, int]]:
    """Return the shapes of the weights of a tensor product."""
    return {
        f"{name}_scalar": (3 * channels, 2 * channels),
        f"{name}_polar": (channels, 3 * channels),
        f"{name}_axial": (channels, 2 * channels),
    }


def smooth_leaky(x: Tensor) -> Tensor:
    """Return a ReLU with a slope of 0.2 below zero, smooth."""
    return 0.2 * x + 0.8 * silu(x)


def take_in(
    block: dict[str, Tensor], spins: Tensor, state: tuple[Tensor, Tensor, Tensor], heard: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, v and u after what is heard, (channels, 7, ...), and products with the own spin.

    ``state`` are x, v and u before.
    """
    weight = block["out"].chunk(3)
    parts = zip(state, weight, heard.split((1, 3, 3), 1), strict=True)
    x, v, u = (field + mix(one, part) for field, one, part in parts)
    own = tensor_product(block, "own", spins, normed(x), normed(v), normed(u))
    return x + own[0], v + own[1], u + own[2]


def tensor_product(
    block: dict[str, Tensor], name: str, spins: Tensor, x: Tensor, v: Tensor, u: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scalars, vectors and axial vectors, products of those given with spins, and gated."""
    scalars = mix(block[f"{name}_scalar"], torch.cat((x, dot(spins, v))))
    x_new, polar_gate, axial_gate = scalars.split(len(x))
    polar = mix(block[f"{name}_polar"], torch.cat((v, x * spins, cross(spins, u))))
    axial = mix(block[f"{name}_axial"], torch.cat((u, cross(spins, v))))
    return silu(x_new), torch.sigmoid(polar_gate) * polar, torch.sigmoid(axial_gate) * axial
