"""The registry of all measurements, and their intervals by name."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from small_jobs import make_job, run

from hpcslmc.analysis import results_file
from hpcslmc.analysis.figures.functions import other_function
from hpcslmc.analysis.merge import merge
from hpcslmc.analysis.results import Results
from hpcslmc.errors import UserError
from hpcslmc.job.load import make_job as checked
from hpcslmc.measure.density_of_states import DensityOfStates
from hpcslmc.measure.derived import Derived
from hpcslmc.measure.observables import Observable
from hpcslmc.measure.registry import (
    CLASSICAL,
    DERIVED,
    MEASUREMENTS,
    OBSERVABLES,
    PROFILES,
    cheap_observables,
    observable_intervals,
)
from hpcslmc.measure.structure import StructureFactor
from hpcslmc.parallel.world import World
from hpcslmc.physics.lattice import Lattice
from hpcslmc.simulation.collect import collect


class Charge(Observable):
    """An observable that needs nothing."""

    name, label = "charge", "charge"

    def measure(self, spins, evaluation):
        return evaluation.density - 1.0


class Map(StructureFactor):
    """A function of momentum, twice the structure factor."""

    name, label = "map", "2 S(q)"

    def measure(self, spins, evaluation):
        return 2.0 * super().measure(spins, evaluation)


class Hole(DensityOfStates):
    """A function of energy, negative."""

    name, label = "hole", "-states [1/t]"

    def measure(self, spins, evaluation):
        return -super().measure(spins, evaluation)


class ChargeSquared(Derived):
    """A derived quantity of an observable of one's own, which may be negative."""

    name, label, inputs = "charge_squared", "charge^2", ("charge", "number_fluctuation")

    def value(self, means):
        return means["charge"] ** 2 + 0.0 * means["number_fluctuation"]


@pytest.fixture
def own():
    """Measurements of one's own."""
    views = {Charge: OBSERVABLES, Map: PROFILES, Hole: PROFILES, ChargeSquared: DERIVED}
    for kind, view in views.items():
        view[kind.name] = kind
    yield
    for kind in views:
        MEASUREMENTS.pop(kind.name, None)


def tables(measure: dict, seed: int = 1, **sampling) -> dict:
    job = make_job(seed=seed, method="exact", **({"samples": 16} | sampling)).model_dump()
    return job | {"measure": measure}


def found(measure: dict, **sampling) -> Results:
    return collect(run(checked(tables(measure, **sampling)), World()), {"hpcslmc": "0"})


def test_each_measurement_is_of_one_kind():
    names = [*OBSERVABLES, *PROFILES, *DERIVED]
    assert sorted(names) == sorted(MEASUREMENTS) and len(names) == len(set(names))
    assert len(OBSERVABLES) + len(PROFILES) + len(DERIVED) == len(MEASUREMENTS)
    assert "specific_heat" not in OBSERVABLES and "specific_heat" in DERIVED
    for view, kind in ((OBSERVABLES, Map), (PROFILES, Charge), (DERIVED, Charge)):
        with pytest.raises(ValueError, match="is a measurement of another kind"):
            view[kind.name] = kind
        assert kind.name not in MEASUREMENTS
    for name in ("energies", "fluctuations", "acceptance", "structure_factor"):
        with pytest.raises(ValueError, match="choose another name"):
            OBSERVABLES[name] = type("Taken", (Charge,), {"name": name})


def test_groups_have_the_intervals_of_their_keys():
    lattice = Lattice((4, 4))
    alone = observable_intervals(lattice, {"electrons": 1}, {})
    assert alone == dict.fromkeys(cheap_observables(lattice), 1)
    groups = {"electrons": 2, "fluctuations": 4, "drude_weight": 8}
    every = observable_intervals(lattice, groups, {})
    usual = [
        name
        for name, kind in OBSERVABLES.items()
        if kind.is_usual(lattice) and name not in CLASSICAL
    ]
    assert list(every) == usual
    with_classical = observable_intervals(lattice, groups, {}, with_classical=True)
    assert set(with_classical) == {*usual, *CLASSICAL}
    assert set(OBSERVABLES) - set(with_classical) == {
        "hall_conductivity",
        "hall_conductivity2",
        "scalar_chirality_abs",
    }
    assert {name for name, interval in every.items() if interval == 8} == {
        "drude_weight",
        "hopping_energy",
    }
    assert every["log_weight"] == 1 and every["energy"] == 2 and every["energy_fluctuation"] == 4


def test_names_go_before_groups_and_derived_quantities_have_their_inputs_measured():
    lattice, groups = Lattice((4, 4)), {"electrons": 4}
    named = {"energy": 8, "density": 2, "hopping_energy": 3, "compressibility": 2}
    intervals = observable_intervals(lattice, groups, named)
    assert intervals["energy"] == 8 and intervals["energy2"] == 4 and intervals["log_weight"] == 1
    assert intervals["density"] == intervals["density2"] == intervals["number_fluctuation"] == 2
    assert intervals["hopping_energy"] == 3 and "drude_weight" not in intervals
    off = observable_intervals(lattice, groups | {"fluctuations": 1}, {"number_fluctuation": 0})
    assert "number_fluctuation" not in off and off["energy_fluctuation"] == 1


