"""What starting costs: seconds until every rank has done its first unit of work, and the memory of
a rank then.

    python tools/bench/start_cost.py [--ranks 1 4 64]

Memory is the proportional set size of /proc/PID/smaps: pages that ranks share, as those of
libraries, are divided among them. The job is of a 4x4 lattice with a chain on each of 64 ranks, so
nearly all of it is the program's. A second table says what the memory belongs to, a third where the
time of a rank's imports goes.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hpcslmc.cli.launch import Launcher, variant
from hpcslmc.job.load import load_job

CONSOLE = Console(width=130, force_terminal=False)
SMOKE = load_job(str(Path(__file__).resolve().parents[2] / "jobs/smoke.toml"))
START_JOB = variant(
    SMOKE,
    {"thermalisation": {"moves": 10**6}, "output": {"checkpoint_every_s": 1e6}},
    Path("out"),
)
IMPORTS = """
import hpcslmc.cli.main
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.parallel.world import MPIWorld
MPIWorld()
prepare_process()
import hpcslmc.cli.progress, hpcslmc.analysis.tables, hpcslmc.analysis.results
import hpcslmc.simulation.collect, hpcslmc.storage.versions
"""
"""What a job imports before its first unit of work."""
OWNERS = ("torch", "scipy", "numpy", "h5py", "hdf5", "mpi", "python")
"""Looked for in the path of a mapped file, in this order."""


def start(folder: Path, ranks: int) -> tuple[float, list[float], list[Counter]]:
    """Start a job and end it after its first unit of work.

    Returns
    -------
    seconds : float
        Until all ranks have done it, which they tell each other.
    cpu_s : list of float
        Processor time of each rank.
    memory : list of Counter
        Of each rank, in MB by owner.
    """
    launcher = Launcher(folder)
    launcher.write(START_JOB.toml())
    started = time.monotonic()
    process = launcher.start(ranks, "job.toml")
    try:
        if not any(line.startswith("thermalise:") for line in process.stderr):
            raise SystemExit("the job ended before its first unit of work")
        seconds, pids = time.monotonic() - started, launcher.ranks().values()
        return seconds, [cpu_s(pid) for pid in pids], [memory(pid) for pid in pids]
    finally:
        launcher.kill(process)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def memory(pid: int) -> Counter:
    """Proportional set size of a process in MB, by owner."""
    found, owner = Counter(), ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, *rest = line.split()
        if first == "Pss:":
            found[owner] += int(rest[0]) / 1024.0
        elif not first.endswith(":"):
            path = " ".join(rest[4:])
            owner = (
                next((name for name in OWNERS if name in path), "other files")
                if path.startswith("/")
                else "its own data"
            )
    return found


def imports() -> Counter:
    """Milliseconds that one rank spends in the modules of each package, the first one to import a
    module paying for it.
    """
    command = [sys.executable, "-X", "importtime", "-c", IMPORTS]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    times = Counter()
    for line in said.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            times[name.strip().partition(".")[0]] += int(own) / 1000.0
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 4, 64])
    options = parser.parse_args()
    table = Table(
        "ranks",
        "first unit of work after",
        "processor time of a rank",
        "memory of a rank (median, largest)",
        title="Start",
    )
    parts = Table(
        "ranks", *OWNERS, "other files", "its own data", title="Memory of a rank in MB, mean"
    )
    for ranks in options.ranks:
        with tempfile.TemporaryDirectory() as folder:
            seconds, cpu, used = start(Path(folder), ranks)
        totals = [each.total() for each in used]
        table.add_row(
            str(ranks),
            f"{seconds:.1f} s",
            f"{np.median(cpu):.1f} s",
            f"{np.median(totals):.0f} MB, {max(totals):.0f} MB",
        )
        parts.add_row(
            str(ranks),
            *(
                f"{np.mean([each[owner] for each in used]):.1f}"
                for owner in (*OWNERS, "other files", "its own data")
            ),
        )
    CONSOLE.print(table)
    CONSOLE.print(parts)
    times = imports()
    table = Table("package", "ms", title=f"Imports of one rank, {times.total():.0f} ms")
    for name, milliseconds in times.most_common(10):
        table.add_row(name, f"{milliseconds:.0f}")
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
