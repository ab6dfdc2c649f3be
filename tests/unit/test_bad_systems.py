"""Lattices and couplings that make no sense get one sentence: where, and what would be right."""

import os

import h5py
import numpy as np
import pytest

from hpcslmc.errors import UserError
from hpcslmc.job.load import load_job

SQUARE_VECTORS, TWO_SITES = "[[1.0, 0.0], [0.0, 1.0]]", "{ A = [0.0, 0.0], B = [0.5, 0.0] }"


def triangular(more: str = "", shape: str = "[4, 4]", lattice: str = "") -> str:
    """A job on the triangular lattice."""
    return (
        f'[lattice]\nname = "triangular"\nshape = {shape}\n{lattice}'
        f"[ensemble]\ntemperature = 0.1\n{more}"
    )


def own(
    more: str = "", vectors: str = SQUARE_VECTORS, sites: str = TWO_SITES, lattice: str = ""
) -> str:
    """A job on a crystal of its own, by default with two sites a cell."""
    return (
        f"[lattice]\nvectors = {vectors}\nsites = {sites}\nshape = [4, 4]\n{lattice}"
        f"[ensemble]\ntemperature = 0.1\n{more}"
    )


def bonds(*tables: str, section: str = "hamiltonian") -> str:
    """A section with bonds."""
    return f"[{section}]\nbonds = [{', '.join(f'{{ {table} }}' for table in tables)}]\n"


