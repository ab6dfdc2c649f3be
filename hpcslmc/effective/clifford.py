"""The Clifford algebra Cl(3,0) of 2x2 complex matrices, what a spin multiplies an electron by.

A multivector is s + p.sigma + i a.sigma + i q: a scalar, a polar vector, an axial vector and a
pseudoscalar. Fields of them are (channels, 8, chains, sites), components in that order. Algebras
with one more unit have twice as many (`Algebra`).
"""

from dataclasses import dataclass

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


def involution(x: Tensor) -> Tensor:
    """Return the grade involution of multivectors: odd grades change sign."""
    s, p, a, q = x.split(GRADES, 1)
    return torch.cat((s, -p, a, -q), 1)


@dataclass(frozen=True)
class Algebra:
    r"""Cl(3,0), or the algebra that one more unit e makes of it.

    .. math:: x + y e, \quad e^2 = \eta, \quad e v = -v e

    with x, y in Cl(3,0) and v a vector. The spin is S, or S + e. With eta = 0 that are homogeneous
    coordinates of a point, and the algebra is the projective one, Cl(3,0,1). With eta = -1 the
    vector S + e is null, as that of a point is in the conformal algebra Cl(4,1); its fifth unit has
    the factor (1 - S^2) / 2 for points, and is nowhere in products of such.

    Attributes
    ----------
    square : float or None
        eta; None for Cl(3,0) itself.
    """

    square: float | None = None

    @property
    def grades(self) -> tuple[int, ...]:
        """Grade of each component, e counted."""
        plain = tuple(grade for grade, number in enumerate(GRADES) for _ in range(number))
        return plain if self.square is None else (*plain, *(grade + 1 for grade in plain))

    @property
    def metric(self) -> tuple[float, ...]:
        """Factor of each component's square in the inner product."""
        plain = (1.0,) * sum(GRADES)
        return plain if self.square is None else (*plain, *(self.square * one for one in plain))

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the terms of the inner product of multivectors, those of each component."""
        if self.square is None:
            return x * y
        return x * y * torch.tensor(self.metric, dtype=x.dtype, device=x.device)[:, None, None]

    @property
    def grade_count(self) -> int:
        """Number of grades."""
        return max(self.grades) + 1

    def vectors(self, vectors: Tensor, unit: Tensor) -> Tensor:
        """Return multivectors of vectors (channels, 3, ...), and of e times (channels, 1, ...)."""
        zero = torch.zeros_like(unit)
        plain = torch.cat((zero, vectors, torch.zeros_like(vectors), zero), 1)
        if self.square is None:
            return plain
        return torch.cat((plain, unit, *[zero] * (sum(GRADES) - 1)), 1)

    def product(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the products of multivectors."""
        if self.square is None:
            return product(x, y)
        (a, b), (c, d) = x.chunk(2, 1), y.chunk(2, 1)
        plain = product(a, c)
        if self.square:
            plain = plain + self.square * product(b, involution(d))
        return torch.cat((plain, product(a, d) + product(b, involution(c))), 1)

    def vertex(self, spins: Tensor, x: Tensor) -> Tensor:
        """Return multivectors times the spin from the left, for spins (1, 3, chains, sites)."""
        if self.square is None:
            return vertex(spins, x)
        c, d = x.chunk(2, 1)
        unit = dot(spins, spins)
        plain = vertex(spins, c)
        if self.square:
            plain = plain + self.square * unit * involution(d)
        return torch.cat((plain, vertex(spins, d) + unit * involution(c)), 1)

    def invariants(self, x: Tensor) -> Tensor:
        """Return scalars and squares of all grades, ((grades + 1) channels, chains, sites)."""
        squares = self.inner(x, x)
        of_grades = torch.tensor(self.grades, device=x.device)
        sums = squares.new_zeros(len(x), self.grade_count, *x.shape[2:])
        sums = sums.index_add(1, of_grades, squares)
        return torch.cat((x[:, 0], sums.transpose(0, 1).flatten(0, 1)))

    def mix(self, weights: Tensor, x: Tensor) -> Tensor:
        """Mix channels, each grade by its own weights (grades, out, in).

        No grade turns into another.
        """
        grades = torch.tensor(self.grades, device=x.device)
        channels, components, chains, sites = x.shape
        inputs = x.permute(1, 0, 2, 3).reshape(components, channels, chains * sites)
        mixed = weights.view(self.grade_count, -1, channels)[grades] @ inputs
        return mixed.view(components, -1, chains, sites).transpose(0, 1)
