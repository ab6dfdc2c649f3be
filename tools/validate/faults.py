"""Inject faults into jobs (kills, full disks, damaged checkpoints), resume them, compare results.

    python tools/validate/faults.py [--kills 200] [--single 100] [--full 10] [--damaged 300]
    [--elastic 12] [--folder FOLDER] [--seed 1]

kills    kill -9 of all ranks at random moments, half of them while a checkpoint is being written,
         on 1, 2 and 4 ranks
single   kill -9, or a segmentation fault, of one rank of 2 or 4
full     a disk that is full in the middle of a run (a small tmpfs as root, else a limit on the size
         of files)
damaged  checkpoints with flipped bits, cut short, of another program, or with a value of their
         state tampered with and right checksums
elastic  jobs stopped by signals at random units of work and resumed, on 4, 2, 1 and again 4 ranks

Every disturbed job is resumed until it ends, and its results are compared bit for bit with those of
an undisturbed one; those of other ranks up to rounding: on other ranks sums over all chains (step
sizes, gradients) are added in another order. The exit code is 1 if anything was lost, differed,
hung or ended without a sentence.
"""

import argparse
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from damage import DAMAGES, damaged
from rich.console import Console
from rich.table import Table
from victims import FAULTY_JOB, OUT, Tally, Victim, communicate, newest_plain, undisturbed

from hpcslmc.cli.launch import variant
from hpcslmc.errors import UserError
from hpcslmc.job.load import load_job
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.storage import checkpoint

CONSOLE = Console(width=150, force_terminal=False)
ELASTIC_JOB = variant(
    FAULTY_JOB,
    {
        "thermalisation": {"moves": 15},
        "learning": {"configurations": 10, "steps": 40},
        "sampling": {"samples": 64, "moves": 1, "trajectory": 0.5},
        "output": {"checkpoint_every_s": 0.2, "progress_every_s": 1e-3},
    },
    OUT,
)
"""Every unit of work is told, and trajectories are short.

Four of length 1.5 multiply rounding about tenfold from sample to sample.
"""
ELASTIC_JOBS = {
    kind: variant(ELASTIC_JOB, {"sampling": keys}, OUT)
    for kind, keys in {
        "slmc, hmc": {},
        "slmc, metropolis": {"exact_move": "metropolis", "inner_move": "metropolis"},
        "exact, hmc": {"method": "exact"},
        "exact, metropolis": {"method": "exact", "exact_move": "metropolis"},
    }.items()
}
ELASTIC_RANKS = (4, 2, 1, 4)
ROUNDING = 1e-9
"""Largest difference of a draw that is one of rounding."""
IN_TIME_S = 10.0


def strike_until_enough(
    folder: Path,
    ranks: int,
    count: int,
    whole: Path,
    tally: Tally,
    strike: Callable[[Victim, subprocess.Popen], str],
) -> None:
    """Jobs struck and resumed until they end, until there were ``count`` faults; ``strike`` says
    which, "" if the job ended first.
    """
    for journey in itertools.count():
        victim = Victim(folder / f"{ranks}-{journey}", ranks, whole, tally)
        process = victim.start()
        while count and (fault := strike(victim, process)):
            victim.check_checkpoint()
            tally.count(fault)
            count -= 1
            process = victim.start()
        victim.finish(process)
        shutil.rmtree(victim.launcher.folder)
        if not count:
            return


def kill_all(
    folder: Path, ranks: int, count: int, rng: random.Random, whole: Path, tally: Tally
) -> None:
    """kill -9 of mpirun and all ranks, every second time while a checkpoint is being written."""
    turns = itertools.cycle(rng.sample((True, False), 2))

    def strike(victim: Victim, process: subprocess.Popen) -> str:
        writing, was_writing = next(turns), None
        while was_writing is None or (writing and not was_writing):
            if not victim.wait_for_checkpoint(process, writing):
                return ""
            time.sleep(rng.uniform(0.0, 0.02) if writing else rng.expovariate(3.0))
            was_writing = (victim.output / "checkpoint.part").exists()
        if process.poll() is not None:
            return ""
        victim.launcher.kill(process)
        return f"{ranks} ranks, writing" if was_writing else f"{ranks} ranks"

    strike_until_enough(folder / "all", ranks, count, whole, tally, strike)


