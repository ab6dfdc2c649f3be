"""Command line: ``python -m hpcslmc.run job.toml`` runs or resumes a job, ``... validate job.toml``
checks one.

``status``, ``report`` and ``merge`` look at what runs have left, and know nothing of MPI.

Exit codes: 0 finished, 2 something for the user to mend (one sentence says what), 75 checkpointed
on a signal or before the end of the job's time: the same command goes on, 1 a crash.
"""

import argparse
import faulthandler
import math
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hpcslmc import environment
from hpcslmc.cli import commands
from hpcslmc.cli.commands import ALONE
from hpcslmc.cli.console import lasting_streams
from hpcslmc.cli.status import StatusFile
from hpcslmc.errors import Failure, UserError, described_error
from hpcslmc.job.load import load_job
from hpcslmc.job.schema import Job
from hpcslmc.parallel.hardware import device as own_device
from hpcslmc.parallel.hardware import limit_threads
from hpcslmc.parallel.watch import Watch
from hpcslmc.parallel.world import MPIWorld, World
from hpcslmc.plugins import import_module
from hpcslmc.storage.files import check_places
from hpcslmc.storage.lock import Lock
from hpcslmc.storage.names import STATUS

if TYPE_CHECKING:
    from hpcslmc.simulation.simulation import Simulation

EXIT_CRASH = 1
EXIT_USER_ERROR = 2
EXIT_RUN_AGAIN = 75
PATIENCE_S = 3.0
"""Seconds that a rank with a UserError waits for the others to have one too."""

COMMANDS = ("run", "validate", *ALONE)
CHECKPOINT = "checkpoint.h5"
OUTPUT = (CHECKPOINT, "checkpoint.previous.h5", "results.h5", "model.h5", "data.h5", STATUS)


class Parser(argparse.ArgumentParser):
    """Raises UserError where the arguments make no sense."""

    def error(self, message: str) -> None:
        raise UserError(f"{message}; usage: {self.format_usage().removeprefix('usage: ').strip()}")


def _arguments(arguments: list[str]) -> argparse.Namespace | None:
    """What the command line asks for; None if that was help, which is printed."""
    parser = Parser(
        prog="python -m hpcslmc.run",
        description="Self-learning Monte Carlo of spin-fermion lattice models.",
    )
    subcommands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    run = subcommands.add_parser(
        "run", help="run a job, or go on from its checkpoint (the default command)"
    )
    run.add_argument("job", help="job file (TOML)")
    _add_import(run)
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
    _add_import(validate)
    commands.add_to(subcommands)
    if arguments and arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["run", *arguments]
    try:
        return parser.parse_args(arguments)
    except SystemExit:
        return None


