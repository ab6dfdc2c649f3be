"""Try malformed job files, made from the schema: each has to be refused in one sentence.

    python tools/validate/fuzz_jobs.py [--count 150] [--ranks 1 4] [--seed 1] [--parse]
    [--only NAME] [--control]

Wrong types, values out of range, misspelt and missing keys, for every key that the schema has;
files that are no TOML, no text or no files at all; numbers that no machine has room for;
combinations that make no sense; models and output directories that are none. All that the schema
does not give is always among them, the rest is drawn at random. Every file is given to ``mpirun -n
RANKS python -m hpcslmc.run``, or with ``--parse`` to the parser in this process. A file passes if
the program leaves with exit code 2 within 15 s, after one sentence on one line that names the key,
without a traceback, and with the folder as it was. The exit code is 1 if any does not.

``--control`` checks the checks instead: a job that is right, and sentences that are wrong in
several ways, have to be reported.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from malformed import Case, job, other_cases, schema_cases
from rich.console import Console
from rich.table import Table

from hpcslmc.cli.launch import Launcher
from hpcslmc.errors import UserError
from hpcslmc.job.load import load_job

CONSOLE = Console(width=150, force_terminal=False)
IN_TIME_S = 15.0
AT_ONCE = 2
"""Jobs that run side by side."""
LONGEST_SENTENCE = 600
MOST_MEMORY = 2**32
"""Bytes that a process may take to refuse a file."""


@dataclass
class Tally:
    """What became of the cases of one kind.

    Attributes
    ----------
    refused : dict of int
        Cases refused as they should be, by ranks.
    seconds : float
        The longest that one took.
    """

    cases: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0


def problems_of(sentence: str, case: Case) -> str:
    """What is wrong with the sentence that refuses a case, "" if nothing."""
    if len(sentence) > LONGEST_SENTENCE:
        return f"a sentence of {len(sentence)} characters"
    if not sentence.isprintable():
        return f"control characters: {sentence!r}"
    return "" if case.names in sentence else f"does not name {case.names!r}: {sentence}"


def parse(case: Case, folder: Path, ranks: int) -> str:
    """Give a case to the parser in this process; returns what is wrong, "" if it was refused as it
    should be.
    """
    case.place(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        load_job("job.toml", ranks)
    except UserError as error:
        return problems_of(str(error), case)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        os.chdir(before)
    return "not refused"


def unnoticed(folder: Path) -> list[str]:
    """Faults of a made-up program that these checks fail to notice: none, if they are any good."""
    good = Case("good", "job", job(), "chains")
    right, long = "[sampling] chains is wrong.", "chains" * LONGEST_SENTENCE
    reports = {
        "a job that is not refused": (parse(good, folder, 4), "not refused"),
        "another key named": (problems_of("[sampling] samples is wrong.", good), "does not name"),
        "two lines": (problems_of("chains\nhpcslmc: chains", good), "control characters"),
        "a long sentence": (problems_of(long, good), "a sentence of"),
        "nothing wrong": (problems_of(right, good) or "nothing", "nothing"),
    }
    return [what for what, (report, expected) in reports.items() if expected not in report]


class Hung(Exception):
    """The parser was not over in time."""


def parse_in_time(case: Case, folder: Path, ranks: int) -> tuple[str, float]:
    """As ``parse``, but a parser that hangs is a problem like others; with the seconds it took."""

    def hung(number: int, frame: object) -> None:
        raise Hung

    signal.signal(signal.SIGALRM, hung)
    signal.alarm(int(IN_TIME_S))
    started = time.monotonic()
    try:
        return parse(case, folder, ranks), time.monotonic() - started
    finally:
        signal.alarm(0)


def run(case: Case, folder: Path, ranks: int) -> tuple[str, float]:
    """Start a case under mpirun; returns what is wrong, and the seconds it took."""
    case.place(folder)
    launcher, there, started = Launcher(folder), listing(folder), time.monotonic()
    process = launcher.start(ranks, "job.toml")
    try:
        _, said = process.communicate(timeout=IN_TIME_S)
    except subprocess.TimeoutExpired:
        launcher.kill(process)
        return f"not over after {IN_TIME_S:.0f} s", IN_TIME_S
    seconds = time.monotonic() - started
    own = [line for line in said.splitlines() if line.startswith("hpcslmc:")]
    if process.returncode != 2 or "Traceback" in said or len(own) != 1:
        return (
            f"exit code {process.returncode}, {len(own)} sentences: "
            f"{' '.join(said[-400:].split())}",
            seconds,
        )
    if listing(folder) != there:
        return f"written: {sorted(listing(folder).keys() ^ there.keys())}", seconds
    return problems_of(own[0], case), seconds


def attempt(
    refuse: Callable[[Case, Path, int], tuple[str, float]], trial: tuple[Case, int]
) -> tuple[str, float]:
    """Give a case to the parser or to mpirun, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        case, ranks = trial
        return refuse(case, Path(folder), ranks)