def kill_one(
    folder: Path, ranks: int, count: int, rng: random.Random, whole: Path, tally: Tally
) -> None:
    """kill -9 or a segmentation fault of a random rank; the job has to end by itself, in time."""

    def strike(victim: Victim, process: subprocess.Popen) -> str:
        if victim.wait_for_checkpoint(process, False):
            time.sleep(rng.expovariate(3.0))
        pids = victim.launcher.ranks()
        if process.poll() is not None or len(pids) < ranks:
            return ""
        rank, number = (
            rng.randrange(ranks),
            rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV)),
        )
        struck = time.monotonic()
        os.kill(pids[rank], number)
        _, said = communicate(victim.launcher, process, 60.0)
        while (left := victim.launcher.processes()) and time.monotonic() - struck < IN_TIME_S:
            time.sleep(0.01)  # mpirun does not wait for the ranks it has killed
        tally.seconds.append(time.monotonic() - struck)
        what = f"{number.name} of rank {rank} of {ranks}"
        tally.expect(process.returncode != 0, f"{what}: exit code 0")
        tally.expect(
            tally.seconds[-1] < IN_TIME_S, f"{what}: ended after {tally.seconds[-1]:.1f} s"
        )
        tally.expect(f"process rank {rank} with PID" in said, f"{what}: not named: {said[-300:]}")
        tally.expect(not left, f"{what}: processes left")
        return f"{number.name}, exit code {process.returncode}"

    strike_until_enough(folder / "single", ranks, count, whole, tally, strike)


def fill_disk(folder: Path, count: int, rng: random.Random, whole: Path, tally: Tally) -> None:
    """A tmpfs that is filled up to a random part of a checkpoint; without root, a limit on the size
    of files.
    """
    disk = folder / "disk"
    disk.mkdir(parents=True)
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True
        ).returncode
        == 0
    )
    try:
        for k in range(count):
            victim = Victim(disk / f"full-{k}", 2, whole, tally)
            process = victim.start()
            victim.wait_for_checkpoint(process, False)
            time.sleep(rng.expovariate(2.0))
            size = (
                (victim.output / "checkpoint.h5").stat().st_size
                if (victim.output / "checkpoint.h5").exists()
                else 100_000
            )
            room = int(rng.uniform(0.0, 1.2) * size)
            if mounted:
                filler = disk / "filler"
                free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                with filler.open("wb") as file:
                    try:
                        os.posix_fallocate(file.fileno(), 0, max(4096, free - room))
                    except OSError:
                        pass
            else:
                for pid in victim.launcher.ranks().values():
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, room))
            struck = time.monotonic()
            _, said = communicate(victim.launcher, process, 120.0)
            if process.returncode == 0:  # it had all the room it needed
                victim.compare()
            else:
                own = [line for line in said.splitlines() if line.startswith("hpcslmc:")]
                tally.expect(
                    process.returncode == 2
                    and len(own) == 1
                    and "cannot be written" in own[0]
                    and "Traceback" not in said,
                    f"full disk: exit code {process.returncode}: {said[-800:]}",
                )
                tally.seconds.append(time.monotonic() - struck)
                victim.check_checkpoint()
                if mounted:
                    filler.unlink()
                victim.finish(victim.start())
            tally.count(f"{'tmpfs' if mounted else 'limit'}, exit code {process.returncode}")
            shutil.rmtree(victim.launcher.folder)
            if mounted:
                filler.unlink(missing_ok=True)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], check=False)


