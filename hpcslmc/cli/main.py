"""Command line: run, validate, status, report, merge.

``python -m hpcslmc.run job.toml`` runs or resumes a job, ``... validate job.toml`` checks one.

``status``, ``report`` and ``merge`` look at what runs have left, and know nothing of MPI.

Exit codes: 0 finished, 2 something for the user to mend (one sentence says what), 75 checkpointed
on a signal or before the end of the job's time: the same command goes on, 1 a crash.
"""

import argparse
import faulthandler
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn

from hpcslmc import environment
from hpcslmc.cli import commands, folder, launched
from hpcslmc.cli.commands import ALONE
from hpcslmc.cli.console import lasting_streams, say
from hpcslmc.cli.system import expansion
from hpcslmc.errors import Failure, UserError, tell
from hpcslmc.job.load import load_job
from hpcslmc.job.schema import Job
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.parallel.watch import Watch
from hpcslmc.parallel.world import MPIWorld, World
from hpcslmc.plugins import import_module
from hpcslmc.storage.files import check_places
from hpcslmc.storage.lock import Lock

EXIT_CRASH = 1
EXIT_USER_ERROR = 2
EXIT_RUN_AGAIN = 75
PATIENCE_S = 3.0
"""Seconds that a rank with a UserError waits for the others to have one too."""

COMMANDS = ("run", "validate", *ALONE)


class Parser(argparse.ArgumentParser):
    """Parser of arguments that raises UserError where they make no sense."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; usage: {self.format_usage().removeprefix('usage: ').strip()}")


def _arguments(arguments: list[str]) -> argparse.Namespace | None:
    """Parse the command line; returns None if it asked for help, which is printed."""
    parser = Parser(
        prog="python -m hpcslmc.run",
        description="Self-learning Monte Carlo of spin-fermion lattice models.",
    )
    subcommands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    run = subcommands.add_parser(
        "run", help="run a job, or go on from its checkpoint (the default command)"
    )
    run.add_argument("job", help="job file (TOML)")
    commands.add_import(run)
    run.add_argument(
        "--restart", action="store_true", help="start over; earlier files are kept aside"
    )
    said = run.add_mutually_exclusive_group()
    said.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    said.add_argument(
        "--verbose", action="store_true", help="tell of every checkpoint, and where the time went"
    )
    validate = subcommands.add_parser(
        "validate", help="check a job file and print it with all defaults filled in"
    )
    validate.add_argument("job", help="job file (TOML)")
    commands.add_import(validate)
    commands.add_to(subcommands)
    if arguments and arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["run", *arguments]
    try:
        return parser.parse_args(arguments)
    except SystemExit:
        return None


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Collective over all MPI ranks, but for the commands that know nothing of them.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    with lasting_streams() as reader_gone, warnings.catch_warnings():
        if (
            not sys.warnoptions and "--verbose" not in arguments
        ):  # of libraries: what a user can mend has a sentence of its own
            warnings.simplefilter("ignore")
        return _main(arguments, reader_gone)


def _main(arguments: list[str], reader_gone: Callable[[], bool]) -> int:
    started = time.time()
    environment.lock_no_files()
    if arguments and arguments[0] in ALONE:
        return _execute_alone(arguments)
    faulthandler.enable()
    world = MPIWorld()
    try:
        options = world.on_root(lambda: _arguments(arguments))
        if options is None:
            return 0
        if options.command == "validate":
            return _validate(options, world)
        return _run_job(options, world, started, reader_gone)
    except UserError as error:
        return _refuse(error, world)
    except BaseException as error:
        _crash(error, world)
        raise


def _execute_alone(arguments: list[str]) -> int:
    """Execute a command that knows nothing of MPI."""
    try:
        if options := _arguments(arguments):
            commands.execute(options)
    except UserError as error:
        tell(f"hpcslmc: {error}")
        return EXIT_USER_ERROR
    return 0


def _refuse(error: UserError, world: World) -> int:
    """Say what the user can mend, and end the job."""
    # lower ranks lose patience first, so that one sentence is printed and not one from each
    together = world.all_arrive(PATIENCE_S * (1.0 + world.rank / world.size))
    if world.is_root or not together:
        tell(f"hpcslmc: {error}")
    if not together:
        world.abort(EXIT_USER_ERROR)
    return EXIT_USER_ERROR


def _crash(error: BaseException, world: World) -> None:
    """Say why a rank has failed, and end the job on all ranks."""
    # the lowest of several ranks speaks and ends the others
    time.sleep(0.5 * world.rank / world.size)
    where, reason = "", str(error)
    if not isinstance(error, Failure):
        where = traceback.format_exc()
        reason = "".join(traceback.format_exception_only(error)).strip()
    tell(f"{where}hpcslmc: rank {world.rank} failed, the job ends: {reason}")
    world.abort(EXIT_CRASH)


def _load(options: argparse.Namespace, world: World) -> tuple[list[str], Job]:
    """Import the user's own modules, and load the job file. Collective."""
    imported = world.on_all(lambda: [import_module(name) for name in options.imports])
    return imported, world.on_root(lambda: load_job(options.job, world.size))


def _validate(options: argparse.Namespace, world: World) -> int:
    """Check a job file and print it with all defaults."""
    _, job = _load(options, world)
    if world.is_root:
        print(job.toml(), end="")
        print(expansion(job), end="")
    return 0


def _run_job(
    options: argparse.Namespace, world: World, started: float, reader_gone: Callable[[], bool]
) -> int:
    """Run a job, or go on from its checkpoint. Collective."""
    if alone := launched.several_alone(world):
        if launched.is_first_task():  # the others have the same to say
            tell(f"hpcslmc: {alone}")
        return EXIT_USER_ERROR
    imported, job = _load(options, world)
    world.on_all(environment.threads)
    directory = world.on_root(lambda: job.output.folder)
    made = world.on_root(lambda: folder.make(directory))
    # hold the directory's lock while the job runs, and release it however that ends
    lock = Lock(directory)
    try:
        say(world, world.on_root(lock.acquire))
        say(world, launched.unused_tasks(world))
        ends_at, remark = launched.ends_at(job, started)
        say(world, remark)
        watch = Watch(world, job.output.checkpoint_every_s, ends_at, reader_gone)
        if options.restart:
            world.on_root(lambda: folder.set_aside(directory))
        world.on_root(lambda: check_places(directory / name for name in folder.OUTPUT))
        threads = world.on_all(prepare_process)

        # torch takes seconds to import and is not needed to refuse a bad job
        from hpcslmc.cli.running import RunningJob, Task

        running = RunningJob(
            Task(
                job,
                directory,
                imported,
                options.quiet,
                options.verbose,
                world,
                threads,
                watch,
                lock,
            )
        )
        running.run()
        return EXIT_RUN_AGAIN if running.left else 0
    finally:
        if world.is_root:
            lock.release()
            if made:
                folder.remove_if_empty(directory)


if __name__ == "__main__":
    sys.exit(main())
