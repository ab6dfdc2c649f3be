import itertools
import math

import numpy as np
import pytest
import torch
from helpers import random_spins

from hpcslmc.physics.catalogue import CATALOGUE
from hpcslmc.physics.couplings import Couplings, Hop
from hpcslmc.physics.crystal import Crystal, Link
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.physics.symmetry import pair_classes, space_group

TABULATED = {  # neighbours by sublattice, order of the point group
    "chain": ([2], 2),
    "square": ([4], 8),
    "triangular": ([6], 12),
    "honeycomb": ([3, 3], 12),
    "kagome": ([4, 4, 4], 12),
    "lieb": ([4, 2, 2], 8),
    "checkerboard": ([6, 6], 8),
    "cubic": ([6], 48),
    "fcc": ([12], 48),
    "pyrochlore": ([6, 6, 6, 6], 48),
}
SHAPES = {
    1: [(2,), (3,), (6,)],
    2: [(2, 2), (2, 3), (3, 4)],
    3: [(2, 2, 2), (2, 3, 2)],
}
NAMES = sorted(CATALOGUE)


def couplings(name, t=1.0, J=1.0, **others):
    return Couplings.make(CATALOGUE[name].crystal, t, J, **others)


def shapes(name, J=0.0):
    crystal = CATALOGUE[name].crystal
    allowed = list(SHAPES[crystal.dimension])
    for shape in [(1,) * crystal.dimension, (1, 3, 2)[: crystal.dimension]]:
        try:
            assert Hamiltonian(Lattice(shape, crystal), couplings(name)).bonds
            allowed.append(shape)
        except ValueError:
            pass
    return allowed


def test_every_named_crystal_is_tabulated():
    assert TABULATED.keys() == CATALOGUE.keys()


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_and_point_group_are_those_of_textbooks(name):
    model = couplings(name)
    neighbours, order = TABULATED[name]
    found = [0] * len(model.crystal.names)
    for hop in model.hops:
        found[hop.link.start] += 1
        found[hop.link.end] += 1
    assert found == neighbours
    assert len(model.symmetries) == order


def test_pair_classes_of_kagome_tell_two_third_neighbours_apart():
    """Across the hexagon and along the chain: at one distance, and not the same."""
    crystal = CATALOGUE["kagome"].crystal
    classes = pair_classes(crystal, space_group(crystal), 5)
    assert [round(c.length / classes[0].length, 6) for c in classes] == [
        1.0,
        round(math.sqrt(3.0), 6),
        2.0,
        2.0,
        round(math.sqrt(7.0), 6),
    ]
    assert [len(c.links) // 3 for c in classes] == [4, 4, 4, 2, 8]


@pytest.mark.parametrize("name", NAMES)
def test_shells_hold_every_neighbour_once(name):
    """By brute force over cells around the origin."""
    crystal = CATALOGUE[name].crystal
    d = crystal.dimension
    reach = 6 if d == 1 else 4
    lengths = []
    for cell in itertools.product(range(-reach, reach + 1), repeat=d):
        for a, b in itertools.product(range(len(crystal.names)), repeat=2):
            lengths.append(crystal.length(Link(a, b, cell)))
    lengths = np.sort(np.array(lengths))[len(crystal.names) :]
    for shell in crystal.shells(5):
        length = crystal.length(shell[0])
        assert lengths.min() == pytest.approx(length)  # no shell is left out
        assert np.sum(np.abs(lengths - length) < 1e-9) == 2 * len(shell)
        assert len({link.undirected for link in shell}) == len(shell)
        lengths = lengths[lengths > length + 1e-9]
        assert np.abs(lengths - length).min() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_free_levels_are_the_bands(name):
    """At all shapes that the bonds allow, sides of 1 and 2 among them, with a twist."""
    twist = (0.3, -0.2, 0.1)[: CATALOGUE[name].crystal.dimension]
    for shape in shapes(name):
        for model in (couplings(name, 0.8 - 0.3j, 0.0), couplings(name, 0.8, 0.0, twist=twist)):
            h = Hamiltonian(Lattice(shape, model.crystal), model)
            levels = torch.linalg.eigvalsh(h.dense(random_spins(1, h.lattice.sites)))[0]
            bands = np.linalg.eigvalsh(h.bloch()).flatten()
            assert np.abs(levels.numpy() - np.sort(bands)).max() < 1e-12
            assert np.abs(bands).max() <= h.bound + 1e-12


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("triangular", lambda k: [-2 * (math.cos(k[0]) + math.cos(k[1]) + math.cos(k[0] - k[1]))]),
        (
            "honeycomb",
            lambda k: np.array([-1.0, 1.0]) * abs(1 + np.exp(-1j * k[0]) + np.exp(-1j * k[1])),
        ),
        (
            "lieb",
            lambda k: (
                2.0
                * np.array([-1.0, 0.0, 1.0])
                * math.hypot(math.cos(k[0] / 2), math.cos(k[1] / 2))
            ),
        ),
    ],
)
def test_bands_of_textbooks(name, band):
    h = Hamiltonian(Lattice((3, 4), CATALOGUE[name].crystal), couplings(name, J=0.0))
    for levels, k in zip(np.linalg.eigvalsh(h.bloch()), h.lattice.phases, strict=True):
        assert np.abs(levels - np.sort(np.repeat(band(k), 2))).max() < 1e-12