def damage(folder: Path, count: int, rng: random.Random, whole: Path, tally: Tally) -> None:
    """Checkpoints of a real job, damaged at random.

    Taken up in this process; then five of them by whole jobs.
    """
    victim = Victim(folder / "damaged", 2, whole, tally)
    process = victim.start()
    for _ in range(2):
        victim.wait_for_checkpoint(process, False)
    victim.launcher.kill(process)
    path = victim.output / "checkpoint.h5"
    before = checkpoint.previous(path)
    newest_plain(victim.output)
    good, kept = path.read_bytes() if path.exists() else before.read_bytes(), before.read_bytes()
    job = load_job(str(victim.launcher.folder / "job.toml"))
    for kind in itertools.islice(itertools.cycle(DAMAGES), count):
        path.write_bytes(damaged(good, kind, rng))
        try:
            simulation = Simulation(job, resume=path)
            remarks = simulation.resume_remarks
            tally.expect(
                simulation.resumed_from == before
                and len(remarks) == 1
                and remarks[0].isprintable(),
                f"{kind}: {remarks}",
            )
        except UserError as error:
            tally.problems.append(f"{kind}: previous one not used: {error}")
        except Exception as error:
            tally.problems.append(f"{kind}: {error!r}")
        tally.count(kind)
    for kind in ("bit anywhere", "truncated", "foreign", "nan"):
        path.write_bytes(damaged(good, kind, rng))
        before.write_bytes(damaged(kept, kind, rng))
        stamps = path.read_bytes(), before.read_bytes()
        result = victim.launcher.run(2, "job.toml")
        own = [
            line
            for line in result.stderr.splitlines()
            if line.startswith("hpcslmc: there is no good checkpoint")
        ]
        tally.expect(
            result.returncode == 2 and len(own) == 1 and "Traceback" not in result.stderr,
            f"both {kind}: {result.stderr[-500:]}",
        )
        tally.expect(
            stamps == (path.read_bytes(), before.read_bytes()), f"both {kind}: files were touched"
        )
        tally.count("both, by a job")
    path.write_bytes(damaged(good, "bit anywhere", rng))
    before.write_bytes(kept)
    victim.finish(victim.start())
    tally.count("newest, by a job")
    tally.expect(
        (victim.output / "checkpoint.damaged-1.h5").exists(), "the damaged file was not kept"
    )


def resume_on_other_ranks(folder: Path, count: int, rng: random.Random, tally: Tally) -> None:
    """Jobs of every kind, in four lives on 4, 2, 1 and 4 ranks, against the same on 4 ranks in one
    life.
    """
    whole: dict[str, Path] = {}
    for journey, kind in zip(range(count), itertools.cycle(ELASTIC_JOBS)):
        whole[kind] = whole.get(kind) or undisturbed(folder / kind, 4, ELASTIC_JOBS[kind])
        victim = Victim(folder / f"elastic-{journey}", 4, whole[kind], tally, ELASTIC_JOBS[kind])
        learning = (
            ("learn: explore", "learn: train", "learn: collect") if kind.startswith("slmc") else ()
        )
        stages = ("thermalise", *learning, "sample", "sample")
        for victim.ranks, stop in zip(
            ELASTIC_RANKS, sorted(rng.choices(range(len(stages)), k=len(ELASTIC_RANKS) - 1))
        ):
            if stop_at(victim, victim.start(), stages[stop], rng):
                tally.count(f"{kind}, {stages[stop].removeprefix('learn: ')}")
        victim.ranks = ELASTIC_RANKS[-1]
        _, said = communicate(victim.launcher, victim.start())
        results = victim.output / "results.h5"
        tally.expect(results.exists(), f"{kind}: the last life did not finish: {said[-500:]}")
        if results.exists():
            compare_draws(whole[kind], results, kind, tally)
        shutil.rmtree(victim.launcher.folder)


def stop_at(victim: Victim, process: subprocess.Popen, stage: str, rng: random.Random) -> bool:
    """Ask a job to stop after some units of a stage, by a signal to mpirun or to one rank; False if
    it ended before.
    """
    units, struck = rng.randrange(1, 8), False
    watchdog = threading.Timer(300.0, victim.launcher.kill, [process])
    watchdog.start()
    for line in process.stderr:
        units -= line.startswith(stage)
        if units == 0 and not struck:
            pids = [process.pid, *victim.launcher.ranks().values()]
            pid = rng.choice(pids)
            os.kill(
                pid,
                signal.SIGUSR1
                if pid == process.pid
                else rng.choice((signal.SIGUSR1, signal.SIGTERM)),
            )
            struck = True
    process.communicate()
    watchdog.cancel()
    victim.tally.expect(
        process.returncode in (0, 75), f"stopped in {stage}: exit code {process.returncode}"
    )
    return process.returncode == 75


