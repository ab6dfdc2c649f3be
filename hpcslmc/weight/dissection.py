"""Nested dissection: in which order the sites of a lattice are eliminated.

The sites are cut into two parts by a separator, the sites of one part next to the other; each part
is cut again, until few sites are left. What is left and what separates are eliminated from the
bottom of this tree to its top: first the parts, then what separates them.
"""

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

    def find(self, node: np.ndarray, site: np.ndarray) -> np.ndarray:
        """Return the places (n,) of sites (n,) among a node's own and then its edge's."""
        sites = np.concatenate((self.own, self.edge), 1)
        nodes, places = (sites >= 0).nonzero()
        count = sites.max() + 1
        known = nodes * count + sites[nodes, places]
        order = known.argsort()
        return places[order][np.searchsorted(known[order], node * count + site)]


def dissect(graph: scipy.sparse.csr_matrix, coordinates: np.ndarray) -> list[Level]:
    """Dissect a graph of sites; levels from the deepest to the top.

    Parameters
    ----------
    graph : (sites, sites) csr_matrix
        Symmetric; its entries are the bonds, whatever their values.
    coordinates : (sites, d) int
        The cells of the sites, cut across the direction in which a part is longest. That a
        direction is periodic shows in the graph alone.
    """
    nodes = list(_nodes(graph, coordinates, np.arange(graph.shape[0])))
    edges = _edges(graph, nodes)
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


def _nodes(
    graph: scipy.sparse.csr_matrix, coordinates: np.ndarray, sites: np.ndarray
) -> Iterator[Node]:
    """Cut the sites again and again; parents come before their children."""
    waiting, count = [Node(0, -1, 0, sites)], 0
    while waiting:
        node = waiting.pop()
        low, high = coordinates[node.own].min(0), coordinates[node.own].max(0)
        axis = int(np.argmax(high - low))
        if len(node.own) <= WHOLE_SITES or high[axis] == low[axis]:
            yield node
        else:
            # an odd length has a separator in the middle, an even periodic one two
            half = low[axis] + max(1, (high[axis] - low[axis]) // 2)
            below = coordinates[node.own, axis] < half
            near = np.zeros(graph.shape[0], bool)
            near[graph[node.own[below]].indices] = True
            separates = near[node.own] & ~below
            yield node._replace(own=node.own[separates])
            for side, part in enumerate((below, ~below & ~separates)):
                if part.any():
                    waiting.append(Node(node.depth + 1, count, side, node.own[part]))
        count += 1


def _edges(graph: scipy.sparse.csr_matrix, nodes: list[Node]) -> list[np.ndarray]:
    """Return the sites eliminated later that each node and those below it are joined to."""
    eliminated = np.zeros(graph.shape[0], int)
    for i, node in enumerate(nodes):
        eliminated[node.own] = i
    edges = [graph[node.own].indices for node in nodes]
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
