"""All chains of a rank at one temperature: exact weight, moves, effective model, measurements."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.effective import Architecture, EffectiveModel, FreeElectrons, make_model, on_lattice
from hpcslmc.job.schema import Job
from hpcslmc.learning.data import DataSet, Recorder
from hpcslmc.learning.replay import Physics, Replay
from hpcslmc.learning.rounds import SelfLearning
from hpcslmc.learning.trainer import Trainer
from hpcslmc.measure.bins import Bins
from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.observables import Needs
from hpcslmc.measure.profiles import ProfileSums
from hpcslmc.measure.registry import OBSERVABLES, PROFILES, make_observable, make_profile
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import HMC, SLMC, Move, make_move
from hpcslmc.storage.models import check_parameters, load_model
from hpcslmc.streams import Stream
from hpcslmc.weight import make_local, make_spectrum, make_weight
from hpcslmc.weight.checked import Guarded, GuardedSweeps

GROUPS = {Needs.ENERGIES: "electrons", Needs.LEVELS: "fluctuations", Needs.STATES: "drude_weight"}
"""Keys of [measure] that switch observables on, by what these need."""


@dataclass(frozen=True)
class Setting:
    """What all rungs of a job share.

    Attributes
    ----------
    job : Job
    world : World
        The ranks that hold all chains between them.
    group : World
        The ranks that share the exact weight of this rank's chains.
    device : torch.device or str
    block : ChainBlock
    hamiltonian : Hamiltonian
    method : str
        Of the exact weight.
    directory : Path
        Where a configuration that fails is kept.
    shells : tuple of int or None
        Of the effective model, if a checkpoint has them.
    """

    job: Job
    world: World
    group: World
    device: torch.device | str
    block: ChainBlock
    hamiltonian: Hamiltonian
    method: str
    directory: Path
    shells: tuple[int, ...] | None = None

    @property
    def lattice(self) -> Lattice:
        """The lattice of all chains."""
        return self.hamiltonian.lattice


class Rung:
    """The chains of this rank at one temperature, and the units of work that carry them on.

    Parameters
    ----------
    setting : Setting
    number : int
        Its place among the job's temperatures. Chains of different rungs have different random
        numbers.
    temperature, mu : float

    Attributes
    ----------
    weight : Guarded
        Exact weight.
    exact : Move
    learning : SelfLearning or None
    guided : HMC or None
        Exact moves guided by the model.
    spins : (chains, sites, 3) float64
    evaluation : Evaluation or None
        Exact, of the spins.
    acceptance : (chains,) float64
        Of the last move.
    bins : Bins
    profiles : list of ProfileSums
    """

    def __init__(self, setting: Setting, number: int, temperature: float, mu: float) -> None:
        self.setting, self.number = setting, number
        job, sampling = setting.job, setting.job.sampling
        self._chains = torch.as_tensor(
            setting.block.indices() + number * setting.block.total, device=setting.device
        )
        self.exact = make_move(
            sampling.exact_move, None, self._stream("exact"), sampling.trajectory
        )
        self.spins = self._stream("start").directions(setting.lattice.sites)
        self.acceptance = torch.full((setting.block.count,), torch.nan, dtype=torch.float64)
        self.set_ensemble(temperature, mu)
        intervals = {
            o.name: job.measure.scalars[GROUPS[o.needs]]
            for o in self.observables
            if o.needs in GROUPS
        }
        self._told: set[str] = set()  # what was not finite, which is said once
        self.bins = Bins(
            [o.name for o in self.observables] + ["acceptance"],
            setting.block.count,
            sampling.bin_size,
            intervals,
        )

    def set_ensemble(self, temperature: float, mu: float) -> None:
        """Another temperature or chemical potential, before anything was learned.

        A new weight and an untouched model.
        """
        self.temperature, self.mu = temperature, mu
        setting, sampling, beta = self.setting, self.setting.job.sampling, 1.0 / temperature
        weight = make_weight(setting.method, setting.hamiltonian, beta, mu, setting.group)
        guarded = Guarded(weight, self._chains, setting.directory, setting.group.size == 1)
        self.weight = self.exact.density = guarded
        if sampling.exact_move == "metropolis":
            local = make_local(setting.hamiltonian, beta, mu, setting.group)
            self.exact.local = GuardedSweeps(local, self.weight) if local else None
        self.evaluation: Evaluation | None = None
        self._effective: Evaluation | None = None  # of the model at the spins, while it is frozen
        self._prepare_measurements()
        self.learning, self.guided = None, None
        if sampling.method != "exact":
            self._prepare_learning()

    def _prepare_measurements(self) -> None:
        setting, measure = self.setting, self.setting.job.measure
        groups = {needs for needs, key in GROUPS.items() if key in measure.scalars}
        names = [
            name
            for name, kind in OBSERVABLES.items()
            if kind.exists(setting.lattice) and (kind.needs is Needs.SPINS or kind.needs in groups)
        ]
        kinds = [OBSERVABLES[name] for name in names] + [
            PROFILES[name] for name in measure.profiles
        ]
        if any(kind.needs is Needs.LEVELS for kind in kinds):
            self._spectrum = make_spectrum(
                setting.hamiltonian, 1.0 / self.temperature, self.mu, setting.group
            )
        electrons = Electrons(setting.hamiltonian, 1.0 / self.temperature, self.mu, self._levels)
        self.observables = [make_observable(name, electrons) for name in names]
        self.profiles = [
            ProfileSums(make_profile(name, electrons, measure.energies, every), setting.block.count)
            for name, every in measure.profiles.items()
        ]

    def _levels(self, spins: Tensor) -> Tensor:
        """All eigenvalues (chains, 2 sites), those of the exact weight where it has them."""
        known = self.evaluation.spectrum if spins is self.spins else None
        return self._spectrum(spins) if known is None else known

    def _stream(self, purpose: str) -> Stream:
        return Stream(self.setting.job.sampling.seed, self._chains, purpose)

    def _common_stream(self, purpose: str) -> Stream:
        """The same on all ranks."""
        return Stream(self.setting.job.sampling.seed, torch.full((1,), self.number), purpose)

    @property
    def physics(self) -> Physics:
        """What log W depends on here."""
        hamiltonian = self.setting.hamiltonian
        return Physics(FreeElectrons(hamiltonian.t, self.mu, 1.0 / self.temperature), hamiltonian.J)

    def _prepare_learning(self) -> None:
        setting, job = self.setting, self.setting.job
        learning, sampling = job.learning, job.sampling
        model = self._model().to(setting.device)
        inner = make_move(
            sampling.inner_move,
            model,
            self._stream("inner"),
            sampling.trajectory,
            guide=model.guide,
        )
        data = DataSet(setting.block, learning.validation_fraction, setting.device)
        recorder = self.exact.density = Recorder(self.weight, data)

        def forces(spins: Tensor) -> Tensor:
            return model.evaluate(spins, forces=True).forces

        if (
            job.effective.start_from is not None and sampling.exact_move == "hmc"
        ):  # fixed until the exact moves are over
            self.exact.guide, self.exact.misguided = forces, False
        if sampling.method == "guided":
            self.guided = HMC(
                self.weight, self._stream("guided"), sampling.trajectory, guide=forces
            )
        replays = setting.world.on_all(
            lambda: [Replay(path, self.physics) for path in learning.replay]
        )
        trainer = Trainer(
            model,
            data,
            setting.world,
            self._stream("batches"),
            steps=learning.steps,
            batch_size=learning.batch_size,
            rate=learning.rate,
            force_weight=learning.force_weight,
            replays=[
                (replay, on_lattice(model, Lattice(replay.shape)).to(setting.device))
                for replay in replays
            ],
            draws=self._common_stream("replay"),
        )
        self.learning = SelfLearning(
            model,
            self.exact,
            recorder,
            SLMC(self.weight, inner, self._stream("test"), sampling.moves),
            data,
            trainer,
            setting.world,
            rounds=learning.rounds,
            configurations=learning.configurations,
            moves=sampling.moves,
            budget=learning.budget and learning.budget // sampling.chains,
            fit_linear=job.effective.start_from is None,
        )

    def _model(self) -> EffectiveModel:
        """The effective model.

        New, of the file that learning starts from, or to be filled from a checkpoint.
        """
        setting, effective = self.setting, self.setting.job.effective
        shells, learned = tuple(map(int, setting.lattice.shells[: effective.shells])), None
        if effective.start_from is not None:
            learned = setting.world.on_root(
                lambda: load_model(effective.start_from, self.temperature)
            )
            shells = learned.architecture.shells
        shells = setting.shells or shells
        model = make_model(
            Architecture(
                effective.model,
                shells,
                effective.layers or 0,
                effective.channels or 0,
                self.physics.electrons,
            ),
            setting.lattice,
        )
        model.initialise(self._common_stream("parameters"))
        self._start_remark = ""
        if learned is not None:
            setting.world.on_root(
                lambda: check_parameters(model, learned.parameters, effective.start_from)
            )
            model.load_state_dict(learned.parameters)
            if unlike := learned.unlike(self.physics.electrons, self.physics.J):
                self._start_remark = f"start_from: {learned.path} was learned at {unlike}"
        return model

    def enter(self, phase: str) -> None:
        """Hand on what the phases before have found for trajectories."""
        if phase == "learn":
            _follow(self.learning.slmc.inner, self.exact)
            if self._start_remark:
                self.learning.remarks.append(self._start_remark)
        elif phase == "tune":
            _follow(self.guided, self.exact)
            _follow(self.guided, self.learning.slmc.inner)
            self.guided.step_size = self.guided.length  # the guide's steps are short
            # a length that is found already changes little
            self.guided.tunings = self.exact.tunings

    @property
    def sampler(self) -> Move:
        """The move that sampling makes most of."""
        return self.guided or (self.learning.slmc.inner if self.learning else self.exact)

    def thermalise(self) -> Tensor:
        """One exact move; returns what its tuning wants the means of, (chains, numbers)."""
        if self.evaluation is None:
            self.evaluation = self.exact.evaluate(self.spins)
        return self._move_once(self.exact)

    def learn(self) -> None:
        """One unit of work of learning. Collective."""
        self.spins, self.evaluation = self.learning.advance(self.spins, self.evaluation)

    def tune(self) -> Tensor:
        """One guided move; returns what its tuning wants the means of, (chains, numbers)."""
        if self.evaluation.forces is None:
            self.evaluation = self.guided.evaluate(self.spins)
        return self._move_once(self.guided)

    def _move_once(self, move: Move) -> Tensor:
        step = move.move(self.spins, self.evaluation)
        self._take(step.spins, step.evaluation, step.acceptance > 0.0)
        self.acceptance = step.acceptance
        return step.tuning

    def move(self) -> None:
        """What lies between two samples."""
        sampling = self.setting.job.sampling
        if sampling.method == "slmc":
            step = self.learning.slmc.move(self.spins, self.evaluation, effective=self._effective)
            acceptance, self._effective = step.acceptance, step.effective
        else:
            move, spins, evaluation = self.guided or self.exact, self.spins, self.evaluation
            acceptance = torch.zeros_like(evaluation.log_weight)
            for _ in range(sampling.moves):
                step = move.move(spins, evaluation)
                spins, evaluation = step.spins, step.evaluation
                acceptance += step.acceptance / sampling.moves
        self._take(step.spins, step.evaluation, acceptance > 0.0)
        self.acceptance = acceptance

    def exchange(self, spins: Tensor, evaluation: Evaluation, exchanged: Tensor) -> None:
        """What a turn of exchange left here."""
        if exchanged.any():
            self._effective = None
            self._take(spins, evaluation, exchanged)

    def _take(self, spins: Tensor, evaluation: Evaluation, moved: Tensor) -> None:
        """New spins and a new evaluation of them, whose energies are nan where they are not known.

        Energies of chains that did not move stay known where the evaluation lacks them.
        """
        if evaluation.energy is None:
            before, unknown = self.evaluation, torch.full_like(evaluation.log_weight, torch.nan)
            kept = {
                name: unknown
                if (value := getattr(before, name)) is None
                else torch.where(moved, unknown, value)
                for name in ("energy", "density")
            }
            evaluation = replace(evaluation, **kept)
        self.spins, self.evaluation = spins, evaluation

    def know_electrons(self) -> None:
        """Work out energy and density of the chains where they are not known."""
        unknown = self.evaluation.energy.isnan()
        if unknown.any():
            energy, density = self.evaluation.energy.clone(), self.evaluation.density.clone()
            fresh = self.weight.with_energy(self.spins[unknown], self.evaluation.rows(unknown))
            energy[unknown], density[unknown] = fresh.energy, fresh.density
            self.evaluation = replace(self.evaluation, energy=energy, density=density)

    def measure(self, sample: int) -> list[str]:
        """Measure sample number ``sample`` (1, 2, ...). Collective over the group.

        Returns
        -------
        list of str
            A remark on each observable or profile that is not finite for the first time in this
            rank's chains.
        """
        names = set(self.bins.due)
        due = [o for o in self.observables if o.name in names]
        if any(o.needs is Needs.ENERGIES for o in due):
            self.know_electrons()
        values = {o.name: o.measure(self.spins, self.evaluation) for o in due}
        strange = self.bins.add(values | {"acceptance": self.acceptance})
        for sums in self.profiles:
            strange |= sums.add(sample, self.spins)
        first = {name: chain for name, chain in strange.items() if name not in self._told}
        self._told |= first.keys()
        return [
            f"{name} of chain {self.setting.block.first + chain} is not finite at sample {sample}: "
            "its mean and error will be nan"
            for name, chain in first.items()
        ]

    def chain_state(self) -> dict:
        """What belongs to chains: arrays with the chain as first axis."""
        evaluation = {f.name: getattr(self.evaluation, f.name) for f in fields(self.evaluation)}
        state = {
            "spins": self.spins,
            "evaluation": {name: value for name, value in evaluation.items() if value is not None},
            "bins": self.bins.chain_state(),
            **{f"profile_{sums.profile.name}": sums.chain_state() for sums in self.profiles},
        }
        return (
            state | {"data": data}
            if self.learning and (data := self.learning.data.state_dict())
            else state
        )

    def state_dict(self) -> dict:
        """What is the same for all chains."""
        state = {
            "temperature": self.temperature,
            "mu": self.mu,
            "exact": self.exact.state_dict(),
            "bins": self.bins.state_dict(),
            **{f"profile_{sums.profile.name}": sums.state_dict() for sums in self.profiles},
        }
        if self.learning:
            state |= {
                "learning": self.learning.state_dict(),
                "slmc": self.learning.slmc.state_dict(),
                "model": dict(self.learning.model.state_dict()),
            }
        if self.guided:
            state["guided"] = self.guided.state_dict()
        return state

    def load(self, chain_state: dict, state: dict) -> None:
        """Restore both states, of the rung's own temperature and chemical potential."""
        device = self.setting.device
        to = {key: value.to(device) for key, value in chain_state["evaluation"].items()}
        self.spins, self.evaluation = chain_state["spins"].to(device), Evaluation(**to)
        self.exact.load_state_dict(state["exact"])
        self.bins.load(chain_state["bins"], state["bins"])
        for sums in self.profiles:
            name = f"profile_{sums.profile.name}"
            sums.load(chain_state[name], state[name])
        if self.learning:
            self.learning.model.load_state_dict(state["model"])
            self.learning.slmc.load_state_dict(state["slmc"])
            self.learning.data.load_state_dict(
                {key: value.to(device) for key, value in chain_state.get("data", {}).items()}
            )
            self.learning.load_state_dict(state["learning"])
        if self.guided:
            self.guided.load_state_dict(state["guided"])


def _follow(move: Move, other: Move) -> None:
    """Let a move's trajectories, where their length is to be found, start from the length of
    another's.
    """
    if isinstance(move, HMC) and move.finds_length and isinstance(other, HMC):
        move.length = other.length