def compare_draws(one: Path, other: Path, kind: str, tally: Tally) -> None:
    """Every bin of every chain, up to rounding."""
    with h5py.File(one) as first, h5py.File(other) as second:
        names = [name for name in first["draws"]]
        tally.expect(names == list(second["draws"]), f"{kind}: other observables")
        for name in names:
            a, b = first[f"draws/{name}"][()], second[f"draws/{name}"][()]
            tally.expect(
                a.shape == b.shape, f"{kind}: {name} has bins {b.shape} instead of {a.shape}"
            )
            difference = float(np.abs(a - b).max()) if a.shape == b.shape else np.inf
            tally.expect(difference <= ROUNDING, f"{kind}: {name} differs by {difference:.1e}")
            tally.differences[kind] = max(tally.differences.get(kind, 0.0), difference)
    tally.compared += 1


def campaign(
    folder: Path, kills: int, single: int, full: int, damages: int, elastic: int, seed: int
) -> dict[str, Tally]:
    """All kinds of faults, as many as asked for; folder is empty or missing."""
    rng = random.Random(seed)
    whole: dict[int, Path] = {}
    tallies = {
        "kill -9 of all ranks": Tally(),
        "one rank killed": Tally(),
        "disk full": Tally(),
        "damaged checkpoint": Tally(),
        "stopped, other ranks": Tally(),
    }
    parts = [
        (kill_all, ranks, share, "kill -9 of all ranks")
        for ranks, share in zip((1, 2, 4), shares(kills, 3))
    ]
    parts += [
        (kill_one, ranks, share, "one rank killed")
        for ranks, share in zip((2, 4), shares(single, 2))
    ]
    for function, ranks, share, name in parts:
        if share:
            whole[ranks] = whole.get(ranks) or undisturbed(folder, ranks)
            function(folder, ranks, share, rng, whole[ranks], tallies[name])
    for function, share, name in (
        (fill_disk, full, "disk full"),
        (damage, damages, "damaged checkpoint"),
    ):
        if share:
            whole[2] = whole.get(2) or undisturbed(folder, 2)
            function(folder, share, rng, whole[2], tallies[name])
    resume_on_other_ranks(folder / "elastic", elastic, rng, tallies["stopped, other ranks"])
    return tallies


def shares(total: int, parts: int) -> list[int]:
    return [(total + k) // parts for k in range(parts)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("kills", 200),
        ("single", 100),
        ("full", 10),
        ("damaged", 300),
        ("elastic", 12),
        ("seed", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--folder", type=Path, help="an empty or missing one; default: a temporary one"
    )
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        tallies = campaign(
            options.folder or Path(temporary),
            options.kills,
            options.single,
            options.full,
            options.damaged,
            options.elastic,
            options.seed,
        )
    table = Table(
        "fault",
        "injected",
        "of which",
        "job ended after (median, longest)",
        "ends compared",
        "problems",
        title="Faults and what came of them",
    )
    for name, tally in tallies.items():
        ended = (
            f"{np.median(tally.seconds):.2f} s, {max(tally.seconds):.2f} s"
            if tally.seconds
            else "-"
        )
        where = "\n".join(f"{count} {where}" for where, count in sorted(tally.where.items()))
        table.add_row(
            name, str(tally.faults), where, ended, str(tally.compared), str(len(tally.problems))
        )
    CONSOLE.print(table)
    for kind, difference in tallies["stopped, other ranks"].differences.items():
        print(f"largest difference of a draw on other ranks, {kind}: {difference:.1e}")
    for name, tally in tallies.items():
        for problem in tally.problems:
            print(f"{name}: {problem}")
    problems = sum(len(tally.problems) for tally in tallies.values())
    print(f"{problems} problems; {time.monotonic() - started:.0f} s in all")
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
