"""Kill, resume, extend: the same bits as a run that nothing disturbed."""

import os
import shutil
import signal
import time

from job_files import QUIET

from hpcslmc.storage.hdf5 import differing


def assert_same_bits(one, other) -> None:
    assert differing(one, other) == []


def finish(launcher, ranks) -> None:
    result = launcher.run(ranks, "job.toml")
    assert result.returncode == 0, result.stderr


def stamp(launcher) -> tuple:
    path = launcher.folder / "out/checkpoint.h5"
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else ()


def test_signals_checkpoint_and_ask_to_be_run_again(launcher, whole):
    """To one rank in training, to mpirun in sampling."""
    launcher.write(QUIET)
    for number, stage in ((signal.SIGTERM, "learn: train"), (signal.SIGUSR1, "sample")):
        process = launcher.start(2, "job.toml")
        for line in process.stderr:
            if line.startswith(stage):
                break
        os.kill(launcher.ranks()[1] if number == signal.SIGTERM else process.pid, number)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 75 and "stopped, a signal came" in out
        assert not (launcher.folder / "out/results.h5").exists()
    finish(launcher, 2)
    assert_same_bits(whole / "results.h5", launcher.folder / "out/results.h5")


def test_a_finished_run_is_extended(launcher, whole):
    launcher.write(QUIET.replace("samples = 152", "samples = 50"))
    finish(launcher, 2)
    launcher.write(QUIET)
    finish(launcher, 2)
    assert_same_bits(whole / "results.h5", launcher.folder / "out/results.h5")


def test_other_physics_is_refused_and_nothing_is_lost(launcher, whole):
    shutil.copytree(whole, launcher.folder / "out")
    before = stamp(launcher)
    launcher.write(QUIET.replace("temperature = 0.1", "temperature = 0.2"))
    result = launcher.run(2, "job.toml")
    assert result.returncode == 2 and "ensemble.temperature" in result.stderr
    assert stamp(launcher) == before
    result = launcher.run(2, "job.toml", "--restart")
    assert result.returncode == 0
    assert (launcher.folder / "out/before-restart-1/checkpoint.h5").stat().st_ino == before[0]
    assert (launcher.folder / "out/before-restart-1/results.h5").exists()


def test_a_damaged_newest_checkpoint_is_kept_aside_and_the_previous_used(launcher, whole):
    launcher.write(QUIET)
    shutil.copytree(whole, launcher.folder / "out")
    path = launcher.folder / "out/checkpoint.h5"
    path.write_bytes(path.read_bytes()[:1000])
    result = launcher.run(2, "job.toml")
    assert result.returncode == 0 and own_lines(result.stderr) == [
        "hpcslmc: out/checkpoint.h5 is truncated"
    ]
    assert "going on from out/checkpoint.previous.h5" in result.stdout
    assert (launcher.folder / "out/checkpoint.damaged-1.h5").stat().st_size == 1000
    assert_same_bits(whole / "results.h5", launcher.folder / "out/results.h5")


def own_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("hpcslmc:")]


def test_the_wall_time(launcher, whole):
    """A run in two lives, the first of a second."""
    launcher.write(QUIET + "wall_time_s = 1.0\n")
    result = launcher.run(2, "job.toml")
    assert result.returncode == 75 and "the job's time is nearly over" in result.stdout
    assert not (launcher.folder / "out/results.h5").exists()
    launcher.write(QUIET)
    result = launcher.run(2, "job.toml")
    assert result.returncode == 0 and "output.wall_time_s (was 1.0, is None)" in result.stderr
    assert_same_bits(whole / "results.h5", launcher.folder / "out/results.h5")


def test_slurms_time_limit(launcher, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 8))
    launcher.write(QUIET.replace("samples = 152", "samples = 1000000"))
    result = launcher.run(2, "job.toml")
    assert result.returncode == 75 and "the job's time is nearly over" in result.stdout


def test_a_second_job_in_the_same_directory_is_refused(launcher):
    launcher.write(QUIET.replace("samples = 152", "samples = 100000"))
    process = launcher.start(2, "job.toml")
    while not stamp(launcher) and process.poll() is None:
        time.sleep(0.01)
    second = launcher.run(1, "job.toml")
    assert (
        second.returncode == 2
        and len(own_lines(second.stderr)) == 1
        and "in use by another job" in second.stderr
    )
    launcher.kill(process)
    launcher.write(QUIET.replace("samples = 152", "samples = 40"))
    third = launcher.run(2, "job.toml")
    assert third.returncode == 0 and "the lock of a dead job" in third.stderr, third.stderr
    assert not (launcher.folder / "out/running.lock").exists()