ONE = "cell = [1, 0], value = 1.0"
BAD = {  # what is wrong: (job file, what the sentence has to say)
    "a crystal of no name": (triangular().replace("ngular", "nglar"), ["name = 'trianglar'"]),
    "too many sides": (triangular(shape="[4, 4, 4]"), ["shape = [4, 4, 4]", "not 3"]),
    "too short a side": (triangular(shape="[1, 4]"), ["shape = [1, 4]", "at least 2 sites"]),
    "no cells": (triangular(shape="[0, 4]"), ["shape (entry 1) = 0"]),
    "a name and vectors": (
        triangular(lattice=f"vectors = {SQUARE_VECTORS}\n"),
        ["name and vectors", "remove one"],
    ),
    "dependent vectors": (own(vectors="[[1.0, 0.0], [2.0, 0.0]]"), ["linearly dependent"]),
    "a short vector": (own(vectors="[[1.0, 0.0], [1.0]]"), ["vectors", "2 coordinates each"]),
    "an infinite vector": (own(vectors="[[1.0, 0.0], [0.0, inf]]"), ["vectors", "finite"]),
    "sites of a name": (
        triangular(lattice=f"sites = {TWO_SITES}\n"),
        ["sites: they go with vectors"],
    ),
    "two sites in one place": (
        own(sites="{ A = [0.0, 0.0], B = [1.0, 0.0] }"),
        ["A and B are in the same place"],
    ),
    "a place of one number": (own(sites="{ A = [0.0] }"), ["sites", "2 coordinates each"]),
    "no sites": (own(sites="{ }"), ["sites = {}", "at least 1 entry"]),
    "a spin of no site": (own(lattice='spins = ["C"]\n'), ["spins: there is no site C", "A, B"]),
    "no spins": (own(lattice="spins = []\n"), ["spins = []", "needs a spin"]),
    "one twist of two": (triangular(lattice="twist = [0.1]\n"), ["twist = [0.1]", "2 directions"]),
    "a twist of letters": (triangular(lattice='twist = ["a", 0]\n'), ["twist (entry 1) = 'a'"]),
    "a bond to no site": (
        own(bonds('from = "A", to = "C", value = 1.0')),
        ["to = 'C'", "A, B"],
    ),
    "a bond of a shell again": (triangular(bonds(ONE)), ["cell [1, 0] is given twice"]),
    "a bond in both directions": (
        triangular(bonds(ONE, ONE.replace("1,", "-1,")) + "t = []\n"),
        ["given twice, or in both directions"],
    ),
    "a bond of a site with itself": (
        triangular(bonds("cell = [0, 0], value = 1.0")),
        ["joins a site with itself"],
    ),
    "a bond around the lattice": (
        triangular(bonds("cell = [4, 0], value = 1.0")),
        ["too short", "cell [4, 0] joins a site with itself"],
    ),
    "a cell of three numbers": (
        triangular(bonds("cell = [1, 0, 0], value = 1.0")),
        ["cell = [1, 0, 0]", "2 whole numbers"],
    ),
    "a bond without a value": (triangular(bonds("cell = [2, 1]")), ["needs a value"]),
    "half a matrix": (
        triangular(bonds("cell = [2, 1], value = 1.0, matrix = [[1.0, 0.0]]")),
        ["matrix", "two rows of two numbers"],
    ),
    "a matrix of letters": (
        triangular(bonds('cell = [2, 1], value = 1.0, matrix = [["x", 0.0], [0.0, 1.0]]')),
        ["matrix = 'x'", "complex"],
    ),
    "a misspelt key of a bond": (
        triangular(bonds("cell = [2, 1], values = 1.0")),
        ["values: unknown key", "a bond has"],
    ),
    "no complex number": (triangular('[hamiltonian]\nt = "1+2k"\n'), ["t = '1+2k'", "complex"]),
    "more shells than fit": (
        triangular("[hamiltonian]\nt = [1.0, 0.5, 0.3, 0.2]\n", shape="[2, 2]"),
        ["shape = [2, 2]", "too short"],
    ),
    "J of no site": (own("[hamiltonian]\nJ = { C = 2.0 }\n"), ["J: there is no site C"]),
    "no J": (triangular("[hamiltonian]\nJ = nan\n"), ["J = nan", "finite"]),
    "a potential of no site": (
        own("[hamiltonian]\npotential = { C = 1.0 }\n"),
        ["potential: there is no site C"],
    ),
    "two thirds of a field": (
        triangular("[hamiltonian]\nfield = [0.0, 1.0]\n"),
        ["[hamiltonian] field = [0.0, 1.0]", "entry 3 is missing"],
    ),
    "no file of sites": (
        triangular('[hamiltonian]\nsite_file = "nowhere.h5"\n'),
        ["site_file = 'nowhere.h5'", "cannot read it: No such file or directory."],
    ),
    "exchange of letters": (
        triangular('[classical]\nexchange = "strong"\n'),
        ["[classical] exchange = 'strong'", "number"],
    ),
    "a misspelt exchange": (
        triangular("[classical]\nexchnage = [0.1]\n"),
        ["did you mean 'exchange'"],
    ),
    "two thirds of a vector": (
        triangular(bonds("cell = [1, 0], dm = [0.0, 1.0]", section="classical")),
        ["dm = [0.0, 1.0]", "three numbers"],
    ),
    "an axis with a direction": (
        triangular("[classical]\neasy_axis = [0.0, 0.0, 1.0]\n"),
        ["easy_axis", "number"],
    ),
    "a momentum of another crystal": (
        triangular('[measure]\nmomenta = ["X"]\n'),
        ['"X" is no momentum', "G, K, M"],
    ),
    "a momentum of another size": (
        triangular('[measure]\nmomenta = ["(1/3,0)"]\n'),
        ['"(1/3,0)" is no momentum of a lattice of 4 x 4 cells', "multiples of 3"],
    ),
    "a momentum of three numbers": (
        triangular('[measure]\nmomenta = ["(1/2,0,0)"]\n'),
        ['"(1/2,0,0)" is no momentum', "2 numbers"],
    ),
    "a model that needs rotations": (
        triangular('[hamiltonian]\nfield = [0.0, 0.0, 0.1]\n[effective]\nmodel = "messages"\n'),
        ['"messages" needs', "O(3)", '"determinants"'],
    ),
    "more electrons than fit": (
        triangular().replace("temperature = 0.1", "temperature = 0.1\nfilling = 2.5"),
        ["filling = 2.5", "less than 2"],
    ),
}
BAD_SITES = {  # name: (values, what the sentence has to say)
    "few": ({"J": np.ones(3)}, ["J has to be one number for each of 16 sites", "(3,)"]),
    "no such values": ({"Jay": np.ones(16)}, ["unknown values Jay", "J, potential and spin"]),
    "nothing": ({}, ["no values"]),
    "not finite": ({"J": np.full(16, np.nan)}, ["J is not finite"]),
    "two spins a site": ({"spin": np.full(16, 2)}, ["spin has to be 0 or 1"]),
    "no spin": ({"spin": np.zeros(16, int)}, ["spin has to be 0 or 1 at each site, and 1 at some"]),
    "text": ({"J": np.array([b"one"] * 16)}, ["J has to be one number"]),
}


def sentence_of(path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_job(str(path), 1)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("case", BAD)
def test_a_bad_system_gets_one_sentence(case, tmp_path):
    text, parts = BAD[case]
    found = sentence_of(tmp_path / "job.toml", text)
    for part in parts:
        assert part in found, found


@pytest.mark.parametrize("case", BAD_SITES)
def test_bad_values_of_sites_get_one_sentence(case, tmp_path):
    values, parts = BAD_SITES[case]
    with h5py.File(tmp_path / "sites.h5", "w") as file:
        file.update(values)
    text = triangular(f'[hamiltonian]\nsite_file = "{tmp_path / "sites.h5"}"\n')
    found = sentence_of(tmp_path / "job.toml", text)
    for part in ("site_file = ", *parts):
        assert part in found, found


@pytest.mark.parametrize(
    ("make", "reason"), [(os.mkdir, "Is a directory"), (os.mkfifo, "Not a regular file")]
)
def test_what_is_no_file_of_sites_is_not_waited_for(make, reason, tmp_path):
    make(tmp_path / "sites.h5")
    text = triangular(f'[hamiltonian]\nsite_file = "{tmp_path / "sites.h5"}"\n')
    assert f"cannot read it: {reason}." in sentence_of(tmp_path / "job.toml", text)
