"""Figures of crystals in their true geometry, and jobs that name momenta."""

import numpy as np
import pytest
from crystal_results import crystal_results
from helpers import random_spins
from matplotlib.collections import PatchCollection, PolyCollection
from small_jobs import make_job, run

from hpcslmc.analysis import figures, results_file
from hpcslmc.analysis.figures import crystals, save_figures, style
from hpcslmc.analysis.tables import print_tables
from hpcslmc.errors import UserError
from hpcslmc.job.load import make_job as checked
from hpcslmc.parallel.world import World
from hpcslmc.physics.catalogue import CATALOGUE
from hpcslmc.physics.lattice import Lattice
from hpcslmc.simulation.collect import collect


def free(name: str, shape: tuple[int, ...], **keys):
    """Results of free spins on a named lattice."""
    lattice = Lattice(shape, CATALOGUE[name].crystal)
    spins = random_spins(24, lattice.sites).numpy().reshape(4, 6, lattice.sites, 3)
    return crystal_results(lattice, spins, **keys)


def test_all_figures_are_saved(tmp_path, monkeypatch):
    monkeypatch.setitem(style.STYLE, "savefig.dpi", 50)
    results = free("kagome", (3, 3), temperatures=(0.1, 0.3))
    names, failures = save_figures({"kagome": results}, tmp_path)
    assert not failures
    expected = {"structure_factor", "correlations", "spins", "spectral_function", "autocorrelation"}
    assert set(names) == expected | {"observables_temperature"}


@pytest.mark.parametrize(
    ("name", "shape"), [("chain", (6,)), ("pyrochlore", (1, 1, 2)), ("checkerboard", (2, 4))]
)
def test_figures_in_one_to_three_dimensions(name, shape):
    results = free(name, shape, temperatures=(0.1, 0.3))
    for draw in (
        figures.structure_factor,
        figures.correlations,
        figures.spins,
        figures.spectral_function,
    ):
        axes = draw(results).axes[0]
        assert axes.get_xlabel() or axes.get_xticklabels()
        assert axes.collections or axes.lines


def test_the_zone_of_the_triangular_lattice_is_a_hexagon():
    results = free("triangular", (6, 6))
    axes = figures.structure_factor(results).axes[0]
    (image,) = (one for one in axes.collections if isinstance(one, PolyCollection))
    corners = crystals.wigner_seitz(results.lattice.crystal.reciprocal)
    assert len(corners) == 6
    assert np.allclose(np.linalg.norm(corners, axis=1), 4.0 * np.pi / 3.0)  # K
    # the area of the cells is that of the zone for each momentum, and every value is in its place
    mean = results.profiles["structure_factor"].mean
    steps = results.lattice.crystal.reciprocal / 6.0
    for path, value in zip(image.get_paths(), image.get_array(), strict=True):
        centre = np.linalg.solve(steps.T, path.vertices[:-1].mean(0)).round().astype(int)
        assert value == mean[tuple(centre % 6)]
    assert {text.get_text() for text in axes.texts} == {r"$\Gamma$", "K", "M"}
    assert axes.get_xlabel() == r"$q_x$ [$1/a$]"


def test_spins_are_drawn_at_their_places():
    results = free("kagome", (2, 3))
    (discs,) = (
        one
        for one in figures.spins(results).axes[0].collections
        if isinstance(one, PatchCollection)
    )
    centres = [path.vertices[:-1].mean(0) for path in discs.get_paths()]
    assert np.allclose(centres, results.lattice.positions, atol=0.02)


def test_paths_go_along_the_lattice():
    lattice = Lattice((6, 6), CATALOGUE["triangular"].crystal)
    path, corners, names = crystals.path_through(lattice)
    assert names == [r"$\Gamma$", "K", "M", r"$\Gamma$"] and len(path) == corners[-1] + 1
    assert path[corners].tolist() == [[0, 0], [2, 4], [3, 0], [0, 0]]
    steps = np.diff(path, axis=0)
    assert all(np.gcd(*step) == 1 for step in steps)
    path, corners, names = crystals.path_through(Lattice((3, 5), CATALOGUE["lieb"].crystal))
    assert names == [r"$\Gamma$", "$b_1$", "$b_2$", r"$\Gamma$"]


def test_tables_show_what_is_measured_at_momenta(capsys):
    print_tables({"run": free("triangular", (6, 6), temperatures=(0.1, 0.3))})
    said = capsys.readouterr().out
    heading = " ".join(said.partition("Doubtful")[0].split())
    for label in ("|m(K)|^2", "|m(M)|^2", "ratio length at K", "at M [a]"):
        assert label in heading
    assert "|m(K)|^4" not in said and "|m_q|^2" not in said


def with_momenta(momenta: list) -> dict:
    tables = make_job(method="exact", samples=16).model_dump()
    tables["sampling"]["bin_size"] = 4
    return tables | {"measure": {"momenta": momenta, "m4_X": 4}}


def test_a_job_names_momenta(tmp_path):
    job = checked(with_momenta(["X", "(1/4, 1/2)", "M"]))
    assert 'momenta = ["X", "(1/4, 1/2)", "M"]' in job.toml()
    results = collect(run(job, World()), {"hpcslmc": "0"})
    results_file.write(tmp_path / "results.h5", results)
    read = results_file.read(tmp_path / "results.h5")
    for point in ("X", "q_1over4_1over2", "M"):
        assert {f"m2_{point}", f"m2_next_{point}"} <= read.draws.keys()
        assert {f"binder_{point}", f"susceptibility_{point}"} <= set(read.summary.names)
    assert np.allclose(read.draws["m2_M"], read.draws["m2_staggered"])
    assert np.isclose(read.summary.of("binder_M"), read.summary.of("binder_staggered"))
    assert np.isclose(
        read.summary.of("correlation_length_M"),
        read.summary.of("correlation_length_staggered"),
        equal_nan=True,
    )
    factor = read.profiles["structure_factor"].mean
    assert read.summary.labels["m2_q_1over4_1over2"] == "|m(1/4,1/2)|^2"
    assert factor.shape == (4, 4)


@pytest.mark.parametrize(
    ("momenta", "said"),
    [
        (["K"], r'\[measure\] momenta: "K" is no momentum: give 2 numbers .* or one of G, X, M\.'),
        (
            ["(1/3,0)"],
            r"momenta: .* no momentum of a lattice of 4 x 4 cells: .* multiples of 3, 1\.",
        ),
        (["M", "(1/2,1/2)"], r"momenta = .*: one comes twice\."),
        (["(0.5)"], "is no momentum: give 2 numbers"),
        ([3], r"\[measure\] momenta"),
    ],
)
def test_momenta_that_are_none_are_one_sentence(momenta, said):
    with pytest.raises(UserError, match=said):
        checked(with_momenta(momenta))
