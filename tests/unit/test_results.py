"""results.h5: what its page says, what xarray and ArviZ make of it, runs merged into one."""

import json
import re
from dataclasses import replace
from pathlib import Path

import arviz_stats  # noqa: F401
import h5py
import numpy as np
import pytest
import xarray
from small_jobs import make_job, run, write_results

import hpcslmc
from hpcslmc.analysis import results_file
from hpcslmc.analysis.merge import merge
from hpcslmc.analysis.results import Results
from hpcslmc.cli.main import main
from hpcslmc.errors import UserError
from hpcslmc.job.load import make_job as checked
from hpcslmc.job.schema import Job
from hpcslmc.parallel.world import World
from hpcslmc.simulation.collect import collect

PAGE = Path(hpcslmc.__file__).parent / "docs/results.md"
LADDER = {"temperature": [0.5, 0.2]}
ONLY_MERGED = {"lengths", "learning/curve/run", "learning/rounds/run"}


def found(seed: int = 1, **keys) -> Results:
    return collect(
        run(make_job(seed=seed, method="exact", **{"samples": 8} | keys), World()), {"hpcslmc": "0"}
    )


@pytest.fixture(scope="module", params=["one temperature", "ladder"])
def path(request, tmp_path_factory) -> Path:
    """A file with every group."""
    job = make_job(samples=12, ensemble=LADDER if request.param == "ladder" else None).model_dump()
    job["measure"] |= dict.fromkeys(
        (
            "structure_factor",
            "correlations",
            "density_of_states",
            "spectral_function",
            "optical_conductivity",
        ),
        4,
    )
    simulation = run(Job.model_validate(job), World())
    path = tmp_path_factory.mktemp("results") / "results.h5"
    write_results(
        path,
        simulation,
        {name: "0" for name in ("hpcslmc", "Python", "MPI", "HDF5", "torch", "numpy")},
    )
    return path


def test_the_page_names_every_dataset_with_its_dimensions_and_units(path):
    with h5py.File(path) as file:
        ladder, items, attributes = file["temperature"].ndim > 0, {}, set(file.attrs)
        file.visititems(
            lambda name, item: (
                items.update({name: item}) if isinstance(item, h5py.Dataset) else None
            )
        )
        axes = {
            f"profiles/{name}": list(group.attrs["axes"])
            for name, group in file["profiles"].items()
        }
        rows = {}
        for names, dims, units, _ in re.findall(
            r"^\| (`.*?`) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE.read_text(), re.MULTILINE
        ):
            rows |= {name: (dims, units) for name in re.findall("`(.*?)`", names)}
        met = set()
        for name, item in items.items():
            group, _, own = name.rpartition("/")
            row = name
            if group in ("draws", "bin_variances") and own not in ("chain", "draw", "temperature"):
                row = f"{group}/OBSERVABLE"
            if group in axes:
                row = f"profiles/PROFILE/{'AXIS' if own in axes[group] else own}"
            dims, units = rows[row]
            met.add(row)
            expected = dims.replace(" [, temperature]", ", temperature" if ladder else "").replace(
                "[temperature]", "temperature" if ladder else ""
            )
            expected = (
                expected.replace("AXES", ", ".join(axes.get(group, [])))
                if dims not in ("themselves", "itself")
                else own
            )
            scales = (
                [own] if item.is_scale else [dim[0].name.rpartition("/")[2] for dim in item.dims]
            )
            assert ", ".join(scales) == expected, name
            assert (
                units in ("its own", "its own, squared", item.attrs["units"])
                and item.attrs["long_name"]
            ), name
            assert all(
                dim[0].name.rpartition("/")[0].strip("/") == group for dim in item.dims if len(dim)
            ), name
        only_ladders = {
            row
            for row in rows
            if row.startswith("exchange/")
            or row.endswith("/temperature")
            and not row.startswith("learning")
        }
        assert met == set(rows) - (set() if ladder else only_ladders) - ONLY_MERGED
    phases = {f"cpu_seconds_{phase}" for phase in ("thermalise", "learn", "tune", "sample")}
    named = set(
        re.findall(r"`(\w+)`", PAGE.read_text().split("Attributes of the file")[1].split("##")[0])
    )
    assert attributes - phases == named - {"merged_jobs", "cpu_seconds_PHASE", "imported"}


def test_results_of_the_format_before_are_read(path, tmp_path):
    """They held mean squares of the samples in place of variances inside bins."""
    before = tmp_path / "results.h5"
    before.write_bytes(path.read_bytes())
    new = results_file.read(path)
    with h5py.File(before, "r+") as file:
        del file["bin_variances"]
        for name, variances in new.bin_variances.items():
            file[f"mean_squares/{name}"] = variances + np.square(new.draws[name]).mean(1)
        file.attrs["format"] = "hpcslmc results 3"
    old = results_file.read(before)
    for name, variances in new.bin_variances.items():
        size = np.abs(new.draws[name]).max() ** 2
        assert np.allclose(old.bin_variances[name], variances, atol=1e-13 * size), name


