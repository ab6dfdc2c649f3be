"""The Clifford algebra Cl(3,0) of 2x2 complex matrices, what a spin multiplies an electron by.

A multivector is s + p.sigma + i a.sigma + i q: a scalar, a polar vector, an axial vector and a
pseudoscalar. Fields of them are (channels, 8, chains, sites), components in that order.
"""

import torch
from torch import Tensor

GRADES = (1, 3, 3, 1)
"""Components of scalar, polar vector, axial vector and pseudoscalar."""


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Return the cross product of vectors along axis 1."""
    return (a * b.roll(-1, 1) - a.roll(-1, 1) * b).roll(-1, 1)


def product(x: Tensor, y: Tensor) -> Tensor:
    """Return the products of multivectors."""
    s, p, a, q = x.split(GRADES, 1)
    t, r, b, u = y.split(GRADES, 1)
    return torch.cat(
        (
            s * t + dot(p, r) - dot(a, b) - q * u,
            s * r + t * p - q * b - u * a - cross(p, b) - cross(a, r),
            s * b + t * a + q * r + u * p + cross(p, r) - cross(a, b),
            s * u + q * t + dot(p, b) + dot(a, r),
        ),
        1,
    )


def vertex(spins: Tensor, x: Tensor) -> Tensor:
    """Return S.sigma times multivectors, for spins (1, 3, chains, sites)."""
    s, p, a, q = x.split(GRADES, 1)
    return torch.cat(
        (
            dot(spins, p),
            spins * s - cross(spins, a),
            spins * q + cross(spins, p),
            dot(spins, a),
        ),
        1,
    )


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the scalar product of vectors along axis 1, which stays."""
    return (a * b).sum(1, keepdim=True)


def mix_grades(weights: Tensor, x: Tensor) -> Tensor:
    """Mix channels, each grade by its own weights (4, out, in): no grade turns into another."""
    grades = torch.arange(4, device=x.device).repeat_interleave(
        torch.tensor(GRADES, device=x.device)
    )
    channels, components, chains, sites = x.shape
    inputs = x.permute(1, 0, 2, 3).reshape(components, channels, chains * sites)
    mixed = weights.view(4, -1, channels)[grades] @ inputs
    return mixed.view(components, -1, chains, sites).transpose(0, 1)
