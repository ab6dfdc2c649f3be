"""Attention between all pairs of sites: layouts, and weights that do not know the lattice's size.

Fields are (channels, components, chains, sites), as everywhere in the networks; a head is a part of
the channels, (chains, heads, sites, numbers).
"""

import math

import torch
from torch import Tensor


def to_heads(fields: Tensor, heads: int) -> Tensor:
    """Divide the channels of fields among heads: (chains, heads, sites, channels components)."""
    return fields.unflatten(0, (heads, -1)).permute(3, 0, 4, 1, 2).flatten(3)


def from_heads(values: Tensor, components: int) -> Tensor:
    """Join what heads give to fields of so many components."""
    return values.unflatten(3, (-1, components)).permute(1, 3, 4, 0, 2).flatten(0, 1)


def dot_scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Return scaled products of fields of queries and keys in heads, (chains, heads, N, N)."""
    return queries @ keys.mT / math.sqrt(queries.shape[-1])


def gated(kernels: Tensor, scores: Tensor) -> Tensor:
    """Return attention that scores only modulate: kernels (heads, N, N) times 1 + scores.

    Sums over sites converge as the kernels decay; nothing is normalised.
    """
    return kernels * (1.0 + scores)


def sink_softmax(kernels: Tensor, scores: Tensor) -> Tensor:
    r"""Return attention normalised by all sites and a sink of weight one.

    .. math:: \alpha_{ij} = \frac{\kappa_{ij}^2 e^{s_{ij}}}{1 + \sum_l \kappa_{il}^2 e^{s_{il}}}

    The envelope of kernels (heads, N, N) decays, and the sink takes the place of sites far away, so
    that the size of the lattice does not matter.
    """
    weights = kernels.square() * scores.exp()
    return weights / (1.0 + weights.sum(-1, keepdim=True))


def normed(fields: Tensor, softening: float = 0.1, counted: int | None = None) -> Tensor:
    """Divide fields by the root of their mean square over channels, softened where they vanish.

    The squares of all components, or of so many ``counted``, are added up, which no rotation
    changes.
    """
    squares = fields[:, :counted].square().sum(1, keepdim=True).mean(0, keepdim=True)
    return fields * torch.rsqrt(squares + softening)