def test_a_filling_that_was_missed_is_a_doubt():
    """By more than three errors, or by more than 0.2 per cent."""
    run = found(ensemble={"temperature": [0.5, 0.2], "filling": 0.8})
    chains, draws = 8, 4000
    for mean, spread, missed in (
        (0.8, 0.1, ""),
        (0.8012, 0.05, "not the 0.8"),
        (0.803, 1.0, "not the 0.8"),
    ):
        density = np.random.default_rng(2).normal(size=(chains, draws, 2)) * spread
        density += mean - density.mean((0, 1))
        filled = {name: np.zeros((chains, draws, 2)) for name in run.draws} | {"density": density}
        summary = replace(run, draws=filled).summary
        doubts = summary.doubts[summary.names.index("density")]
        assert all((missed in doubt if missed else "not the" not in doubt) for doubt in doubts), (
            mean,
            doubts,
        )


def test_xarray_and_arviz_take_it_as_it_is(path):
    draws, summary = (
        xarray.open_dataset(path, group=group, engine="h5netcdf") for group in ("draws", "summary")
    )
    with h5py.File(path) as file:
        assert (
            np.array_equal(draws["energy"], file["draws/energy"])
            and draws["energy"].attrs["units"] == "t"
        )
    assert draws["energy"].dims[:2] == ("chain", "draw")
    energy = summary.sel(observable="energy")
    assert np.allclose(energy["mean"], draws["energy"].mean(("chain", "draw")))
    assert np.allclose(draws.azstats.ess(method="bulk")["energy"], energy["ess_bulk"])
    assert set(xarray.open_datatree(path, engine="h5netcdf").children) >= {
        "draws",
        "summary",
        "profiles",
        "learning",
    }


def test_what_is_read_is_what_was_written(path):
    results, again = results_file.read(path), path.with_name("again.h5")
    assert results.dataset().equals(xarray.open_dataset(path, group="draws", engine="h5netcdf"))
    del results.__dict__["summary"]  # worked out anew from the draws
    results_file.write(again, results)
    with h5py.File(path) as one, h5py.File(again) as other:
        names = []
        one.visit(names.append)
        for name in names:
            if isinstance(one[name], h5py.Dataset):
                assert np.array_equal(
                    one[name][()], other[name][()], equal_nan=one[name].dtype.kind == "f"
                ), name
        assert dict(one.attrs) == dict(other.attrs)


@pytest.mark.parametrize("ensemble", [None, LADDER])
def test_merged_runs_are_one_run_of_all_chains(ensemble):
    one, two = found(1, ensemble=ensemble), found(2, ensemble=ensemble)
    merged = merge({"one": one, "two": two})
    assert np.array_equal(
        merged.draws["energy"], np.concatenate([one.draws["energy"], two.draws["energy"]])
    )
    assert np.allclose(
        merged.summary.of("energy"), (one.summary.of("energy") + two.summary.of("energy")) / 2.0
    )
    profile = merged.profiles["structure_factor"] if merged.profiles else None
    assert profile is None or np.allclose(
        profile.mean,
        (one.profiles["structure_factor"].mean + two.profiles["structure_factor"].mean) / 2.0,
    )
    assert merged.spins.shape[0] == 16 and merged.others == [two.job]
    assert merged.lengths is None
    if ensemble:
        assert (
            merged.exchange["accepted"].sum()
            == one.exchange["accepted"].sum() + two.exchange["accepted"].sum()
        )
    with pytest.raises(UserError, match="same chains"):
        merge({"merged": merged, "two": two})


