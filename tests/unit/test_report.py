"""Tables and figures of the report: what is in them is what was measured."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread
from rich.console import Console
from small_jobs import make_job, run

from hpcslmc.analysis import figures, results_file
from hpcslmc.analysis.figures import style
from hpcslmc.analysis.merge import merge
from hpcslmc.analysis.results import Results
from hpcslmc.analysis.tables import Sheet, print_tables
from hpcslmc.autocorrelation import autocorrelation_function
from hpcslmc.cli.main import main
from hpcslmc.job.load import make_job as checked
from hpcslmc.parallel.world import World
from hpcslmc.simulation.collect import collect

MEASURE = {
    "fluctuations": 1,
    "structure_factor": 2,
    "correlations": 2,
    "density_of_states": 4,
    "spectral_function": 4,
    "optical_conductivity": 4,
    "energies": 20,
}
OF_ONE = {
    "acceptance_by_round",
    "autocorrelation",
    "structure_factor",
    "correlations",
    "spins",
    "learning_curve",
    "density_of_states",
    "optical_conductivity",
    "spectral_function",
}


def found(shape=(4, 4), **keys) -> Results:
    tables = make_job(samples=12, **keys).model_dump() | {"measure": MEASURE}
    tables["lattice"]["shape"] = shape
    return collect(run(checked(tables), World()), {"hpcslmc": "0"})


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Results]:
    """Two sizes and a ladder, on disk and in memory."""
    folder = tmp_path_factory.mktemp("runs")
    results = {
        "small": found(),
        "long": found((6, 4)),
        "ladder": found(ensemble={"temperature": [0.5, 0.2]}),
    }
    for name, one in results.items():
        (folder / name).mkdir()
        results_file.write(folder / name / "results.h5", one)
    return {str(folder / name): one for name, one in results.items()}


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Few panels of a third of the resolution, which are drawn faster."""
    monkeypatch.setattr(style, "MAPS", 2)
    monkeypatch.setitem(style.STYLE, "savefig.dpi", 100)


