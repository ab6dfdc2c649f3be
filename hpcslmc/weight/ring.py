r"""Cyclic block-tridiagonal matrices.

Determinants, and the same blocks of the inverse, by odd-even reduction.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DENSE_ROWS = 3
"""Most rows of a ring that is treated as one dense matrix, cheaper than a further reduction."""
WHOLE = 32
"""Largest matrix of single precision that is inverted by LU factors, not by halves."""


@dataclass(frozen=True)
class Ring:
    """A cyclic block-tridiagonal matrix, or the same blocks of its inverse.

    Each is (rows, batch, n, n) complex128 or complex64.

    ``right[x]`` is the block (x, x+1) and ``left[x]`` the block (x+1, x), rows counted modulo their
    number.
    """

    diagonal: Tensor
    right: Tensor
    left: Tensor

    def dense(self) -> Tensor:
        """Return the whole matrix, (batch, rows n, rows n).

        Blocks that coincide on a short ring are added.
        """
        rows, batch, n, _ = self.diagonal.shape
        matrix = self.diagonal.new_zeros(batch, rows, n, rows, n)
        for x in range(rows):
            after = (x + 1) % rows
            matrix[:, x, :, x] += self.diagonal[x]
            matrix[:, x, :, after] += self.right[x]
            matrix[:, after, :, x] += self.left[x]
        return matrix.view(batch, rows * n, rows * n)

    @classmethod
    def of_dense(cls, matrix: Tensor, rows: int) -> "Ring":
        """Take the blocks on the ring of dense matrices (batch, rows n, rows n)."""
        batch, n = len(matrix), matrix.shape[-1] // rows
        blocks = matrix.view(batch, rows, n, rows, n).permute(1, 3, 0, 2, 4)
        here = torch.arange(rows, device=matrix.device)
        after = (here + 1) % rows
        return cls(blocks[here, here], blocks[here, after], blocks[after, here])


class Factors:
    """LU factors of a batch of matrices (..., n, n)."""

    def __init__(self, matrices: Tensor) -> None:
        self._shape = matrices.shape
        # unchecked: a matrix that is singular makes log|det| infinite, and no device has to wait
        self._factors, self._pivots, _ = torch.linalg.lu_factor_ex(matrices.flatten(0, -3))

    def log_det(self, arguments: bool = False) -> Tensor:
        """Return log|det| (...), or with ``arguments`` log det, imaginary parts modulo 2 pi.

        In double precision.
        """
        pivots = self._factors.diagonal(dim1=-2, dim2=-1).to(torch.complex128)
        log_det = pivots.abs().log().sum(-1)
        if arguments:
            places = torch.arange(1, self._shape[-1] + 1, device=pivots.device)
            swaps = (self._pivots != places).sum(-1)
            argument = pivots.sgn().prod(-1).angle().add(swaps, alpha=math.pi)
            log_det = torch.complex(log_det, argument)
        return log_det.view(self._shape[:-2])

    def solve(self, right: Tensor) -> Tensor:
        """Multiply the inverse with matrices (..., n, m).

        Keeps digits that an inverse that is multiplied afterwards loses, where parts of a lattice
        have levels close to the chemical potential.
        """
        found = torch.linalg.lu_solve(self._factors, self._pivots, right.flatten(0, -3))
        return found.view(right.shape)

    def inverse(self) -> Tensor:
        """Return the inverses (..., n, n)."""
        one = torch.eye(self._shape[-1], dtype=self._factors.dtype, device=self._factors.device)
        return self.solve(one.expand(self._shape))


class Halves:
    r"""Inverses of a batch of matrices (..., n, n) with positive Hermitian part, by halves.

    .. math::
        S = A_{22} - T A_{12}, \quad T = A_{21} A_{11}^{-1}, \quad U = A_{11}^{-1} A_{12}, \quad
        A^{-1} = \begin{pmatrix} A_{11}^{-1} + U S^{-1} T & -U S^{-1} \\
        -S^{-1} T & S^{-1} \end{pmatrix}

    Products of matrices take the most of it, several times as fast as triangular solutions of small
    matrices. Between the halves there is no pivoting, which such matrices allow, but which costs
    digits in a row of degenerate levels at low temperature.
    """

    def __init__(self, matrices: Tensor) -> None:
        n = matrices.shape[-1]
        if n <= WHOLE:
            factors = Factors(matrices)
            self._inverse, self._parts = factors.inverse(), [factors]
            return
        m = n // 2
        right, left = matrices[..., :m, m:], matrices[..., m:, :m]
        upper = Halves(matrices[..., :m, :m])
        to_left, to_right = left @ upper._inverse, upper._inverse @ right
        lower = Halves(matrices[..., m:, m:] - to_left @ right)
        below = lower._inverse @ to_left
        self._inverse = torch.empty_like(matrices)
        self._inverse[..., :m, :m] = upper._inverse + to_right @ below
        self._inverse[..., :m, m:] = (to_right @ lower._inverse).neg_()
        self._inverse[..., m:, :m] = below.neg_()
        self._inverse[..., m:, m:] = lower._inverse
        self._parts = upper._parts + lower._parts

    def log_det(self, arguments: bool = False) -> Tensor:
        """Return what that of ``Factors`` does."""
        return torch.stack([part.log_det(arguments) for part in self._parts]).sum(0)

    def solve(self, right: Tensor) -> Tensor:
        """Multiply the inverse with matrices (..., n, m)."""
        return self._inverse @ right

    def inverse(self) -> Tensor:
        """Return the inverses (..., n, n)."""
        return self._inverse.clone()


def factorise(matrices: Tensor) -> Factors | Halves:
    """Return LU factors, which keep all digits, of complex128, and inverses of complex64."""
    return Halves(matrices) if matrices.dtype == torch.complex64 else Factors(matrices)


def _minus(total: Tensor, first: Tensor, second: Tensor, keep: bool = True) -> None:
    """Subtract products of batches (rows, batch, n, n) in place, from zero unless to ``keep``."""
    total.flatten(0, 1).baddbmm_(
        first.flatten(0, 1), second.flatten(0, 1), beta=int(keep), alpha=-1
    )


def interleave(even: Tensor, odd: Tensor, last: Tensor | None = None) -> Tensor:
    """Interleave even and odd rows, then what comes after them."""
    count = 2 * len(odd)
    rows = even.new_empty(
        len(even) + len(odd) + (0 if last is None else len(last)), *even.shape[1:]
    )
    rows[:count:2], rows[1:count:2], rows[count:] = (
        even[: len(odd)],
        odd,
        even[len(odd) :] if last is None else last,
    )
    return rows


class Reduction:
    r"""Elimination of the odd rows of a ring, and the way back.

    With e an odd row of inverse E, l and r its neighbours, x_l = E A_el, x_r = E A_er, z_l = A_le
    E, z_r = A_re E:

    .. math::
        A'_{ab} &= A_{ab} - A_{ae} x_b, \quad a, b \in \{l, r\} \\
        G_{eb} &= -\sum_a x_a G_{ab}, \quad G_{be} = -\sum_a G_{ba} z_a, \quad G_{ee} = E - \sum_a
        G_{ea} z_a

    38 n^3 complex multiplications and additions per odd row, 13 n^3 of them on the way to the
    determinant.
    """

    def __init__(self, ring: Ring) -> None:
        odd = self.odd = len(ring.diagonal) // 2
        self.factors = factorise(ring.diagonal[1::2])
        self.from_left, self.from_right = (
            ring.right[: 2 * odd : 2].contiguous(),
            ring.left[1::2].contiguous(),
        )
        self.x_left = self.factors.solve(ring.left[: 2 * odd : 2])
        self.x_right = self.factors.solve(ring.right[1::2])
        diagonal = ring.diagonal[0::2].clone()
        _minus(diagonal[:odd], self.from_left, self.x_left)
        inner = len(diagonal) - 1
        _minus(diagonal[1:], self.from_right[:inner], self.x_right[:inner])
        if odd == len(diagonal):
            _minus(diagonal[:1], self.from_right[inner:], self.x_right[inner:])
        # an odd number of rows leaves the last and the first one joined as they were
        right, left = torch.empty_like(diagonal), torch.empty_like(diagonal)
        _minus(right[:odd], self.from_left, self.x_right, keep=False)
        _minus(left[:odd], self.from_right, self.x_left, keep=False)
        right[odd:], left[odd:] = ring.right[2 * odd :], ring.left[2 * odd :]
        self.even = Ring(diagonal, right, left)

    def back(self, even: Ring) -> Ring:
        """Return the blocks of the inverse on the whole ring from those on the even rows."""
        odd, inverse = self.odd, self.factors.inverse()
        z_left, z_right = self.from_left @ inverse, self.from_right @ inverse
        g_left, g_right = even.diagonal[:odd], even.diagonal.roll(-1, 0)[:odd]
        to_right, to_left = even.right[:odd], even.left[:odd]
        left_odd, odd_right, odd_left, right_odd = (torch.empty_like(inverse) for _ in range(4))
        for total, (first, second), (third, fourth) in (
            (left_odd, (g_left, z_left), (to_right, z_right)),
            (odd_right, (self.x_left, to_right), (self.x_right, g_right)),
            (odd_left, (self.x_left, g_left), (self.x_right, to_left)),
            (right_odd, (to_left, z_left), (g_right, z_right)),
        ):
            _minus(total, first, second, keep=False)
            _minus(total, third, fourth)
        _minus(inverse, odd_left, z_left)
        _minus(inverse, odd_right, z_right)
        return Ring(
            interleave(even.diagonal, inverse),
            interleave(left_odd, odd_right, even.right[odd:]),
            interleave(odd_left, right_odd, even.left[odd:]),
        )


def solve_ring(ring: Ring, wanted: bool, arguments: bool = False) -> tuple[Tensor, Ring | None]:
    """Return log|det| (batch,) of a ring and, if wanted, the same blocks of its inverse.

    With ``arguments`` log det instead, as ``Factors.log_det``.
    """
    rows = len(ring.diagonal)
    if rows <= DENSE_ROWS:
        dense = ring.dense()
        factors = factorise(dense) if wanted else Factors(dense)
        inverse = Ring.of_dense(factors.inverse(), rows) if wanted else None
        return factors.log_det(arguments), inverse
    reduction = Reduction(ring)
    log_det, even = solve_ring(reduction.even, wanted, arguments)
    log_det = log_det + reduction.factors.log_det(arguments).sum(0)
    return log_det, None if even is None else reduction.back(even)
