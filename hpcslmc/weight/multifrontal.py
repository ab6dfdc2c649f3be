"""Elimination by nested dissection, all fronts of a level of the tree at once."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpcslmc.physics.hamiltonian import Hamiltonian, spin_blocks
from hpcslmc.weight.dissection import Level, dissect, operations
from hpcslmc.weight.elimination import Elimination
from hpcslmc.weight.ring import factorise

SPINS = np.arange(2)


class Multifrontal(Elimination):
    r"""Elimination of parts of the lattice, then of what separates them, by nested dissection.

    With S the matrix of a node's own sites, D that of its edge, B and C what joins them, and G the
    inverse of the whole:

    .. math::
        D' &= D - C S^{-1} B \\
        G_{SD} &= -S^{-1} B \, G_{DD}, \quad G_{DS} = -G_{DD} \, C S^{-1}, \quad
        G_{SS} = S^{-1} - G_{SD} \, C S^{-1}

    D' is added to the front of the node above, on the way up; that node's part of G has G_DD, on
    the way down.

    Notes
    -----
    Serves every graph of bonds. Work and memory grow as N^1.5 and N log N in two dimensions.
    """

    def prepare(self) -> None:
        """Prepare what all evaluations share."""
        hamiltonian = self.hamiltonian
        static, blocks = hamiltonian.pattern
        order, self._lengths, self._fronts = _tree(hamiltonian)
        blocks = order.argsort()[blocks]
        diagonal = blocks[:, SPINS, SPINS].flatten()
        values = static.data[order]
        values[diagonal] -= self.mu
        self._static, self._blocks, self._diagonal = (
            torch.as_tensor(numbers, device=hamiltonian.device)
            for numbers in (values, blocks.flatten(), diagonal)
        )

    def matrices(self, spins: Tensor) -> Tensor:
        """Return the entries of h - mu in order of elimination, (chains, entries)."""
        entries = self._static.repeat(len(spins), 1)
        entries.index_add_(1, self._blocks, self.hamiltonian.site_blocks(spins).flatten(1))
        return entries.to(self.dtype)

    @property
    def bytes(self) -> int:
        """Size of all fronts."""
        numbers = sum(fronts.nodes * fronts.size**2 for fronts in self._fronts)
        return numbers * self.dtype.itemsize

    def operations(self, wanted: bool) -> float:
        """Count the products and inverses of all fronts."""
        return float(sum(fronts.operations(wanted) for fronts in self._fronts))

    def eliminate(
        self, matrices: Tensor, scale: Tensor, wanted: bool, arguments: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Eliminate as every `Elimination`."""
        entries = matrices * scale[:, None]
        entries[:, self._diagonal] += 1.0
        log_dets, eliminated, below = [], [], None
        for fronts, part in zip(self._fronts, entries.split(self._lengths, 1), strict=True):
            below = fronts.assemble(below, part)
            found, left = fronts.eliminate(below, wanted, arguments)
            log_dets.append(found)
            eliminated.append(left)
        log_det = torch.stack(log_dets).sum(0)
        if not wanted:
            return log_det, None
        sites = self.hamiltonian.lattice.sites
        blocks = entries.new_empty(len(entries), sites + 1, 2, 2)
        above = None
        for fronts, left in zip(reversed(self._fronts), reversed(eliminated), strict=True):
            assert left is not None, "it was wanted"
            above = fronts.invert(left, above, blocks)
        return log_det, blocks[:, :sites]


class _Eliminated(NamedTuple):
    """Kept for the way down: S^-1, S^-1 B and C S^-1, (batch nodes, rows, columns)."""

    inverse: Tensor
    to_right: Tensor
    to_left: Tensor


