"""One job from thermalisation to the last sample.

Phases, in order: ``thermalise`` (exact moves), ``learn`` (self-learning; only for slmc), ``sample``
(parameters and step sizes frozen; only here are data kept). Work comes in units (a move, a gradient
step, a sample), and a checkpoint may be taken after any of them.
"""

import math
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from hpcslmc import checkpoint
from hpcslmc.config import Job, changed_keys
from hpcslmc.effective import Architecture, EffectiveModel, FreeElectrons, make_model, on_lattice
from hpcslmc.effective.files import NAME as MODEL
from hpcslmc.effective.files import check_parameters, load_model, save_model
from hpcslmc.errors import UserError
from hpcslmc.evaluation import Evaluation
from hpcslmc.guard import Guarded
from hpcslmc.hamiltonian import Hamiltonian
from hpcslmc.lattice import Lattice
from hpcslmc.learning.data import DataSet, Recorder
from hpcslmc.learning.replay import NAME as DATA
from hpcslmc.learning.replay import Physics, Replay, write_data
from hpcslmc.learning.rounds import SelfLearning
from hpcslmc.learning.trainer import Trainer
from hpcslmc.measure.bins import Bins
from hpcslmc.measure.density_of_states import DensityOfStates
from hpcslmc.measure.observables import observables
from hpcslmc.measure.profiles import ProfileSums
from hpcslmc.parallel import ChainBlock, World
from hpcslmc.sampling import SLMC, make_move
from hpcslmc.streams import Stream
from hpcslmc.weight import choose_method, make_local, make_spectrum, make_weight


