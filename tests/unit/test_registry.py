"""Names of job files, and users' own modules that add to them."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from small_jobs import make_job, run

import hpcslmc
from hpcslmc import UserError, exact_weight, learned_model, run_job
from hpcslmc.effective import MODELS, EffectiveModel, ShellOptions
from hpcslmc.effective.linear import Linear
from hpcslmc.job.changes import changed_keys
from hpcslmc.job.load import make_job as checked
from hpcslmc.job.rules import resolve
from hpcslmc.measure.registry import OBSERVABLES
from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.plugins import WEIGHTS, import_module
from hpcslmc.storage.models import save_model
from hpcslmc.weight.diagonalise import Diagonalise


class Wide(Linear):
    """A model with every option."""

    Options = EffectiveModel.Options


class Dense(Diagonalise):
    """A weight of another name."""


@pytest.fixture
def own():
    """A model and a weight of one's own."""
    MODELS["wide"], WEIGHTS["dense"] = Wide, Dense
    yield
    del MODELS["wide"], WEIGHTS["dense"]


def test_the_programs_own_are_found_by_name():
    assert MODELS["linear"] is Linear and list(MODELS) == [
        "linear",
        "attention",
        "cnn",
        "messages",
        "lie_conv",
        "lie_transformer",
        "torchmd_et",
        "equiformer",
        "gatr",
        "transformer",
        "direct_forces",
        "determinants",
    ]
    assert len(WEIGHTS) == 4 and "auto" not in WEIGHTS and callable(WEIGHTS["scalapack"])
    with pytest.raises(KeyError):
        MODELS["none"]


@pytest.mark.parametrize("name", ["diagonalise", "blocks", "matsubara", "scalapack"])
@pytest.mark.parametrize("attribute", ["gives_forces", "shares_ranks"])
def test_the_registry_says_of_weights_what_their_classes_say(name, attribute):
    """Without importing them."""
    assert attribute in WEIGHTS._declared[name]
    assert WEIGHTS.declared(name, attribute) is getattr(WEIGHTS[name], attribute)


class Unforced(Diagonalise):
    """A weight without forces, of which each rank of a group may have a share."""

    gives_forces, shares_ranks = False, True


def test_a_weight_of_ones_own_declares_what_it_can_do():
    tables = make_job().model_dump() | {"weight": {"method": "unforced"}}
    WEIGHTS["unforced"] = Unforced
    try:
        with pytest.raises(UserError, match='"unforced" gives no forces, which learning'):
            checked(tables)
        tables["sampling"] = {"method": "exact", "exact_move": "metropolis", "ranks_per_chain": 2}
        assert checked(tables).weight.method == "unforced"
        tables["weight"] = {"method": "diagonalise"}
        with pytest.raises(UserError, match='"blocks", "matsubara", "scalapack" or "unforced"'):
            checked(tables)
    finally:
        del WEIGHTS["unforced"]


@pytest.mark.parametrize(
    "registry, name",
    [
        (MODELS, "linear"),
        (WEIGHTS, "auto"),
        (OBSERVABLES, "energy"),
        (OBSERVABLES, "specific_heat"),
        (OBSERVABLES, "chain"),
        (OBSERVABLES, "a/b"),
        (MODELS, ""),
    ],
)
def test_names_that_cannot_be_taken(registry, name):
    with pytest.raises(ValueError, match="choose another name|is no name"):
        registry[name] = object
    assert name not in registry or registry[name] is not object


def test_jobs_may_name_what_was_added(own):
    tables = make_job().model_dump() | {
        "effective": {"model": "wide", "shells": 3, "layers": 2, "channels": 5},
        "weight": {"method": "dense"},
    }
    simulation = run(checked(tables), World())
    architecture = simulation.rungs[0].learning.model.architecture
    assert (architecture.name, architecture.layers, architecture.channels, simulation.method) == (
        "wide",
        2,
        5,
        "dense",
    )
    assert isinstance(simulation.rungs[0].weight.density, Dense) and isinstance(
        simulation.rungs[0].learning.model, Wide
    )
    without = checked(tables | {"effective": {"model": "wide", "shells": 3}}).effective
    assert without.layers is None and without.channels is None


