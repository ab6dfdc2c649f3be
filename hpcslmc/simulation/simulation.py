"""One job from thermalisation to the last sample.

Phases, in order: ``thermalise`` (exact moves), ``learn`` (self-learning, one temperature after the
other), ``tune`` (the step of exact moves guided by the model, where the job asks for them),
``sample`` (parameters and step sizes frozen; only here are data kept). Work comes in units (a move,
a gradient step, a sample), and a checkpoint may be taken after any of them.
"""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hpcslmc.analysis.statistics import bracket
from hpcslmc.errors import UserError
from hpcslmc.job.changes import changed_keys
from hpcslmc.job.schema import Job
from hpcslmc.learning.replay import write_data
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import Exchange, Move
from hpcslmc.simulation.build import Setting
from hpcslmc.simulation.rung import Rung
from hpcslmc.simulation.state import GUIDED_TUNING, PHASES, check_setup, check_state, check_values
from hpcslmc.simulation.tuning import EnsembleTuning
from hpcslmc.storage import checkpoint
from hpcslmc.storage.files import make_folder
from hpcslmc.storage.models import save_model
from hpcslmc.storage.names import DATA, MODEL
from hpcslmc.streams import Stream
from hpcslmc.weight import choose_method

RECENT = 100
"""Samples that the acceptance of a run in progress is a mean of."""
NO_GUIDE = "the model's forces are further from the exact ones than none"


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
    rungs : list of Rung
        One for each temperature; each holds this rank's chains at it.
    swaps : Exchange or None
        Between neighbouring temperatures; a ladder is one chain of every rung, and lives on one
        rank.
    tuning : EnsembleTuning
        What finds the temperatures of a spaced ladder and the chemical potentials of a filling.
    phase : str
        thermalise, learn, tune or sample.
    done : int
        Units done of the phase; learning counts its own.
    acceptance : float
        Of all chains at all temperatures: of the last move, in learning of this round, in sampling
        of the last ``RECENT`` samples as ``agree`` left it; nan before.
    idle : int
        Chains, each temperature's counted, that have stood still in all complete bins, as ``agree``
        left it.
    resumed_from : Path or None
        The checkpoint that was read.
    resume_remarks : list of str
        What the user should know of it: damage, keys that have changed.
    alarms : list of str
        What the user should know at once of this rank's chains, which other ranks do not know;
        whoever has told it clears the list.
    """

    def __init__(
        self,
        job: Job,
        ranks: Ranks | None = None,
        resume: Path | None = None,
    ) -> None:
        self.job = job
        self.ranks = ranks or Ranks.of(World(), job.sampling.chains)
        self.lattice = Lattice(job.lattice.shape)
        self.resumed_from: Path | None = None
        self.resume_remarks: list[str] = []
        self.alarms: list[str] = []
        if resume:
            _, self.resumed_from, damage = checkpoint.load_newest(resume, self._resume)
            self.resume_remarks = damage + self.resume_remarks
        else:
            self._start()

    def _start(self, method: str | None = None, shells: tuple[int, ...] | None = None) -> None:
        """Chains that have done nothing yet; with the method and the model's shells of a
        checkpoint, if there is one. Collective.
        """
        job, ranks, ensemble = self.job, self.ranks, self.job.ensemble
        hamiltonian = Hamiltonian(self.lattice, job.hamiltonian.t, job.hamiltonian.J, ranks.device)
        self.method, self.method_reason = self._choose(hamiltonian, method)
        # by one rank of all, as ranks on other nodes may have another environment
        directory = ranks.job.on_root(lambda: job.output.folder)
        setting = Setting(job, ranks, hamiltonian, self.method, directory, shells)
        self.tuning = EnsembleTuning(job, ranks, hamiltonian)
        self.rungs = [
            Rung(setting, k, temperature, self.tuning.first_potential(temperature))
            for k, temperature in enumerate(ensemble.temperatures)
        ]
        self.swaps = None
        if ensemble.is_ladder and ensemble.exchange:
            stream = Stream(
                job.sampling.seed,
                torch.as_tensor(ranks.block.indices(), device=ranks.device),
                "exchange",
            )
            self.swaps = Exchange(stream, len(self.rungs), ranks.block.count)
        self.phase, self.done = "thermalise", 0
        self._cpu_seconds = np.zeros(len(PHASES))
        self.acceptance, self.idle, self._some_idle = math.nan, 0, True
        # acceptance of the last samples of this rank's chains
        self._recent: deque[float] = deque(maxlen=RECENT)

    def _choose(self, hamiltonian: Hamiltonian, before: str | None) -> tuple[str, str]:
        """Method of the exact weight and why.

        One for all temperatures, chosen by the coldest, which needs most of it. Collective.
        """
        job = self.job
        if job.weight.method != "auto":
            return job.weight.method, "as asked for"
        if before:  # a cost table or a device that has changed must not change the bits
            return before, "as before"
        beta, device = 1.0 / min(job.ensemble.temperatures), torch.device(self.ranks.device).type
        # by one rank of all: the others need no nodes if it finds that eigenvalues serve, and
        # cannot choose another method
        return self.ranks.job.on_root(
            lambda: choose_method(
                hamiltonian,
                beta,
                job.hamiltonian.mu,
                device,
                job.sampling.ranks_per_chain,
                job.sampling.by_forces,
            )
        )

    @property
    def learns(self) -> bool:
        """Whether the job has effective models."""
        return self.job.sampling.method != "exact"

    @property
    def finished(self) -> bool:
        """Whether all samples are there."""
        return self.phase == "sample" and self.done >= self.job.sampling.samples

    def advance(self) -> None:
        """One unit of work of the present phase. Collective."""
        phase, began = self.phase, time.process_time()
        {
            "thermalise": self._thermalise,
            "learn": self._learn,
            "tune": self._tune,
            "sample": self._sample,
        }[phase]()
        self._cpu_seconds[PHASES.index(phase)] += time.process_time() - began

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time of all ranks so far, by phase. Collective."""
        return dict(zip(PHASES, self.ranks.chains.sum(self._cpu_seconds).tolist(), strict=True))

    def _thermalise(self) -> None:
        tunings = [rung.thermalise() for rung in self.rungs]
        self._tune_moves([rung.exact for rung in self.rungs], tunings)
        if self.swaps:
            self._exchange(self.job.sampling.exact_move == "hmc")
        self.done += 1
        if self.tuning.after_move(self.done, self.rungs, self.swaps):
            self._enter("learn" if self.learns else "sample")

    def _enter(self, phase: str) -> None:
        self.phase, self.done = phase, 0
        for rung in self.rungs:
            if phase == "learn":
                rung.learning.begin()
            elif phase == "tune":
                rung.begin_tuning()
        if phase == "sample" and self.swaps:
            self.swaps.forget()

    def _tune_moves(self, moves: list[Move], tunings: list[torch.Tensor]) -> None:
        """Tune each temperature's move by what it has just said, as means over the chains of all
        ranks. Collective.
        """
        means = self._means(tunings)
        for move, mean in zip(moves, means, strict=True):
            move.tune(mean)
        self.acceptance = float(np.mean([acceptance for acceptance, *_ in means]))

    def _means(self, values: list[torch.Tensor]) -> list:
        """Means over the chains of all ranks of a tensor, chains first, of each rung.

        Collective.
        """
        sums = self.ranks.chains.sum(np.array([x.sum(0).tolist() for x in values]))
        return (sums / self.ranks.block.total).tolist()

    def _learn(self) -> None:
        rung = next(r for r in self.rungs if not r.learning.finished)
        rung.learn()
        self.acceptance = rung.learning.acceptance
        if rung.learning.finished:
            if rung is self.rungs[-1]:
                self._enter("tune" if self.job.sampling.method == "guided" else "sample")
            else:  # a neighbour's model is a better start than none
                self.rungs[rung.number + 1].learning.start_from(rung.learning.model)

    def keep_learned(self, directory: Path, versions: dict[str, str]) -> None:
        """Write the models, and the data if the job asks for them, which are forgotten after that.

        Collective.
        """
        for rung in self.rungs:
            place = (
                directory / f"T{rung.temperature:.6g}" if self.job.ensemble.is_ladder else directory
            )
            self.ranks.chains.on_root(partial(make_folder, place))
            self.ranks.chains.on_root(
                partial(
                    save_model,
                    place / MODEL,
                    rung.learning.model,
                    versions,
                    self.job.hamiltonian.J,
                )
            )
            if self.job.learning.keep_data:
                write_data(
                    place / DATA,
                    rung.learning.data,
                    self.lattice.shape,
                    rung.physics,
                    versions,
                    self.ranks.chains,
                )
            rung.learning.data.clear()

    def _tune(self) -> None:
        tunings = [rung.tune() for rung in self.rungs]
        self._tune_moves([rung.guided for rung in self.rungs], tunings)
        self.done += 1
        if self.done == GUIDED_TUNING:
            self._enter("sample")

    def _sample(self) -> None:
        for rung in self.rungs:
            rung.move()
        self._recent.append(
            float(np.mean([float(rung.chains.acceptance.mean()) for rung in self.rungs]))
        )
        self.done += 1
        if self.swaps and self.done % self.job.ensemble.exchange == 0:
            self._exchange(self.job.sampling.by_forces)
        for rung in self.rungs:
            self.alarms += [f"{self._at(rung)}{remark}" for remark in rung.measure(self.done)]

    def agree(self) -> None:
        """Work out ``acceptance`` and ``idle`` of all ranks' chains while sampling; what comes of
        it changes no chain. Collective.
        """
        if self._recent:
            idle = 0
            if self._some_idle:  # on all ranks or none
                idle = sum(int(rung.bins.idle.sum()) for rung in self.rungs)
            mean, idle = self.ranks.chains.sum(
                np.array([np.mean(self._recent) / self.ranks.chains.size, idle])
            )
            self.acceptance, self.idle = float(mean), int(idle)
            self._some_idle = self.idle > 0 or self.rungs[0].bins.draws.shape[1] < 2

    def _exchange(self, forces: bool) -> None:
        rungs = self.rungs
        after = self.swaps.move([r.weight for r in rungs], [r.chains for r in rungs], forces)
        for rung, chains in zip(rungs, after, strict=True):
            rung.chains = chains

    @property
    def remarks(self) -> list[str]:
        """What the user should know of the run so far."""
        found = []
        if self.phase != "thermalise" and self.job.ensemble.rungs:
            found.append(
                "temperatures: " + ", ".join(f"{rung.temperature:.4g}" for rung in self.rungs)
            )
        if self.phase != "thermalise" and self.tuning.fillings:
            found.append(
                f"chemical potential for n = {self.job.ensemble.filling:g}, with the density that "
                "was found: "
                + ", ".join(
                    f"{rung.mu:.5g} ({bracket(filling.reached, filling.error)})"
                    for rung, filling in zip(self.rungs, self.tuning.fillings, strict=True)
                )
            )
        if self.phase != "thermalise":
            found += [
                f"{self._at(rung)}{NO_GUIDE}: thermalisation went without them"
                for rung in self.rungs
                if rung.exact.misguided
            ]
        found += [
            f"{self._at(rung)}{remark}"
            for rung in self.rungs
            if rung.learning
            for remark in rung.learning.remarks
        ]
        if self.phase == "sample":
            found += [
                f"{self._at(rung)}{NO_GUIDE}: trajectories go without them"
                for rung in self.rungs
                if rung.guided and rung.guided.misguided
            ]
        trajectories = [rung.sampler.describe() for rung in self.rungs]
        if self.phase == "sample" and all(trajectories):
            found.append("trajectories, length (leapfrog steps): " + ", ".join(trajectories))
        return found

    def _at(self, rung: Rung) -> str:
        return f"T = {rung.temperature:.4g}, " if self.job.ensemble.is_ladder else ""

    @property
    def stage(self) -> str:
        """The phase, or what goes on in learning."""
        return self._learning_rung.learning.stage if self.phase == "learn" else self.phase

    @property
    def _learning_rung(self) -> Rung:
        return next((r for r in self.rungs if not r.learning.finished), self.rungs[-1])

    @property
    def progress(self) -> tuple[str, int, int]:
        """Name of the present stage, units done, units in all."""
        if self.phase == "learn":
            rung = self._learning_rung
            learning = rung.learning
            label = (
                "explore"
                if learning.stage == "explore"
                else f"{learning.stage}, round {learning.round}"
            )
            return f"learn: {self._at(rung)}{label}", *learning.progress
        total = {
            "thermalise": self.tuning.expected_moves(self.done),
            "tune": GUIDED_TUNING,
            "sample": self.job.sampling.samples,
        }
        return self.phase, self.done, total[self.phase]

    @property
    def note(self) -> str:
        """How well the present stage goes, in a few words."""
        if self.stage == "train":
            return f"loss {self._learning_rung.learning.trainer.loss:.3g}"
        return f"acceptance {self.acceptance:.2f}" if math.isfinite(self.acceptance) else ""

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
            "phase": self.phase,
            "done": self.done,
            "shells": list(self.rungs[0].learning.model.architecture.shells) if self.learns else [],
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
        """Refuse what the job cannot go on from, before the arrays are read, and make room for the
        rest. Collective.
        """
        self._compare_jobs(shared)
        with _restoring(path):
            check_setup(self, shared)
        self._start(shared["method"], tuple(shared["shells"]) or None)
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
            self.phase, self.done = shared["phase"], shared["done"]
            if self.ranks.chains.is_root:
                self._cpu_seconds = np.array([shared["cpu_seconds"][phase] for phase in PHASES])
            self.tuning.load(chains.get("tuning", {}), shared["tuning"])
            for rung in self.rungs:
                rung.load(chains["rungs"][str(rung.number)], shared["rungs"][str(rung.number)])
            if self.swaps:
                self.swaps.load(chains["exchange"], shared["exchange"])


@contextmanager
def _restoring(path: Path) -> Iterator[None]:
    """Whatever fails here is a fault of the checkpoint."""
    try:
        yield
    except Exception as error:
        kinds = {ValueError: str(error), KeyError: f"it lacks {error}"}
        reason = kinds.get(type(error), "something in it is of another kind")
        raise checkpoint.Damaged(
            f"{path} does not hold the state of this job: {reason:.200}"
        ) from None