def listing(folder: Path) -> dict[str, int]:
    """Everything in a folder, with the time of its last change."""
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def choose(count: int, rng: random.Random) -> list[Case]:
    """All cases that the schema does not give, and as many of those that it gives as make up the
    count.
    """
    chosen, drawn = list(other_cases()), list(schema_cases())
    return chosen + rng.sample(drawn, min(len(drawn), max(0, count - len(chosen))))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count",
        type=int,
        default=150,
        help="least number of files; those that the schema does not give are always there",
    )
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--parse", action="store_true", help="the parser in this process alone, in seconds"
    )
    parser.add_argument("--only", default="", help="kinds or cases with this in their name")
    parser.add_argument("--control", action="store_true", help="check the checks, and no jobs")
    options = parser.parse_args()
    if options.control:
        with tempfile.TemporaryDirectory() as folder:
            found = unnoticed(Path(folder))
        print("\n".join(f"not noticed: {what}" for what in found) or "all faults are noticed")
        return int(bool(found))
    resource.setrlimit(
        resource.RLIMIT_DATA, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1])
    )
    cases = [
        case
        for case in choose(options.count, random.Random(options.seed))
        if options.only in f"{case.kind}: {case.what}"
    ]
    tallies = {case.kind: Tally() for case in cases}
    for case in cases:
        tallies[case.kind].cases += 1
    trials = [
        (case, ranks)
        for case in cases
        for ranks in options.ranks
        if ranks >= case.least_ranks and (case.parsed or not options.parse)
    ]
    problems, started = [], time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        outcomes = (map if options.parse else threads.map)(
            partial(attempt, parse_in_time if options.parse else run), trials
        )
        for (case, ranks), (problem, seconds) in zip(trials, outcomes, strict=True):
            tally = tallies[case.kind]
            tally.seconds = max(tally.seconds, seconds)
            tally.refused[ranks] = tally.refused.get(ranks, 0) + (not problem)
            if problem:
                problems.append(f"{case.kind}, {case.what[:80]}, {ranks} ranks: {problem}")
                print(problems[-1], file=sys.stderr, flush=True)
    table = Table(
        "kind",
        "files",
        *(f"refused on {ranks}" for ranks in options.ranks),
        "longest",
        title="Malformed job files",
    )
    for kind, tally in tallies.items():
        table.add_row(
            kind,
            str(tally.cases),
            *(str(tally.refused.get(ranks, "-")) for ranks in options.ranks),
            f"{tally.seconds:.1f} s",
        )
    CONSOLE.print(table)
    longest = max((tally.seconds for tally in tallies.values()), default=0.0)
    print(
        f"{len(cases)} files, {len(trials)} trials, {len(problems)} problems, the longest took "
        f"{longest:.1f} s, {time.monotonic() - started:.0f} s in all"
    )
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
