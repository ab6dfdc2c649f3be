"""One job at a time in an output directory."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hpcslmc.errors import UserError
from hpcslmc.storage.lock import SILENCE_S, Lock, holder_name


def write(lock: Lock, silent_s: float = 0.0, **holder) -> None:
    """A lock of another holder, last touched some time ago."""
    lock.path.write_text(json.dumps(lock._own | holder))
    then = time.time() - silent_s
    os.utime(lock.path, (then, then))


def taken_over(lock: Lock) -> bool:
    """Whether the lock is taken over with a note; refusal has to leave it as it is."""
    before = lock.path.read_text()
    try:
        note = lock.acquire()
    except UserError as error:
        assert "in use by another job" in str(error) and "\n" not in str(error)
        assert lock.path.read_text() == before
        return False
    assert "dead job" in note and json.loads(lock.path.read_text()) == lock._own
    lock.release()
    return True


def test_a_free_directory(tmp_path):
    lock = Lock(tmp_path)
    assert lock.acquire() == ""
    assert not taken_over(Lock(tmp_path))
    lock.release()
    assert list(tmp_path.iterdir()) == []
    assert lock.acquire() == ""


def test_a_process_of_this_host(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    lock = Lock(tmp_path)
    try:
        stat = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()
        write(lock, 10 * SILENCE_S, pid=other.pid, started=stat[19])
        assert not taken_over(lock), "it lives, however silent"
        write(lock, pid=other.pid, started="1")
        assert taken_over(lock), "another process has got its number"
        write(lock, pid=other.pid, started=stat[19])
        other.kill()
        while Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert taken_over(lock), "a zombie is dead"
    finally:
        other.kill()
        other.wait()
    write(lock, pid=other.pid, started=stat[19])
    assert taken_over(lock), "gone"


def test_a_process_of_another_host(tmp_path):
    lock = Lock(tmp_path)
    write(lock, SILENCE_S - 20.0, host="elsewhere")
    assert not taken_over(lock)
    write(lock, SILENCE_S + 20.0, host="elsewhere")
    assert taken_over(lock)


def test_an_earlier_life_of_the_same_slurm_job(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    lock = Lock(tmp_path)
    write(lock, host="elsewhere", slurm_restart=1)
    assert not taken_over(lock)
    write(lock, host="elsewhere", slurm_job="13", slurm_restart=0)
    assert not taken_over(lock)
    write(lock, host="elsewhere", slurm_restart=0)
    assert taken_over(lock)


@pytest.mark.parametrize("text", ["", "{}", "[]", "not JSON", '{"host": 1}'])
def test_a_lock_that_says_nothing(tmp_path, text):
    lock = Lock(tmp_path)
    lock.path.write_text(text)
    assert not taken_over(lock)
    os.utime(lock.path, (0, 0))
    assert taken_over(lock)


@pytest.mark.parametrize(
    "key, value",
    [("slurm_restart", "0"), ("slurm_job", 7), ("pid", [1]), ("host", {}), ("started", 1.0)],
)
def test_a_lock_with_values_of_other_kinds(tmp_path, monkeypatch, key, value):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    lock = Lock(tmp_path)
    write(lock, 0.5 * SILENCE_S, **{"host": "elsewhere"} | {key: value})
    assert not taken_over(lock)
    assert holder_name(tmp_path) == "which did not say who it is"
    write(lock, 2.0 * SILENCE_S, **{"host": "elsewhere"} | {key: value})
    assert taken_over(lock)


def test_of_several_who_find_it_dead_one_takes_it(tmp_path, monkeypatch):
    """Each is held up between finding the lock dead and taking it, until all have found so."""
    others = [Lock(tmp_path) for _ in range(8)]
    for number, lock in enumerate(others):
        lock._own["started"] = f"{number}"
    write(others[0], pid=1, started="long ago")
    found, lives = threading.Barrier(len(others)), Lock._lives

    def lives_and_waits(lock, holder):
        verdict = lives(lock, holder)
        if holder.get("started") == "long ago" and threading.current_thread() not in waited:
            waited.add(threading.current_thread())
            found.wait(timeout=30)
        return verdict

    waited, notes, refusals = set(), [], []
    monkeypatch.setattr(Lock, "_lives", lives_and_waits)

    def take(lock):
        try:
            notes.append((lock, lock.acquire()))
        except UserError as error:
            refusals.append(str(error))

    threads = [threading.Thread(target=take, args=(lock,)) for lock in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(notes) == 1 and len(refusals) == len(others) - 1
    assert all("by another job" in refusal for refusal in refusals)
    ((winner, note),) = notes
    assert "dead job" in note and winner._holder() == winner._own
    winner.release()
    assert list(tmp_path.iterdir()) == []


def test_one_who_comes_late_leaves_the_new_lock_alone(tmp_path):
    dead, late, new = Lock(tmp_path), Lock(tmp_path), Lock(tmp_path)
    write(dead, pid=1, started="long ago")
    judged = late._holder()
    new.acquire()
    with pytest.raises(UserError, match="was just taken by another job"):
        late._take_over(judged)
    assert new._holder() == new._own and [path.name for path in tmp_path.iterdir()] == [
        "running.lock"
    ]
    new.release()


def test_a_turn_that_nobody_ended_is_named(tmp_path):
    lock = Lock(tmp_path)
    write(lock, pid=1, started="long ago")
    (tmp_path / "running.takeover").touch()
    with pytest.raises(UserError, match="remove .*running.takeover"):
        lock.acquire()


def test_something_else_in_place_of_the_lock(tmp_path):
    lock = Lock(tmp_path)
    os.mkfifo(lock.path)
    assert lock._holder() == {} and holder_name(tmp_path) is None
    with pytest.raises(UserError, match="in use by another job .which did not say who it is"):
        lock.acquire()
    os.utime(lock.path, (0, 0))
    lock.acquire()
    lock.release()
    lock.path.mkdir()
    with pytest.raises(UserError, match="running.lock is a folder"):
        lock.acquire()


def test_a_directory_that_takes_no_file(tmp_path, monkeypatch):
    """Neither a new lock nor a look at the file server's clock."""

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    lock = Lock(tmp_path)
    write(lock, host="elsewhere")
    monkeypatch.setattr("hpcslmc.storage.lock.tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match="running.lock cannot be written .Permission denied."):
        lock.acquire()
    with pytest.raises(UserError, match="cannot be written .No such file or directory."):
        Lock(Path("/proc/self")).acquire()


def test_a_job_that_was_suspended_for_too_long_gives_way(tmp_path):
    """To the one that has taken the directory meanwhile; a lock that cannot be read is no reason to
    end.
    """
    lock = Lock(tmp_path)
    lock.acquire()
    lock.check()
    write(lock, host="elsewhere", pid=7)
    with pytest.raises(UserError, match="taken by another job .process 7 on elsewhere"):
        lock.check()
    lock.path.unlink()
    lock.check()


def test_only_the_own_lock_is_released(tmp_path):
    lock = Lock(tmp_path)
    write(lock, pid=1)
    lock.release()
    assert lock.path.exists()


def test_the_lock_beats(tmp_path, monkeypatch):
    monkeypatch.setattr("hpcslmc.storage.lock.BEAT_S", 0.01)
    lock = Lock(tmp_path)
    lock.acquire()
    os.utime(lock.path, (0, 0))
    end = time.monotonic() + 10.0
    while lock.path.stat().st_mtime == 0 and time.monotonic() < end:
        time.sleep(0.01)
    assert lock.path.stat().st_mtime > 0
    lock.release()
