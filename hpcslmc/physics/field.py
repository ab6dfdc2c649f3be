"""Fields of unit vectors, one a site."""

import torch
from torch import Tensor


def tangential(vectors: Tensor, spins: Tensor) -> Tensor:
    """Project vectors (..., 3) on the tangent planes of the unit spheres at spins (..., 3)."""
    return vectors - (vectors * spins).sum(-1, keepdim=True) * spins


def structure_factor(spins: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return |sum_i exp(i q.r_i) S_i|^2 / N at all q of spins with one site a cell.

    (..., *shape) of spins (..., sites, 3).
    """
    directions = tuple(range(-1 - len(shape), -1))
    modes = torch.fft.fftn(spins.unflatten(-2, shape), dim=directions, norm="ortho")
    return (modes.real.square() + modes.imag.square()).sum(-1)
