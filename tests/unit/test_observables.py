"""Observables against plain loops on fixed spins, and in states where they are known."""

import numpy as np
import pytest
import torch
from helpers import make_diagonalise, random_spins, unevaluated
from measurement import fermi, hamiltonian, measured

from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.observables import Needs, observables
from hpcslmc.measure.registry import CLASSICAL, OBSERVABLES, cheap_observables, make_observable
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.lattice import Lattice
from hpcslmc.weight.diagonalise import Diagonalise


def make_electrons(weight: Diagonalise) -> Electrons:
    return Electrons(weight.ensemble, weight.spectrum)


def measure_all(spins: torch.Tensor, weight: Diagonalise) -> dict[str, np.ndarray]:
    """Every observable that exists on the lattice, of all chains."""
    electrons, evaluation = make_electrons(weight), weight.evaluate(spins)
    lattice = weight.hamiltonian.lattice
    return {
        name: make_observable(name, electrons).measure(spins, evaluation).numpy()
        for name, kind in OBSERVABLES.items()
        if kind.exists(lattice)
    }


@pytest.mark.parametrize("shape", [(4, 6), (4, 4), (6, 4), (3, 5)])
def test_every_observable_against_plain_loops(shape):
    t, J, beta, mu = 0.9, 1.7, 3.0, -0.4
    spins = random_spins(2, shape[0] * shape[1])
    values = measure_all(spins, make_diagonalise(shape, J, beta, mu, t))
    for chain in range(2):
        expected = measured(spins[chain].numpy(), shape, t, J, beta, mu)
        assert expected.keys() >= values.keys()
        for name, value in values.items():
            # finite differences
            differences = {
                "drude_weight": 1e-4,
                "hall_conductivity": 1e-6,
                "hall_conductivity2": 1e-6,
            }
            tolerance = differences.get(name, 1e-12)
            assert value[chain] == pytest.approx(
                expected[name], rel=tolerance, abs=tolerance / 10
            ), name


def test_what_exists():
    def missing(shape):
        return OBSERVABLES.keys() - set(cheap_observables(Lattice(shape)))

    spectral = {
        "energy_fluctuation",
        "energy_number_fluctuation",
        "number_fluctuation",
        "hopping_energy",
        "drude_weight",
        "hall_conductivity",
        "hall_conductivity2",
        "scalar_chirality_abs",  # where the job names it
        *CLASSICAL,  # where there is a classical energy
    }
    staggered = {"m2_staggered", "m4_staggered", "m2_next_staggered"}
    assert missing((4, 4)) == spectral
    assert missing((3, 4)) == spectral | staggered
    assert missing((2, 4)) == spectral | {
        "scalar_chirality",
        "scalar_chirality2",
        "vector_chirality2_x",
    }
    assert [o.name for o in observables(Lattice((3, 4)))] == [
        "log_weight",
        "energy",
        "density",
        "m2_uniform",
        "nn_correlation",
    ]


@pytest.mark.parametrize("shape", [(4, 2), (2, 2)])
def test_what_is_left_out_would_vanish(shape):
    lattice, spins = Lattice(shape), random_spins(3, shape[0] * shape[1])
    evaluation = make_diagonalise(shape).evaluate(spins)
    for kind in OBSERVABLES.values():
        if not kind.exists(lattice):
            assert kind(lattice, "cpu").measure(spins, evaluation).abs().max() < 1e-15


@pytest.mark.parametrize(
    ("staggered", "full", "bond"), [(False, "uniform", 1.0), (True, "staggered", -1.0)]
)
def test_ferromagnetic_and_neel_states(staggered, full, bond):
    shape, weight = (4, 6), make_diagonalise((4, 6), J=1.5, beta=4.0)
    lattice = weight.hamiltonian.lattice
    spins = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64).expand(1, 24, 3)
    spins = spins * torch.as_tensor(lattice.staggered_sign)[:, None] if staggered else spins
    values = {name: float(value[0]) for name, value in measure_all(spins, weight).items()}
    k = 2 * np.pi * lattice.coordinates / np.array(shape)
    bands = -2.0 * np.cos(k).sum(1)
    levels = np.concatenate(
        [sign * np.hypot(bands, 0.75) if staggered else bands + sign * 0.75 for sign in (1, -1)]
    )
    # Neel: +-sqrt(eps^2 + (J/2)^2), once for each k (both spins, half the zone)
    levels = np.sort(levels)
    assert values["energy"] == pytest.approx((fermi(4.0 * levels) * levels).sum() / 24)
    for order in ("uniform", "staggered"):
        assert values[f"m2_{order}"] == pytest.approx(float(order == full)) and values[
            f"m4_{order}"
        ] == pytest.approx(float(order == full))
        assert values[f"m2_next_{order}"] == pytest.approx(0.0, abs=1e-30)
    assert values["nn_correlation"] == pytest.approx(bond)
    assert all(abs(value) < 1e-15 for name, value in values.items() if "chirality" in name)


def test_vector_chirality_of_a_spiral():
    lattice = Lattice((6, 4))
    angle = 2.0 * np.pi * lattice.coordinates @ np.array([1 / 6, 1 / 4])
    spins = torch.as_tensor(np.stack((np.cos(angle), np.sin(angle), 0.0 * angle), -1))[None]
    values = measure_all(spins, make_diagonalise((6, 4)))
    assert values["vector_chirality2_x"] == pytest.approx(np.sin(np.pi / 3) ** 2)
    assert values["vector_chirality2_y"] == pytest.approx(1.0)
    assert values["scalar_chirality"] == pytest.approx(0.0, abs=1e-15)


