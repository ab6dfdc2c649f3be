"""One job from thermalisation to the last sample.

The phases are carried on one after the other, and a checkpoint may be taken after any unit of
their work.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hpcslmc.errors import UserError
from hpcslmc.job.changes import changed_keys
from hpcslmc.job.model import site_values
from hpcslmc.job.schema import Job
from hpcslmc.learning.replay import write_data
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.world import World
from hpcslmc.physics.classical import ClassicalEnergy
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.sampling import Exchange
from hpcslmc.simulation.build import Setting, exact_moves, required
from hpcslmc.simulation.ladder import Ladder
from hpcslmc.simulation.phases import PHASES, phases_of
from hpcslmc.simulation.rung import Rung
from hpcslmc.simulation.state import check_setup, check_state, check_values
from hpcslmc.simulation.tuning import EnsembleTuning
from hpcslmc.storage import checkpoint
from hpcslmc.storage.files import make_folder
from hpcslmc.storage.models import save_model
from hpcslmc.storage.names import DATA, LEVEL, MODEL, RUNG
from hpcslmc.streams import Stream
from hpcslmc.weight import choose_method


class Simulation:
    """State of a job on this rank, and the units of work that carry it on.

    Parameters
    ----------
    job : Job
    ranks : Ranks, optional
        This process alone, with all chains on the CPU, if none are given.
    resume : Path
        Checkpoint of the same job to go on from; the one kept before it is taken if it is damaged.

    Raises
    ------
    UserError
        If ``resume`` is no valid checkpoint, or of a job that differs in more than steering keys;
        or the exact weight lacks something.

    Attributes
    ----------
    method, method_reason : str
        Method of the exact weight, and why it was chosen.
    ladder : Ladder
        All temperatures.
    tuning : EnsembleTuning
        What finds the temperatures of a spaced ladder and the chemical potentials of a filling.
    phases : list of Phase
        In order.
    phase : Phase
        The present one.
    resumed_from : Path or None
        The checkpoint that was read.
    resume_remarks : list of str
        What the user should know of it: damage, keys that have changed.
    """

    def __init__(
        self,
        job: Job,
        ranks: Ranks | None = None,
        resume: Path | None = None,
    ) -> None:
        self.job = job
        self.ranks = ranks or Ranks.of(World(), job.sampling.chains)
        self.lattice = job.lattice.make()
        self.resumed_from: Path | None = None
        self.resume_remarks: list[str] = []
        if resume:
            _, self.resumed_from, damage = checkpoint.load_newest(resume, self._resume)
            self.resume_remarks = damage + self.resume_remarks
        else:
            self._start()

    def _start(self, method: str | None = None, settings: list[dict] | None = None) -> None:
        """Make chains that have done nothing yet. Collective.

        The method and the models' settings are a checkpoint's, if there is one.
        """
        job, ranks, ensemble = self.job, self.ranks, self.job.ensemble
        hamiltonian = self._hamiltonian()
        classical = None
        if not job.classical_couplings.is_nothing:
            classical = ClassicalEnergy(
                self.lattice, job.classical_couplings, hamiltonian.magnetic, ranks.device
            )
        self.method, self.method_reason = self._choose(hamiltonian, method)
        # by one rank of all, as ranks on other nodes may have another environment
        directory = ranks.job.on_root(lambda: job.output.folder)
        setting = Setting(job, ranks, hamiltonian, classical, self.method, directory, settings)
        self.tuning = EnsembleTuning(job, ranks, hamiltonian, exact_moves(job))
        rungs = [
            Rung(setting, k, temperature, self.tuning.first_potential(temperature))
            for k, temperature in enumerate(ensemble.temperatures)
        ]
        swaps = None
        if ensemble.is_ladder and ensemble.exchange:
            stream = Stream(
                job.sampling.seed,
                torch.as_tensor(ranks.block.indices(), device=ranks.device),
                "exchange",
            )
            swaps = Exchange(stream, len(rungs), ranks.block.count)
        self.ladder = Ladder(ranks, rungs, swaps)
        self.phases = phases_of(job, self.ladder, self.tuning)
        self.phase = self.phases[0]
        self._cpu_seconds = np.zeros(len(PHASES))

    def _hamiltonian(self) -> Hamiltonian:
        """Return h, with the values of single sites that a file has. Collective."""
        job = self.job
        values = self.ranks.job.on_root(lambda: site_values(job.hamiltonian, self.lattice.sites))
        return Hamiltonian(
            self.lattice,
            job.couplings,
            device=self.ranks.device,
            site_J=values.get("J"),
            site_potential=values.get("potential"),
            site_spins=values.get("spin"),
        )

    def _choose(self, hamiltonian: Hamiltonian, before: str | None) -> tuple[str, str]:
        """Choose the method of the exact weight, and tell why.

        One for all temperatures, chosen by the coldest, which needs most of it. Collective.
        """
        job = self.job
        if job.weight.method != "auto":
            return job.weight.method, "as asked for"
        if before:  # a cost table or a device that has changed must not change the bits
            return before, "as before"
        coldest = Ensemble(hamiltonian, 1.0 / min(job.ensemble.temperatures), job.hamiltonian.mu)
        device = torch.device(self.ranks.device).type
        # by one rank of all: the others need no nodes if it finds that eigenvalues serve, and
        # cannot choose another method
        return self.ranks.job.on_root(
            lambda: choose_method(
                coldest,
                device,
                job.sampling.ranks_per_chain,
                job.sampling.by_forces,
            )
        )

    @property
    def learns(self) -> bool:
        """True if the job has effective models."""
        return self.job.sampling.method != "exact"

    @property
    def rungs(self) -> list[Rung]:
        """The chains of this rank, one rung for each temperature."""
        return self.ladder.rungs

    @property
    def swaps(self) -> Exchange | None:
        """Exchange between neighbouring temperatures."""
        return self.ladder.swaps

    @property
    def stage(self) -> str:
        """The phase, or what goes on in learning."""
        return self.phase.stage

    @property
    def finished(self) -> bool:
        """True if all samples are there."""
        return self.phase is self.phases[-1] and self.phase.finished

    def run(self, on_unit: Callable[[], bool | None] | None = None) -> None:
        """Carry on to the last sample. Collective.

        Parameters
        ----------
        on_unit : callable, optional
            Called after each unit of work; the run ends early where it returns true.
        """
        while not self.finished:
            self.advance()
            if on_unit is not None and on_unit():
                return

    def advance(self) -> None:
        """Do one unit of work of the present phase, and enter the next where it was the last.

        Collective.
        """
        phase, began = self.phase, time.process_time()
        phase.advance()
        if phase.finished and phase is not self.phases[-1]:
            self.phase = self.phases[self.phases.index(phase) + 1]
            self.phase.begin(phase)
        self._cpu_seconds[PHASES.index(phase.name)] += time.process_time() - began

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time of all ranks so far, by phase. Collective."""
        return dict(zip(PHASES, self.ranks.chains.sum(self._cpu_seconds).tolist(), strict=True))

    def keep_learned(self, directory: Path, versions: dict[str, str]) -> None:
        """Write the models, and the data if the job asks for them, which are forgotten after that.

        Collective.
        """
        for rung in self.rungs:
            learning = required(rung.learning)
            place = (
                directory / RUNG.format(rung.temperature)
                if self.job.ensemble.is_ladder
                else directory
            )
            self.ranks.chains.on_root(partial(make_folder, place))
            *cheaper, finest = learning.models
            self.ranks.chains.on_root(partial(save_model, place / MODEL, finest, versions))
            for level, model in enumerate(cheaper):
                path = place / LEVEL.format(level)
                self.ranks.chains.on_root(partial(save_model, path, model, versions))
            if self.job.learning.keep_data:
                write_data(
                    place / DATA,
                    learning.data,
                    self.lattice.shape,
                    rung.physics,
                    versions,
                    self.ranks.chains,
                )
            learning.data.clear()

    def save(self, path: Path, versions: dict[str, str]) -> None:
        """Write a checkpoint of everything. Collective.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        chains = {"rungs": {str(rung.number): rung.chain_state() for rung in self.rungs}}
        shared = {
            "job": self.job.model_dump(mode="json"),
            "versions": versions,
            "method": self.method,
            "phase": self.phase.name,
            "done": self.phase.done,
            "settings": self._settings(),
            "cpu_seconds": self.cpu_seconds(),
            "tuning": self.tuning.state_dict(),
            "rungs": {str(rung.number): rung.state_dict() for rung in self.rungs},
        }
        if self.tuning.fillings:
            chains["tuning"] = self.tuning.chain_state()
        if self.swaps:
            chains["exchange"], shared["exchange"] = (
                self.swaps.chain_state(),
                self.swaps.state_dict(),
            )
        checkpoint.save(path, chains, shared, self.ranks.block, self.ranks.chains)

    def _settings(self) -> list[dict]:
        """Return the settings that the effective models are built from; empty without models."""
        learning = self.rungs[0].learning
        return [model.architecture.settings for model in learning.models] if learning else []

    def _resume(self, path: Path) -> None:
        """Go on from a checkpoint of this job. Collective.

        Raises
        ------
        Damaged
            If it is damaged, or holds what this job cannot go on from.
        UserError
            If it is of another job.
        """
        chains, shared = checkpoint.load(
            path, self.ranks.block, self.ranks.chains, partial(self._accept, path)
        )
        self.ranks.chains.on_all(lambda: self._restore(path, chains, shared))

    def _accept(self, path: Path, chains: dict, shared: dict) -> None:
        """Refuse what the job cannot go on from, before the arrays are read. Collective.

        Otherwise make the chains that its state goes into.
        """
        self._compare_jobs(shared)
        with _restoring(path):
            check_setup(self, shared)
        self._start(shared["method"], shared["settings"] or None)
        with _restoring(path):
            check_state(self, chains, shared)
        for rung in self.rungs:
            saved = shared["rungs"][str(rung.number)]
            if (saved["temperature"], saved["mu"]) != (rung.temperature, rung.mu):
                rung.set_ensemble(saved["temperature"], saved["mu"])

    def _compare_jobs(self, shared: dict) -> None:
        try:
            before = Job.model_validate(shared["job"])
        except (KeyError, ValueError):
            raise UserError(
                "the checkpoint is of another version of the program: go on with that one, or "
                "start over with --restart."
            ) from None
        taken, refused = changed_keys(before, self.job)
        if refused:
            raise UserError(
                f"the checkpoint was written by a job with other values of {', '.join(refused)}: "
                "change them back, choose another [output] directory, or start over with --restart."
            )
        self.resume_remarks = [f"changed since the checkpoint: {', '.join(taken)}"] if taken else []

    def _restore(self, path: Path, chains: dict, shared: dict) -> None:
        """Take over a checkpoint's state."""
        with _restoring(path):
            check_values(chains, shared)
            self.phase = next(phase for phase in self.phases if phase.name == shared["phase"])
            self.phase.done = shared["done"]
            if self.ranks.chains.is_root:
                self._cpu_seconds = np.array([shared["cpu_seconds"][phase] for phase in PHASES])
            self.tuning.load(chains.get("tuning", {}), shared["tuning"])
            for rung in self.rungs:
                rung.load(chains["rungs"][str(rung.number)], shared["rungs"][str(rung.number)])
            if self.swaps:
                self.swaps.load(chains["exchange"], shared["exchange"])


@contextmanager
def _restoring(path: Path) -> Iterator[None]:
    """Turn whatever fails into a fault of the checkpoint, ``Damaged``."""
    try:
        yield
    except Exception as error:
        kinds = {ValueError: str(error), KeyError: f"it lacks {error}"}
        reason = kinds.get(type(error), "something in it is of another kind")
        raise checkpoint.Damaged(
            f"{path} does not hold the state of this job: {reason:.200}"
        ) from None
