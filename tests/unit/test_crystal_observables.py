"""Observables of the spins on crystals: known orders, free spins, and plain loops over pairs."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from helpers import random_spins, unevaluated

from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.momenta import check_momentum, point_name, star, usual_momenta
from hpcslmc.measure.registry import (
    DERIVED,
    OBSERVABLES,
    derived_quantities,
    make_observable,
    make_profile,
    observable_intervals,
)
from hpcslmc.measure.rings import ring_sites, rings
from hpcslmc.measure.structure import classes_within
from hpcslmc.measure.zone import repeats
from hpcslmc.physics.catalogue import CATALOGUE
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice

SHAPES = {
    "chain": (6,),
    "square": (4, 4),
    "triangular": (6, 6),
    "honeycomb": (3, 6),
    "kagome": (3, 3),
    "lieb": (2, 4),
    "checkerboard": (4, 2),
    "cubic": (2, 4, 4),
    "fcc": (4, 4, 4),
    "pyrochlore": (2, 2, 1),
}
UP = np.array([0.0, 0.6, 0.8])


def lattice_of(name: str, shape: tuple[int, ...] | None = None) -> Lattice:
    return Lattice(shape or SHAPES[name], CATALOGUE[name].crystal)


def electrons_on(lattice: Lattice, **couplings) -> Electrons:
    return Electrons(Ensemble(Hamiltonian(lattice, **couplings), 2.0, 0.0))


def value(name: str, spins: np.ndarray | torch.Tensor, lattice: Lattice) -> np.ndarray:
    """An observable, or a function, of configurations (chains, sites, 3)."""
    electrons, spins = electrons_on(lattice), torch.as_tensor(spins, dtype=torch.float64)
    if name in OBSERVABLES:
        made = make_observable(name, electrons)
    else:
        made = make_profile(name, electrons, 20, 1)
    return made.measure(spins, unevaluated(spins)).numpy()


def spiral(lattice: Lattice, coordinates: tuple[float, ...]) -> np.ndarray:
    """Coplanar spins turning by q.r, (1, sites, 3)."""
    angle = lattice.positions @ (np.array(coordinates) @ lattice.crystal.reciprocal)
    return np.stack((np.cos(angle), np.sin(angle), 0.0 * angle), -1)[None]


def test_120_degrees_on_the_triangular_lattice():
    lattice = lattice_of("triangular")
    order = spiral(lattice, (1 / 3, 2 / 3))
    assert value("m2_K", order, lattice) == pytest.approx(0.5)
    assert value("m2_M", order, lattice) == pytest.approx(0.0, abs=1e-15)
    assert value("nn_correlation", order, lattice) == pytest.approx(-0.5)
    factor = value("structure_factor", order, lattice)[0]
    assert factor[2, 4] == pytest.approx(18.0) and factor[4, 2] == pytest.approx(18.0)
    assert factor.sum() == pytest.approx(36.0)


def test_stripes_on_the_triangular_lattice():
    lattice = lattice_of("triangular")
    for coordinates in ((0.5, 0.0), (0.0, 0.5), (0.5, 0.5)):
        q = np.array(coordinates) @ lattice.crystal.reciprocal
        order = np.cos(lattice.positions @ q)[:, None] * UP
        # one of the three M has all of it
        assert value("m2_M", order[None], lattice) == pytest.approx(1 / 3)
        assert value("m4_M", order[None], lattice) == pytest.approx(1 / 9)
        assert value("nn_correlation", order[None], lattice) == pytest.approx(-1 / 3)


def tetrahedral(lattice: Lattice) -> np.ndarray:
    """Spins to the corners of a tetrahedron, a wave along each axis at each M, (sites, 3)."""
    momenta = np.array([[0.5, 0.0], [0.0, 0.5], [0.5, 0.5]]) @ lattice.crystal.reciprocal
    return np.cos(lattice.positions @ momenta.T) / math.sqrt(3.0)


def test_tetrahedral_order_is_chiral():
    lattice = lattice_of("triangular", (4, 4))
    order = tetrahedral(lattice)
    chirality = value("scalar_chirality", np.stack((order, -order)), lattice)
    assert abs(chirality[0]) == pytest.approx(4.0 / (3.0 * math.sqrt(3.0)))
    assert chirality[1] == pytest.approx(-chirality[0])
    squares = value("scalar_chirality2", order[None], lattice)
    assert squares == pytest.approx(16.0 / 27.0)
    assert value("scalar_chirality_abs", order[None], lattice) == pytest.approx(abs(chirality[0]))
    assert value("m2_M", order[None], lattice) == pytest.approx(1 / 3)
    assert value("nn_correlation", order[None], lattice) == pytest.approx(-1 / 3)


def test_neel_order_of_the_honeycomb_lattice():
    lattice = lattice_of("honeycomb", (3, 3))
    order = (1.0 - 2.0 * lattice.sublattice)[:, None] * UP
    assert value("nn_correlation", order[None], lattice) == pytest.approx(-1.0)
    assert value("m2_uniform", order[None], lattice) == pytest.approx(0.0, abs=1e-15)
    for name in ("m2_sublattice_A", "m2_sublattice_B"):
        assert value(name, order[None], lattice) == pytest.approx(1.0)
    # seen in the extended zone: |1 - exp(2 pi i / 3)|^2 / 4
    assert value("m2_q_1_0", order[None], lattice) == pytest.approx(0.75)
    factor = value("structure_factor", order[None], lattice)[0]
    assert factor.shape == (9, 9) and factor[3, 0] == pytest.approx(0.75 * 18)
    assert factor[0, 0] == pytest.approx(0.0, abs=1e-12) and factor.mean() == pytest.approx(1.0)


def test_the_two_coplanar_orders_of_the_kagome_lattice():
    lattice = lattice_of("kagome")
    angle = 2.0 * np.pi / 3.0 * lattice.sublattice
    uniform = np.stack((np.cos(angle), np.sin(angle), 0.0 * angle), -1)[None]
    for sublattice in "ABC":
        assert value(f"m2_sublattice_{sublattice}", uniform, lattice) == pytest.approx(1.0)
    assert value("nn_correlation", uniform, lattice) == pytest.approx(-0.5)
    assert value("m2_uniform", uniform, lattice) == pytest.approx(0.0, abs=1e-15)
    assert value("scalar_chirality", uniform, lattice) == pytest.approx(0.0, abs=1e-15)
    factor = value("structure_factor", uniform, lattice)[0]
    # all of it at reciprocal vectors other than 0
    peaks = factor[::3, ::3]
    assert factor.shape == (6, 6) and peaks.sum() == pytest.approx(36.0)
    assert peaks[0, 0] == pytest.approx(0.0, abs=1e-12)
    root3 = spiral(lattice, (2 / 3, 4 / 3))
    assert value("nn_correlation", root3, lattice) == pytest.approx(-0.5)
    assert value("m2_sublattice_A", root3, lattice) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("name", CATALOGUE)
def test_structure_factor_is_a_sum_over_sites(name):
    lattice, spins = lattice_of(name), random_spins(2, lattice_of(name).sites)
    made = make_profile("structure_factor", electrons_on(lattice), 20, 1)
    values = made.measure(spins, unevaluated(spins)).numpy()
    assert values.mean(tuple(range(1, values.ndim))) == pytest.approx(1.0)
    axes = [axis.values / (2 * np.pi if name == "square" else 1.0) for axis in made.grid.values()]
    momenta = np.stack(np.meshgrid(*axes, indexing="ij"), -1) @ lattice.crystal.reciprocal
    waves = np.exp(1j * momenta @ lattice.positions.T)
    modes = np.einsum("...i,cix->c...x", waves, spins.numpy())
    assert np.allclose(values, np.square(np.abs(modes)).sum(-1) / lattice.sites)
    # and it repeats beyond
    beyond = momenta + np.array(repeats(lattice.crystal)) @ lattice.crystal.reciprocal
    assert np.allclose(
        np.exp(1j * beyond @ (lattice.positions - lattice.positions[0]).T),
        np.exp(1j * momenta @ (lattice.positions - lattice.positions[0]).T),
    )


@pytest.mark.parametrize("name", CATALOGUE)
def test_free_spins(name):
    """<|m_q|^2> = 1/N and a Binder ratio near 0, at every momentum, in many configurations."""
    lattice = lattice_of(name)
    momenta = [*usual_momenta(lattice), "G"]
    spins, every = random_spins(3000, lattice.sites), observable_intervals(lattice, {}, {}, momenta)
    means = {}
    for observable in every:
        if observable.startswith(("m2_", "m4_")):
            draws = value(observable, spins, lattice)
            means[observable], error = draws.mean(), draws.std() / math.sqrt(3000)
            expected = len(lattice.crystal.names) if "sublattice" in observable else 1
            if observable.startswith("m2_"):
                assert abs(means[observable] - expected / lattice.sites) < 4.5 * error, observable
    quantities = {q.name: q for q in derived_quantities(means, lattice, 2.0, 0.0)}
    for point in momenta:
        assert quantities[f"susceptibility_{point}"].value(means) == pytest.approx(2.0, rel=0.1)
        assert abs(quantities[f"binder_{point}"].value(means)) < 0.3
        assert f"correlation_length_{point}" in quantities
    assert {"m2_G", "m2_next_G", "m4_G"} <= every.keys()


@pytest.mark.parametrize(
    ("name", "point", "components"),
    [("triangular", "K", 6), ("triangular", "M", 9), ("triangular", "G", 3), ("cubic", "X", 6),
     ("honeycomb", "K", 12), ("chain", "X", 3), ("fcc", "L", 12)],
)  # fmt: skip
def test_components_of_orders(name, point, components):
    shape = (12, 12) if name in ("triangular", "honeycomb") else (2,) * lattice_of(name).dimension
    shape = (4, 4, 4) if name == "cubic" else shape
    quantity = DERIVED[f"binder_{point}"](lattice_of(name, shape), 1.0, 0.0)
    expected = 9 if (name, point) == ("cubic", "X") else components
    assert quantity.components == pytest.approx(expected)


def test_correlation_length_of_a_known_structure_factor():
    """S(Q + k) ~ 1 / (k^2 + 1 / xi^2): the second moment gives its length on a large lattice."""
    lattice, xi = lattice_of("triangular", (300, 300)), 5.0
    size = np.linalg.norm(lattice.crystal.reciprocal[0]) / 300
    means = {"m2_K": np.array(xi**2), "m2_next_K": np.array(1.0 / (size**2 + 1.0 / xi**2))}
    length = DERIVED["correlation_length_K"](lattice, 1.0, 0.0)
    assert length.value(means) == pytest.approx(xi, rel=1e-3)
    assert length.label == "correlation length at K [a]" and "no peak there" in length.negative
    uniform = DERIVED["correlation_length_uniform"](lattice, 1.0, 0.0)
    assert uniform.label == "correlation length at Gamma [a]"
    assert OBSERVABLES["m2_uniform"](lattice, "cpu").label == "|m(Gamma)|^2"


def test_stars():
    triangular = lattice_of("triangular")
    assert len(star(triangular, "K")) == 2 and len(star(triangular, "M")) == 3
    assert len(star(lattice_of("triangular", (6, 3)), "M")) == 1  # the only one with its sides
    assert len(star(lattice_of("kagome", (6, 6)), "K")) == 6  # the corners of the hexagon
    assert len(star(lattice_of("cubic", (4, 4, 4)), "q_1over4_0_0")) == 6
    assert usual_momenta(lattice_of("square")) == []
    assert usual_momenta(lattice_of("triangular", (4, 4))) == ["M"]
    assert not OBSERVABLES["m2_K"].exists(lattice_of("triangular", (4, 4)))
    assert not OBSERVABLES["m2_K"].exists(lattice_of("square"))


@pytest.mark.parametrize(
    ("text", "name"),
    [("K", "K"), ("(1/3,2/3)", "K"), ("(0, 0)", "G"), ("(1/6,-0.5)", "q_1over6_minus1over2")],
)
def test_names_of_momenta(text, name):
    lattice = lattice_of("triangular")
    assert point_name(text, lattice.crystal) == check_momentum(text, lattice) == name
    assert OBSERVABLES[f"m2_{name}"].name == f"m2_{name}" and f"binder_{name}" in DERIVED


@pytest.mark.parametrize(
    ("text", "said"),
    [("X", 'is no momentum: give 2 numbers .* as in "\\(1/2,0\\)", or one of G, K, M'),
     ("(1/0,1)", "is no momentum: give 2 numbers"), ("(1/2)", "is no momentum: give 2 numbers"),
     ("(1/4,1/2)", "no momentum of a lattice of 6 x 6 cells: .* multiples of 4, 2")],
)  # fmt: skip
def test_what_is_no_momentum(text, said):
    with pytest.raises(ValueError, match=said):
        check_momentum(text, lattice_of("triangular"))
    assert "m2_Q" not in OBSERVABLES and "m2_q_a_b" not in OBSERVABLES and "m2_q" not in OBSERVABLES


@pytest.mark.parametrize(
    ("name", "per_cell", "corners"),
    [("chain", 0, 0), ("square", 1, 4), ("triangular", 2, 3), ("honeycomb", 1, 6),
     ("kagome", 2, 3), ("lieb", 1, 8), ("checkerboard", 4, 3), ("cubic", 3, 4), ("fcc", 8, 3),
     ("pyrochlore", 8, 3)],
)  # fmt: skip
def test_rings(name, per_cell, corners):
    found = rings(CATALOGUE[name].crystal)
    assert len(found) == per_cell and {len(ring) for ring in found} <= {corners}
    lattice = lattice_of(name)
    assert OBSERVABLES["scalar_chirality"].exists(lattice) == (
        per_cell > 0 and lattice.dimension == 2
    )


def test_chirality_of_rings_is_that_of_the_plaquettes_of_the_square_lattice():
    lattice, spins = lattice_of("square", (4, 5)), random_spins(3, 20)
    made = make_observable("scalar_chirality", electrons_on(lattice))
    assert torch.allclose(made.of_rings(spins).mean(1), made.measure(spins, unevaluated(spins)))
    assert len(ring_sites(lattice)) == 20


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != "square"])
def test_correlations_by_class(name):
    lattice, spins = lattice_of(name), random_spins(2, lattice_of(name).sites)
    made = make_profile("correlations", electrons_on(lattice), 20, 1)
    values = made.measure(spins, unevaluated(spins)).numpy()
    classes, distances = classes_within(lattice)
    assert (np.diff(distances) > -1e-9).all()
    assert np.array_equal(made.grid["distance"].values, distances)
    members = Counter(classes.tolist())
    assert members[0] == lattice.sublattices
    assert sum(members.values()) == lattice.cells * lattice.sublattices**2
    # pair by pair, with the distance of the nearest image
    images = np.stack(
        np.meshgrid(*([np.arange(-2, 3)] * lattice.dimension), indexing="ij"), -1
    ).reshape(-1, lattice.dimension)
    shifts = (images * np.array(lattice.shape)) @ np.array(lattice.crystal.vectors)
    products = np.einsum("cix,cjx->cij", spins.numpy(), spins.numpy())
    apart = lattice.positions[None, :] - lattice.positions[:, None]
    lengths = np.linalg.norm(apart[:, :, None] + shifts, axis=-1).min(-1)
    for length in np.unique(distances.round(9)):
        same = np.abs(distances - length) < 1e-6
        weights = np.array([members[k + 1] for k in np.flatnonzero(same)])
        mean = (values[:, same] * weights).sum(1) / weights.sum()
        pairs = np.abs(lengths - length) < 1e-6
        assert pairs.sum() == weights.sum() * lattice.cells
        assert np.allclose(mean, products[:, pairs].mean(1))


def test_kagome_has_two_third_neighbours():
    _, distances = classes_within(lattice_of("kagome", (6, 6)))
    assert np.allclose(distances[:4], [0.5, math.sqrt(3) / 2, 1.0, 1.0])


def test_sites_without_a_spin_do_not_count():
    lattice = lattice_of("triangular")
    there = np.arange(36) % 3 != 0
    spins = random_spins(2, 36)
    kept = spins * torch.as_tensor(there)[:, None]
    diluted = Electrons(Ensemble(Hamiltonian(lattice, site_spins=there), 2.0, 0.0))
    for name in ("m2_uniform", "m2_K", "nn_correlation", "scalar_chirality"):
        made = make_observable(name, diluted)
        assert made.name == name
        expected = value(name, kept, lattice)
        assert np.allclose(made.measure(spins, unevaluated(spins)).numpy(), expected)
    made = make_profile("structure_factor", diluted, 20, 1)
    found = made.measure(spins, unevaluated(spins)).numpy()
    assert found.mean((1, 2)) == pytest.approx(24 / 36)
    free = make_observable("m2_uniform", electrons_on(lattice, J=0.0))  # a classical magnet
    assert float(free.measure(spins, unevaluated(spins)).min()) > 0.0
