"""Output whose reader goes away."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_jobs import make_job

from hpcslmc.cli.console import LastingStream
from hpcslmc.cli.main import main
from hpcslmc.errors import tell
from hpcslmc.parallel.watch import Watch
from hpcslmc.parallel.world import World

COMMAND = (sys.executable, "-m", "hpcslmc.run")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with the job file and the output of two finished runs."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        job = (
            make_job(samples=40, method="exact", seed=seed)
            .toml()
            .replace('directory = "out"', f'directory = "{folder}/out{seed}"')
        )
        (folder / "job.toml").write_text(job)
        assert main([str(folder / "job.toml"), "--quiet"]) == 0
    return folder


def with_a_closed_pipe(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command whose standard output nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            (*COMMAND, *arguments),
            cwd=folder,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("status", "--help"),
        ("validate", "job.toml"),
        ("status", "out1", "out2"),
        ("report", "out1", "--to", "figures"),
        ("merge", "both", "out1", "out2"),
    ],
)
def test_a_command_into_head_does_its_work_and_says_nothing(runs, arguments):
    result = with_a_closed_pipe(runs, *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    made = {"report": "figures/*.png", "merge": "both/results.h5"}.get(arguments[0], "job.toml")
    assert list(runs.glob(made))


LONG = make_job(samples=10**6, method="exact").toml() + "progress_every_s = 0.01\n"


def long_job(folder: Path) -> None:
    (folder / "job.toml").write_text(LONG.replace("progress_every_s = 10.0\n", ""))


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_run_whose_output_goes_away_can_be_run_again(tmp_path, stream):
    long_job(tmp_path)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: subprocess.PIPE}
    process = subprocess.Popen((*COMMAND, "job.toml"), cwd=tmp_path, text=True, **streams)
    if stream == "stderr":
        process.stderr.readline()
    getattr(process, stream).close()
    assert process.wait(60) == 75 and (tmp_path / "out/checkpoint.h5").exists()
    assert (
        '"state": "nobody reads its output any more"' in (tmp_path / "out/status.json").read_text()
    )


@pytest.mark.parametrize("ignored", [False, True])
def test_a_hangup_is_a_signal_like_others_but_not_under_nohup(tmp_path, ignored):
    long_job(tmp_path)
    action = signal.SIG_IGN if ignored else signal.SIG_DFL

    def prepare() -> None:
        signal.signal(signal.SIGHUP, action)

    process = subprocess.Popen(
        (*COMMAND, "job.toml"),
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=prepare,
    )
    for line in process.stderr:
        if line.startswith("sample: ") and not line.startswith("sample: 0"):
            break
    process.send_signal(signal.SIGHUP)
    if ignored:
        for _ in range(100):  # a second of progress
            process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 75 and "stopped, a signal came" in out


@pytest.mark.parametrize(
    "closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full", "2> /dev/full"]
)
def test_a_run_with_closed_or_full_streams_ends_as_others(tmp_path, closed):
    job = make_job(samples=8, method="exact").toml()
    (tmp_path / "job.toml").write_text(job)
    result = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m hpcslmc.run job.toml {closed}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (
        result.returncode == 0
        and "Traceback" not in result.stderr
        and (tmp_path / "out/results.h5").exists()
    )


def test_what_an_encoding_lacks_is_written_as_an_escape(tmp_path):
    result = subprocess.run(
        (*COMMAND, "status", "d\u00e9pot"),
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 2 and b"d\\xe9pot holds no run" in result.stderr
    (tmp_path / "d\u00e9pot").mkdir()
    (tmp_path / "d\u00e9pot/checkpoint.h5").touch()
    result = subprocess.run(
        (*COMMAND, "status", "d\u00e9pot"),
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 0 and b"d\\xe9pot: does not run" in result.stdout


def test_only_a_reader_that_is_gone_counts_as_gone():
    """A log on a full disk does not end a run."""

    class Failing(io.StringIO):
        def write(self, text):
            raise OSError(number, "")

        def fileno(self):
            raise io.UnsupportedOperation

    cases = ((errno.EPIPE, True), (errno.EIO, True), (errno.ENOSPC, False))
    for number, gone in cases:  # noqa: B007, the class above reads it
        stream = LastingStream(Failing())
        print("text", file=stream)
        assert stream.gone == gone


def test_all_ranks_leave_when_one_has_lost_its_reader():
    before = {number: signal.getsignal(number) for number in Watch.SIGNALS}
    try:
        watch = Watch(World(), 1000.0, reader_gone=lambda: True)
        decision = watch.decide()
        assert decision.checkpoint and decision.leave == "nobody reads its output any more"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_line_is_told_in_one_piece(monkeypatch):
    """Launchers forward what they read of each rank's pipe, and would split it there."""
    pieces = []
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=pieces.append, flush=lambda: None))
    tell("one sentence")
    assert pieces == ["one sentence\n"]
