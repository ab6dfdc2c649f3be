"""Users' own modules in a job.

The examples of the documentation, on two ranks, and what goes wrong.
"""

import shutil
from pathlib import Path

import h5py
import pytest
from job_files import QUIET

import hpcslmc
from hpcslmc.cli.launch import Launcher
from hpcslmc.cli.main import main
from hpcslmc.storage.hdf5 import differing

OWN = (
    QUIET.replace('model = "attention"\nlayers = 1\nshells = 3', 'model = "polynomial"\ndegree = 3')
    .replace("steps = 60", "steps = 20")
    .replace("samples = 152", "samples = 40")
    + '[weight]\nmethod = "autograd"\n'
)
IMPORTS = [
    word for name in ("effective_model", "weight", "observable") for word in ("--import", name)
]


@pytest.fixture
def examples(launcher: Launcher) -> Launcher:
    """A folder with the modules and a job that uses them."""
    for path in (Path(hpcslmc.__file__).parent / "docs/examples").glob("*.py"):
        shutil.copy(path, launcher.folder)
    launcher.write(OWN)
    return launcher


def refusal(result) -> str:
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("hpcslmc:")]
    return line


def test_a_job_of_ones_own_model_weight_and_observable(examples, capsys):
    whole = examples.run(2, *IMPORTS, "job.toml")
    assert whole.returncode == 0, whole.stderr
    assert (
        "self-learning with polynomial (degree 3)" in whole.stdout
        and "exact weight by autograd" in whole.stdout
    )
    assert (
        "(bond nematicity / N)^2" in whole.stdout
        and "imported effective_model, weight, observable" in whole.stdout
    )
    out = examples.folder / "out"
    with h5py.File(out / "results.h5") as file:
        assert (
            file["draws/nematicity2"].shape == (8, 10)
            and file.attrs["imported"] == "effective_model, weight, observable"
        )
    assert (
        main(["report", str(out), "--to", str(examples.folder / "figures")]) == 0
        and "nematicity" in capsys.readouterr().out
    )

    out.rename(examples.folder / "whole")
    examples.write(OWN.replace("samples = 40", "samples = 20"))
    assert examples.run(2, *IMPORTS, "job.toml").returncode == 0
    examples.write(OWN)
    assert "[weight] method = 'autograd': did you mean 'auto', or is --import missing?" in refusal(
        examples.run(2, "job.toml")
    )
    assert "come with --import" in refusal(examples.run(2, *IMPORTS[:4], "job.toml"))
    resumed = examples.run(2, *IMPORTS, "job.toml")
    assert resumed.returncode == 0 and "going on from" in resumed.stdout
    assert differing(examples.folder / "whole/results.h5", out / "results.h5") == []


MEASURED = (
    QUIET.replace("samples = 152", 'samples = 40\nmethod = "exact"')
    + "[measure]\nnematicity2 = 2\ndiagonal = 4\nsusceptibility_chiral = 4\n"
)
"""Nothing is learned, as that changes nothing about how measurements are made."""


def test_a_job_of_ones_own_measurements_by_name(examples, capsys):
    """Half and half is the whole, bit for bit; merged with the definitions and without.

    Most of its time goes into starting the program: ranks are spared where they change nothing.
    """
    imports = [
        word for name in ("observable", "function", "derived") for word in ("--import", name)
    ]
    out, whole = examples.folder / "out", examples.folder / "whole"
    examples.write(MEASURED)
    result = examples.run(2, *imports, "job.toml")
    assert result.returncode == 0, result.stderr
    assert "(bond nematicity / N)^2" in result.stdout
    assert "susceptibility of scalar chirality [1/t]" in result.stdout
    out.rename(whole)
    with h5py.File(whole / "results.h5") as file:
        assert set(file["profiles/diagonal/measurements"]) == {10}
    examples.write(MEASURED.replace("samples = 40", "samples = 20"))
    assert examples.run(2, *imports, "job.toml").returncode == 0
    examples.write(MEASURED)
    missing = refusal(examples.run(1, *imports[:2], "job.toml"))
    assert "[measure] has no key 'diagonal'" in missing and "--import" in missing
    assert examples.run(2, *imports, "job.toml").returncode == 0
    assert differing(whole / "results.h5", out / "results.h5") == []

    examples.write(
        MEASURED.replace("samples = 40", "samples = 40\nseed = 2").replace('"out"', '"other"')
    )
    assert examples.run(1, *imports, "job.toml").returncode == 0
    runs = [str(whole), str(examples.folder / "other")]
    assert main(["merge", str(examples.folder / "without"), *runs]) == 0
    assert "its definition is not imported, as --import does" in capsys.readouterr().out
    merged = examples.run(1, "merge", *imports, "with", "whole", "other")
    assert merged.returncode == 0 and "its definition" not in merged.stdout, merged.stderr


def test_validate_imports_too(examples):
    assert (
        'model = "polynomial"\ndegree = 3'
        in examples.run(2, "validate", *IMPORTS, "job.toml").stdout
    )
    assert "model = 'polynomial': known are auto, linear" in refusal(
        examples.run(2, "validate", "--import", "weight", "job.toml")
    )


FAILING = (
    "import os\nif os.environ['OMPI_COMM_WORLD_RANK'] == '1':\n    raise OSError('not on this "
    "node')\n"
)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("absent", "--import absent: there is no such module"),
        ("failing", "failing.py, line 3: OSError: not on this node"),
    ],
)
def test_a_module_that_one_rank_or_none_has_is_one_sentence(examples, name, expected):
    (examples.folder / "failing.py").write_text(FAILING)
    before = sorted(examples.folder.glob("*"))
    assert expected in refusal(examples.run(2, "--import", name, "job.toml"))
    assert [
        path for path in sorted(examples.folder.glob("*")) if path.name != "__pycache__"
    ] == before
