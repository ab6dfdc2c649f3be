"""Kill, resume, extend: the same bits as a run that nothing disturbed."""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter

import h5py
import numpy as np
import pytest
from launcher import JOB

QUIET = JOB.replace("checkpoint_every_s = 0.1", "checkpoint_every_s = 1000")


def contents(path) -> dict[str, np.ndarray]:
    """All datasets of a results file."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def bits(array: np.ndarray) -> object:
    return array.tolist() if array.dtype == object else array.tobytes()


def assert_same_bits(one, other) -> None:
    one, other = contents(one), contents(other)
    assert one.keys() == other.keys()
    for name in one:
        assert bits(one[name]) == bits(other[name]), name


def finish(launcher, ranks) -> None:
    result = launcher.run(ranks, "job.toml")
    assert result.returncode == 0, result.stderr


STAGES = ("thermalise", "explore", "train", "collect", "sample")


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_at_random_moments_of_every_phase(launcher, ranks):
    """kill -9 of all ranks, twice in each phase and stage of learning, a random time behind a checkpoint taken there."""
    longer = JOB.replace("moves = 15", "moves = 300").replace("configurations = 10", "configurations = 240")
    longer = longer.replace("steps = 60", "steps = 800").replace("samples = 150", "samples = 300")
    launcher.write(longer.replace("checkpoint_every_s = 0.1", "checkpoint_every_s = 1000"))
    finish(launcher, ranks)
    shutil.move(launcher.folder / "out", launcher.folder / "whole")
    launcher.write(longer)
    rng, killed = random.Random(ranks), []
    for stage in [stage for stage in STAGES for _ in range(2)]:
        before = stamp(launcher)
        process = launcher.start(ranks, "job.toml")
        while process.poll() is None and (stamp(launcher) == before or phase(launcher) != stage):
            time.sleep(0.005)
        time.sleep(rng.expovariate(10.0))
        assert process.poll() is None, f"finished before a checkpoint in {stage}"
        launcher.kill(process)
        killed.append(phase(launcher))
    finish(launcher, ranks)
    print(f"{ranks} ranks, killed after checkpoints in {Counter(killed)}")
    assert_same_bits(launcher.folder / "whole/results.h5", launcher.folder / "out/results.h5")


def stamp(launcher) -> tuple:
    path = launcher.folder / "out/checkpoint.h5"
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else ()


def phase(launcher) -> str:
    """Phase or learning stage in which the last checkpoint was taken."""
    path = launcher.folder / "out/checkpoint.h5"
    if not path.exists():
        return "none"
    with h5py.File(path) as file:
        state = json.loads(file["shared/plain_json"][()].tobytes())
    return state["learning"]["stage"] if state["phase"] == "learn" else state["phase"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_signal_checkpoints_and_asks_to_be_run_again(launcher, number):
    launcher.write(QUIET)
    finish(launcher, 2)
    shutil.move(launcher.folder / "out", launcher.folder / "whole")
    process = launcher.start(2, "job.toml")
    for line in process.stderr:
        if line.startswith("learn: train"):
            break
    ranks = [pid for pid in launcher.processes() if pid != process.pid]
    os.kill(ranks[-1], number)
    assert process.wait(timeout=60) == 75
    assert not (launcher.folder / "out/results.h5").exists()
    finish(launcher, 2)
    assert_same_bits(launcher.folder / "whole/results.h5", launcher.folder / "out/results.h5")


def test_a_finished_run_is_extended(launcher):
    launcher.write(QUIET)
    finish(launcher, 2)
    shutil.move(launcher.folder / "out", launcher.folder / "whole")
    launcher.write(QUIET.replace("samples = 150", "samples = 50"))
    finish(launcher, 2)
    launcher.write(QUIET)
    finish(launcher, 2)
    assert_same_bits(launcher.folder / "whole/results.h5", launcher.folder / "out/results.h5")


def test_a_run_goes_on_with_other_ranks(launcher):
    """Chains keep their streams and bins; only rounding may differ."""
    short = QUIET.replace("bin_size = 4", "bin_size = 2")
    for samples, ranks in ((8, 4), (11, 1), (14, 2)):
        launcher.write(short.replace("samples = 150", f"samples = {samples}"))
        finish(launcher, ranks)
        if samples == 8:
            shutil.copytree(launcher.folder / "out", launcher.folder / "whole")
    launcher.write(short.replace("samples = 150", "samples = 14").replace('"out"', '"whole"'))
    finish(launcher, 4)
    one, other = contents(launcher.folder / "whole/results.h5"), contents(launcher.folder / "out/results.h5")
    for name in ("energy", "m2_staggered", "acceptance"):
        assert one[f"draws/{name}"].shape == (8, 7)
        assert np.allclose(one[f"draws/{name}"], other[f"draws/{name}"], rtol=0, atol=1e-6), name


def test_other_physics_is_refused_and_nothing_is_lost(launcher):
    launcher.write(QUIET)
    finish(launcher, 2)
    before = stamp(launcher)
    launcher.write(QUIET.replace("temperature = 0.1", "temperature = 0.2"))
    result = launcher.run(2, "job.toml")
    assert result.returncode == 2 and "ensemble.temperature" in result.stderr
    assert stamp(launcher) == before
    result = launcher.run(2, "job.toml", "--restart")
    assert result.returncode == 0
    assert (launcher.folder / "out/before-restart-1/checkpoint.h5").stat().st_ino == before[0]
    assert (launcher.folder / "out/before-restart-1/results.h5").exists()


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:3000]),
                                    lambda path: path.write_text("not HDF5")])
def test_a_damaged_checkpoint_is_refused(launcher, damage):
    launcher.write(QUIET)
    finish(launcher, 1)
    path = launcher.folder / "out/checkpoint.h5"
    damage(path)
    size = path.stat().st_size
    result = launcher.run(2, "job.toml")
    assert result.returncode == 2 and "checkpoint.h5" in result.stderr and "Traceback" not in result.stderr
    assert path.stat().st_size == size
