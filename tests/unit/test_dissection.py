"""The tree of nested dissection, on graphs of any kind."""

import numpy as np
import pytest
import scipy.sparse

from hpcslmc.weight import dissection
from hpcslmc.weight.dissection import WHOLE_SITES, dissect


def torus(shape: tuple[int, ...], steps: list[tuple[int, ...]], keep: float, seed: int):
    """Sites of a periodic lattice joined by some of the bonds: graph, coordinates and shape."""
    coordinates = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), 1)
    sites, generator = np.arange(len(coordinates)), np.random.default_rng(seed)
    graph = scipy.sparse.csr_matrix((len(sites), len(sites)))
    for step in steps:
        ends = np.ravel_multi_index(tuple(((coordinates + step) % shape).T), shape)
        kept = generator.random(len(sites)) < keep
        bonds = (np.ones(kept.sum()), (sites[kept], ends[kept]))
        graph = graph + scipy.sparse.csr_matrix(bonds, graph.shape)
    return scipy.sparse.csr_matrix(graph + graph.T), coordinates, shape


def check(graph: scipy.sparse.csr_matrix, coordinates: np.ndarray, shape: tuple[int, ...]) -> None:
    levels = dissect(graph, coordinates, shape)
    own = np.concatenate([level.own[level.own >= 0] for level in levels])
    assert np.array_equal(np.sort(own), np.arange(graph.shape[0])), "each site once"
    # eliminate symbolically, site by site: what a site is joined to by then
    joined = [set(graph[site].indices) - {site} for site in range(graph.shape[0])]
    for level in levels:
        for node in range(len(level.own)):
            own, edge = (set(x[node][x[node] >= 0].tolist()) for x in (level.own, level.edge))
            reached = set().union(*(joined[site] for site in own)) - own
            assert reached <= edge
            for site in reached:
                joined[site] = (joined[site] | reached) - own - {site}
            places = np.concatenate((level.own[node], level.edge[node]))
            sites = np.array(sorted(own | edge), int)
            found = level.find(np.full(len(sites), node), sites)
            assert np.array_equal(places[found], sites)
    for level, above in zip(levels, levels[1:], strict=False):
        for node, parent in enumerate(level.parent):
            edge = set(level.edge[node][level.edge[node] >= 0])
            assert edge <= set(above.own[parent]) | set(above.edge[parent])
        sides = list(zip(level.parent.tolist(), level.side.tolist(), strict=True))
        assert len(set(sides)) == len(sides)


@pytest.mark.parametrize("seed", range(60))
def test_every_graph_is_dissected(seed):
    """Up to three dimensions, sides of 1 and more, bonds of any range, most or few of them."""
    generator = np.random.default_rng(seed)
    dimensions = 1 + seed % 3
    shape = generator.integers(1, (60, 14, 6)[seed % 3], dimensions, endpoint=True)
    steps = generator.integers(-2, 3, (generator.integers(1, 5), dimensions))
    check(*torus(tuple(shape), steps, (1.0, 0.7, 0.2, 0.0)[seed % 4], seed))


@pytest.mark.parametrize("length", [16, 32])
def test_a_square_is_cut_in_equal_parts(length):
    levels = dissect(*torus((length, length), [(1, 0), (0, 1)], 1.0, 0))
    assert levels[-1].own.shape == (1, 2 * length) and levels[-1].edge.shape == (1, 0)
    assert [len(level.own) for level in reversed(levels)] == [2**i for i in range(len(levels))]
    assert max(level.own.shape[1] for level in levels[:1]) <= WHOLE_SITES
    assert all((level.own >= 0).all() for level in levels)


@pytest.mark.parametrize(
    ("shape", "share"), [((16, 16), 0.5), ((32, 32), 0.45), ((15, 15), 0.7), ((8, 8, 8), 0.5)]
)
def test_diagonal_cuts_save_half_of_the_operations(shape, share, monkeypatch):
    """Of those of cuts along the vectors, where sites hop to their nearest neighbours."""

    def operations() -> float:
        return sum(level.operations(False) for level in dissect(*lattice))

    lattice = torus(shape, np.eye(len(shape), dtype=int).tolist(), 1.0, 0)
    diagonal = operations()
    check(*lattice)
    monkeypatch.setattr(dissection, "_frames", lambda coordinates, shape: [coordinates])
    assert diagonal < share * operations()
