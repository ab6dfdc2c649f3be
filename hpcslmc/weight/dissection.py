"""Nested dissection: in which order the sites of a lattice are eliminated.

The sites are cut into two parts by a separator, the sites of one part next to the other; each part
is cut again, until few sites are left. What is left and what separates are eliminated from the
bottom of this tree to its top: first the parts, then what separates them.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse

WHOLE_SITES = 9
"""Most sites of a part that is not cut any further."""


class Node(NamedTuple):
    """A node of the tree.

    Attributes
    ----------
    depth : int
        0 at the top.
    parent : int
        Index of the node above; -1 of the first one.
    side : int
        Which of the parent's two parts this is, 0 or 1.
    own : (n,) int
        The sites eliminated here.
    """

    depth: int
    parent: int
    side: int
    own: np.ndarray


@dataclass(frozen=True)
class Level:
    """All nodes of the tree at one depth, filled up to the same size by -1.

    Attributes
    ----------
    own : (nodes, own) int
        The sites eliminated at each node.
    edge : (nodes, edge) int
        The sites eliminated later that the node's and those below it are joined to.
    parent, side : (nodes,) int
        Place of the node above in its level, and which of its parts this is.
    """

    own: np.ndarray
    edge: np.ndarray
    parent: np.ndarray
    side: np.ndarray

    def operations(self, wanted: bool) -> float:
        """Count the complex multiplications and additions, to leading order.

        With blocks of the inverse if ``wanted``.
        """
        return operations(len(self.own), 2 * self.own.shape[1], 2 * self.edge.shape[1], wanted)

    def find(self, node: np.ndarray, site: np.ndarray) -> np.ndarray:
        """Return the places (n,) of sites (n,) among a node's own and then its edge's."""
        sites = np.concatenate((self.own, self.edge), 1)
        nodes, places = (sites >= 0).nonzero()
        count = sites.max() + 1
        known = nodes * count + sites[nodes, places]
        order = known.argsort()
        return places[order][np.searchsorted(known[order], node * count + site)]


def dissect(
    graph: scipy.sparse.csr_matrix, coordinates: np.ndarray, shape: tuple[int, ...]
) -> list[Level]:
    """Dissect a graph of sites; levels from the deepest to the top.

    Of the trees by cuts along the lattice vectors and along diagonals, the one that takes the
    fewest operations.

    Parameters
    ----------
    graph : (sites, sites) csr_matrix
        Symmetric; its entries are the bonds, whatever their values.
    coordinates : (sites, d) int
        The cells of the sites.
    shape : tuple of d int
        Cells in each direction.
    """
    near = _neighbours(graph)
    trees = [_levels(near, frame) for frame in _frames(coordinates, shape)]
    return min(trees, key=lambda tree: sum(level.operations(False) for level in tree))


def _frames(coordinates: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    r"""Return the coordinates (sites, d) across which the lattice may be cut.

    Along the lattice vectors, and for each two or three of them with signs s the planes of

    .. math::
        f = \sum_i s_i x_i \mod n, \quad g_k = f - 2 s_k x_k \mod 2 L_k

    with k all but one of them. Where hops go along the vectors each step changes all of these by
    one, so that a plane of one value separates; it has fewer sites for its area than a plane along
    the vectors, by the square root of two or three. First it is f that has to be cut: where f
    starts anew, at n, g does not go on.
    """
    yield coordinates
    for count in range(2, len(shape) + 1):
        for axes in itertools.combinations(np.argsort(shape, kind="stable").tolist(), count):
            others = [axis for axis in range(len(shape)) if axis not in axes]
            period = math.gcd(*(shape[axis] for axis in axes))
            for signs in itertools.product((1,), *[(1, -1)] * (count - 1)):
                signed = coordinates[:, axes] * signs
                first = signed.sum(1) % period
                rest = first[:, None] - 2 * signed[:, 1:]
                rest %= 2 * np.array(shape)[list(axes[1:])]
                yield np.column_stack((first, rest, coordinates[:, others]))


def _neighbours(graph: scipy.sparse.csr_matrix) -> np.ndarray:
    """Return the neighbours of each site, (sites, most neighbours), filled up by the site."""
    counts = np.diff(graph.indptr)
    near = np.repeat(np.arange(graph.shape[0])[:, None], max(1, counts.max()), 1)
    near[np.arange(near.shape[1]) < counts[:, None]] = graph.indices
    return near


def _levels(near: np.ndarray, coordinates: np.ndarray) -> list[Level]:
    """Dissect across coordinates, and take the nodes of each depth together."""
    nodes = list(_nodes(near, coordinates))
    edges = _edges(near, nodes)
    members = [
        [i for i, node in enumerate(nodes) if node.depth == depth]
        for depth in range(max(node.depth for node in nodes) + 1)
    ]
    place = {i: at for level in members for at, i in enumerate(level)}
    return [
        Level(
            _filled([nodes[i].own for i in level], 1),
            _filled([edges[i] for i in level], 0),
            np.array([place.get(nodes[i].parent, 0) for i in level]),
            np.array([nodes[i].side for i in level]),
        )
        for level in reversed(members)
    ]


def operations(nodes: int, own: int, edge: int, wanted: bool) -> float:
    """Count the complex multiplications and additions of nodes of one level, to leading order.

    Parameters
    ----------
    nodes : int
    own, edge : int
        Rows that are eliminated, and those that they are joined to.
    wanted : bool
        Whether blocks of the inverse are.
    """
    up = own**3 / 3.0 + edge * own * (own + edge)
    down = own**3 * 2.0 / 3.0 + 2.0 * edge * own * (own + edge) if wanted else 0.0
    return 2.0 * nodes * (up + down)


def _nodes(near: np.ndarray, coordinates: np.ndarray) -> Iterator[Node]:
    """Cut the sites again and again; parents come before their children."""
    waiting, count = [Node(0, -1, 0, np.arange(len(near)))], 0
    while waiting:
        node = waiting.pop()
        cuts = [] if len(node.own) <= WHOLE_SITES else list(_cuts(near, coordinates, node.own))
        if not cuts:
            yield node
        else:
            separator, *parts = min(cuts, key=_price)
            yield node._replace(own=separator)
            for side, part in enumerate(parts):
                if len(part):
                    waiting.append(Node(node.depth + 1, count, side, part))
        count += 1


def _cuts(
    near: np.ndarray, coordinates: np.ndarray, sites: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut sites in the middle of each of their coordinates, the longest first.

    Returns what separates, and both parts.
    """
    places = coordinates[sites]
    low, high = places.min(0), places.max(0)
    for axis in np.argsort(low - high, kind="stable"):
        if high[axis] == low[axis]:
            return
        # an odd length has a separator in the middle, an even periodic one two
        half = low[axis] + max(1, (high[axis] - low[axis]) // 2)
        below = places[:, axis] < half
        joined = np.zeros(len(near), bool)
        joined[near[sites[below]]] = True
        separates = joined[sites] & ~below
        yield sites[separates], sites[below], sites[~below & ~separates]


def _price(cut: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    """Return how many sites separate for each site of the smaller part."""
    separator, *parts = map(len, cut)
    return separator / max(1, min(parts))


def _edges(near: np.ndarray, nodes: list[Node]) -> list[np.ndarray]:
    """Return the sites eliminated later that each node and those below it are joined to."""
    eliminated = np.zeros(len(near), int)
    for i, node in enumerate(nodes):
        eliminated[node.own] = i
    edges = [near[node.own].flatten() for node in nodes]
    for i in reversed(range(len(nodes))):
        edge = np.unique(edges[i])
        # what is joined to a part is in the part or above it
        edges[i] = edge[eliminated[edge] < i]
        if (parent := nodes[i].parent) >= 0:
            edges[parent] = np.append(edges[parent], edges[i])
    return edges


def _filled(lists: list[np.ndarray], least: int) -> np.ndarray:
    """Fill lists up with -1 to the length of the longest, or ``least``."""
    width = max(least, *(len(one) for one in lists))
    filled = np.full((len(lists), width), -1)
    for row, one in zip(filled, lists, strict=True):
        row[: len(one)] = one
    return filled
