"""Every command of the tutorial and of the README, from a fresh clone, in order, each timed.

    python tools/walkthrough.py [--folder FOLDER] [--list]

Clones the last commit, sets it up in an environment of its own, and runs the commands in the clone
as a reader would who has nothing yet: the tutorial first, then the README. Commands that take long
run in the smaller form that the table shows; those that cannot be run here, or take long and have
no smaller form, are listed with the reason (``--list`` says all this and runs nothing). Says how
long a newcomer waits for the first figure. The exit code is 1 if any command fails; what they print
is in FOLDER/walkthrough.log.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
README, TUTORIAL = "README.md", "hpcslmc/docs/tutorial.md"
SET_UP = ("tools/setup", "source tools/environment")
"""What the tutorial says before its first file."""
FIRST_FIGURE = "python -m hpcslmc.run report out/first"
PROGRAMS = ("source", "mpirun", "python", "sbatch")
LONGEST_S = 3600.0
REDUCED = {  # command: (what is run in its place, why, the exit code that is right)
    "tools/test": (
        "tools/test -k test_readme",
        "of the serial tests only those of the README; tests/mpi in full",
        0,
    ),
    "jobs/curriculum/run 2": (
        "timeout --preserve-status -s USR1 60 mpirun -n 2 python -m hpcslmc.run "
        "jobs/curriculum/8x8.toml",
        "of its six jobs the first, asked to leave after a minute (exit code 75)",
        75,
    ),
    "python tools/weights.py": ("python tools/weights.py --lengths 6 8", "small lattices", 0),
    "python tools/accuracy.py": (
        "python tools/accuracy.py --quick --lattices 4x4",
        "one small lattice",
        0,
    ),
    "python tools/speed.py": ("python tools/speed.py --chains 4", "few chains", 0),
    "python tools/study_models.py": (
        "python tools/study_models.py --length 4 --chains 8 --configurations 8 --steps 20 --shells "
        "5 --designs linear",
        "one small design",
        0,
    ),
    "python tools/study_models.py --length 16": (
        "python tools/study_models.py --length 16 --chains 8 --configurations 16 --steps 20 "
        "--designs linear",
        "one design, few data",
        0,
    ),
    "python tools/benchmark.py": (
        "python tools/benchmark.py --sizes 6 --scale 0.02 --methods 'exact HMC'",
        "one sampler, few samples",
        0,
    ),
    "python tools/trajectories.py": (
        "python tools/trajectories.py --lengths 4 --chains 8 --temperatures 0.5",
        "one small lattice",
        0,
    ),
    "python tools/observable_cost.py": (
        "python tools/observable_cost.py --lengths 8",
        "one lattice",
        0,
    ),
    "python tools/training_speed.py": (
        "python tools/training_speed.py --length 4 --batch 16 --steps 2",
        "a small lattice",
        0,
    ),
    "python tools/weak_scaling.py": (
        "mpirun -n 2 python -m mpi4py tools/weak_scaling.py --seconds 0.2 --blocks 3",
        "few samples",
        0,
    ),
    "python tools/ladder_models.py": (
        "python tools/ladder_models.py --length 4 --temperatures 0.2 0.5 --configurations 8 "
        "--steps 10 --batch 16",
        "two temperatures, few data",
        0,
    ),
    "python tools/profile_job.py JOB": (
        "python tools/profile_job.py jobs/smoke.toml",
        "with a job",
        0,
    ),
    "python tools/fuzz_jobs.py": ("python tools/fuzz_jobs.py --parse", "by the parser alone", 0),
    "python tools/combinations.py": (
        "python tools/combinations.py --strength 1",
        "each option once",
        0,
    ),
    "python tools/fillings.py": (
        "python tools/fillings.py --cases band --seeds 1 --samples 40",
        "one quick case",
        0,
    ),
    "python tools/layouts.py": ("python tools/layouts.py --samples 10", "few samples", 0),
    "python tools/start_cost.py": ("python tools/start_cost.py --ranks 1", "one rank", 0),
    "python tools/faults.py": (
        "python tools/faults.py --kills 2 --single 1 --full 1 --damaged 10 --elastic 0",
        "few faults",
        0,
    ),
    "python tools/checkpoint_cost.py": (
        "python tools/checkpoint_cost.py --shape 6 6 --chains 8 --configurations 0",
        "a small lattice",
        0,
    ),
}
LEFT_OUT = {  # command: why
    "python -m hpcslmc.run merge OUT DIR DIR": "names stand in it; the tutorial has it with some",
    "sbatch jobs/slurm_cpu.sh job.toml": "needs a cluster; tools/slurm_trial.py runs the template",
    "sbatch jobs/slurm_gpu.sh job.toml": "needs a cluster with GPUs",
    "python tools/verify_6x6.py": "four samplers at full length; the quickstart runs the first",
    "python tools/talk_figures.py": "learns some twenty models",
    "python tools/verify_scan.py": "a ladder and three runs, with all their samples",
    "python tools/delayed_acceptance.py": "needs all runs of tools/benchmark.py",
    (
        "python tools/patches.py --lengths 16 --models out/benchmark/16x16/SLMC_linear"
    ): "needs a run of tools/benchmark.py",
    "python tools/slurm_trial.py": "needs Slurm installed",
    "python tools/walkthrough.py": "is this",
}


class Command(NamedTuple):
    """A command line of a page.

    As it stands there, and the job file's text that belongs to it, if any.
    """

    page: str
    text: str
    job: str = ""


class Run(NamedTuple):
    """What became of a command.

    What was run, in how many seconds, with what exit code, and which would have been right.
    """

    command: Command
    ran: str
    seconds: float
    code: int
    right: int
    why: str


def applied(text: str, diff: str) -> str:
    """A job file with a page's lines changed.

    Each block of - lines becomes the + lines after it.
    """
    for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)*)", diff, re.MULTILINE):
        before, after = (re.sub(r"^[-+]", "", block, flags=re.MULTILINE) for block in (old, new))
        if text.count(before) != 1:
            raise ValueError(
                f"the page changes {before!r}, which is in its job file {text.count(before)} times"
            )
        text = text.replace(before, after)
    return text


def tutorial(page: str) -> Iterator[Command]:
    """The commands of the tutorial's text, each with the job file at that point."""
    job = ""
    for kind, block in re.findall(r"```(toml|diff|sh)\n(.*?)```", page, re.DOTALL):
        if kind != "sh":
            job = block if kind == "toml" else applied(job, block)
        else:
            yield from (Command(TUTORIAL, line, job) for line in block.splitlines())