DIFFERENT = {
    "temperature": ({"ensemble": {"temperature": 0.2}}, r"ensemble.temperature \(0.1 and 0.2\)"),
    "bins": ({"samples": 8, "bin_size": 2}, r"sampling.bin_size \(1 and 2\)"),
    "the same seed": ({"seed": 1}, "the same chains"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_runs_that_do_not_belong_together_are_refused(tmp_path, capsys, case):
    keys, expected = DIFFERENT[case]
    for name, results in (("a", found(1)), ("b", found(**{"seed": 2} | keys))):
        (tmp_path / name).mkdir()
        results_file.write(tmp_path / name / "results.h5", results)
    assert main(["merge", str(tmp_path / "out"), str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hpcslmc: ") and re.search(expected, line)
    assert not (tmp_path / "out").exists()


# ensembles that thermalisation tunes, and whether a further seed can have the first one's values
TUNED = {
    "filling": ({"temperature": 0.1, "filling": 0.8}, True),
    "rungs": ({"temperature": [0.5, 0.1], "rungs": 4}, True),
    "filling of a ladder": ({"temperature": [0.5, 0.1], "filling": 0.8}, False),
}


@pytest.mark.parametrize("case", TUNED)
def test_runs_that_were_tuned_apart_are_refused_with_a_remedy_that_works(case):
    ensemble, remedy = TUNED[case]
    one, two = (found(seed, ensemble=ensemble) for seed in (1, 2))
    with pytest.raises(
        UserError, match="tuned their (temperature|mu) .* apart: .*more samples"
    ) as error:
        merge({"one": one, "two": two})
    sentence = str(error.value)
    assert (
        sentence.count(". ") == 0
        and sentence.endswith(".")
        and (" in place of " in sentence) == remedy
    )
    if not remedy:
        return
    key, value = re.search(r"values of one: (\S+) = (.*) in place of", sentence).groups()
    tables = make_job(seed=3, samples=8, method="exact", ensemble=ensemble).model_dump()
    tables["ensemble"] |= {"filling": None, "rungs": None}
    section, name = key.split(".")
    tables[section][name] = json.loads(value)
    further = collect(run(checked(tables), World()), {"hpcslmc": "0"})
    merged = merge({"one": one, "further": further})
    assert merged.draws["energy"].shape[0] == 16 and np.array_equal(merged.mu, one.mu)
    assert np.array_equal(merge({"further": further, "one": one}).temperature, one.temperature)


@pytest.mark.parametrize("ensemble", [None, LADDER])
def test_runs_of_different_lengths_are_merged_sample_by_sample(tmp_path, ensemble):
    measure = {"structure_factor": 3, "correlations": 0}
    jobs = [
        make_job(seed=seed, samples=samples, ensemble=ensemble).model_dump() | {"measure": measure}
        for seed, samples in ((1, 12), (2, 8))
    ]
    one, two = (collect(run(checked(job), World()), {"hpcslmc": "0"}) for job in jobs)
    merged = merge({"one": one, "two": two})
    assert merged.lengths.tolist() == [12] * 8 + [8] * 8 and merged.valid.sum() == 160
    for name in ("energy", "m2_staggered", "acceptance"):
        assert np.allclose(
            merged.summary.of(name), (12 * one.summary.of(name) + 8 * two.summary.of(name)) / 20
        )
        assert np.isnan(merged.draws[name][8:, 8:]).all() and np.array_equal(
            merged.draws[name][8:, :8], two.draws[name]
        )
    profile = merged.profiles["structure_factor"]
    assert profile.measurements.tolist() == [4] * 8 + [2] * 8
    assert np.allclose(
        profile.mean,
        (4 * one.profiles["structure_factor"].mean + 2 * two.profiles["structure_factor"].mean) / 6,
    )
    assert np.array_equal(
        merged.rounds["run"], [1] * len(one.rounds["round"]) + [2] * len(two.rounds["round"])
    )
    assert np.array_equal(
        merged.rounds["mse"], np.concatenate([one.rounds["mse"], two.rounds["mse"]])
    )
    if ensemble:
        assert merged.exchange["tried"][:, 0].tolist() == [6] * 8 + [4] * 8
        assert np.isclose(merged.exchange_acceptance[0], merged.exchange["accepted"].sum() / 80)

    results_file.write(tmp_path / "results.h5", merged)
    again = results_file.read(tmp_path)
    assert again.dataset().equals(merged.dataset()) and np.array_equal(
        again.lengths, merged.lengths
    )
    xarrays = xarray.open_dataset(tmp_path / "results.h5", group="draws", engine="h5netcdf")
    assert np.allclose(xarrays["energy"].mean(("chain", "draw")), merged.summary.of("energy"))
    third = found(3, ensemble=ensemble)
    with pytest.raises(UserError, match="measure.structure_factor"):
        merge({"merged": again, "third": third})
    with pytest.raises(UserError, match="same chains"):
        merge({"merged": again, "two": two})


def test_merged_runs_of_which_one_was_merged_keep_their_numbers():
    one, two, three = (
        collect(run(make_job(seed=seed), World()), {"hpcslmc": "0"}) for seed in (1, 2, 3)
    )
    nested = merge({"a": one, "b": merge({"two": two, "three": three})})
    assert np.unique(nested.curve["run"]).tolist() == [1, 2, 3] and nested.others == [
        two.job,
        three.job,
    ]
    alone = {name: draws for name, draws in two.draws.items() if name != "energy"}
    with pytest.raises(UserError, match=r"their observables \(energy of one alone\)"):
        merge({"one": one, "two": replace(two, draws=alone)})


def test_the_command_merges(tmp_path, capsys):
    for seed in (1, 2, 3):
        (tmp_path / str(seed)).mkdir()
        results_file.write(tmp_path / str(seed) / "results.h5", found(seed))
    assert (
        main(["merge", str(tmp_path / "out"), *(str(tmp_path / str(seed)) for seed in (1, 2, 3))])
        == 0
    )
    assert "electronic energy" in capsys.readouterr().out
    assert results_file.read(tmp_path / "out").draws["energy"].shape == (24, 8)


@pytest.mark.parametrize("content", [None, b"nonsense", "format"])
def test_what_cannot_be_read_is_one_sentence(tmp_path, content):
    if content == "format":
        with h5py.File(tmp_path / "results.h5", "w") as file:
            file.attrs["format"] = "hpcslmc results 1"
    elif content:
        (tmp_path / "results.h5").write_bytes(content)
    with pytest.raises(
        UserError, match="another version" if content == "format" else "no results to read"
    ):
        results_file.read(tmp_path)