class Simulation:
    """State of a job on this rank, and the units of work that carry it on.

    Parameters
    ----------
    job : Job
    world : World
        The ranks that hold all chains between them.
    device : torch.device or str
    group : World
        The ranks that share the exact weight of this rank's chains.
    resume : Path
        Checkpoint of the same job to go on from; the one kept before it is taken if it is damaged.

    Raises
    ------
    UserError
        If ``resume`` is no valid checkpoint, or of a job that differs in more than steering keys; or the exact weight
        lacks something.

    Attributes
    ----------
    method, method_reason : str
        Method of the exact weight, and why it was chosen.
    phase : str
        thermalise, learn or sample.
    done : int
        Units done of the phases thermalise and sample; ``learning`` counts its own.
    spins : (chains of this rank, sites, 3) float64
    resumed_from : Path or None
        The checkpoint that was read.
    resume_remarks : list of str
        What the user should know of it: damage, keys that have changed.
    """

    def __init__(self, job: Job, world: World, device: torch.device | str = "cpu", group: World | None = None,
                 resume: Path | None = None) -> None:
        self.job, self.world = job, world
        self.block = ChainBlock.of(world, job.sampling.chains)
        self._chains = torch.as_tensor(self.block.indices(), device=device)
        self._device = device
        self.lattice = Lattice(job.lattice.shape)
        hamiltonian = Hamiltonian(self.lattice, job.hamiltonian.t, job.hamiltonian.J, device)
        beta, mu, group = 1.0 / job.ensemble.temperature, job.hamiltonian.mu, group or World()
        self.method, self.method_reason = job.weight.method, "as asked for"
        self.resumed_from: Path | None = None
        self.resume_remarks: list[str] = []
        saved = self._load(resume) if resume else None
        if self.method == "auto" and saved:  # a cost table or a device that has changed must not change the bits
            self.method, self.method_reason = saved[1]["method"], "as before"
        elif self.method == "auto":
            with_forces = job.sampling.method == "exact" and job.sampling.exact_move == "hmc"
            self.method, self.method_reason = choose_method(
                hamiltonian, beta, mu, torch.device(device).type, job.sampling.ranks_per_chain, with_forces)
        self.weight = Guarded(make_weight(self.method, hamiltonian, beta, mu, group), self._chains, Path(job.output.directory))
        sampling = job.sampling
        local = make_local(hamiltonian, beta, mu, group) if sampling.exact_move == "metropolis" else None
        self.exact = make_move(sampling.exact_move, self.weight, self._stream("exact"), sampling.trajectory, local)
        self.learning = self._self_learning(saved and saved[1]) if sampling.method == "slmc" else None
        self.observables = observables(self.lattice, device)
        self.bins = Bins([o.name for o in self.observables] + ["acceptance"], self.block.count, sampling.bin_size)
        self.profiles: list[ProfileSums] = []
        if every := job.measure.density_of_states:
            spectrum = make_spectrum(hamiltonian, beta, mu, group)
            profile = DensityOfStates(spectrum, hamiltonian.bound, job.measure.energies, every)
            self.profiles.append(ProfileSums(profile, self.block.count))
        self.phase, self.done = "thermalise", 0
        self.acceptance = math.nan
        self.spins = self._stream("start").directions(self.lattice.sites)
        self.evaluation: Evaluation | None = None
        if saved:
            self._restore(*saved)

    def _stream(self, purpose: str) -> Stream:
        return Stream(self.job.sampling.seed, self._chains, purpose)

    def _common_stream(self, purpose: str) -> Stream:
        """The same on all ranks."""
        return Stream(self.job.sampling.seed, torch.zeros(1, dtype=torch.int64), purpose)

    @property
    def _physics(self) -> Physics:
        hamiltonian = self.job.hamiltonian
        return Physics(FreeElectrons(hamiltonian.t, hamiltonian.mu, 1.0 / self.job.ensemble.temperature), hamiltonian.J)

    def _self_learning(self, saved: dict | None) -> SelfLearning:
        job, learning, sampling = self.job, self.job.learning, self.job.sampling
        model = self._model(saved)
        model.to(self._device)
        inner = make_move(sampling.inner_move, model, self._stream("inner"), sampling.trajectory, guide=model.guide)
        data = DataSet(self.block, learning.validation_fraction, self._device)
        recorder = Recorder(self.weight, data)
        self.exact.density = recorder
        if job.effective.start_from is not None and sampling.exact_move == "hmc":  # fixed until the exact moves are over
            self.exact.guide = lambda spins: model.evaluate(spins, forces=True).forces
        replays = self.world.on_all(lambda: [Replay(path, self._physics) for path in learning.replay])
        trainer = Trainer(model, data, self.world, self._stream("batches"), steps=learning.steps,
                          batch_size=learning.batch_size, rate=learning.rate, force_weight=learning.force_weight,
                          replays=[(replay, on_lattice(model, Lattice(replay.shape)).to(self._device)) for replay in replays],
                          draws=self._common_stream("replay"))
        return SelfLearning(model, self.exact, recorder, SLMC(self.weight, inner, self._stream("test"), sampling.moves), data,
                            trainer, self.world, rounds=learning.rounds, configurations=learning.configurations,
                            moves=sampling.moves, budget=learning.budget and learning.budget // sampling.chains,
                            fit_linear=job.effective.start_from is None)

    def _model(self, saved: dict | None) -> EffectiveModel:
        """The effective model: new, of the file that learning starts from, or of the checkpoint."""
        effective = self.job.effective
        shells, parameters = tuple(map(int, self.lattice.shells[:effective.shells])), None
        if saved:
            shells = tuple(saved["shells"])
        elif effective.start_from is not None:
            learned, parameters = self.world.on_root(lambda: load_model(effective.start_from))
            shells = learned.shells
        model = make_model(Architecture(effective.model, shells, effective.layers or 0, effective.channels or 0, self._physics.electrons),
                           self.lattice)
        model.initialise(self._common_stream("parameters"))
        if parameters is not None:
            self.world.on_root(lambda: check_parameters(model, parameters, effective.start_from))
            model.load_state_dict(parameters)
        return model

    @property
    def finished(self) -> bool:
        """Whether all samples are there."""
        return self.phase == "sample" and self.done >= self.job.sampling.samples

    def advance(self) -> None:
        """One unit of work of the present phase. Collective."""
        if self.phase == "thermalise":
            self._thermalise()
        elif self.phase == "learn":
            self._learn()
        else:
            self._sample()

    def _thermalise(self) -> None:
        if self.evaluation is None:
            self.evaluation = self.exact.evaluate(self.spins)
        step = self.exact.move(self.spins, self.evaluation)
        self.spins, self.evaluation = step.spins, step.evaluation
        accepted = self.world.sum(step.acceptance.sum().reshape(1).cpu().numpy())
        self.acceptance = float(accepted[0]) / self.block.total
        self.exact.tune(self.acceptance)
        self.done += 1
        if self.done == self.job.thermalisation.moves:
            self.phase, self.done = "learn" if self.learning else "sample", 0

    def _learn(self) -> None:
        self.spins, self.evaluation = self.learning.advance(self.spins, self.evaluation)
        self.acceptance = self.learning.acceptance
        if self.learning.finished:
            self.phase, self.done = "sample", 0

    def keep_learned(self, directory: Path, versions: dict[str, str]) -> None:
        """Write model.h5, and data.h5 if the job asks for it; the data are forgotten after that. Collective."""
        if self.world.is_root:
            save_model(directory / MODEL, self.learning.model, versions)
        if self.job.learning.keep_data:
            write_data(directory / DATA, self.learning.data, self.lattice.shape, self._physics, versions, self.world)
        self.learning.data.clear()

    def _sample(self) -> None:
        if self.learning:
            step = self.learning.slmc.move(self.spins, self.evaluation)
            acceptance = step.acceptance
        else:
            acceptance = torch.zeros(self.block.count, dtype=torch.float64, device=self._device)
            spins, evaluation = self.spins, self.evaluation
            for _ in range(self.job.sampling.moves):
                step = self.exact.move(spins, evaluation)
                spins, evaluation = step.spins, step.evaluation
                acceptance += step.acceptance / self.job.sampling.moves
        self.spins, self.evaluation = step.spins, self._with_electrons(step.spins, step.evaluation, acceptance > 0.0)
        self.acceptance = float(acceptance.mean())
        values = {o.name: o.measure(self.spins, self.evaluation) for o in self.observables}
        self.bins.add({**values, "acceptance": acceptance})
        self.done += 1
        for sums in self.profiles:
            sums.add(self.done, self.spins)

    def _with_electrons(self, spins: Tensor, evaluation: Evaluation, moved: Tensor) -> Evaluation:
        """The evaluation with energy and density, where the weight gives them with forces only.

        They are worked out for the chains that moved (all, if they were not known before) and kept for the others.
        """
        if evaluation.energy is not None:
            return evaluation
        before = self.evaluation
        if before.energy is None:
            before, moved = replace(before, energy=torch.empty_like(before.log_weight),
                                    density=torch.empty_like(before.log_weight)), torch.ones_like(moved)
        energy, density = before.energy.clone(), before.density.clone()
        if moved.any():
            fresh = self.weight.evaluate(spins[moved], forces=True)
            energy[moved], density[moved] = fresh.energy, fresh.density
        return replace(evaluation, energy=energy, density=density)

    @property
    def remarks(self) -> list[str]:
        """What the user should know of the run so far."""
        return self.learning.remarks if self.learning else []

    @property
    def progress(self) -> tuple[str, int, int]:
        """Name of the present stage, units done, units in all."""
        if self.phase == "learn" and not self.learning.finished:
            stage = self.learning.stage
            label = "learn: explore" if stage == "explore" else f"learn: {stage}, round {self.learning.round}"
            return label, *self.learning.progress
        total = self.job.thermalisation.moves if self.phase == "thermalise" else self.job.sampling.samples
        return self.phase, self.done, total

    @property
    def note(self) -> str:
        """How well the present stage goes, in a few words."""
        if self.phase == "learn" and self.learning.stage == "train":
            return f"loss {self.learning.trainer.loss:.3g}"
        return f"acceptance {self.acceptance:.2f}" if math.isfinite(self.acceptance) else ""

    def save(self, path: Path, versions: dict[str, str]) -> None:
        """Write a checkpoint of everything. Collective.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        evaluation = {f.name: getattr(self.evaluation, f.name) for f in fields(self.evaluation)}
        chains = {
            "spins": self.spins,
            "evaluation": {name: value for name, value in evaluation.items() if value is not None},
            "bins": self.bins.chain_state(),
            **{f"profile_{sums.profile.name}": sums.chain_state() for sums in self.profiles},
        }
        shared = {
            "job": self.job.model_dump(mode="json"), "versions": versions,
            "method": self.method, "phase": self.phase, "done": self.done,
            "exact": self.exact.state_dict(), "bins": self.bins.state_dict(),
            **{f"profile_{sums.profile.name}": sums.state_dict() for sums in self.profiles},
        }
        if self.learning:
            chains |= {"data": data} if (data := self.learning.data.state_dict()) else {}
            shared |= {"learning": self.learning.state_dict(), "slmc": self.learning.slmc.state_dict(),
                       "shells": list(self.learning.model.architecture.shells),
                       "model": dict(self.learning.model.state_dict())}
        checkpoint.save(path, chains, shared, self.block, self.world)

    def _load(self, path: Path) -> tuple[dict, dict]:
        """The trees of the newest good checkpoint, if it is of this job."""
        chains, shared, self.resumed_from, remarks = checkpoint.load_newest(path, self.block, self.world, self._accept)
        self.resume_remarks = remarks + self.resume_remarks
        return chains, shared

    def _accept(self, plain: dict) -> None:
        """Refuse the checkpoint of another job, before its arrays are read."""
        try:
            before = Job.model_validate(plain["job"])
            if not isinstance(plain["method"], str) or before.sampling.method == "slmc" and not plain["shells"]:
                raise ValueError
        except (KeyError, ValueError):
            raise UserError("the checkpoint is of another version of the program: go on with that one, or start over with --restart.") from None
        taken, refused = changed_keys(before, self.job)
        if refused:
            raise UserError(f"the checkpoint was written by a job with other values of {', '.join(refused)}: "
                            "change them back, choose another [output] directory, or start over with --restart.")
        self.resume_remarks = [f"changed since the checkpoint: {', '.join(taken)}"] if taken else []

    def _restore(self, chains: dict, shared: dict) -> None:
        """Take over a checkpoint's state; what does not fit the job is refused."""
        try:
            if chains["spins"].shape != self.spins.shape or chains["spins"].dtype != self.spins.dtype:
                raise ValueError("spins of another shape")
            self._take_over(chains, shared)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"{self.resumed_from} does not hold the state of this job ({error!r}): "
                            "put a good one there, or start over with --restart.") from None

    def _take_over(self, chains: dict, shared: dict) -> None:
        to = {key: value.to(self._device) for key, value in chains["evaluation"].items()}
        self.spins, self.evaluation = chains["spins"].to(self._device), Evaluation(**to)
        self.phase, self.done = shared["phase"], shared["done"]
        self.exact.load_state_dict(shared["exact"])
        self.bins.load(chains["bins"], shared["bins"])
        for sums in self.profiles:
            name = f"profile_{sums.profile.name}"
            sums.load(chains[name], shared[name])
        if self.learning:
            self.learning.model.load_state_dict(shared["model"])
            self.learning.slmc.load_state_dict(shared["slmc"])
            self.learning.data.load_state_dict({key: value.to(self._device) for key, value in chains.get("data", {}).items()})
            self.learning.load_state_dict(shared["learning"])
