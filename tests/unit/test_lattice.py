import itertools

import numpy as np
import pytest

from hpcslmc.physics.catalogue import CATALOGUE
from hpcslmc.physics.lattice import Lattice
from hpcslmc.physics.symmetry import space_group

SHAPES = [(2, 2), (2, 4), (3, 5), (4, 4), (6, 6), (8, 4)]


def test_shells_of_the_6x6_torus():
    assert Lattice((6, 6)).shells.tolist() == [1, 2, 4, 5, 8, 9, 10, 13, 18]


@pytest.mark.parametrize("shape", SHAPES)
def test_distance_is_to_the_nearest_image(shape):
    lattice = Lattice(shape)
    for i, (x, y) in enumerate(lattice.coordinates):
        images = [
            (x + a * shape[0]) ** 2 + (y + b * shape[1]) ** 2
            for a, b in itertools.product((-1, 0, 1), repeat=2)
        ]
        assert lattice.distance2[i] == min(images)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_site_has_four_bonds(shape):
    adjacency = Lattice(shape).adjacency
    assert np.array_equal(adjacency, adjacency.T)
    assert (adjacency.sum(axis=0) == 4).all()


def test_a_direction_of_length_two_has_double_bonds():
    adjacency = Lattice((2, 4)).adjacency
    assert adjacency[0, 4] == 2.0 and adjacency[0, 1] == 1.0


@pytest.mark.parametrize("shape", SHAPES)
def test_symmetries_are_permutations_that_keep_bonds_and_distances(shape):
    lattice = Lattice(shape)
    assert len(lattice.point_group) == (8 if shape[0] == shape[1] else 4)
    distances = lattice.distance2[lattice.displacement]
    for permutation in [*lattice.point_group, *lattice.translations]:
        assert sorted(permutation) == list(range(lattice.sites))
        for matrix in (lattice.adjacency, distances):
            assert np.array_equal(matrix[np.ix_(permutation, permutation)], matrix)


def test_too_small_a_shape_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        Lattice((1, 4))


@pytest.mark.parametrize(("shape", "kept"), [((3, 3), 12), ((2, 4), 4), ((3, 4), 2)])
def test_a_lattice_keeps_operations_that_map_its_periods_onto_periods(shape, kept):
    crystal = CATALOGUE["triangular"].crystal
    lattice = Lattice(shape, crystal)
    bonds = {
        (int(a), int(b))
        for link in crystal.links_within(1.0)
        for a, b in zip(*lattice.ends(link), strict=True)
    }
    operations = [one for one in space_group(crystal) if lattice.keeps(one)]
    assert len(operations) == kept
    for operation in operations:
        image = lattice.image(operation)
        assert sorted(image) == list(range(lattice.sites))
        assert {(image[a], image[b]) for a, b in bonds} == bonds