def readme(page: str) -> Iterator[Command]:
    """The commands of the README's text.

    Indented lines that start with a program or an executable file of the project, and tools in
    sentences.
    """
    outside = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    for line, inside in re.findall(r"^    (\S.*)$|`(python tools/[^`\n]+)`", outside, re.MULTILINE):
        text = (line or inside).partition(" #")[0].rstrip()
        path = ROOT / text.split()[0]
        if text.split()[0] in PROGRAMS or (path.is_file() and os.access(path, os.X_OK)):
            yield Command(README, text)


def commands() -> list[Command]:
    """All of them, in order."""
    first = [Command(TUTORIAL, text) for text in SET_UP]
    return [*first, *tutorial((ROOT / TUTORIAL).read_text()), *readme((ROOT / README).read_text())]


def plan(command: Command) -> tuple[str, int, str]:
    """What is run for a command, the right exit code, and what is to be said of it; nothing is run
    where the first is empty.
    """
    if command.text in LEFT_OUT:
        return "", 0, LEFT_OUT[command.text]
    ran, why, code = REDUCED.get(command.text, (command.text, "", 0))
    return ran, code, why


def walk(clone: Path, log: Path) -> Iterator[Run]:
    """Run the commands in a clone, one after the other."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV", "HPCSLMC_VENV")
    }
    sourced: list[str] = []
    for command in commands():
        ran, right, why = plan(command)
        if not ran:
            continue
        if command.job:
            (clone / "job.toml").write_text(command.job)
        with log.open("a") as file:
            print(f"\n$ {ran}", file=file, flush=True)
            began = time.monotonic()
            try:
                code = subprocess.run(
                    ["bash", "-c", "\n".join(["set -e", *sourced, ran])],
                    cwd=clone,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    timeout=LONGEST_S,
                ).returncode
            except subprocess.TimeoutExpired:
                code = 124
        if ran.startswith("source "):
            sourced.append(ran)
        yield Run(command, ran, time.monotonic() - began, code, right, why)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--folder",
        type=Path,
        help="an empty or missing one, which is kept; default: a temporary one",
    )
    parser.add_argument(
        "--list", action="store_true", help="say what would be run, and run nothing"
    )
    options = parser.parse_args()
    if options.list:
        for command in commands():
            ran, _, why = plan(command)
            print(command.text + (f"  ->  {ran or 'not run'}: {why}" if why else ""))
        return 0
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hpcslmc-walkthrough-"))
    folder.mkdir(parents=True, exist_ok=True)
    clone, began, waited, failed = folder / "hpcslmc", time.monotonic(), 0.0, 0
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    print(f"clone and output in {folder}\n\n seconds  code  command")
    for run in walk(clone, folder / "walkthrough.log"):
        wrong = run.code != run.right
        failed += wrong
        print(
            f"{run.seconds:8.1f}  {run.code:4}  {run.command.text}{'  FAILED' if wrong else ''}",
            flush=True,
        )
        if run.ran != run.command.text:
            print(f"{'':16}reduced to: {run.ran} ({run.why})", flush=True)
        if run.command.text == FIRST_FIGURE and not waited:
            waited = time.monotonic() - began
    print("\nnot run:")
    for text in LEFT_OUT:
        print(f"  {text}: {LEFT_OUT[text]}")
    print(
        f"\n{time.monotonic() - began:.0f} s in all, {failed} failed. From clone to first figure: "
        f"{waited:.0f} s."
    )
    if options.folder is None and not failed:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
