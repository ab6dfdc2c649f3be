import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import random_spins
from measurement import hamiltonian as plain

import hpcslmc
from hpcslmc.physics.hamiltonian import Hamiltonian, spin_blocks
from hpcslmc.physics.lattice import Lattice

SHAPES = [(2, 2), (2, 6), (3, 4), (4, 4), (5, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_against_a_plain_construction(shape):
    """Whole matrices, and the same from rows, and from bonds and blocks one by one."""
    h, spins = Hamiltonian(Lattice(shape), 0.7, 1.3), random_spins(2, math.prod(shape))
    size = 2 * len(spins[0])
    built = h.dense(spins).numpy()
    blocks = h.site_blocks(spins).numpy()
    for chain, one in enumerate(spins.numpy()):
        expected = plain(one, shape, 0.7, 1.3)
        assert np.abs(built[chain] - expected).max() < 1e-15
        assert np.array_equal(built[chain], built[chain].conj().T)
        columns, values = h.rows(one, np.arange(size))
        assert columns.shape[1] == h.row_entries <= 6
        from_rows = np.zeros((size, size), complex)
        np.add.at(from_rows, (np.arange(size)[:, None], columns), values)
        assert np.array_equal(from_rows, built[chain])
        from_bonds = np.zeros((len(one), 2, len(one), 2), complex)
        for bonds in h.bonds:
            for start, end in zip(bonds.start, bonds.end, strict=True):
                from_bonds[start, :, end] -= bonds.amplitude * np.eye(2)
                from_bonds[end, :, start] -= np.conj(bonds.amplitude) * np.eye(2)
        for site, block in enumerate(blocks[chain]):
            from_bonds[site, :, site] += block
        assert np.array_equal(from_bonds.reshape(size, size), built[chain])


@pytest.mark.parametrize("shape", SHAPES)
def test_bonds_lead_where_their_displacements_do(shape):
    lattice = Lattice(shape)
    kinds = Hamiltonian(lattice, 1.0, 1.0).bonds
    assert sum(len(bonds.start) for bonds in kinds) == 2 * lattice.sites
    for bonds in kinds:
        reached = lattice.coordinates[bonds.start] + bonds.displacement
        assert np.array_equal(reached % shape, lattice.coordinates[bonds.end])
        assert len(set(bonds.start)) == len(bonds.start)
        assert len(set(bonds.end)) == len(bonds.end)


def test_spin_blocks_are_a_view_of_the_diagonal():
    matrix = torch.arange(36.0).reshape(6, 6)
    assert torch.equal(spin_blocks(matrix)[1], matrix[2:4, 2:4])
    spin_blocks(matrix).zero_()
    assert matrix[2:4, 2:4].abs().max() == 0.0 and matrix[0, 2] == 2.0


@pytest.mark.parametrize("J", [1.0, -2.7])
def test_site_forces_are_the_gradient_of_the_trace(J):
    h, spins = Hamiltonian(Lattice((2, 3)), 1.0, J), random_spins(2, 6).requires_grad_()
    blocks = torch.randn(2, 6, 2, 2, dtype=torch.complex128, generator=torch.manual_seed(1))
    blocks = blocks + blocks.mH
    trace = torch.einsum("csab,csba->", h.site_blocks(spins), blocks)
    assert abs(trace.imag) < 1e-12
    (gradient,) = torch.autograd.grad(trace.real, spins)
    assert torch.allclose(h.site_forces(blocks), gradient, atol=1e-13)
    assert torch.allclose(h.site_forces(blocks, -3.0), -3.0 * gradient, atol=1e-13)
    shifted = blocks + 5.0 * torch.eye(2)
    assert torch.allclose(h.site_forces(shifted), gradient, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_free_bands(shape):
    h = Hamiltonian(Lattice(shape), 0.8, 0.0)
    levels = torch.linalg.eigvalsh(h.dense(random_spins(1, math.prod(shape))))[0].numpy()
    expected = [
        -1.6 * math.cos(2 * math.pi * kx / shape[0]) - 1.6 * math.cos(2 * math.pi * ky / shape[1])
        for kx in range(shape[0])
        for ky in range(shape[1])
    ]
    assert np.abs(h.bands - expected).max() < 1e-14
    assert np.abs(levels - np.sort(np.repeat(h.bands, 2))).max() < 1e-13


def test_local_limit():
    lattice = Lattice((4, 4))
    levels = torch.linalg.eigvalsh(Hamiltonian(lattice, 0.0, 3.0).dense(random_spins(1, 16)))[0]
    assert torch.allclose(levels.abs(), torch.full((32,), 1.5, dtype=torch.float64), atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bound_is_that_of_gershgorin_and_holds(shape):
    h, spins = Hamiltonian(Lattice(shape), -0.7, 1.3), random_spins(3, math.prod(shape))
    strongest = abs(h.static).sum(axis=1).max() + torch.linalg.eigvalsh(h.site_blocks(spins)).max()
    assert h.bound == 4.0 * 0.7 + 0.65 == pytest.approx(float(strongest), rel=1e-14)
    assert torch.linalg.eigvalsh(h.dense(spins)).abs().max() <= h.bound


@pytest.mark.parametrize(
    ("shape", "bipartite"),
    [((2, 2), True), ((4, 6), True), ((2, 3), False), ((4, 5), False), ((3, 3), False)],
)
def test_a_lattice_is_bipartite_if_its_sides_are_even(shape, bipartite):
    """By colouring sites one after the other, and by the pairs of levels that follow from it."""
    h, sites = Hamiltonian(Lattice(shape), 1.0, 1.3), math.prod(shape)
    colour, changed = {0: 0}, True
    pairs = [(int(i), int(j)) for b in h.bonds for i, j in zip(b.start, b.end, strict=True)]
    while changed:
        before = len(colour)
        for i, j in [*pairs, *(pair[::-1] for pair in pairs)]:
            if i in colour:
                colour.setdefault(j, 1 - colour[i])
        changed = len(colour) > before
    assert len(colour) == sites
    assert all(colour[i] != colour[j] for i, j in pairs) == bipartite
    assert h.is_bipartite == bipartite
    levels = torch.linalg.eigvalsh(h.dense(random_spins(2, sites)))
    assert torch.allclose(levels, -levels.flip(-1), atol=1e-12) == bipartite
    assert h.is_half_filled(0.0) == bipartite and not h.is_half_filled(0.1)


def test_every_bond_counts_for_bipartiteness():
    """A single bond between sites of one sublattice, however weak, spoils it."""
    h = Hamiltonian(Lattice((4, 4)), 1.0, 1.0)
    (first, *rest) = h.bonds
    diagonal = type(first)(np.array([0]), np.array([5]), 0.0, (1, 1))
    h.__dict__["bonds"] = (first, *rest, diagonal)
    assert not h.is_bipartite and not h.is_half_filled(0.0)


def test_rotations_of_all_spins_change_no_level():
    """Proper and improper ones: what ``spin_symmetry`` promises."""
    h, spins = Hamiltonian(Lattice((3, 4)), 0.9, 1.7), random_spins(2, 12)
    rotation = torch.linalg.qr(random_spins(1, 3, seed=4)[0])[0]
    levels = torch.linalg.eigvalsh(h.dense(spins))
    assert h.spin_symmetry == "O(3)"
    for matrix in (rotation, -rotation):
        turned = torch.linalg.eigvalsh(h.dense(spins @ matrix.T))
        assert torch.allclose(turned, levels, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 2), (3, 4), (4, 4)])
def test_symmetries_change_no_level_and_are_a_group(shape):
    h, spins = Hamiltonian(Lattice(shape), 0.9, 1.7), random_spins(2, shape[0] * shape[1])
    levels = torch.linalg.eigvalsh(h.dense(spins))
    group = {tuple(sites) for sites in h.symmetries}
    for sites in h.symmetries:
        turned = torch.linalg.eigvalsh(h.dense(spins[:, sites]))
        assert torch.allclose(turned, levels, atol=1e-12)
        assert {tuple(other[sites]) for other in h.symmetries} == group
        assert tuple(np.argsort(sites)) in group


def test_no_file_but_the_physics_couples_to_spins():
    """J is multiplied, and sigma written, in one room alone."""
    package = Path(hpcslmc.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            factors = (node.left, node.right) if isinstance(node, ast.BinOp) else ()
            if any(isinstance(f, ast.Attribute) and f.attr.endswith("J") for f in factors):
                found.add(path.relative_to(package).parts[0])
    assert found == {"physics"}
