"""Lattices with couplings of every kind, drawn at random."""

import numpy as np

from hpcslmc.physics.catalogue import CATALOGUE
from hpcslmc.physics.classical import ClassicalEnergy
from hpcslmc.physics.classical_couplings import ClassicalBond, ClassicalCouplings
from hpcslmc.physics.couplings import Couplings, Hop
from hpcslmc.physics.crystal import Crystal
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice

SHAPES = {1: (7,), 2: (3, 4), 3: (2, 3, 2)}
COUNT = 14


def random_model(seed):
    """A lattice and couplings of every kind, drawn at random."""
    draw = np.random.default_rng(seed)
    crystal = CATALOGUE[sorted(CATALOGUE)[seed % len(CATALOGUE)]].crystal
    if seed >= len(CATALOGUE):  # a crystal of no name
        d = int(draw.integers(1, 4))
        names = tuple("ABC"[: draw.integers(1, 4)])
        vectors = np.eye(d) + 0.3 * draw.normal(size=(d, d))
        places = draw.random((len(names), d)) @ vectors
        crystal = Crystal(
            tuple(map(tuple, vectors.tolist())), names, tuple(map(tuple, places.tolist()))
        )
    lattice = Lattice(SHAPES[crystal.dimension], crystal)
    count = len(crystal.names)
    matrices = draw.normal(size=(20, 2, 2)) + 1j * draw.normal(size=(20, 2, 2))
    amplitude, *others = (0.5 - draw.random(3)) + 1j * (0.5 - draw.random(3))
    # of what is no nearest neighbour, what does not join a site with itself
    more = [link for shell in crystal.shells(3)[1:] for link in shell][:4]
    links = [link for link in more if np.all(np.abs(link.cell) < min(lattice.shape))]
    if seed % 10 == sorted(CATALOGUE).index("checkerboard"):
        links = []  # whose diagonals are nearest neighbours, too
    bonds = [
        Hop(link, other, tuple(map(tuple, matrix.tolist())))
        for link, other, matrix in zip(links, others, matrices, strict=False)
    ]
    couplings = Couplings.make(
        crystal,
        amplitude if seed % 3 else amplitude.real,
        draw.normal(size=count),
        bonds if seed % 2 else [],
        draw.normal(size=count) if seed % 4 else None,
        draw.normal(size=3) if seed % 5 == 1 else (0.0, 0.0, 0.0),
        0.5 - draw.random(crystal.dimension) if seed % 3 == 2 else None,
    )
    return Hamiltonian(lattice, couplings), float(draw.normal())


def random_energy(lattice, seed, magnetic=None):
    """Classical couplings of every kind."""
    draw = np.random.default_rng(seed)
    links = [link for shell in lattice.crystal.shells(2) for link in shell]
    bonds = [
        ClassicalBond(link, float(draw.normal()), tuple(draw.normal(size=3).tolist()))
        for link in links
        if np.all(np.abs(link.cell) < min(lattice.shape))
    ]
    field = tuple(draw.normal(size=3).tolist())
    couplings = ClassicalCouplings.make(lattice.crystal, (), bonds, field, float(draw.normal()))
    present = np.ones(lattice.sites, bool) if magnetic is None else magnetic
    return ClassicalEnergy(lattice, couplings, present)
