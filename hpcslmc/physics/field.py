"""Fields of unit vectors, one a site."""

from torch import Tensor


def tangential(vectors: Tensor, spins: Tensor) -> Tensor:
    """Project vectors (..., 3) on the tangent planes of the unit spheres at spins (..., 3)."""
    return vectors - (vectors * spins).sum(-1, keepdim=True) * spins