def test_the_sign_of_the_scalar_chirality():
    """The mean over anticlockwise triangles is odd under S -> -S and under a reflection of the
    lattice, even under rotations of the spins.
    """
    lattice, spins = Lattice((4, 4)), random_spins(1, 16)
    weight = make_diagonalise((4, 4))
    chirality = float(measure_all(spins, weight)["scalar_chirality"][0])
    reflected = spins[:, torch.as_tensor(lattice.point_group[1])]
    assert measure_all(-spins, weight)["scalar_chirality"] == pytest.approx(-chirality)
    assert measure_all(reflected, weight)["scalar_chirality"] == pytest.approx(-chirality)
    assert measure_all(spins.roll(1, -1), weight)["scalar_chirality"] == pytest.approx(chirality)


def test_free_electrons():
    """J = 0: everything that the electrons give follows from the bands."""
    shape, beta, mu = (6, 4), 2.0, -0.7
    values = measure_all(random_spins(2, 24), make_diagonalise(shape, 0.0, beta, mu))
    k = 2 * np.pi * Lattice(shape).coordinates / np.array(shape)
    bands = -2.0 * np.cos(k).sum(1)
    f = fermi(beta * (bands - mu))
    hopping = -(np.cos(k) * f[:, None]).sum() * 2 / 24
    expected = {
        "log_weight": 2 * np.log1p(np.exp(-beta * (bands - mu))).sum() / 24,
        "density": 2 * f.sum() / 24,
        "energy": 2 * (f * bands).sum() / 24,
        "number_fluctuation": 2 * (f * (1 - f)).sum() / 24,
        "energy_fluctuation": 2 * (bands * (bands - mu) * f * (1 - f)).sum() / 24,
        "energy_number_fluctuation": 2 * (bands * f * (1 - f)).sum() / 24,
        "hopping_energy": hopping,
        "drude_weight": -hopping,
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx([value, value], rel=1e-11), name


def test_double_exchange_limit():
    """J -> infinity.

    Electrons follow the spins, and hop by -t <chi_i|chi_j> between the states antiparallel to them.
    """
    shape, J, beta, filling_mu = (4, 4), 1e5, 2.0, -0.3
    lattice, spins = Lattice(shape), random_spins(1, 16)
    values = measure_all(spins, make_diagonalise(shape, J, beta, -J / 2 + filling_mu))
    chi = np.stack(
        [
            np.linalg.eigh(np.array([[s[2], s[0] - 1j * s[1]], [s[0] + 1j * s[1], -s[2]]]))[1][:, 0]
            for s in spins[0].numpy()
        ]
    )
    levels = np.linalg.eigvalsh(-lattice.adjacency * (chi.conj() @ chi.T))
    f = fermi(beta * (levels - filling_mu))
    expected = {
        "density": f.sum() / 16,
        "hopping_energy": (f * levels).sum() / 32,
        "number_fluctuation": (f * (1 - f)).sum() / 16,
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-4), name
    assert values["energy"] + J / 2 * values["density"] == pytest.approx(
        (f * levels).sum() / 16, abs=1e-4
    )


def test_electrons_are_diagonalised_once_for_all(monkeypatch):
    weight, asked, diagonalised = make_diagonalise((4, 4)), [], []
    electrons = Electrons(
        Ensemble(weight.hamiltonian, 5.0, 0.0),
        lambda spins: asked.append(1) or weight.spectrum(spins),
    )
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda h: diagonalised.append(1) or eigh(h))
    first, second = random_spins(2, 16), random_spins(2, 16, seed=1)
    for number, spins in enumerate((first, second), 1):
        evaluation = electrons.at(spins, unevaluated(spins))
        assert electrons.at(spins, evaluation) is evaluation
        for name, kind in OBSERVABLES.items():
            if kind.needs in (Needs.LEVELS, Needs.STATES):
                make_observable(name, electrons).measure(spins, evaluation)
        assert torch.equal(evaluation.levels, weight.spectrum(spins))
        levels, states = evaluation.eigensystem
        assert torch.allclose(weight.hamiltonian.dense(spins) @ states, states * levels[:, None, :])
        assert (len(asked), len(diagonalised)) == (number, number)
    known = weight.evaluate(first)
    assert electrons.at(first, known).levels is known.spectrum and len(asked) == 2


def test_functions_of_states_in_batches(monkeypatch):
    weight, spins = make_diagonalise((4, 4)), random_spins(5, 16)
    evaluation, sizes = make_electrons(weight).at(spins, unevaluated(spins)), []
    monkeypatch.setattr("hpcslmc.measure.electrons.WORK_BYTES", 2 * 8 * 16 * 32**2)  # two chains
    traces = evaluation.of_states(
        lambda levels, states: (
            sizes.append(len(levels)) or levels.sum(1) + states.abs().square().sum((1, 2))
        )
    )
    assert sizes == [2, 2, 1] and torch.allclose(traces, weight.spectrum(spins).sum(1) + 32.0)


def test_hamiltonians_agree():
    """The tests' own matrix and the program's."""
    spins = random_spins(1, 8)
    assert np.allclose(
        hamiltonian(spins[0].numpy(), (2, 4), 0.9, 1.3),
        make_diagonalise((2, 4), 1.3, t=0.9).hamiltonian.dense(spins)[0],
    )