class Cut(Linear):
    """A model with options of its own."""

    class Options(ShellOptions):
        """Shells and a cutoff."""

        cutoff: int = 2
        ratios: tuple[float, ...] = ()

    def __init__(self, lattice, architecture):
        super().__init__(lattice, architecture)
        self.cutoff, self.ratios = architecture.cutoff, architecture.ratios


@pytest.fixture
def cut():
    """The tables of a job with it."""
    MODELS["cut"] = Cut
    yield make_job().model_dump() | {"effective": {"model": "cut", "shells": 3}}
    del MODELS["cut"]


def test_a_model_of_ones_own_has_keys_of_its_own(cut, tmp_path):
    cut["effective"] |= {"cutoff": 3, "ratios": [0.5, 0.25]}
    job = checked(cut)
    assert "cutoff = 3\nratios = [0.5, 0.25]" in job.toml()
    assert checked(tomllib.loads(job.toml())) == job == resolve(job)
    assert job.effective.options.described == "ratios [0.5, 0.25], cutoff 3, 3 shells"
    model = run(job, World()).rungs[0].learning.model
    assert (model.cutoff, model.ratios) == (3, [0.5, 0.25])
    save_model(tmp_path / "model.h5", model, {})
    again = learned_model(tmp_path, Lattice((6, 6)))
    assert isinstance(again, Cut) and (again.cutoff, again.ratios) == (3, [0.5, 0.25])
    continued = checked(cut | {"effective": {"start_from": str(tmp_path)}})
    assert continued.effective.options == job.effective.options
    other = checked(cut | {"effective": cut["effective"] | {"cutoff": 4}})
    assert changed_keys(job, other) == ([], ["effective.cutoff (was 3, is 4)"])
    with pytest.raises(UserError, match="cutoff = 5: the model of start_from has 3; remove"):
        checked(cut | {"effective": {"start_from": str(tmp_path), "cutoff": 5}})


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"cutof": 3}, r"\[effective\] has no key 'cutof': did you mean 'cutoff'\?"),
        (
            {"layers": 3},
            r"\[effective\] layers belongs to attention, .* and direct_forces: remove it",
        ),
        ({"filling": 3}, r"\[effective\] has no key 'filling': it belongs to \[ensemble\]"),
        ({"cutoff": "a"}, r"\[effective\] cutoff = 'a': input should be a valid integer\."),
        ({"ratios": [1.0, "b"]}, r"\[effective\] ratios \(entry 2\) = 'b'"),
        (
            {"model": "linear", "cutoff": 3},
            r'belongs to cut: remove it, or set model = "cut"',
        ),
    ],
)
def test_wrong_keys_of_a_model_of_ones_own_are_one_sentence(cut, changes, said):
    with pytest.raises(UserError, match=said):
        checked(cut | {"effective": cut["effective"] | changes})


def test_an_option_cannot_take_a_key_of_the_programs_own(cut):
    class Clashing(Linear):
        class Options(ShellOptions):
            start_from: int = 2

    MODELS["cut"] = Clashing
    with pytest.raises(UserError, match="start_from is the program's own key: the option of cut"):
        checked(cut)


def test_a_job_of_the_programs_own_is_checked_without_torch(tmp_path):
    job = make_job(effective={"model": "messages", "shells": 3, "channels": 4}).toml()
    for text, refused in ((job, False), (job.replace("channels = 4", "channels = 0"), True)):
        (tmp_path / "job.toml").write_text(text)
        script = (
            "import sys\nfrom hpcslmc import UserError, load_job\n"
            "try: load_job('job.toml'); refused = False\n"
            "except UserError as error: refused = 'channels = 0' in str(error)\n"
            "print(refused, 'torch' in sys.modules)"
        )
        result = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(hpcslmc.__file__).parents[1])},
        )
        assert result.stdout.split() == [str(refused), "False"], result.stderr


