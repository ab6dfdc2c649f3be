"""Command line: ``python -m hpcslmc.run job.toml`` runs or resumes a job, ``... validate job.toml`` checks one.

Exit codes: 0 finished, 2 something for the user to mend (one sentence says what), 75 checkpointed on a
signal: the same command goes on, 1 a crash.
"""

import argparse
import sys
import traceback
from pathlib import Path

from hpcslmc import parallel
from hpcslmc.config import Job, load_job
from hpcslmc.errors import UserError

EXIT_USER_ERROR = 2
EXIT_RUN_AGAIN = 75

COMMANDS = ("run", "validate")
OUTPUT = ("checkpoint.h5", "results.h5", "model.h5")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"{message}; usage: {self.format_usage().removeprefix('usage: ').strip()}")


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m hpcslmc.run", description="Self-learning Monte Carlo of spin-fermion lattice models.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    run = commands.add_parser("run", help="run a job, or go on from its checkpoint (the default command)")
    run.add_argument("job", help="job file (TOML)")
    run.add_argument("--restart", action="store_true", help="start over; earlier files are kept aside")
    validate = commands.add_parser("validate", help="check a job file and print it with all defaults filled in")
    validate.add_argument("job", help="job file (TOML)")
    if arguments and arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["run", *arguments]
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code. Collective over all MPI ranks."""
    world = parallel.MPIWorld()
    try:
        options = world.on_root(lambda: _arguments(sys.argv[1:] if arguments is None else arguments))
        job = world.on_root(lambda: load_job(options.job, world.size))
        if options.command == "validate":
            if world.is_root:
                print(job.toml(), end="")
            return 0
        return _run(job, options.restart, world)
    except UserError as error:
        if world.is_root:
            print(f"hpcslmc: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except SystemExit:
        raise
    except BaseException as error:
        reason = "".join(traceback.format_exception_only(error)).strip()
        print(f"{traceback.format_exc()}hpcslmc: rank {world.rank} failed, the job ends: {reason}", file=sys.stderr)
        world.abort(1)
        raise


def _run(job: Job, restart: bool, world: parallel.World) -> int:
    directory = Path(job.output.directory)
    world.on_root(lambda: _prepare(directory, restart))
    threads = parallel.limit_threads()

    # torch takes seconds to import and is not needed to refuse a bad job
    from hpcslmc.effective.files import save_model
    from hpcslmc.progress import Progress
    from hpcslmc.report import print_report
    from hpcslmc.results import write_results
    from hpcslmc.simulation import Simulation
    from hpcslmc.versions import versions

    about = versions(world)
    device = parallel.device(world)
    copy, group = world.split(job.sampling.ranks_per_chain)
    writes = group.is_root  # the other copies hold the same
    resumed = world.on_root((directory / "checkpoint.h5").exists)
    simulation = Simulation(job, copy, device, group, directory / "checkpoint.h5" if resumed else None)
    if world.is_root:
        print(_heading(job, world, about, f"{simulation.method} ({simulation.method_reason})", device, threads), flush=True)
        if resumed:
            print("{0}: going on from {1}/checkpoint.h5 at {2} {3}/{4}".format(
                "finished" if simulation.finished else "resumed", directory, *simulation.progress), flush=True)
    was_finished = simulation.finished
    progress = Progress(world.is_root, job.output.progress_every_s)
    watch = parallel.Watch(world, job.output.checkpoint_every_s)
    try:
        while not simulation.finished:
            phase, told = simulation.phase, len(simulation.remarks)
            simulation.advance()
            progress.show(*simulation.progress, simulation.note)
            for remark in simulation.remarks[told:]:
                progress.say(remark)
            if phase == "learn" != simulation.phase and world.is_root:
                save_model(directory / "model.h5", simulation.learning.model, about)
            decision = watch.decide()
            if decision.checkpoint:
                if writes:
                    simulation.save(directory / "checkpoint.h5", about)
                watch.checkpoint_written()
            if decision.stop:
                if world.is_root:
                    print(f"stopped by a signal; {directory}/checkpoint.h5 is written, run the same command to go on")
                return EXIT_RUN_AGAIN
    finally:
        progress.close()
    if writes and not was_finished:
        simulation.save(directory / "checkpoint.h5", about)
    if writes:
        write_results(directory / "results.h5", simulation, about)
    if world.is_root:
        print_report(directory / "results.h5")
        print(f"Draws and summary: {directory}/results.h5")
    return 0


def _prepare(directory: Path, restart: bool) -> None:
    """Make the output directory; with ``restart`` move an earlier run's files into a folder of their own."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        old = [path for name in OUTPUT if (path := directory / name).exists()]
        if restart and old:
            aside = next(path for n in range(1, 10**6) if not (path := directory / f"before-restart-{n}").exists())
            aside.mkdir()
            for path in old:
                path.rename(aside / path.name)
    except OSError as error:
        raise UserError(f"[output] directory = {str(directory)!r} cannot be used: {error.strerror}.") from None


def _heading(job: Job, world: parallel.World, about: dict[str, str], weight: str, device: str, threads: int) -> str:
    effective = job.effective
    layers = f"{effective.layers} {'layer' if effective.layers == 1 else 'layers'}, " if effective.layers else ""
    how = (f"self-learning with {effective.model} ({layers}{effective.shells} shells)"
           if job.sampling.method == "slmc" else f"exact {job.sampling.exact_move}")
    groups = f" in groups of {job.sampling.ranks_per_chain}" if job.sampling.ranks_per_chain > 1 else ""
    return (
        f"hpcslmc {about['hpcslmc']}: {job.lattice.shape[0]}x{job.lattice.shape[1]} lattice, t = {job.hamiltonian.t:g}, "
        f"J = {job.hamiltonian.J:g}, mu = {job.hamiltonian.mu:g}, T = {job.ensemble.temperature:g}; {how}\n"
        f"exact weight by {weight}; {job.sampling.chains} chains on {world.size} ranks{groups}, {device}, {threads} thread(s) a rank; "
        + ", ".join(f"{name} {version}" for name, version in about.items() if name != "hpcslmc"))


if __name__ == "__main__":
    sys.exit(main())
