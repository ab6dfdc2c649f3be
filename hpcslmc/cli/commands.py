"""Commands that look at the output of runs: merge, status, report.

They need no MPI and disturb no run.
"""

import argparse
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from hpcslmc.environment import terminal_width
from hpcslmc.errors import UserError, tell
from hpcslmc.plugins import import_module

ALONE = ("merge", "status", "report")


def add_to(subcommands: "argparse._SubParsersAction") -> None:
    """Add them to a command line."""
    merge = subcommands.add_parser(
        "merge", help="put the chains of runs that differ in their seed into one results file"
    )
    merge.add_argument(
        "out", help="output directory of the merged results, new or empty of results"
    )
    merge.add_argument("directories", nargs="+", help="output directories of the runs")
    add_import(merge)
    status = subcommands.add_parser(
        "status", help="how far a run is, whether it runs, how well it goes"
    )
    status.add_argument("directories", nargs="+", help="output directories of runs")
    report = subcommands.add_parser("report", help="tables and figures of finished runs")
    report.add_argument(
        "directories", nargs="+", help="output directories of runs, or their results files"
    )
    report.add_argument("--markdown", action="store_true", help="tables in Markdown")
    report.add_argument(
        "--to", metavar="FOLDER", help="where figures go (default: report/ in the first directory)"
    )


def add_import(command: argparse.ArgumentParser) -> None:
    """Add the option that imports modules of the user's own."""
    command.add_argument(
        "--import",
        dest="imports",
        metavar="MODULE",
        action="append",
        default=[],
        help=(
            "a module of your own that registers a model, a weight or a measurement; again "
            "for several"
        ),
    )


def execute(options: argparse.Namespace) -> None:
    """Run one of them.

    Raises
    ------
    UserError
    """
    command: Callable[[argparse.Namespace], None] = {
        "merge": _merge,
        "status": _status,
        "report": _report,
    }[options.command]
    command(options)


def _merge(options: argparse.Namespace) -> None:
    from hpcslmc.analysis.merge import merge
    from hpcslmc.analysis.results_file import read, write
    from hpcslmc.analysis.tables import print_tables
    from hpcslmc.storage.names import RESULTS

    target = Path(options.out) / RESULTS
    if os.path.exists(target):  # False where that cannot be known
        raise UserError(f"{target} is there already: merge into another directory.")
    if len(options.directories) < 2:
        raise UserError("merge needs at least two runs; usage: hpcslmc merge OUT DIR DIR ...")
    for name in options.imports:
        import_module(name)
    merged = merge({name: read(name) for name in _unlike(options.directories)})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target, merged)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}.") from None
    print_tables({options.out: merged})
    print(f"Draws and summary of {len(options.directories)} runs: {target}")


def _status(options: argparse.Namespace) -> None:
    from hpcslmc.cli.status import INDENT, describe

    width = terminal_width() or sys.maxsize
    for directory in options.directories:
        for line in describe(Path(directory)):
            print(
                textwrap.fill(
                    line,
                    width,
                    subsequent_indent=" " * INDENT,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )


def _report(options: argparse.Namespace) -> None:
    from hpcslmc.analysis.results_file import read
    from hpcslmc.analysis.tables import print_tables

    runs = {name: read(name) for name in _unlike(options.directories)}
    print_tables(runs, options.markdown)
    try:
        from hpcslmc.analysis.figures import save_figures
    except ModuleNotFoundError as error:
        raise UserError(
            f"the figures need {error.name}, which is not there: pip install {error.name} (the "
            "tables are above)."
        ) from None
    first = Path(options.directories[0])
    folder = Path(options.to or (first if first.is_dir() else first.parent) / "report")
    try:
        names, failures = save_figures(runs, folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from None
    for sentence in failures:
        tell(f"hpcslmc: {sentence}")
    print(
        f"Figures (PNG and PDF) in {folder}: {', '.join(names)}",
        file=sys.stderr if options.markdown else sys.stdout,
    )


def _unlike(directories: list[str]) -> list[str]:
    """Return the directories, each given once."""
    for name in directories:
        if directories.count(name) > 1:
            raise UserError(f"{name} is given {directories.count(name)} times.")
    return directories