def test_the_report_of_one_run(runs, tmp_path, capsys):
    path = next(iter(runs))
    assert main(["report", path, "--to", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{name}.{ending}" for name in OF_ONE for ending in ("png", "pdf")
    }
    for name in OF_ONE:
        picture = imread(tmp_path / f"{name}.png")
        # one or two columns
        assert picture.shape[1] in (340, 700) and picture[..., :3].std() > 0.02, name
    said = capsys.readouterr()
    assert "electronic energy" in said.out and said.err == ""


def test_the_report_of_a_results_file(runs, capsys):
    folder = Path(next(iter(runs)))
    assert main(["report", str(folder / "results.h5")]) == 0
    assert {
        p.stem for p in (folder / "report").iterdir()
    } == OF_ONE and capsys.readouterr().err == ""


def test_a_figure_that_fails_costs_no_other(runs, tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise ZeroDivisionError("injected")

    monkeypatch.setattr(figures, "structure_factor", fail)
    monkeypatch.setattr(figures, "autocorrelation", fail)
    assert main(["report", next(iter(runs)), "--to", str(tmp_path)]) == 0
    assert {p.stem for p in tmp_path.iterdir()} == OF_ONE - {"structure_factor", "autocorrelation"}
    assert capsys.readouterr().err.splitlines() == [
        f"hpcslmc: the figure {name} cannot be drawn: ZeroDivisionError: injected"
        for name in ("autocorrelation", "structure_factor")
    ]


def many_temperatures(count: int = 9, filling: float | None = None) -> Results:
    """A ladder of so many temperatures with what it has learned in two rounds; the chemical
    potential is another at each.
    """
    temperatures = np.geomspace(0.5, 0.05, count)
    job = make_job(ensemble={"temperature": temperatures.tolist(), "filling": filling})
    rows = {
        "temperature": np.repeat(temperatures, 2),
        "round": np.tile([1, 2], count),
        "evaluations": np.tile([640, 656], count),
    }
    rounds = {
        name: np.linspace(0.1, 0.9, 2 * count)
        for name in ("acceptance", "acceptance_error", "predicted_erfc", "mse_per_site")
    }
    curve = {name: np.linspace(0.1, 0.9, 2 * count) for name in ("loss", "mse")} | {
        "step": np.full(2 * count, 20)
    }
    draws = {
        "energy": np.random.default_rng(1).normal(size=(4, 30, count)),
        "acceptance": np.ones((4, 30, count)),
    }
    return Results(
        job=job.toml(),
        versions={},
        cpu_seconds={},
        bin_size=1,
        temperature=temperatures,
        mu=np.linspace(-1.0, -0.5, count),
        draws=draws,
        bin_variances={name: np.zeros((4, count)) for name in draws},
        labels={name: name for name in draws},
        spins=np.zeros((4, 16, 3, count)),
        profiles={},
        rounds=rows | rounds,
        curve=rows | curve,
    )


def colours_of(lines) -> list[str]:
    return [to_hex(line.get_color()) for line in lines]


def test_each_temperature_of_a_ladder_has_a_colour_of_its_own_and_a_field_of_the_bar():
    run = many_temperatures()
    for figure in (
        figures.acceptance_by_round({"a": run}),
        figures.acceptance_by_round({"a": run, "b": many_temperatures(5)}),
        figures.learning_curve(run),
    ):
        bar = figure.axes[-1]
        assert (
            bar.get_ylabel().startswith("temperature")
            and [text.get_text() for text in bar.get_yticklabels()][0] == "0.05"
        )
    left, right, bar = figures.acceptance_by_round({"a": run}).axes
    assert len(bar.get_yticklabels()) == 9 and len(set(colours_of(right.lines))) == 9
    for axes in (left, right):
        low, high = axes.get_xlim()
        assert low == 0.0 and 656 < high < 700  # not 640 to 656
    legend = left.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [
        "measured",
        "predicted, erfc$(s/2)$",
    ]


@pytest.mark.parametrize("count", [3, 7, 8, 30])
def test_no_colour_comes_twice(count):
    assert len({to_hex(own["color"]) for own in style.curve_styles(count)}) == count
    assert len(set(map(to_hex, style.ordered_colours(count)))) == count


def test_no_colour_comes_twice_among_ladders():
    runs = {"a": many_temperatures(), "b": many_temperatures(5)}
    lines = [
        line for line in figures.autocorrelation(runs).axes[0].lines if len(line.get_xdata()) > 2
    ]
    assert len(lines) == len(set(colours_of(lines))) == 4  # two temperatures of each


def test_a_legend_names_no_chemical_potential_for_all_temperatures():
    one, other = many_temperatures(), replace(many_temperatures(), mu=np.full(9, 0.25))
    assert list(style.run_titles({"a": one, "b": other}).values()) == [
        r"$\mu=-1$ to $-0.5$",
        r"$\mu=0.25$",
    ]
    assert list(style.run_titles({"a": many_temperatures(filling=0.8), "b": other}).values()) == [
        "$n=0.8$",
        r"$\mu=0.25$",
    ]


def test_maps_of_all_temperatures_have_one_scale(runs):
    results = list(runs.values())[2]
    profile = results.profiles["structure_factor"]
    chains = np.ones_like(profile.chains)
    chains[:, 2, 2, 1] = 50.0  # a peak at one temperature alone
    figure = figures.structure_factor(
        replace(results, profiles={"structure_factor": replace(profile, chains=chains)})
    )
    norms = [axes.collections[0].norm for axes in figure.axes[:2]]
    assert (
        norms[0] is norms[1]
        and type(norms[0]).__name__ == "LogNorm"
        and (norms[0].vmin, norms[0].vmax) == (1.0, 50.0)
    )


@pytest.mark.parametrize(("last", "scale"), [(0.05, "log"), (0.3, "linear")])
def test_temperatures_have_one_kind_of_axis_in_all_panels(last, scale):
    run = replace(many_temperatures(), temperature=np.geomspace(0.5, last, 9))
    run = replace(
        run,
        exchange={
            "accepted": np.ones((4, 8), int),
            "tried": np.full((4, 8), 2),
            "trips": np.zeros((4, 9), int),
            "replica": np.tile(np.arange(9), (4, 1)),
        },
    )
    drawn = [
        axes
        for figure in (figures.observables({"a": run}, "T"), figures.exchange(run))
        for axes in figure.axes
        if axes.axison
    ]
    assert {axes.get_xscale() for axes in drawn} == {scale}
    for axes in drawn:
        low, high = axes.get_xlim()
        assert low < last < 0.5 < high < 0.6


def test_the_report_of_several_runs_compares_them(runs, tmp_path, capsys):
    assert main(["report", *list(runs)[1:], "--to", str(tmp_path), "--markdown"]) == 0
    out = capsys.readouterr()
    table = [line for line in out.out.split("All runs")[1].splitlines() if line.startswith("| ")]
    assert (
        len(table) == 2 + 3
        and "6x4" in out.out
        and out.out.count("**Obs") == 2
        and out.out.count("**All") == 1
    )
    assert all(line.count(" | ") == table[0].count(" | ") for line in table)
    names = {p.stem for p in tmp_path.iterdir()}
    assert {
        "observables_temperature",
        "autocorrelation",
        "exchange_ladder",
        "spins_long",
        "spins_ladder",
    } <= names and "exchange_long" not in names


def test_points_and_error_bars_are_means_and_errors(runs):
    figure = figures.observables({"ladder": list(runs.values())[2]}, "T")
    summary = list(runs.values())[2].summary
    (container,) = figure.axes[0].containers
    assert np.allclose(
        container.lines[0].get_xydata(),
        [[0.2, summary.of("energy")[1]], [0.5, summary.of("energy")[0]]],
    )
    (bars,) = container.lines[2]
    assert np.allclose(
        [np.ptp(segment[:, 1]) / 2.0 for segment in bars.get_segments()],
        summary.of("energy", "error")[::-1],
    )
    sizes = figures.observables(dict(list(runs.items())[:2]), "L")
    assert np.allclose(sizes.axes[0].lines[0].get_xdata(), [4.0, 24.0**0.5])
    assert figures.observables(dict(list(runs.items())[:1]), "L") is None


@pytest.mark.parametrize("which", [0, 1])
def test_the_map_of_the_structure_factor_has_its_momenta_in_their_places(runs, which):
    results = list(runs.values())[which]
    mean, shape = results.profiles["structure_factor"].mean, results.parsed_job.lattice.shape
    axes = figures.structure_factor(results).axes[0]
    drawn = np.asarray(axes.collections[0].get_array())
    ny, nx = drawn.shape
    assert np.isclose(drawn[ny // 2, nx // 2], mean[0, 0])
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert np.isclose(drawn[corner], mean[shape[0] // 2, shape[1] // 2])
    assert np.isclose(drawn[ny // 2, nx // 2 + 1], mean[1, 0]) and np.isclose(
        drawn[ny // 2 + 1, nx // 2], mean[0, 1]
    )


def test_a_peak_is_shown_on_a_logarithmic_scale_and_a_flat_map_is_not(runs):
    results = next(iter(runs.values()))
    profile = results.profiles["structure_factor"]
    for height, norm in ((1.0, "Normalize"), (50.0, "LogNorm")):
        chains = np.ones_like(profile.chains)
        chains[:, 2, 2] = height
        figure = figures.structure_factor(
            replace(results, profiles={"structure_factor": replace(profile, chains=chains)})
        )
        assert type(figure.axes[0].collections[0].norm).__name__ == norm


def test_a_model_that_was_taken_as_it_is_has_no_learning_curve(runs):
    results = next(iter(runs.values()))
    assert figures.learning_curve(results) is not None
    assert (
        figures.learning_curve(
            replace(results, curve={name: column[:1] * 0 for name, column in results.curve.items()})
        )
        is None
    )


def test_the_learning_of_merged_runs_is_told_apart(runs):
    one, another = next(iter(runs.values())), found(seed=2)
    merged = merge({"one": one, "another": another})
    assert [text.get_text() for text in figures.learning_curve(merged).legends[0].get_texts()] == [
        "run 1",
        "run 2",
    ]
    assert len(figures.acceptance_by_round({"merged": merged}).axes[0].containers) == 2
    assert len(set(colours_of(figures.acceptance_by_round({"merged": merged}).axes[1].lines))) == 2


def test_the_autocorrelation_function_of_a_known_process():
    rng, phi = np.random.default_rng(1), 0.8
    draws = rng.standard_normal((200, 2000))
    for k in range(1, draws.shape[1]):
        draws[:, k] = phi * draws[:, k - 1] + np.sqrt(1.0 - phi**2) * draws[:, k]
    rho, error = autocorrelation_function(draws, np.ones(draws.shape, dtype=bool), 20)
    z = (rho - phi ** np.arange(20))[1:] / error[1:]
    assert np.abs(z).max() < 4.0 and error.max() < 0.01


def test_without_matplotlib_the_tables_still_come(runs, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "hpcslmc.analysis.figures")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", next(iter(runs))]) == 2
    out = capsys.readouterr()
    assert (
        "electronic energy" in out.out
        and len(out.err.splitlines()) == 1
        and "pip install matplotlib" in out.err
    )


def test_bars_in_cells_do_not_break_a_table():
    assert Sheet("t", ["|m|^2", "b"], [["1", "2"]], left=1).markdown().splitlines()[2:] == [
        r"| \|m\|^2 | b |",
        "| :-- | --: |",
        "| 1 | 2 |",
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 200])
def test_a_table_that_is_too_wide_goes_on_below_and_no_cell_is_cut(width):
    headings = ["T", "mu", *(f"quantity number {k} [t]" for k in range(6))]
    rows = [[f"0.{i}", "-1.25", *(f"{k}.1234({i})" for k in range(6))] for i in range(3)]
    sheets = Sheet("t", headings, rows, keys=2).fitting(width)
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        for sheet in sheets:
            console.print(sheet.text(width))
    lines = captured.get().splitlines()
    assert (
        max(len(line.rstrip()) for line in lines) <= width
        and len(sheets) == {30: 6, 40: 3, 60: 2, 200: 1}[width]
    )
    assert [heading for sheet in sheets for heading in sheet.headings[2:]] == headings[2:]
    for i in range(3):
        own = [line for line in lines if line.split()[:1] == [f"0.{i}"]]
        assert [cell for line in own for cell in line.split()[2:]] == rows[i][2:] and len(
            own
        ) == len(sheets)


def test_chains_that_stand_still_are_a_doubt(capsys):
    results = collect(run(make_job(samples=8), World()), {})
    results.draws["acceptance"][:] = 0.5
    results.draws["m2_uniform"][:] = np.linspace(0.1, 0.2, results.draws["m2_uniform"].shape[1])
    print_tables({"": results})
    assert "stand still" not in capsys.readouterr().out
    results.draws["acceptance"][3] = 0.0
    results.draws["m2_uniform"][5] = 0.25
    print_tables({"": results})
    assert "Doubtful means and errors: 2 of 8 chains stand still" in capsys.readouterr().out


def test_a_ladder_in_pieces_or_uneven_is_a_doubt(runs, capsys):
    ladder = next(one for one in runs.values() if one.is_ladder)
    for accepted, rungs, said in (
        (0, None, "Ladder in pieces: 0 of the swaps between T = 0.5 and 0.2"),
        (40, None, ""),
        (2, 3, "Ladder uneven"),
    ):
        tried = np.full((8, 2), 100)
        exchange = {
            "tried": tried,
            "accepted": np.array([[accepted, 60]] * 8),
            "trips": np.zeros((8, 3), int),
        }
        job = ladder.job.replace("[ensemble]", "[ensemble]\nrungs = 3") if rungs else ladder.job
        print_tables({"": replace(ladder, exchange=exchange, job=job)})
        out = " ".join(capsys.readouterr().out.split())
        assert said in out and out.count("Ladder") == bool(said)