def _add_import(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--import",
        dest="imports",
        metavar="MODULE",
        action="append",
        default=[],
        help=(
            "a module of your own that registers a model, a weight or an observable; again for "
            "several"
        ),
    )


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
        try:
            if options := _arguments(arguments):
                commands.execute(options)
        except UserError as error:
            print(f"hpcslmc: {error}", file=sys.stderr)
            return EXIT_USER_ERROR
        return 0
    faulthandler.enable()
    world = MPIWorld()
    try:
        options = world.on_root(lambda: _arguments(arguments))
        if options is None:
            return 0
        if (
            options.command == "run"
            and world.size == 1
            and (launched := environment.launched())
            and launched.tasks > 1
        ):
            if launched.task == 0:  # the others have the same to say
                print(f"hpcslmc: {_several_alone(launched, world)}", file=sys.stderr)
            return EXIT_USER_ERROR
        imported = world.on_all(lambda: [import_module(name) for name in options.imports])
        job = world.on_root(lambda: load_job(options.job, world.size))
        if options.command == "validate":
            if world.is_root:
                print(job.toml(), end="")
            return 0
        world.on_all(environment.threads)
        directory = world.on_root(lambda: job.output.folder)
        made = world.on_root(lambda: _make(directory))
        lock = Lock(directory)
        try:
            _say(world, world.on_root(lock.acquire))
            _say(world, _unused_tasks(world))
            ends_at, remark = _ends_at(job, started)
            _say(world, remark)
            watch = Watch(world, job.output.checkpoint_every_s, ends_at, reader_gone)
            return _run(job, directory, options, imported, watch, world, lock)
        finally:
            if world.is_root:
                lock.release()
                if made:
                    _remove_if_empty(directory)
    except UserError as error:
        # lower ranks lose patience first, so that one sentence is printed and not one from each
        together = world.all_arrive(PATIENCE_S * (1.0 + world.rank / world.size))
        if world.is_root or not together:
            print(f"hpcslmc: {error}", file=sys.stderr)
        if not together:
            world.abort(EXIT_USER_ERROR)
        return EXIT_USER_ERROR
    except BaseException as error:
        # the lowest of several ranks speaks and ends the others
        time.sleep(0.5 * world.rank / world.size)
        where = "" if isinstance(error, Failure) else traceback.format_exc()
        reason = (
            str(error)
            if isinstance(error, Failure)
            else "".join(traceback.format_exception_only(error)).strip()
        )
        print(f"{where}hpcslmc: rank {world.rank} failed, the job ends: {reason}", file=sys.stderr)
        world.abort(EXIT_CRASH)
        raise