@pytest.mark.parametrize("name", MODELS)
def test_the_registry_says_of_models_what_their_classes_say(name):
    assert "Options" in MODELS._declared[name]
    assert MODELS.declared(name, "Options") is MODELS[name].Options


def test_a_job_starts_from_a_model_of_ones_own(own, tmp_path):
    job = checked(make_job().model_dump() | {"effective": {"model": "wide", "shells": 3}})
    save_model(tmp_path / "model.h5", run(job, World()).rungs[0].learning.model, {})
    tables = job.model_dump() | {"effective": {"start_from": str(tmp_path)}}
    assert (checked(tables).effective.model, checked(tables).effective.layers) == ("wide", None)
    assert isinstance(learned_model(tmp_path, Lattice((4, 4))), Wide)
    del MODELS["wide"]
    try:
        with pytest.raises(
            UserError, match="start_from = .*: model = 'wide': known are .*--import"
        ):
            checked(tables)
        with pytest.raises(UserError, match="model = 'wide'"):
            learned_model(tmp_path, Lattice((4, 4)))
    finally:
        MODELS["wide"] = Wide


def test_what_was_not_added_is_one_sentence():
    with pytest.raises(
        UserError,
        match=(
            r"^\[effective\] model = 'wide': known are auto, linear, attention, cnn, "
            r"messages, lie_conv, .*, direct_forces, determinants, and what --import adds\.$"
        ),
    ):
        run_job(make_job().model_dump() | {"effective": {"model": "wide"}})
    with pytest.raises(UserError, match="^method = 'block': did you mean 'blocks'"):
        exact_weight(Hamiltonian(Lattice((4, 4)), 1.0, 1.0), 0.1, method="block")
    with pytest.raises(UserError, match="^.{,200}$"):
        checked(make_job().model_dump() | {"weight": {"method": "a\n" * 10**5}})


MODULES = {  # source, what the sentence says
    "absent": (None, "there is no such module in"),
    "misspelt": (
        "def f(:\n",
        r"the module fails: SyntaxError: invalid syntax \(misspelt.py, line 1\)",
    ),
    "failing": (
        "\nraise ValueError('no\\nluck')\n",
        r"fails in .*failing.py, line 2: ValueError: no luck\.",
    ),
    "lacking": (
        "import numpy\nimport no_such_library\n",
        "fails in .*lacking.py, line 2: ModuleNotFoundError: .*no_such_library",
    ),
    "leaving": ("import sys\nsys.exit(0)\n", "line 2: SystemExit: 0"),
    "replacing": (
        "from hpcslmc.effective import MODELS\nMODELS['linear'] = int\n",
        "replacing.py, line 2: ValueError: .*choose another name",
    ),
    "my_model.py": ("", "give a module's name"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_cannot_be_imported_is_one_sentence(name, tmp_path, monkeypatch):
    source, expected = MODULES[name]
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(UserError, match=f"^--import {name}: .*{expected}") as error:
        import_module(name)
    assert "\n" not in str(error.value)


def test_a_module_is_found_where_the_program_was_started_but_after_the_libraries(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "one_of_my_own.py").write_text("__version__ = 1.5\n")
    (tmp_path / "zipapp.py").write_text("raise ValueError('the wrong one')\n")
    assert (
        import_module("one_of_my_own") == "one_of_my_own 1.5"
        and import_module("zipapp") == "zipapp"
    )


def test_an_observable_without_a_label_or_under_another_name_is_refused():
    for attributes, said in (
        ({"name": "mine"}, "label"),
        ({"name": "other", "label": "x"}, "name = 'mine'"),
        ({"name": "mine", "label": 3}, "label"),
    ):
        with pytest.raises(ValueError, match=said):
            OBSERVABLES["mine"] = type("Mine", (), attributes)
    assert "mine" not in OBSERVABLES
