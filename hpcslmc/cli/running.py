"""Running of a job by the command: what is told, when it is saved, how it ends."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcslmc.analysis.results import Results
from hpcslmc.analysis.results_file import write
from hpcslmc.analysis.tables import print_tables
from hpcslmc.cli import headline
from hpcslmc.cli.console import say
from hpcslmc.cli.folder import keep_damaged
from hpcslmc.cli.progress import Progress
from hpcslmc.cli.status import StatusFile
from hpcslmc.errors import UserError, described_error, tell
from hpcslmc.job.schema import Job
from hpcslmc.measure.bins import left_over
from hpcslmc.parallel.hardware import device as own_device
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.watch import Watch
from hpcslmc.parallel.world import World
from hpcslmc.simulation import words
from hpcslmc.simulation.build import required
from hpcslmc.simulation.collect import collect
from hpcslmc.simulation.convergence import Convergence
from hpcslmc.simulation.phases import RECENT
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.storage.lock import Lock
from hpcslmc.storage.names import CHECKPOINT, RESULTS, previous
from hpcslmc.storage.versions import versions


@dataclass(frozen=True)
class Task:
    """A job that the command has been asked to run.

    Attributes
    ----------
    job : Job
    directory : Path
        For all output.
    imported : list of str
        Modules of the user's own, with their versions.
    quiet, verbose : bool
        Whether to tell nothing but warnings, or more than usual.
    world : World
        All ranks.
    threads : int
        Of each rank.
    watch : Watch
    lock : Lock
        Of the directory, held by the root.
    """

    job: Job
    directory: Path
    imported: list[str]
    quiet: bool
    verbose: bool
    world: World
    threads: int
    watch: Watch
    lock: Lock


class RunningJob:
    """A job on its way, from its checkpoint or from its beginning, to its results. Collective.

    Attributes
    ----------
    left : str
        Why the job was left before its end, "" if it was not.
    """

    def __init__(self, task: Task) -> None:
        job, world = task.job, task.world
        self.task = task
        self.about = versions(world)
        if task.imported:
            self.about |= {"imported": ", ".join(task.imported)}
        device = own_device(world)
        self.ranks = Ranks.of(world, job.sampling.chains, job.sampling.ranks_per_chain, device)
        self.writes = self.ranks.weight.is_root  # the other ranks of a group hold the same
        self.newest = task.directory / CHECKPOINT
        resumed = world.on_root(lambda: self.newest.exists() or previous(self.newest).exists())
        self.simulation = Simulation(job, self.ranks, self.newest if resumed else None)
        self.loud = world.is_root and not task.quiet
        weight = f"{self.simulation.method} ({self.simulation.method_reason})"
        physics = headline.physics(job)
        layout = headline.layout(job, world, weight, device, task.threads)
        self._announce(physics, layout, resumed)
        damaged = resumed and self.simulation.resumed_from != self.newest
        if damaged:
            world.on_root(lambda: keep_damaged(self.newest))
        self._written = self.simulation.finished and not damaged
        every_s = job.output.progress_every_s
        self.progress = Progress(self.loud, every_s)
        self.convergence = Convergence()
        self.status: StatusFile | None = None
        if world.is_root:
            self.status = StatusFile(task.directory, every_s, {"job": physics, "layout": layout})
        self.left = ""
        self._phase = self.simulation.phase
        self._told = set(words.remarks(self.simulation))
        self._idle_told = False

    def _announce(self, physics: str, layout: str, resumed: bool) -> None:
        """Print what runs, where, and where it goes on."""
        simulation, sampling = self.simulation, self.task.job.sampling
        if self.loud:
            libraries = ", ".join(
                f"{name} {version}" for name, version in self.about.items() if name != "hpcslmc"
            )
            print(f"hpcslmc {self.about['hpcslmc']}: {physics}\n{layout}; {libraries}", flush=True)
        if self.loud and resumed:
            phase, done, total = words.progress(simulation)
            print(
                f"{'finished' if simulation.finished else 'resumed'}: going on from "
                f"{simulation.resumed_from} at {phase} {done}/{total}",
                flush=True,
            )
        unused = left_over(sampling.samples, sampling.bin_size)
        for remark in (*simulation.resume_remarks, unused):
            say(self.task.world, remark)

    def run(self) -> None:
        """Run the job to its end and write the results, or leave it where the ranks decide so.

        ``left`` tells why.
        """
        try:
            self.simulation.run(self._after_unit)
        finally:
            self.progress.close()
        if self.left:
            self._leave()
        else:
            self._finish()

    def _after_unit(self) -> bool:
        """Tell, look and save after a unit of work; returns whether to leave."""
        simulation, task = self.simulation, self.task
        look = simulation.phase.name == "sample" and self.convergence.due
        decision = task.watch.decide(simulation.stage, look=look)
        if decision.talked or simulation.finished:
            simulation.phase.agree()
        if decision.look or simulation.finished:
            self.convergence.look(simulation.rungs, self.ranks.chains)
        self._tell()
        learned = self._phase.name == "learn" != simulation.phase.name
        if learned and self.writes:
            simulation.keep_learned(task.directory, self.about)
        self._phase = simulation.phase
        if decision.checkpoint:
            if self.writes:
                self._save()
            task.watch.checkpoint_written()
        self.left = decision.leave
        return bool(decision.leave)

    def _tell(self) -> None:
        """Say where the run is, and what is new."""
        simulation, phase = self.simulation, self.simulation.phase
        if phase.idle and phase.done >= RECENT and not self._idle_told:
            say(self.task.world, words.stand_still(simulation))
            self._idle_told = True
        if self.status:
            at = words.progress(simulation)
            note = "  ".join(filter(None, (words.note(simulation), self.convergence.short)))
            self.progress.show(*at, note)
            self.status.show(
                *at,
                acceptance=_finite(phase.acceptance),
                rounds=_rounds(simulation),
                convergence=self.convergence.text,
            )
        remarks = words.remarks(simulation)
        for remark in remarks:
            if remark not in self._told:
                self.progress.say(remark)
        self._told = set(remarks)
        # of any rank: others know nothing of it
        for found in phase.alarms if self.writes else ():
            tell(f"hpcslmc: {words.alarm(simulation, found)}")
        phase.alarms.clear()

    def _save(self) -> None:
        """Write a checkpoint. Collective over the ranks that hold all chains."""
        began = time.monotonic()
        self.ranks.chains.on_root(self.task.lock.check)
        self.simulation.save(self.newest, self.about)
        if self.task.verbose:
            self.progress.say(
                f"{self.newest} written in {time.monotonic() - began:.2f} s, "
                f"{self.newest.stat().st_size / 1e6:.3g} MB"
            )

    def _leave(self) -> None:
        """Say that the job goes on later."""
        if self.status:
            self.status.end(self.left)
            print(f"stopped, {self.left}; {self.newest} is written, run the same command to go on")

    def _finish(self) -> None:
        """Write the last checkpoint and the results, and print them."""
        if not self.writes:
            return
        if not self._written:
            self._save()
        results = collect(self.simulation, self.about)
        self.ranks.chains.on_root(lambda: write(self.task.directory / RESULTS, required(results)))
        if results and self.status:
            self._summarise(results, self.status)
        if results and self.loud:
            self._print(results)

    def _summarise(self, results: Results, status: StatusFile) -> None:
        with _nothing_lost(self.task.directory):
            self.convergence.finish(results.summary)
        status.show(*words.progress(self.simulation), rounds=_rounds(self.simulation))
        status.end(
            "finished",
            acceptance=_finite(float(results.summary.of("acceptance").mean())),
            convergence=self.convergence.text,
        )

    def _print(self, results: Results) -> None:
        directory = self.task.directory
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
        print(f"Draws and summary: {directory}/{RESULTS}")


@contextmanager
def _nothing_lost(directory: Path) -> Iterator[None]:
    """Say in a sentence what fails in looking at the results of a finished run, which are there."""
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:
        tell(
            f"hpcslmc: the results are in {directory}/{RESULTS}, but looking at them failed: "
            f"{described_error(error)}"
        )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _rounds(simulation: Simulation) -> list[list[float]]:
    """Return the acceptance after each round so far, for each temperature that has learned."""
    return [
        [row["acceptance"] for row in rung.learning.history]
        for rung in simulation.rungs
        if rung.learning and rung.learning.history
    ]