class _Fronts:
    """The fronts of a level of the tree: matrices of each node's own rows, then of its edge's.

    Two rows are a site's. A last row and column of zeros stands for what is not there.

    Parameters
    ----------
    level : Level
    below, above : Level or None
        Its neighbours in the tree.
    entries : (3, entries) int
        Entries of the sparse matrix that are the fronts' own: their nodes, rows and columns.
    device : torch.device or str

    Attributes
    ----------
    nodes, own, edge, size : int
        Number of fronts, of each one's own rows, of its edge's, and of all with the last.
    """

    def __init__(
        self,
        level: Level,
        below: Level | None,
        above: Level | None,
        entries: np.ndarray,
        device: torch.device | str,
    ) -> None:
        self.is_lowest = below is None
        self.nodes, self.own, self.edge = len(level.own), *_rows_of(level)
        self.size = self.own + self.edge + 1
        node, *ends = entries
        filled, place = (level.own < 0).nonzero()
        filled, place = np.repeat(filled, 2), (2 * place[:, None] + SPINS).flatten()
        where = [
            _flat(self.size, node, *(2 * level.find(node, row // 2) + row % 2 for row in ends)),
            _flat(self.size, filled, place, place),
            level.own.flatten(),  # -1, the last, for rows that fill up
        ]
        if below is not None:
            where += _from_both(level, below)
        if above is not None:
            where.append(_from_above(level, above))
        self._entries, self._filled, self._sites, *self._neighbours = (
            torch.as_tensor(numbers, device=device) for numbers in where
        )

    def operations(self, wanted: bool) -> float:
        """Count the complex multiplications and additions, to leading order."""
        return operations(self.nodes, self.own, self.edge, wanted)

    def assemble(self, below: Tensor | None, entries: Tensor) -> Tensor:
        """Return the fronts (batch, nodes, size, size) before their own rows are eliminated.

        From the level below, where those are, and from entries (batch, entries) of the matrix.
        """
        if below is None:
            fronts = entries.new_zeros(len(entries), self.nodes * self.size**2)
        else:
            of_one, shared, of_other = self._neighbours[:3]
            fronts = _take(below.flatten(1), of_one)
            fronts.index_add_(1, shared, _take(below.flatten(1), of_other))
        fronts.index_add_(1, self._entries, entries)
        fronts.index_fill_(1, self._filled, 1.0)
        return fronts.view(-1, self.nodes, self.size, self.size)

    def eliminate(
        self, fronts: Tensor, wanted: bool, arguments: bool
    ) -> tuple[Tensor, _Eliminated | None]:
        """Eliminate the own rows, in place.

        Returns log|det| (batch,), or with ``arguments`` log det, and what is kept if wanted.
        """
        matrices = fronts.flatten(0, 1)
        own, edge = slice(self.own), slice(self.own, -1)
        right, left = matrices[:, own, edge], matrices[:, edge, own]
        factors = factorise(matrices[:, own, own].contiguous())
        log_det = factors.log_det(arguments).view(fronts.shape[:2]).sum(1)
        if not (self.edge or wanted):
            return log_det, None
        to_right = factors.solve(right)
        matrices[:, edge, edge] -= left @ to_right
        if not wanted:
            return log_det, None
        inverse = factors.inverse()
        return log_det, _Eliminated(inverse, to_right, left @ inverse)

    def invert(self, kept: _Eliminated, above: Tensor | None, blocks: Tensor) -> Tensor | None:
        """Return the inverse between all sites of each front, (batch, nodes, size - 1, size - 1).

        From that of the level above; None for the lowest level. Its part of each own site goes to
        ``blocks``.
        """
        found, to_right, to_left = kept
        if above is not None:
            edge = _take(above.flatten(1), self._neighbours[-1])
            edge = edge.view(len(found), self.edge, self.edge)
            down = to_right.neg() @ edge
            own = found - down @ to_left
            found = own if self.is_lowest else _joined(own, down, edge @ to_left.neg(), edge)
        own = spin_blocks(found[:, : self.own, : self.own])
        blocks[:, self._sites] = own.reshape(len(blocks), -1, 2, 2)
        return None if self.is_lowest else found.view(len(blocks), -1, *found.shape[1:])


def _joined(first: Tensor, right: Tensor, left: Tensor, last: Tensor) -> Tensor:
    """Return matrices (batch, n + m, n + m) of four blocks, as a matrix is written."""
    n, size = first.shape[1], first.shape[1] + last.shape[1]
    whole = first.new_empty(len(first), size, size)
    whole[:, :n, :n], whole[:, :n, n:] = first, right
    whole[:, n:, :n], whole[:, n:, n:] = left, last
    return whole


def _tree(hamiltonian: Hamiltonian) -> tuple[np.ndarray, list[int], list[_Fronts]]:
    """Return the entries of the matrix in order of elimination, their number by level, all fronts.

    The first are indices into the data of the Hamiltonian's pattern.
    """
    lattice = hamiltonian.lattice
    levels = dissect(hamiltonian.graph, lattice.coordinates, lattice.shape)
    level_of, node_of = np.empty((2, hamiltonian.lattice.sites), int)
    for number, level in enumerate(levels):
        node, place = (level.own >= 0).nonzero()
        level_of[level.own[node, place]], node_of[level.own[node, place]] = number, node
    matrix = hamiltonian.pattern[0].tocoo()
    start, end = matrix.row // 2, matrix.col // 2
    first = np.where(level_of[start] < level_of[end], start, end)  # which is eliminated first
    order = np.argsort(level_of[first], kind="stable")
    lengths = np.bincount(level_of[first], minlength=len(levels)).tolist()
    entries = np.stack((node_of[first], matrix.row, matrix.col))[:, order]
    parts = np.split(entries, np.cumsum(lengths)[:-1], axis=1)
    around = zip((None, *levels), (*levels[1:], None), strict=False)
    fronts = [
        _Fronts(level, below, above, part, hamiltonian.device)
        for level, part, (below, above) in zip(levels, parts, around, strict=True)
    ]
    return order, lengths, fronts


def _rows_of(level: Level) -> tuple[int, int]:
    """Return the number of each front's own rows, and of those of its edge."""
    return 2 * level.own.shape[1], 2 * level.edge.shape[1]


def _flat(size: int, node: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return the flat places of entries of fronts."""
    return ((node * size + row) * size + column).flatten()


def _from_both(level: Level, below: Level) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the entries of the fronts lie in those of the parts below.

    That of each entry in one part, then which entries both parts have, few but at the top, and
    where they lie in the other part.
    """
    first, second = (_from_below(level, below, side) for side in (0, 1))
    nothing = sum(_rows_of(below))
    in_first, in_second = (
        np.maximum(*np.divmod(places % (nothing + 1) ** 2, nothing + 1)) < nothing
        for places in (first, second)
    )
    (shared,) = (in_first & in_second).nonzero()
    return np.where(in_first, first, second), shared, second[shared]


def _from_below(level: Level, below: Level, side: int) -> np.ndarray:
    """Return where each entry of the fronts lies in those of the parts on one side."""
    own, edge = _rows_of(below)
    nothing = own + edge
    rows = np.full((len(level.own), sum(_rows_of(level)) + 1), nothing)
    child, at = ((below.side == side)[:, None] & (below.edge >= 0)).nonzero()
    parent = below.parent[child]
    place = level.find(parent, below.edge[child, at])
    rows[parent[:, None], 2 * place[:, None] + SPINS] = own + 2 * at[:, None] + SPINS
    part = np.zeros(len(level.own), int)
    part[parent] = child
    return _flat(nothing + 1, part[:, None, None], rows[:, :, None], rows[:, None])


def _from_above(level: Level, above: Level) -> np.ndarray:
    """Return where each entry of the edges lies in the inverses of the level above."""
    rows = np.zeros((len(level.own), _rows_of(level)[1]), int)  # what fills up is never read
    node, at = (level.edge >= 0).nonzero()
    place = above.find(level.parent[node], level.edge[node, at])
    rows[node[:, None], 2 * at[:, None] + SPINS] = 2 * place[:, None] + SPINS
    size = sum(_rows_of(above))
    return _flat(size, level.parent[:, None, None], rows[:, :, None], rows[:, None])


def _take(numbers: Tensor, places: Tensor) -> Tensor:
    """Return numbers (batch, n) at places (m,): (batch, m)."""
    if numbers.device.type != "cpu":
        return numbers.index_select(1, places)
    taken = numbers.new_empty(len(numbers), len(places))
    for one, to in zip(numbers, taken, strict=True):  # many times as fast as all at once
        torch.index_select(one, 0, places, out=to)
    return taken