def _run(  # noqa: C901
    job: Job,
    directory: Path,
    options: argparse.Namespace,
    imported: list[str],
    watch: Watch,
    world: World,
    lock: Lock,
) -> int:
    if options.restart:
        world.on_root(lambda: _set_aside(directory))
    world.on_root(lambda: check_places(directory / name for name in OUTPUT))
    threads = world.on_all(limit_threads)

    # torch takes seconds to import and is not needed to refuse a bad job
    from hpcslmc.analysis.results_file import write
    from hpcslmc.analysis.tables import print_tables
    from hpcslmc.cli.progress import Progress
    from hpcslmc.measure.bins import left_over
    from hpcslmc.parallel.ranks import Ranks
    from hpcslmc.simulation.collect import collect
    from hpcslmc.simulation.convergence import Convergence
    from hpcslmc.simulation.simulation import RECENT, Simulation
    from hpcslmc.storage import checkpoint
    from hpcslmc.storage.versions import versions

    about = versions(world) | ({"imported": ", ".join(imported)} if imported else {})
    device = own_device(world)
    ranks = Ranks.of(world, job.sampling.chains, job.sampling.ranks_per_chain, device)
    writes = ranks.weight.is_root  # the other ranks of a group hold the same
    newest = directory / CHECKPOINT
    resumed = world.on_root(lambda: newest.exists() or checkpoint.previous(newest).exists())
    simulation = Simulation(job, ranks, newest if resumed else None)
    physics = _physics(job)
    layout = _layout(
        job, world, f"{simulation.method} ({simulation.method_reason})", device, threads
    )
    loud = world.is_root and not options.quiet
    if loud:
        print(
            f"hpcslmc {about['hpcslmc']}: {physics}\n{layout}; "
            + ", ".join(
                f"{name} {version}" for name, version in about.items() if name != "hpcslmc"
            ),
            flush=True,
        )
        if resumed:
            phase, done, total = simulation.progress
            print(
                f"{'finished' if simulation.finished else 'resumed'}: going on from "
                f"{simulation.resumed_from} at {phase} {done}/{total}",
                flush=True,
            )
    unused = left_over(job.sampling.samples, job.sampling.bin_size)
    for remark in (*simulation.resume_remarks, unused):
        _say(world, remark)
    if resumed and simulation.resumed_from != newest:
        world.on_root(lambda: _keep_damaged(newest))
    written = simulation.finished and simulation.resumed_from == newest
    every_s = job.output.progress_every_s
    progress, convergence = Progress(loud, every_s), Convergence()
    idle_said = False
    status = (
        StatusFile(directory, every_s, {"job": physics, "layout": layout})
        if world.is_root
        else None
    )

    def tell() -> None:
        """The root says where the run is."""
        at = simulation.progress
        progress.show(*at, "  ".join(filter(None, (simulation.note, convergence.short))))
        acceptance = simulation.acceptance if math.isfinite(simulation.acceptance) else None
        status.show(
            *at, acceptance=acceptance, rounds=_rounds(simulation), convergence=convergence.text
        )

    def save() -> None:
        began = time.monotonic()
        ranks.chains.on_root(lock.check)
        simulation.save(newest, about)
        if options.verbose:
            progress.say(
                f"{newest} written in {time.monotonic() - began:.2f} s, "
                f"{newest.stat().st_size / 1e6:.3g} MB"
            )

    try:
        while not simulation.finished:
            phase, told = simulation.phase, set(simulation.remarks)
            simulation.advance()
            decision = watch.decide(
                simulation.stage, look=simulation.phase == "sample" and convergence.due
            )
            if decision.talked or simulation.finished:
                simulation.agree()
            if decision.look or simulation.finished:
                convergence.look(simulation.rungs, ranks.chains)
            if simulation.idle and simulation.done >= RECENT and not idle_said:
                _say(
                    world,
                    f"{simulation.idle} of {job.sampling.chains * len(simulation.rungs)} chains "
                    "have stood still so far, "
                    "no proposal was accepted: no mean or error can be trusted",
                )
                idle_said = True
            if world.is_root:
                tell()
            for remark in simulation.remarks:
                if remark not in told:
                    progress.say(remark)
            # of any rank: others know nothing of it
            for alarm in simulation.alarms if writes else ():
                print(f"hpcslmc: {alarm}", file=sys.stderr, flush=True)
            simulation.alarms.clear()
            if phase == "learn" != simulation.phase and writes:
                simulation.keep_learned(directory, about)
            if decision.checkpoint:
                if writes:
                    save()
                watch.checkpoint_written()
            if decision.leave:
                if world.is_root:
                    status.end(decision.leave)
                    print(
                        f"stopped, {decision.leave}; {newest} is written, run the same command to "
                        "go on"
                    )
                return EXIT_RUN_AGAIN
    finally:
        progress.close()
    if writes and not written:
        save()
    results = collect(simulation, about) if writes else None
    if writes:
        ranks.chains.on_root(lambda: write(directory / "results.h5", results))
    if results:
        with _nothing_lost(directory):
            convergence.finish(results.summary)
        status.show(*simulation.progress, rounds=_rounds(simulation))
        acceptance = float(results.summary.of("acceptance").mean())
        status.end(
            "finished",
            acceptance=acceptance if math.isfinite(acceptance) else None,
            convergence=convergence.text,
        )
    if loud:
        with _nothing_lost(directory):
            print_tables({"": results})
        print(
            "Processor time of all ranks: "
            + ", ".join(
                f"{phase} {seconds:.1f} s"
                for phase, seconds in results.cpu_seconds.items()
                if seconds
            )
        )
        print(f"Draws and summary: {directory}/results.h5")
    return 0


@contextmanager
def _nothing_lost(directory: Path) -> Iterator[None]:
    """What fails in looking at the results of a finished run is said in a sentence; the results
    are there.
    """
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:
        print(
            f"hpcslmc: the results are in {directory}/results.h5, but looking at them failed: "
            f"{described_error(error)}",
            file=sys.stderr,
        )


def _rounds(simulation: "Simulation") -> list[list[float]]:
    """Acceptance after each round of learning so far, for each temperature that has learned."""
    return [
        [row["acceptance"] for row in rung.learning.history]
        for rung in simulation.rungs
        if rung.learning and rung.learning.history
    ]


def _say(world: World, remark: str) -> None:
    """A remark on standard error, from one rank."""
    if remark and world.is_root:
        print(f"hpcslmc: {remark}", file=sys.stderr, flush=True)


