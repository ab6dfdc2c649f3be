"""The live bar on a terminal, and the lines of a log."""

import os
import pty
import re
import subprocess
import sys

import pytest

PROGRAM = """
import fcntl, struct, sys, termios, time
fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 8, {width}, 0, 0))
from hpcslmc.cli.progress import Progress
progress = Progress(True, 10.0)
for k in range(12):
    for done in range(3):
        progress.show(f"learn: T = 0.{{k}}, collect, round 10", 100 * done, 300, "acceptance 0.50")
        time.sleep(0.01)
progress.show("sample", 60, 300, "acceptance 0.75  R-hat 1.0200")
time.sleep(0.3)
progress.say("a remark")
progress.close()
"""


def on_a_terminal(width: int) -> list[str]:
    """What a terminal of that width and 8 rows got, line by line, without its codes."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(width=width)], stderr=theirs)
    os.close(theirs)
    got = b""
    try:
        while chunk := os.read(ours, 4096):
            got += chunk
    except OSError:  # how a terminal ends
        pass
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", got.decode()).replace("\r", "\n").split("\n")


@pytest.mark.parametrize("width", [80, 120])
def test_the_present_phase_is_seen_however_many_there_were(width):
    lines = on_a_terminal(width)
    assert max(map(len, lines)) <= width
    bars = [line for line in lines if line.startswith("sample")]
    assert bars and all(
        "60/300" in line and "acceptance 0.75" in line and "R-hat 1.0200" in line
        for line in bars[-1:]
    )
    for k in range(12):
        (_,) = [
            line
            for line in lines
            if re.match(
                rf"learn: T = 0.{k}, collect, round 10: 300/300  acceptance 0.50  \d\.\d s", line
            )
        ]
    assert "a remark" in [line.strip() for line in lines]


def test_a_log_gets_a_line_a_phase_and_one_now_and_then():
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM.format(width=80).replace("fcntl.ioctl", "id and (lambda *_: 0)"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = result.stderr.splitlines()
    assert (
        len(lines) == 14
        and lines[0] == "learn: T = 0.0, collect, round 10: 0/300"
        and lines[-2:] == ["sample: 60/300", "a remark"]
    )