def test_a_run_measures_at_intervals_by_name():
    plain = found({"fluctuations": 1})
    named = found(
        {"scalar_chirality": 4, "specific_heat": 2, "grand_potential": 0, "correlations": 0},
        bin_size=4,
    )
    every = plain.draws["scalar_chirality"]
    assert np.array_equal(named.draws["scalar_chirality"], every[:, 3::4])
    pairs = plain.draws["energy_fluctuation"].reshape(8, 4, 4)[:, :, 1::2]
    assert np.allclose(named.draws["energy_fluctuation"], pairs.mean(2), rtol=1e-12)
    assert np.array_equal(named.draws["m2_uniform"].shape, (8, 4))
    assert "number_fluctuation" not in named.draws
    assert "specific_heat" in named.summary.names and "compressibility" not in named.summary.names
    assert "grand_potential" in plain.summary.names
    assert "grand_potential" not in named.summary.names
    assert "structure_factor" in named.profiles and "correlations" not in named.profiles


def test_measurements_of_ones_own_by_name(own):
    results = found(
        {"charge": 2, "map": 10, "hole": 8, "charge_squared": 4, "energies": 20}, bin_size=4
    )
    density = results.draws["density"].shape
    assert results.draws["charge"].shape == density == (8, 4)
    assert {"charge", "charge_squared"} <= set(results.summary.names)
    assert np.array_equal(
        results.profiles["map"].mean, 2.0 * results.profiles["structure_factor"].mean
    )
    assert results.profiles["hole"].mean.shape == (20,)
    assert results.profiles["hole"].mean.sum() < 0.0
    assert set(results.profiles["hole"].measurements) == {2}
    assert isinstance(other_function(results, "hole"), Figure)
    assert other_function(results, "map") is None and other_function(results, "none") is None
    unnamed = found({})
    assert np.allclose(unnamed.draws["charge"], unnamed.draws["density"] - 1.0)
    assert not {"map", "hole"} & unnamed.profiles.keys()
    assert "charge_squared" not in unnamed.summary.names


def test_names_are_kept_in_the_resolved_job(own):
    job = checked(tables({"charge": 1, "map": 5}))
    assert "charge = 1\nmap = 5" in job.toml() and job.measure.named == {"charge": 1, "map": 5}
    assert not checked(tables({"structure_factor": 5})).measure.named


@pytest.mark.parametrize(
    "measure, said",
    [
        ({"energy": 0}, r"\[measure\] energy = 0: every run measures it: use 1 or more\."),
        ({"chargee": 1}, r"\[measure\] has no key 'chargee': did you mean 'charge', or is --imp"),
        ({"electronz": 1}, r"\[measure\] has no key 'electronz': did you mean 'electrons'"),
        ({"qqq": 1}, r"known are electrons, .*, names of measurements, and what --import adds\."),
        ({"charge": -1}, r"\[measure\] charge = -1: input should be greater than or equal to 0"),
        ({"charge": "a"}, r"\[measure\] charge = 'a': input should be a valid integer"),
        ({"charge": 3}, r"\[measure\] charge = 3: measurements that far apart do not fill bins"),
        ({"compressibility": 8}, r"\[measure\] compressibility = 8: .*use bin_size = 8\."),
        ({"map": 17}, r"\[measure\] map = 17: .* the run has only 16 samples"),
    ],
)
def test_wrong_intervals_are_one_sentence(own, measure, said):
    with pytest.raises(UserError, match=said):
        checked(tables(measure, bin_size=4))


def test_what_does_not_exist_is_one_sentence(own):
    odd = tables({"binder_staggered": 1}) | {"lattice": {"shape": [3, 4]}}
    with pytest.raises(UserError, match="no m2_staggered and no m4_staggered on .* 3 x 4 sites"):
        checked(odd)
    del OBSERVABLES["charge"]
    with pytest.raises(UserError, match="charge_squared = 1: there is no charge on a lattice"):
        checked(tables({"charge_squared": 1}))


def test_what_is_derived_outside_the_program_is_merged_with_its_definition(own, tmp_path):
    measure = {"charge_squared": 1}
    for seed in (1, 2):
        results_file.write(tmp_path / f"{seed}.h5", found(measure, seed=seed))
    runs = {str(seed): results_file.read(tmp_path / f"{seed}.h5") for seed in (1, 2)}
    whole = merge(runs)
    charge = np.concatenate([run.draws["charge"] for run in runs.values()]).mean()
    assert np.isfinite(whole.summary.of("charge_squared", "error"))
    assert np.isclose(whole.summary.of("charge_squared"), charge**2, atol=1e-4)
    del DERIVED["charge_squared"]
    results_file.write(tmp_path / "merged.h5", merge(runs))
    lacking = results_file.read(tmp_path / "merged.h5").summary
    assert sorted(lacking.names) == sorted(whole.summary.names)
    assert np.isnan(lacking.of("charge_squared")) and np.isnan(
        lacking.of("charge_squared", "error")
    )
    row = lacking.names.index("charge_squared")
    assert "its definition is not imported" in lacking.doubts[row]
    assert lacking.of("energy") == whole.summary.of("energy")


def test_runs_of_other_intervals_by_name_are_not_merged(own):
    runs = {"a": found({"charge": 1}), "b": found({}, seed=2)}
    for one, other in (("a", "b"), ("b", "a")):
        with pytest.raises(
            UserError, match=r"differ in measure\.charge \((1 and None|None and 1)\)"
        ):
            merge({one: runs[one], other: runs[other]})