@pytest.mark.parametrize("name", ["kagome", "checkerboard", "pyrochlore"])
def test_frustrated_crystals_have_flat_bands_at_twice_the_hopping(name):
    d = CATALOGUE[name].crystal.dimension
    h = Hamiltonian(Lattice((3,) * d, CATALOGUE[name].crystal), couplings(name, J=0.0))
    levels = np.linalg.eigvalsh(h.bloch())
    flat = {"kagome": 2, "checkerboard": 2, "pyrochlore": 4}[name]
    assert np.abs(levels[:, -flat:] - 2.0).max() < 1e-12


def test_high_symmetry_points_of_hexagonal_crystals():
    """K is the corner of the zone, where three momenta that reciprocal vectors join are as far."""
    crystal, points = CATALOGUE["triangular"].crystal, CATALOGUE["triangular"].points
    K = np.array(points["K"]) @ crystal.reciprocal
    images = [K - np.array(c) @ crystal.reciprocal for c in itertools.product((0, 1), repeat=2)]
    lengths = np.sort([np.linalg.norm(k) for k in images])
    assert np.allclose(lengths[:3], 4.0 * math.pi / 3.0)
    assert np.linalg.norm(np.array(points["M"]) @ crystal.reciprocal) == pytest.approx(
        2.0 * math.pi / math.sqrt(3.0)
    )


@pytest.mark.parametrize("name", NAMES)
def test_half_filling_is_where_the_levels_come_in_pairs(name):
    d = CATALOGUE[name].crystal.dimension
    for shape in [(2,) * d, (2, 3, 2)[:d]]:
        h = Hamiltonian(Lattice(shape, CATALOGUE[name].crystal), couplings(name, J=1.3))
        levels = torch.linalg.eigvalsh(h.dense(random_spins(3, h.lattice.sites, seed=3)))
        pairs = torch.allclose(levels, -levels.flip(-1), atol=1e-10)
        assert h.is_half_filled(0.0) == pairs


MODELS = {
    "O(3)": couplings("kagome", [1.0, 0.3]),
    "O(3), flux pi": Couplings.make(
        CATALOGUE["square"].crystal, [], 1.3, bonds=[Hop(Link(0, 0, (1, 0)), 1.0)]
    ),
    "SO(3)": couplings("triangular", 1.0 + 0.4j),
    "SO(3), twist": couplings("square", twist=(0.2, 0.0)),
    "O(3), antiperiodic": couplings("square", twist=(0.5, 0.0)),
    "inversion": couplings(
        "square",
        bonds=[
            Hop(Link(0, 0, (1, 1)), 0.3, ((0.0, 1.0), (-1.0, 0.0))),
            Hop(Link(0, 0, (1, -1)), 0.2, ((1j, 0.0), (0.0, -1j))),
        ],
    ),
    "none": couplings("square", field=(0.1, 0.2, 0.3)),
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_log_w_has_the_symmetry_that_the_hamiltonian_says(name):
    """That one, and no larger one."""
    model = MODELS[name]
    h = Hamiltonian(Lattice((3, 4), model.crystal), model)
    expected = name.split(",")[0]
    assert h.spin_symmetry == expected
    spins = random_spins(2, h.lattice.sites)
    rotation = torch.linalg.qr(random_spins(1, 3, seed=4)[0])[0]
    rotation *= torch.linalg.det(rotation)
    levels = torch.linalg.eigvalsh(h.dense(spins))
    same = {
        name: torch.allclose(torch.linalg.eigvalsh(h.dense(turned)), levels, atol=1e-9)
        for name, turned in {"proper": spins @ rotation.T, "inversion": -spins}.items()
    }
    assert same["proper"] == (expected in ("O(3)", "SO(3)"))
    assert same["inversion"] == (expected in ("O(3)", "inversion"))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_space_group_of_the_couplings_leaves_h_as_it_is(name):
    model = MODELS[name]
    lattice = Lattice((4, 4), model.crystal)
    h = Hamiltonian(lattice, model)
    static = h.static.toarray()
    for operation in model.symmetries:
        image = lattice.image(operation)
        rows = (2 * image[:, None] + np.arange(2)).flatten()
        assert np.abs(static[np.ix_(rows, rows)] - static).max() < 1e-12


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: Crystal(((1.0, 0.0), (2.0, 0.0)), ("A",), ((0.0, 0.0),)), "dependent"),
        (
            lambda: Crystal(((1.0, 0.0), (0.0, 1.0)), ("A", "B"), ((0.0, 0.0), (1.0, 2.0))),
            "same place",
        ),
        (lambda: couplings("square", bonds=[Hop(Link(0, 0, (-1, 0)), 1.0)]), "given twice"),
        (lambda: couplings("square", bonds=[Hop(Link(0, 0, (0, 0)), 1.0)]), "with itself"),
        (lambda: couplings("checkerboard", [1.0, 0.5]), "one by one"),
        (lambda: Lattice((2, 2), CATALOGUE["cubic"].crystal), "3 lattice vectors"),
        (lambda: Lattice((1, 4), CATALOGUE["triangular"].crystal), "at least 2"),
        (lambda: Lattice((0, 4), CATALOGUE["kagome"].crystal), "at least 1"),
        (
            lambda: (
                Hamiltonian(
                    Lattice((2, 4), CATALOGUE["square"].crystal), couplings("square", [1, 0, 0.2])
                ).bonds
            ),
            "too short: the bond from A to A",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        bad()
