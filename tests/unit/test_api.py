"""What a notebook imports; the examples of the pages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from measurement import fermi
from measurement import hamiltonian as dense
from small_jobs import make_job, run

import hpcslmc
from hpcslmc import (
    Hamiltonian,
    Lattice,
    UserError,
    exact_weight,
    learned_model,
    random_spins,
    read_results,
    run_job,
)
from hpcslmc.analysis import results_file
from hpcslmc.job.schema import Job
from hpcslmc.parallel.world import World
from hpcslmc.storage.models import save_model

DOCS = Path(hpcslmc.__file__).parent / "docs"
JOB = {
    "lattice": {"shape": [4, 4]},
    "ensemble": {"temperature": 0.1},
    "effective": {"model": "linear", "shells": 3},
    "thermalisation": {"moves": 5},
    "learning": {"rounds": 1, "configurations": 3, "steps": 20},
    "sampling": {"chains": 8, "samples": 6, "moves": 1},
}


def test_importing_the_package_imports_nothing_else():
    program = (
        "import sys, hpcslmc; before = set(sys.modules) & {'torch', 'numpy', 'h5py', 'mpi4py'}; "
        "hpcslmc.Lattice; print(before, 'torch' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        == "set() False\n"
    )


def test_every_name_is_there_and_explained():
    for name in hpcslmc.__all__:
        assert getattr(hpcslmc, name).__doc__, name
    assert set(hpcslmc.__all__) <= set(dir(hpcslmc))
    with pytest.raises(AttributeError, match="has no attribute 'Latice'"):
        _ = hpcslmc.Latice


@pytest.mark.parametrize("method", ["auto", "diagonalise", "blocks"])
def test_the_exact_weight_and_its_forces(method):
    hamiltonian = Hamiltonian(Lattice((4, 4)), t=1.0, J=1.3)
    weight, spins = (
        exact_weight(hamiltonian, temperature=0.2, mu=-0.5, method=method),
        random_spins(2, hamiltonian.lattice, seed=3),
    )
    log_weight, forces = weight.log_weight_and_forces(spins)

    def independent(s):
        return np.log1p(np.exp(-(np.linalg.eigvalsh(dense(s, (4, 4), 1.0, 1.3)) + 0.5) / 0.2)).sum()

    assert np.allclose(log_weight, [independent(s.numpy()) for s in spins], atol=1e-8)
    moved = spins[0].clone()
    moved[5, 1] += 1e-5
    assert np.isclose(
        (independent(moved.numpy()) - independent(spins[0].numpy())) / 1e-5,
        forces[0, 5, 1],
        atol=1e-3,
    )
    levels = np.linalg.eigvalsh(dense(spins[0].numpy(), (4, 4), 1.0, 1.3))
    assert np.isclose(
        weight.evaluate(spins, forces=True).density[0], fermi((levels + 0.5) / 0.2).sum() / 16
    )


@pytest.mark.parametrize("method", ["diagonalise", "blocks", "matsubara"])
def test_what_an_exact_weight_cannot_be_of_is_one_sentence(method):
    lattice = Lattice((4, 4))
    hamiltonian = Hamiltonian(lattice, 1.0, 1.0)
    weight, spins = exact_weight(hamiltonian, 0.2, method=method), random_spins(2, lattice)
    wanted = "spins have to be a torch tensor (chains, 16, 3) of torch.float64, not "
    cases = {
        "(16, 3) torch.float64": spins[0],
        "(2, 16, 3) torch.float32": spins.float(),
        "(2, 16, 3) float64": spins.numpy(),
        "list": spins.tolist(),
        "(2, 12, 3)": random_spins(2, Lattice((3, 4))),
    }
    for found, wrong in cases.items():
        for ask in (weight.log_weight, weight.log_weight_and_forces):
            with pytest.raises(UserError, match=re.escape(wanted + found)):
                ask(wrong)
    log_weight, forces = weight.log_weight_and_forces(spins[:0])
    assert log_weight.shape == (0,) and forces.shape == (0, 16, 3)
    nan, inf = float("nan"), float("inf")
    for temperature, mu in ((0.0, 0.0), (-1.0, 0.0), (nan, 0.0), (inf, 0.0), (1.0, nan)):
        with pytest.raises(UserError, match="positive finite temperature, and a finite chemical"):
            exact_weight(hamiltonian, temperature, mu, method)


def test_jobs_of_every_form():
    """A Job without its defaults is one; where nothing was exchanged there is no acceptance."""
    apart = {"temperature": [0.2, 0.1], "exchange": 0}
    table = JOB | {"effective": {"model": "attention", "shells": 3}, "ensemble": apart}
    results = run_job(Job.model_validate(table))
    assert results.parsed_job.effective.layers == 3
    assert np.array_equal(results.exchange_acceptance, [np.nan], equal_nan=True)
    exchanged = run_job(JOB | {"ensemble": {"temperature": [0.3, 0.2, 0.1], "exchange": 6}})
    assert np.isnan(exchanged.exchange_acceptance).sum() == 1
    alone = run_job(JOB | {"sampling": {"method": "exact", "chains": 2, "samples": 4}})
    assert alone.exchange_acceptance.shape == (0,)
    for wrong in ([1], None, 3):
        with pytest.raises(UserError, match="a job has to be a table of sections, not"):
            hpcslmc.make_job(wrong)


def test_a_learned_model_on_a_larger_lattice(tmp_path):
    model = run(make_job(), World()).rungs[0].learning.model
    save_model(tmp_path / "model.h5", model, {})
    spins = random_spins(2, Lattice((4, 4)))
    assert torch.equal(learned_model(tmp_path, Lattice((4, 4)))(spins), model(spins))
    larger, spins = (
        learned_model(tmp_path / "model.h5", Lattice((8, 8))),
        random_spins(2, Lattice((8, 8))),
    )
    shifted = spins.unflatten(1, (8, 8)).roll((1, 2), (1, 2)).flatten(1, 2)
    assert torch.allclose(larger(spins), larger(shifted)) and larger.evaluate(
        spins, forces=True
    ).forces.shape == (2, 64, 3)
    with pytest.raises(UserError, match="cannot read"):
        learned_model(tmp_path / "absent.h5", Lattice((4, 4)))


def test_a_small_run_in_this_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = run_job(JOB)
    assert results.draws["energy"].shape == (8, 6) and np.isclose(
        results.summary.of("energy"), results.draws["energy"].mean()
    )
    assert (
        results.dataset()["energy"].dims == ("chain", "draw")
        and len(results.rounds["acceptance"]) == 1
    )
    assert not list(tmp_path.iterdir())
    results_file.write(tmp_path / "results.h5", results)
    assert np.array_equal(read_results(tmp_path).draws["energy"], results.draws["energy"])
    with pytest.raises(UserError, match="did you mean 'chains'"):
        run_job(JOB | {"sampling": {"chainz": 8}})


@pytest.mark.parametrize("name", ["observable", "function", "derived", "weight", "effective_model"])
def test_the_examples_run_and_are_on_their_page(name):
    path = DOCS / f"examples/{name}.py"
    result = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(DOCS.parents[1])},
    )
    assert result.returncode == 0 and len(result.stdout.splitlines()) == 1, result.stderr
    assert path.read_text() in re.findall(
        r"```python\n(.*?)```", (DOCS / "extending.md").read_text(), re.DOTALL
    )
    assert len(path.read_text().splitlines()) <= 32


def test_the_page_of_the_api_runs(tmp_path, monkeypatch, capsys):
    """In order, in one session."""
    monkeypatch.chdir(tmp_path)
    page, session = (DOCS / "api.md").read_text(), {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, session)  # noqa: S102
    assert "energy" in capsys.readouterr().out
    assert set(re.findall(r"^\| `(\w+)", page, re.MULTILINE)) == set(hpcslmc.__all__)


def test_every_link_between_pages_leads_somewhere():
    readme = DOCS.parents[1] / "README.md"
    for page in (readme, *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    linked = set(re.findall(r"\]\(hpcslmc/docs/(\w+\.md)\)", readme.read_text()))
    assert linked == {page.name for page in DOCS.glob("*.md")}
