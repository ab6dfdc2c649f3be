"""Run every command of the tutorial, the README and other pages from a fresh clone, each timed.

    python tools/validate/walkthrough.py [--folder FOLDER] [--list | --json] [--tree TREE]

Clones the last commit, sets it up in an environment of its own, and runs the commands in the clone
in order, as a reader would who has nothing yet: the tutorial, the README, the other pages.
Commands that take long run in the smaller form that the table shows; those that cannot be run here,
or take long and have no smaller form, are listed with the reason (``--list`` says all this and runs
nothing, ``--json`` the same for other programs). Says how long a newcomer waits for the first
figure. The exit code is 1 if any command fails, if a tool is on no page, or if a command is made
smaller here that is on no page; what the commands print is in FOLDER/walkthrough.log.
"""

import argparse
import json
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

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = "hpcslmc/docs/tutorial.md"
PAGES = ("README.md", *(f"hpcslmc/docs/{name}.md" for name in ("running", "models", "tools")))
"""Read after the tutorial, in this order."""
SET_UP = ("tools/setup", "source tools/environment")
"""What the tutorial says before its first file."""
FIRST_FIGURE = "python -m hpcslmc.run report out/first"
PROGRAMS = ("source", "mpirun", "python", "sbatch")
COMMAND = re.compile(
    r"^    (\S.*)$|`((?:mpirun -n \d+ )?python (?:-m \w+ )?tools/[^`\n]+)`", re.MULTILINE
)
"""An indented line of a page, or a tool in a sentence."""
LONGEST_S = 3600.0
SMALLER = {  # tool: options that make it smaller, what they do
    "bench/benchmark": ("--sizes 6 --scale 0.02 --methods 'exact HMC'", "one sampler, few samples"),
    "bench/checkpoint_cost": ("--shape 6 6 --chains 8 --configurations 0", "a small lattice"),
    "bench/observable_cost": ("--lengths 8", "one lattice"),
    "bench/speed": ("--chains 4", "few chains"),
    "bench/start_cost": ("--ranks 1", "one rank"),
    "bench/training_speed": ("--length 4 --batch 16 --steps 2", "a small lattice"),
    "bench/trajectories": ("--lengths 4 --chains 8 --temperatures 0.5", "one small lattice"),
    "bench/weights": ("--lengths 6 8", "small lattices"),
    "study/equivariance": (
        "--length 4 --budgets 3e9 --parts compute --seeds 1",
        "one small budget on a small lattice",
    ),
    "study/ladder_models": (
        "--length 4 --temperatures 0.2 0.5 --configurations 8 --steps 10 --batch 16",
        "two temperatures, few data",
    ),
    "bench/map": ("--lengths 4 --points 1,0,0.2 --samples 20", "one small point"),
    "study/study_models": (
        "--length 4 --chains 8 --configurations 8 --steps 20 --shells 5 --designs linear",
        "one small design",
    ),
    "validate/accuracy": ("--quick --lattices 4x4", "one small lattice"),
    "validate/damage": ("--jobs exact", "one job"),
    "validate/faults": ("--kills 2 --single 1 --full 1 --damaged 10 --elastic 0", "few faults"),
    "validate/fillings": ("--cases band --seeds 1 --samples 40", "one quick case"),
    "validate/fuzz_jobs": ("--parse", "by the parser alone"),
    "validate/layouts": ("--samples 10", "few samples"),
}
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
    "python tools/bench/profile_job.py JOB": (
        "python tools/bench/profile_job.py jobs/smoke.toml",
        "with a job",
        0,
    ),
    "mpirun -n 2 python -m mpi4py tools/bench/weak_scaling.py": (
        "mpirun -n 2 python -m mpi4py tools/bench/weak_scaling.py --seconds 0.2 --blocks 3",
        "few samples",
        0,
    ),
} | {
    f"python tools/{name}.py": (f"python tools/{name}.py {options}", why, 0)
    for name, (options, why) in SMALLER.items()
}
LEFT_OUT = {  # command: why
    "python -m hpcslmc.run merge OUT DIR DIR": "names stand in it; the tutorial has it with some",
    "sbatch jobs/slurm_cpu.sh job.toml": "needs a cluster; slurm_trial.py runs the template",
    "sbatch jobs/slurm_gpu.sh job.toml": "needs a cluster with GPUs",
    "python tools/validate/verify_6x6.py": "four samplers at full length",
    "python tools/validate/verify_scan.py": "a ladder and three runs, with all their samples",
    "python tools/validate/slurm_trial.py": "needs Slurm installed",
    "python tools/validate/walkthrough.py": "is this",
    "python tools/study/cubic_crossing.py": "takes two hours",
    "python tools/study/talk_figures.py": "learns some twenty models",
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


def page_commands(name: str, tree: Path) -> Iterator[Command]:
    """Commands in a page's text: indented lines that start with a program or an executable file of
    the tree, and tools in sentences.
    """
    outside = re.sub(r"```.*?```", "", (tree / name).read_text(), flags=re.DOTALL)
    for line, inside in COMMAND.findall(outside):
        text = (line or inside).partition(" #")[0].rstrip()
        path = tree / text.split()[0]
        if text.split()[0] in PROGRAMS or (path.is_file() and os.access(path, os.X_OK)):
            yield Command(name, text)


def commands(tree: Path) -> list[Command]:
    """All of them, in order."""
    return [
        *(Command(TUTORIAL, text) for text in SET_UP),
        *tutorial((tree / TUTORIAL).read_text()),
        *(command for name in PAGES for command in page_commands(name, tree)),
    ]


def unmet(tree: Path) -> list[str]:
    """Tools that are on no page, and commands that are reduced or left out here but on no page."""
    texts = [command.text for command in commands(tree)]
    tools = sorted(
        str(path.relative_to(tree))
        for path in (tree / "tools").rglob("*")
        if path.is_file() and (path.suffix != ".py" or "if __name__" in path.read_text())
    )
    # what tools have measured is no tool
    measured = (".h5", ".jsonl")
    tools = [name for name in tools if "__pycache__" not in name and not name.endswith(measured)]
    tools += sorted(str(path.relative_to(tree)) for path in (tree / "jobs").glob("*.sh"))
    return [
        f"{name} is on no page" for name in tools if not any(name in text for text in texts)
    ] + [f"{text}: on no page" for text in (*REDUCED, *LEFT_OUT) if text not in texts]


def plan(command: Command) -> tuple[str, int, str]:
    """What is run for a command, the right exit code, and what is to be said of it; nothing is run
    where the first is empty.
    """
    if command.text in LEFT_OUT:
        return "", 0, LEFT_OUT[command.text]
    ran, why, code = REDUCED.get(command.text, (command.text, "", 0))
    return ran, code, why


def walk(clone: Path, log: Path, longest_s: float) -> Iterator[Run]:
    """Run the commands in a clone, one after the other, none for longer than so many seconds."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV", "HPCSLMC_VENV")
    }
    sourced: list[str] = []
    for command in commands(clone):
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
                    timeout=longest_s,
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
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.add_argument("--tree", type=Path, default=ROOT, help="another project's folder")
    parser.add_argument("--longest-s", type=float, default=LONGEST_S, help="time of a command")
    options = parser.parse_args()
    problems = unmet(options.tree) if options.tree == ROOT else []
    plans = [(command, *plan(command)) for command in commands(options.tree)]
    if options.json:
        keys = ("ran", "right", "why")
        print(json.dumps([c._asdict() | dict(zip(keys, rest)) for c, *rest in plans]))
    elif options.list:
        for command, ran, _, why in plans:
            print(command.text + (f"  ->  {ran or 'not run'}: {why}" if why else ""))
    for problem in problems:
        print(problem, file=sys.stderr)
    if options.list or options.json or problems:
        return 1 if problems else 0
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hpcslmc-walkthrough-"))
    folder.mkdir(parents=True, exist_ok=True)
    clone, began, waited, failed = folder / "hpcslmc", time.monotonic(), 0.0, 0
    subprocess.run(["git", "clone", "-q", str(options.tree), str(clone)], check=True)
    print(f"clone and output in {folder}\n\n seconds  code  command")
    for run in walk(clone, folder / "walkthrough.log", options.longest_s):
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
    for command, ran, _, why in plans:
        if not ran:
            print(f"  {command.text}: {why}")
    print(
        f"\n{time.monotonic() - began:.0f} s in all, {failed} failed. From clone to first figure: "
        f"{waited:.0f} s."
    )
    if options.folder is None and not failed:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
