import math
import re

import pytest
import torch
from small_jobs import make_job

from hpcslmc.errors import UserError
from hpcslmc.parallel.world import World
from hpcslmc.physics.couplings import Couplings
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.simulation import simulation
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.weight import choice, make_weight
from hpcslmc.weight.choice import choose_method, cost_table, predict
from hpcslmc.weight.elimination_choice import make_elimination
from hpcslmc.weight.nodes import matsubara_nodes
from hpcslmc.weight.rows import Rows

BETA = 20.0


def model(*shape, J=1.0):
    return Hamiltonian(Lattice(shape), 1.0, J)


def chosen(*shape, beta=BETA, **options):
    return choose_method(Ensemble(model(*shape), beta, 0.0), **options)[0]


@pytest.fixture
def petsc(monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda name: object())


@pytest.fixture
def no_petsc(monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda name: None)


def test_small_lattices_by_eigenvalues_large_ones_by_determinants(petsc):
    assert chosen(4, 4) == chosen(6, 6) == "diagonalise"
    assert chosen(64, 64) == chosen(100, 100) == "blocks"
    order = ["diagonalise", "blocks"]
    methods = [order.index(chosen(length, length)) for length in (4, 6, 8, 12, 16, 24, 32, 48, 64)]
    assert methods == sorted(methods)


def test_large_lattices_without_petsc(no_petsc):
    method, why = choose_method(Ensemble(model(48, 48), BETA, 0.0))
    assert method == "blocks" and "matsubara" in why and "without petsc4py" in why


def test_narrow_lattices_by_blocks(petsc):
    assert chosen(4, 400) == "blocks"
    assert chosen(400, 4) == "blocks"


def test_ranks_that_share_a_weight_never_diagonalise():
    for length in (2, 4, 6, 8, 16, 32):
        for forces in (False, True):
            assert chosen(length, length, ranks_per_chain=2, forces=forces) != "diagonalise"


def test_too_cold_for_determinants():
    assert chosen(24, 24, beta=1e4) == "diagonalise"
    with pytest.raises(UserError, match="ranks_per_chain = 1"):
        chosen(24, 24, beta=1e4, ranks_per_chain=2)


def test_what_is_advised_in_the_cold_is_accepted():
    """Ranks do not share a diagonalisation."""
    group = World()
    alone = "always works with [sampling] ranks_per_chain = 1."
    for size, advice in ((1, "always works."), (2, alone)):
        group.size = size
        with pytest.raises(UserError, match=re.escape(f'method = "diagonalise" {advice}')):
            make_weight("blocks", Ensemble(model(4, 4), 1e5, 0.0), group)


def test_the_reason_gives_the_predicted_times(petsc):
    method, why = choose_method(Ensemble(model(8, 8), BETA, 0.0))
    costs, nodes = cost_table()["cpu"][method], matsubara_nodes(BETA, model(8, 8).bound)
    shifts = len(nodes.weights) if "shifts" in costs else 1
    milliseconds = 1e3 * predict(costs, 64, False) * shifts
    assert why.startswith(f"predicted {milliseconds:.2g} ms per log W; ")
    assert all(name in why for name in {"diagonalise", "blocks", "matsubara"} - {method})
    assert "per log W and forces" in choose_method(Ensemble(model(8, 8), BETA, 0.0), forces=True)[1]
    assert " s per log W" in choose_method(Ensemble(model(400, 400), BETA, 0.0))[1]


def test_colder_costs_more_shifts(petsc):
    """Eigenvalues need none, so they stay ahead on larger lattices."""
    assert chosen(8, 8, beta=0.1) == "blocks"
    assert chosen(8, 8, beta=1000.0) == "diagonalise"


def test_a_device_without_measured_times(monkeypatch):
    monkeypatch.setattr(choice, "cost_table", lambda: {"cpu": cost_table()["cpu"]})
    method, why = choose_method(Ensemble(model(8, 8), BETA, 0.0), "cuda")
    assert method == "diagonalise" and "no times" in why
    assert choose_method(Ensemble(model(10, 10), BETA, 0.0), "cuda")[0] == "blocks"
    assert choose_method(Ensemble(model(8, 8), BETA, 0.0), "cuda", ranks_per_chain=2)[0] == "blocks"


def test_a_resumed_run_keeps_its_method(tmp_path, monkeypatch):
    job = make_job("auto")
    first = Simulation(job)
    first.advance()
    first.save(tmp_path / "checkpoint.h5", {})
    monkeypatch.setattr(
        simulation, "choose_method", lambda *arguments: ("blocks", "the table has changed")
    )
    resumed = Simulation(job, resume=tmp_path / "checkpoint.h5")
    assert (resumed.method, resumed.method_reason) == (first.method, "as before")
    assert (first.method, Simulation(job).method) == ("diagonalise", "blocks")
    for run in (first, resumed):
        run.advance()
    assert torch.equal(
        first.rungs[0].chains.evaluation.log_weight, resumed.rungs[0].chains.evaluation.log_weight
    )


def test_predictions_meet_the_table_and_go_on_as_powers():
    costs = {
        "sites": [10, 100, 1000],
        "log_weight": [1.0, 10.0, 1000.0],
        "forces": [2.0, 20.0],
        "shifts": [10, 10, 20],
    }
    assert predict(costs, 100, False) == pytest.approx(1.0)
    assert predict(costs, 10_000, False) == pytest.approx(50.0**2 * 1.0)
    assert predict(costs, 1000, True) == pytest.approx(20.0)
    assert predict(costs, 1, True) == pytest.approx(0.02)


@pytest.mark.parametrize("forces", [False, True])
def test_the_choice_is_near_the_best_measured(petsc, forces):
    key = "forces" if forces else "log_weight"
    for device, table in cost_table().items():
        methods = {
            name: dict(zip(c["sites"], c[key])) for name, c in table.items() if isinstance(c, dict)
        }
        for sites in sorted(set().union(*methods.values())):
            length = math.isqrt(sites)
            best = min(times[sites] for times in methods.values() if sites in times)
            method = chosen(length, length, device=device, forces=forces)
            assert methods[method][sites] <= 1.5 * best, (device, sites, method)


def test_the_table_is_complete():
    shifts = len(matsubara_nodes(BETA, 4.5).weights)
    for table in cost_table().values():
        assert "made" in table
        for method, costs in table.items():
            if isinstance(costs, dict):
                assert (
                    costs["sites"] == sorted(costs["sites"])
                    and len(costs["log_weight"]) == len(costs["sites"]) >= 2
                )
                assert 2 <= len(costs["forces"]) <= len(costs["sites"])
                assert method == "diagonalise" or all(abs(k - shifts) <= 3 for k in costs["shifts"])


@pytest.mark.parametrize("field", [(0.0, 0.0, 0.0), (0.0, 0.0, 0.1)])
def test_times_are_those_of_the_elimination_that_is_made(field):
    """A narrow square goes by rows, unless something acts on the electrons' spin."""
    h = Hamiltonian(Lattice((8, 8)), Couplings.make(J=1.0, field=field))
    by_rows = isinstance(make_elimination(h, 0.0, World()), Rows)
    assert by_rows == choice.is_by_rows(h) == (not any(field))
    assert choice._square(h) == pytest.approx(64.0, rel=1e-12 if by_rows else 0.5)
