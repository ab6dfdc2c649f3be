"""All chains of a rank at one temperature: exact weight, moves, effective model, measurements."""

from dataclasses import dataclass, replace
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
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import HMC, SLMC, Chains, Move, Step, make_move
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
    ranks : Ranks
    hamiltonian : Hamiltonian
    method : str
        Of the exact weight.
    directory : Path
        Where a configuration that fails is kept.
    shells : tuple of int or None
        Of the effective model, if a checkpoint has them.
    """

    job: Job
    ranks: Ranks
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
    chains : Chains
        They start from random spins, which are evaluated when they are first asked for.
    bins : Bins
    profiles : list of ProfileSums
    """

    def __init__(self, setting: Setting, number: int, temperature: float, mu: float) -> None:
        self.setting, self.number = setting, number
        job, sampling = setting.job, setting.job.sampling
        self._numbers = torch.as_tensor(
            setting.ranks.block.indices() + number * setting.ranks.block.total,
            device=setting.ranks.device,
        )
        self.exact = make_move(
            sampling.exact_move, None, self._stream("exact"), sampling.trajectory
        )
        self._chains: Chains | None = None
        self.set_ensemble(temperature, mu)
        intervals = {
            o.name: job.measure.scalars[GROUPS[o.needs]]
            for o in self.observables
            if o.needs in GROUPS
        }
        self._told: set[str] = set()  # what was not finite, which is said once
        self.bins = Bins(
            [o.name for o in self.observables] + ["acceptance"],
            setting.ranks.block.count,
            sampling.bin_size,
            intervals,
        )

    def set_ensemble(self, temperature: float, mu: float) -> None:
        """Another temperature or chemical potential, before anything was learned.

        A new weight and an untouched model.
        """
        self.temperature, self.mu = temperature, mu
        setting, sampling, beta = self.setting, self.setting.job.sampling, 1.0 / temperature
        weight = make_weight(setting.method, setting.hamiltonian, beta, mu, setting.ranks.weight)
        guarded = Guarded(weight, self._numbers, setting.directory, setting.ranks.weight.size == 1)
        self.weight = self.exact.density = guarded
        if sampling.exact_move == "metropolis":
            local = make_local(setting.hamiltonian, beta, mu, setting.ranks.weight)
            self.exact.local = GuardedSweeps(local, self.weight) if local else None
        self._prepare_measurements()
        self.learning, self.guided = None, None
        if sampling.method != "exact":
            self._prepare_learning()
        if self._chains is not None:
            self.chains = replace(
                self._chains, evaluation=self.exact.evaluate(self._chains.spins), effective=None
            )

    @property
    def chains(self) -> Chains:
        """The chains of this rank at this temperature."""
        if self._chains is None:
            spins = self._stream("start").directions(self.setting.lattice.sites)
            unknown = torch.full((len(spins),), torch.nan, dtype=torch.float64)
            self._chains = Chains(spins, self.exact.evaluate(spins), unknown)
        return self._chains

    @chains.setter
    def chains(self, chains: Chains) -> None:
        self._chains = chains

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
                setting.hamiltonian, 1.0 / self.temperature, self.mu, setting.ranks.weight
            )
        electrons = Electrons(setting.hamiltonian, 1.0 / self.temperature, self.mu, self._levels)
        self.observables = [make_observable(name, electrons) for name in names]
        self.profiles = [
            ProfileSums(
                make_profile(name, electrons, measure.energies, every), setting.ranks.block.count
            )
            for name, every in measure.profiles.items()
        ]

    def _levels(self, spins: Tensor) -> Tensor:
        """All eigenvalues (chains, 2 sites), those of the exact weight where it has them."""
        known = self.chains.evaluation.spectrum if spins is self.chains.spins else None
        return self._spectrum(spins) if known is None else known

    def _stream(self, purpose: str) -> Stream:
        return Stream(self.setting.job.sampling.seed, self._numbers, purpose)

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
        model = self._model().to(setting.ranks.device)
        inner = make_move(
            sampling.inner_move,
            model,
            self._stream("inner"),
            sampling.trajectory,
            guide=model.guide,
        )
        data = DataSet(setting.ranks.block, learning.validation_fraction, setting.ranks.device)
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
        replays = setting.ranks.chains.on_all(
            lambda: [Replay(path, self.physics) for path in learning.replay]
        )
        trainer = Trainer(
            model,
            data,
            setting.ranks.chains,
            self._stream("batches"),
            steps=learning.steps,
            batch_size=learning.batch_size,
            rate=learning.rate,
            force_weight=learning.force_weight,
            replays=[
                (replay, on_lattice(model, Lattice(replay.shape)).to(setting.ranks.device))
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
            setting.ranks.chains,
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
            learned = setting.ranks.chains.on_root(
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
            setting.ranks.chains.on_root(
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
        """Make one exact move of every chain.

        Returns
        -------
        (chains, numbers) float64
            Statistics whose means over all chains of all ranks ``exact.tune`` takes.
        """
        return self._move_once(self.exact)

    def learn(self) -> None:
        """Do one unit of work of learning. Collective."""
        self.chains = self.learning.advance(self.chains)

    def tune(self) -> Tensor:
        """Make one guided move of every chain; returns as ``thermalise``, for ``guided.tune``."""
        if self.chains.evaluation.forces is None:
            self.chains = replace(self.chains, evaluation=self.guided.evaluate(self.chains.spins))
        return self._move_once(self.guided)

    def _move_once(self, move: Move) -> Tensor:
        step = move.move(self.chains.spins, self.chains.evaluation)
        self._store(step, step.acceptance)
        return step.tuning

    def move(self) -> None:
        """Advance every chain by one sample: one self-learning proposal, or ``sampling.moves``
        exact moves.
        """
        sampling, chains = self.setting.job.sampling, self.chains
        if sampling.method == "slmc":
            proposal = self.learning.slmc.move(
                chains.spins, chains.evaluation, effective=chains.effective
            )
            self._store(proposal, proposal.acceptance, proposal.effective)
            return
        move, spins, evaluation = self.guided or self.exact, chains.spins, chains.evaluation
        acceptance = torch.zeros_like(evaluation.log_weight)
        for _ in range(sampling.moves):
            step = move.move(spins, evaluation)
            spins, evaluation = step.spins, step.evaluation
            acceptance += step.acceptance / sampling.moves
        self._store(step, acceptance)

    def _store(self, step: Step, acceptance: Tensor, effective: Evaluation | None = None) -> None:
        """Store the chains after moves, the last of which was ``step``.

        Energies not computed by the moves are nan; ``complete_energies`` fills them.
        """
        moved = self.chains.moved(step.spins, step.evaluation, acceptance > 0.0)
        self.chains = replace(moved, acceptance=acceptance, effective=effective)

    def complete_energies(self) -> None:
        """Compute energy and density of the chains where they are not known."""
        chains = self.chains
        unknown = chains.evaluation.energy.isnan()
        if unknown.any():
            energy, density = chains.evaluation.energy.clone(), chains.evaluation.density.clone()
            fresh = self.weight.with_energy(chains.spins[unknown], chains.evaluation.rows(unknown))
            energy[unknown], density[unknown] = fresh.energy, fresh.density
            evaluation = replace(chains.evaluation, energy=energy, density=density)
            self.chains = replace(chains, evaluation=evaluation)

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
            self.complete_energies()
        spins, evaluation = self.chains.spins, self.chains.evaluation
        values = {o.name: o.measure(spins, evaluation) for o in due}
        strange = self.bins.add(values | {"acceptance": self.chains.acceptance})
        for sums in self.profiles:
            strange |= sums.add(sample, spins)
        first = {name: chain for name, chain in strange.items() if name not in self._told}
        self._told |= first.keys()
        block = self.setting.ranks.block
        return [
            f"{name} of chain {block.first + chain} is not finite at sample {sample}: "
            "its mean and error will be nan"
            for name, chain in first.items()
        ]

    def chain_state(self) -> dict:
        """What belongs to chains: arrays with the chain as first axis."""
        evaluation = vars(self.chains.evaluation)
        state = {
            "spins": self.chains.spins,
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
        device = self.setting.ranks.device
        known = {key: value.to(device) for key, value in chain_state["evaluation"].items()}
        unknown = torch.full((self.setting.ranks.block.count,), torch.nan, dtype=torch.float64)
        self.chains = Chains(chain_state["spins"].to(device), Evaluation(**known), unknown)
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