def _ends_at(job: Job, started: float) -> tuple[float, str]:
    """When the job has to be over, in seconds since the epoch, by its own wall time or by Slurm's;
    and a remark if Slurm's makes no sense.
    """
    own = started + job.output.wall_time_s if job.output.wall_time_s is not None else math.inf
    slurm, remark = environment.slurm_end(started)
    return min(own, slurm or math.inf), remark


def _several_alone(launched: environment.Launched, world: World) -> str:
    """Why tasks that are no ranks of one MPI cannot run a job.

    Each would be the whole job, all in one output directory.
    """
    return (
        f"a launcher started {launched.tasks} tasks ({launched.variable} = {launched.tasks}), and "
        f"{world.library} sees one rank in each: the launcher "
        "belongs to another MPI than the program's. Launch with the mpirun of that library, or "
        "srun with the --mpi that it was built for; start one "
        "rank alone by a launcher of one task."
    )


def _unused_tasks(world: World) -> str:
    """A remark if a Slurm job of several tasks runs one rank that nothing launched, as a script's
    python without srun.
    """
    tasks = environment.allocated_tasks()
    if world.size > 1 or tasks < 2 or environment.launched():
        return ""
    return (
        f"one rank runs, and the Slurm job has {tasks} tasks ({environment.ALLOCATED}): srun or "
        "mpirun would start a rank in each"
    )


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    """What goes wrong with the output directory's files is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"[output] directory = {str(directory)!r} cannot be used: {error.strerror}."
        ) from None


def _make(directory: Path) -> bool:
    """Make the output directory; returns whether it was not there."""
    with _usable(directory):
        made = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
    return made


def _remove_if_empty(directory: Path) -> None:
    """A job that is refused leaves nothing behind."""
    with suppress(OSError):
        directory.rmdir()


def _set_aside(directory: Path) -> None:
    """Move an earlier run's files into a folder of their own."""
    old = [path for name in OUTPUT if (path := directory / name).exists()]
    if old:
        with _usable(directory):
            aside = _unused(directory / "before-restart-{}")
            aside.mkdir()
            for path in old:
                path.rename(aside / path.name)


def _keep_damaged(newest: Path) -> None:
    """Give a damaged newest checkpoint another name, so that it does not push out the good one
    before it.
    """
    if newest.exists():
        with _usable(newest.parent):
            newest.rename(_unused(newest.with_name("checkpoint.damaged-{}.h5")))


def _unused(pattern: Path) -> Path:
    """The first path of a numbered series that does not exist."""
    return next(
        path for n in range(1, 10**6) if not (path := Path(str(pattern).format(n))).exists()
    )


def _physics(job: Job) -> str:
    effective = job.effective
    layers = f"{_counted(effective.layers, 'layer')}, " if effective.layers else ""
    model = f"{effective.model} ({layers}{_counted(effective.shells, 'shell')})"
    how = {
        "slmc": f"self-learning with {model}",
        "guided": f"exact hmc guided by {model}",
        "exact": f"exact {job.sampling.exact_move}",
    }
    temperatures = ", ".join(f"{t:.4g}" for t in job.ensemble.temperatures)
    filling = job.ensemble.filling
    filled = f"mu = {job.hamiltonian.mu:g}" if filling is None else f"filling {filling:g}"
    return (
        f"{job.lattice.shape[0]}x{job.lattice.shape[1]} lattice, t = {job.hamiltonian.t:g}, J = "
        f"{job.hamiltonian.J:g}, "
        f"{filled}, T = {temperatures}; {how[job.sampling.method]}"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _layout(job: Job, world: World, weight: str, device: str, threads: int) -> str:
    grouped = min(job.sampling.ranks_per_chain, world.size) > 1
    groups = f" in groups of {job.sampling.ranks_per_chain}" if grouped else ""
    return (
        f"exact weight by {weight}; {_counted(job.sampling.chains, 'chain')} on "
        f"{_counted(world.size, 'rank')}{groups}, {device}, "
        f"{_counted(threads, 'thread')} a rank"
    )


if __name__ == "__main__":
    sys.exit(main())
