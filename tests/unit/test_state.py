"""Checkpoints whose checksums are right and whose state is not.

Refused in one sentence, the previous one used; good ones of every stage pass.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_jobs import make_job

from hpcslmc.errors import UserError
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.storage import checkpoint
from hpcslmc.storage.checkpoint import reader

JOBS = {
    "slmc": {"learning": {"rounds": 2, "steps": 30}},
    "ladder": {
        "exact_move": "metropolis",
        "ensemble": {"temperature": [0.5, 0.1], "rungs": 3, "filling": 0.9},
    },
}


def load(path: Path) -> tuple[dict, dict]:
    """Both trees of a checkpoint, with all chains."""
    return checkpoint.load(path, ChainBlock(8, 0, 8), World())


@pytest.mark.parametrize(
    "kind, least", [("slmc", 5), ("guided", 5), ("exact", 2), ("ladder", 5)], ids=str
)
def test_every_stage_resumes_and_nothing_tampered_with_does(kind, least):
    tool = Path(__file__).parents[2] / "tools/validate/damage.py"
    result = subprocess.run(
        [sys.executable, str(tool), "--jobs", kind], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    ((stages, tampered, problems),) = re.findall(
        rf"{kind} +│ +(\d+) +│ +(\d+) +│ +(\d+)", result.stdout
    )
    assert int(stages) >= least and int(tampered) >= 6 * int(stages) and problems == "0"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Checkpoints of two jobs in several stages."""
    path, found = tmp_path_factory.mktemp("saved") / "checkpoint.h5", {}
    for kind in ("slmc", "ladder"):
        simulation = Simulation(make_job(**JOBS[kind]))

        def keep(kind=kind, simulation=simulation) -> None:
            simulation.save(path, {})
            found[f"{kind}, {simulation.stage}"] = path.read_bytes()

        simulation.run(keep)
    return found


def learning(shared: dict) -> dict:
    return shared["rungs"]["0"]["learning"]


# checkpoint, what is changed in its chains and shared values, what the sentence names
INCONSISTENT = {
    "thermalisation past its end": ("slmc, thermalise", lambda c, s: s.update(done=6), "done = 6"),
    "sampling while learning": ("slmc, train", lambda c, s: s.update(phase="sample"), "stage"),
    "learning when all is learned": (
        "slmc, sample",
        lambda c, s: s.update(phase="learn", done=0),
        "stage",
    ),
    "tuning where nothing is guided": (
        "slmc, sample",
        lambda c, s: s.update(phase="tune", done=0),
        "phase",
    ),
    "learning before it began": (
        "slmc, collect",
        lambda c, s: s.update(phase="thermalise", done=1),
        "evaluations",
    ),
    "a step past the last": (
        "slmc, train",
        lambda c, s: learning(s)["trainers"]["0"].update(step=31),
        "step = 31",
    ),
    "a round past the last": ("slmc, train", lambda c, s: learning(s).update(round=3), "round = 3"),
    "another round": ("slmc, collect", lambda c, s: learning(s).update(round=1), "history"),
    "more samples than bins": (
        "slmc, sample",
        lambda c, s: s.update(done=s["done"] + 1),
        "complete",
    ),
    "a model of another shape": (
        "slmc, sample",
        lambda c, s: s["rungs"]["0"]["models"]["0"].update(couplings=torch.zeros(4).double()),
        "couplings",
    ),
    "other best parameters": (
        "slmc, train",
        lambda c, s: learning(s)["trainers"]["0"]["best"].update(more=torch.zeros(1)),
        "more",
    ),
    "another temperature": (
        "slmc, sample",
        lambda c, s: s["rungs"]["0"].update(temperature=0.2),
        "temperature",
    ),
    "a temperature beyond the ladder": (
        "ladder, sample",
        lambda c, s: s["rungs"]["1"].update(temperature=1e-300),
        "temperature",
    ),
    "a chemical potential far off": (
        "ladder, sample",
        lambda c, s: s["rungs"]["1"].update(mu=1e9),
        "mu",
    ),
    "a step of nothing": (
        "slmc, sample",
        lambda c, s: s["rungs"]["0"]["slmc"]["inner"].update(step_size=1e-12),
        "step_size",
    ),
    "a trajectory of nothing": (
        "slmc, sample",
        lambda c, s: s["rungs"]["0"]["slmc"]["inner"].update(length=1e-12),
        "length",
    ),
    "a guide given up where there is none": (
        "slmc, sample",
        lambda c, s: s["rungs"]["0"]["slmc"]["inner"].update(misguided=True),
        "misguided",
    ),
    "shells of another lattice": (
        "slmc, sample",
        lambda c, s: s["settings"][0].update(shells=[1, 2, 3]),
        "settings",
    ),
    "more shells": (
        "slmc, sample",
        lambda c, s: s["settings"][0].update(shells=[1, 2, 4, 5]),
        "settings",
    ),
    "a setting too many": (
        "slmc, sample",
        lambda c, s: s["settings"][0].update(channels=4),
        "settings",
    ),
    "long spins": ("slmc, sample", lambda c, s: c["rungs"]["0"]["spins"].mul_(2.0), "spins"),
    "a replica twice": (
        "ladder, sample",
        lambda c, s: c["exchange"]["replica"].fill_(1),
        "replica",
    ),
    "a moment before the first": (
        "slmc, train",
        lambda c, s: learning(s)["trainers"]["0"]["moments"]["0"]["step"].fill_(-1),
        "moments",
    ),
    "a remark of two lines": (
        "slmc, train",
        lambda c, s: learning(s)["remarks"].append("a\nhpcslmc: b"),
        "remarks",
    ),
    "no forces to go on with": (
        "slmc, thermalise",
        lambda c, s: c["rungs"]["0"]["evaluation"].pop("forces"),
        "forces",
    ),
    "an energy without a density": (
        "slmc, sample",
        lambda c, s: c["rungs"]["0"]["evaluation"].pop("density"),
        "density",
    ),
}


def resume(path: Path, kind: str) -> Simulation:
    return Simulation(make_job(**JOBS[kind.partition(",")[0]]), resume=path)


@pytest.mark.parametrize("case", INCONSISTENT)
def test_what_does_not_agree_is_named(tmp_path, saved, case):
    kind, change, named = INCONSISTENT[case]
    path = tmp_path / "checkpoint.h5"
    path.write_bytes(saved[kind])
    chains, shared = load(path)
    change(chains, shared)
    checkpoint.save(path, chains, shared, ChainBlock(8, 0, 8), World())
    checkpoint.previous(path).unlink()
    with pytest.raises(
        UserError, match="there is no good checkpoint .*does not hold the state of this job"
    ) as error:
        resume(path, kind)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_arrays_that_are_not_the_jobs_are_not_read(tmp_path, saved, monkeypatch):
    path = tmp_path / "checkpoint.h5"
    path.write_bytes(saved["slmc, train"])
    chains, shared = load(path)
    data = chains["rungs"]["0"]["data"]
    chains["rungs"]["0"]["data"] = {
        name: torch.cat((value, value[:, -1:]), 1) for name, value in data.items()
    }
    checkpoint.save(path, chains, shared, ChainBlock(8, 0, 8), World())
    checkpoint.previous(path).unlink()

    def never(*arguments):
        raise AssertionError("an array was read")

    monkeypatch.setattr(reader, "_read_shared", never)
    monkeypatch.setattr(reader, "_read_chains", never)
    with pytest.raises(UserError, match="data/spins = Array"):
        resume(path, "slmc")
