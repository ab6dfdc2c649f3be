"""Construction of a simulation's parts at one temperature, from weight to measurements."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from hpcslmc.density import Density
from hpcslmc.effective import Architecture, EffectiveModel, Physics, make_model, on_lattice
from hpcslmc.effective.model import ForceFitted
from hpcslmc.job.schema import Job
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.force_fits import ForceFits
from hpcslmc.learning.replay import Replay
from hpcslmc.learning.rounds import SelfLearning
from hpcslmc.learning.trainer import Trainer
from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.observables import Needs, Observable
from hpcslmc.measure.profiles import Profile
from hpcslmc.measure.registry import (
    OBSERVABLES,
    PROFILES,
    function_intervals,
    make_observable,
    make_profile,
    observable_intervals,
)
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.physics.classical import ClassicalEnergy
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.plugins import MODELS
from hpcslmc.sampling import HMC, SLMC, Move, RandomImages, make_move
from hpcslmc.sampling.classical import (
    ClassicalWeight,
    ExactDensity,
    ExactWithClassical,
    WithClassical,
)
from hpcslmc.sampling.hmc import SHORT
from hpcslmc.storage.models import check_parameters, load_model
from hpcslmc.streams import Stream
from hpcslmc.weight import make_local, make_spectrum, make_weight
from hpcslmc.weight.checked import Guarded, GuardedSweeps

Part = TypeVar("Part")

PROPOSED = 1.75
"""Shortest trajectory under a determinant model that is found.

What renews log W fastest may be half as long, but leaves slow modes of the spins to diffusion,
whose steps are as long as trajectories; rejections, which make others be short, are rare here.
"""

FIRST_EXACT_MOVES = 10
"""Exact moves of thermalisation before a determinant model takes over."""


def exact_moves(job: Job) -> int:
    """Return the exact moves of thermalisation.

    Determinants hardly depend on the configurations that they are fitted on, so they can be learned
    early, and the rest of the moves be proposed by them, which costs less. Not
    where thermalisation tunes the ensemble, or the job says how learning goes.
    """
    moves = job.thermalisation.moves
    tunes = job.ensemble.filling is not None or job.ensemble.is_ladder
    asked = job.learning.configurations is not None or job.learning.budget is not None
    by_forces = job.sampling.method == "slmc" and job.sampling.exact_move == "hmc"
    close = all(_is_close(MODELS[section.model]) for section in job.levels)
    if tunes or asked or not (by_forces and close):
        return moves
    return min(moves, FIRST_EXACT_MOVES)


def _is_close(model: type[EffectiveModel]) -> bool:
    """True if nearly all proposals of a model are accepted."""
    return issubclass(model, ForceFitted) and model.is_close


def required(part: Part | None) -> Part:
    """Return what the present phase of the job cannot do without."""
    if part is None:
        raise RuntimeError("the job has no such part, or has not come to it")
    return part


@dataclass(frozen=True)
class Setting:
    """Settings that all temperatures of a job share.

    Attributes
    ----------
    job : Job
    ranks : Ranks
    hamiltonian : Hamiltonian
    classical : ClassicalEnergy or None
        The spins' own energy.
    method : str
        Of the exact weight.
    directory : Path
        Where a configuration that fails is kept.
    settings : list of dict, or None
        Of the effective models' architectures, if a checkpoint has them.
    """

    job: Job
    ranks: Ranks
    hamiltonian: Hamiltonian
    classical: ClassicalEnergy | None
    method: str
    directory: Path
    settings: list[dict[str, Any]] | None = None

    @property
    def lattice(self) -> Lattice:
        """The lattice of all chains."""
        return self.hamiltonian.lattice

    @cached_property
    def intervals(self) -> dict[str, int]:
        """Samples between two measurements of each observable that is measured, by name."""
        measure = self.job.measure
        return observable_intervals(
            self.lattice,
            measure.scalars,
            measure.named,
            measure.momenta,
            self.classical is not None,
        )


@dataclass(frozen=True)
class Place:
    """One temperature of a job, its chemical potential, and the random numbers of its chains.

    Attributes
    ----------
    setting : Setting
    number : int
        Its place among the job's temperatures. Chains of different temperatures have different
        random numbers.
    temperature, mu : float
    """

    setting: Setting
    number: int
    temperature: float
    mu: float

    @property
    def ensemble(self) -> Ensemble:
        """Everything that log W depends on."""
        setting = self.setting
        return Ensemble(setting.hamiltonian, 1.0 / self.temperature, self.mu, setting.classical)

    @property
    def classical(self) -> ClassicalWeight | None:
        """The classical energy's part of the weight, where there is one."""
        energy = self.setting.classical
        return ClassicalWeight(energy, 1.0 / self.temperature) if energy is not None else None

    def density(self, model: EffectiveModel) -> Density:
        """Return what moves under a model sample: with the classical part of the weight."""
        return model if self.classical is None else WithClassical(model, self.classical)

    @property
    def physics(self) -> Physics:
        """The ensemble, without the lattice, as files describe it."""
        return Physics.of(self.ensemble)

    @cached_property
    def chains(self) -> Tensor:
        """(chains,) int64, numbers of this rank's chains among those of all temperatures."""
        ranks = self.setting.ranks
        numbers = ranks.block.indices() + self.number * ranks.block.total
        return torch.as_tensor(numbers, device=ranks.device)

    def stream(self, purpose: str) -> Stream:
        """Return random numbers for each chain of this rank."""
        return Stream(self.setting.job.sampling.seed, self.chains, purpose)

    def common_stream(self, purpose: str) -> Stream:
        """Return random numbers that are the same on all ranks."""
        return Stream(self.setting.job.sampling.seed, torch.full((1,), self.number), purpose)


@dataclass(frozen=True)
class Parts:
    """The parts of a simulation at one temperature, each built with those that it works with.

    Attributes
    ----------
    weight : ExactDensity
        Exact weight.
    exact : Move
        Under the exact weight.
    guided : HMC or None
        Under the exact weight, guided by the model, where the job samples so.
    learning : SelfLearning or None
        Where the job has an effective model.
    electrons : Electrons
        What spectral observables and profiles are measured with.
    observables : list of Observable
    profiles : list of Profile
    """

    weight: ExactDensity
    exact: Move
    guided: HMC | None
    learning: SelfLearning | None
    electrons: Electrons
    observables: list[Observable]
    profiles: list[Profile]


def build(place: Place) -> Parts:
    """Build the parts of one temperature. Collective.

    The weight, the measurements, the model if the job has one, the moves, and the learning that
    joins them.

    Raises
    ------
    UserError
        The weight lacks something, or a file of a model or of data cannot be used.
    """
    job = place.setting.job
    sampling = job.sampling
    guarded = _weight(place)
    weight: ExactDensity = guarded
    if place.classical is not None:
        weight = ExactWithClassical(guarded, place.classical)
    sweeps = _sweeps(place, guarded) if sampling.exact_move == "metropolis" else None
    measurements = _measurements(place)
    stream = place.stream("exact")
    if sampling.method == "exact":
        exact = make_move(sampling.exact_move, weight, stream, sampling.trajectory, sweeps)
        return Parts(weight, exact, None, None, *measurements)
    learned = [_model(place, level) for level in range(len(job.levels))]
    models, starts = [model for model, _ in learned], [remark for _, remark in learned]
    # a model that has been learned before is fixed until the exact moves are over
    guide = _cheap_forces(place, models[-1]) if job.finest.start_from is not None else None
    exact = make_move(sampling.exact_move, weight, stream, sampling.trajectory, sweeps, guide)
    guided = None
    if sampling.method == "guided":
        forces = _forces(place.density(models[-1]))
        guided = HMC(weight, place.stream("guided"), sampling.trajectory, guide=forces)
    learning = _learning(place, weight, exact, models, [start for start in starts if start])
    return Parts(weight, exact, guided, learning, *measurements)


def _weight(place: Place) -> Guarded:
    setting, group = place.setting, place.setting.ranks.weight
    weight = make_weight(setting.method, place.ensemble, group)
    return Guarded(weight, place.chains, setting.directory, group.size == 1)


def _sweeps(place: Place, weight: Guarded) -> GuardedSweeps | None:
    """Return sweeps of the weight by local changes, where they are faster than evaluations."""
    setting = place.setting
    local = make_local(place.ensemble, setting.ranks.weight)
    return GuardedSweeps(local, weight) if local else None


def _measurements(place: Place) -> tuple[Electrons, list[Observable], list[Profile]]:
    setting, measure = place.setting, place.setting.job.measure
    functions = function_intervals(measure.profiles, measure.named)
    needs = {OBSERVABLES[name].needs for name in setting.intervals}
    needs |= {PROFILES[name].needs for name in functions}
    spectrum = (
        make_spectrum(place.ensemble, setting.ranks.weight) if Needs.LEVELS in needs else None
    )
    electrons = Electrons(place.ensemble, spectrum)
    return (
        electrons,
        [make_observable(name, electrons) for name in setting.intervals],
        [
            make_profile(name, electrons, measure.energies, every)
            for name, every in functions.items()
        ],
    )


def _forces(density: Density) -> Callable[[Tensor], Tensor]:
    """Return the forces of a density as a guide of trajectories."""
    return lambda spins: density.evaluate(spins, forces=True).known_forces


def _guide(place: Place, model: EffectiveModel) -> Callable[[Tensor], Tensor] | None:
    """Return the cheap forces that a model has to guide its own trajectories, if it has some."""
    guide, classical = model.guide, place.classical
    if guide is None or classical is None:
        return guide
    return lambda spins: guide(spins) + classical.forces(spins)


def _cheap_forces(place: Place, model: EffectiveModel) -> Callable[[Tensor], Tensor]:
    """Return forces that cost little beside exact ones: a model's own, or those it has for that."""
    guide = _guide(place, model) if isinstance(model, ForceFitted) else None
    return guide or _forces(place.density(model))


def _name(purpose: str, level: int, levels: int) -> str:
    """Name the random numbers of a level, those of the finest model as if it were alone."""
    return purpose if level == levels - 1 else f"{purpose}, level {level}"


def _model(place: Place, level: int) -> tuple[EffectiveModel, str]:
    """Return the effective model of a level, and what the user should know of its origin.

    It is new, of the file that learning starts from, or to be filled from a checkpoint.
    """
    setting, levels = place.setting, place.setting.job.levels
    effective = levels[level]
    start_from, learned = effective.start_from, None
    if start_from is not None:
        learned = setting.ranks.chains.on_root(lambda: load_model(start_from, place.temperature))
    if setting.settings is not None:
        settings = setting.settings[level]
    elif learned is not None:
        settings = learned.architecture.settings
    else:
        settings = effective.options.settings(setting.lattice)
    architecture = Architecture(effective.model, settings, place.physics)
    model = make_model(architecture, setting.lattice, setting.ranks.weight)
    model.initialise(place.common_stream(_name("parameters", level, len(levels))))
    remark = ""
    if start_from is not None and learned is not None:
        parameters = learned.parameters
        setting.ranks.chains.on_root(lambda: check_parameters(model, parameters, start_from))
        model.load_state_dict(parameters)
        if unlike := learned.unlike(place.physics):
            remark = f"start_from: {learned.path} was learned at {unlike}"
    return model.to(setting.ranks.device), remark


def _inner_moves(place: Place, models: list[EffectiveModel]) -> Move:
    """Return the moves under the finest model, from those under the cheapest one up."""
    sampling, levels = place.setting.job.sampling, place.setting.job.levels
    first = int(bool(levels[0].guides))
    first_density = place.density(models[0])
    guide = _forces(first_density) if levels[0].guides else _guide(place, models[0])
    inner: Move = make_move(
        sampling.inner_move,
        place.density(models[first]),
        place.stream("inner"),
        sampling.trajectory,
        guide=guide,
        shortest=PROPOSED if _is_close(type(models[first])) else SHORT,
    )
    for level in range(first + 1, len(models)):
        stream = place.stream(f"test of level {level}")
        density = place.density(models[level])
        inner = SLMC(density, inner, stream, sampling.first_moves, screens=True)
    return inner


def _trainer(place: Place, model: EffectiveModel, level: int, fits: ForceFits) -> Trainer:
    ranks, job = place.setting.ranks, place.setting.job
    paths, levels = job.learning.replay, len(job.levels)
    replays = ranks.chains.on_all(lambda: [Replay(path, place.physics) for path in paths])
    return Trainer(
        model,
        fits.data,
        ranks.chains,
        place.stream(_name("batches", level, levels)),
        job.learning,
        replays=[
            (replay, on_lattice(model, replay.lattice, ranks.weight).to(ranks.device))
            for replay in replays
        ],
        draws=place.common_stream(_name("replay", level, levels)),
        fits=fits,
    )


def _images(place: Place, models: list[EffectiveModel]) -> RandomImages | None:
    """Return random images under the symmetries of the weight, where all models have them."""
    if not all(isinstance(model, ForceFitted) for model in models):
        return None
    symmetries = torch.as_tensor(place.ensemble.symmetries, device=place.setting.ranks.device)
    return RandomImages(symmetries, place.stream("images"))


def _learning(
    place: Place,
    weight: ExactDensity,
    exact: Move,
    models: list[EffectiveModel],
    remarks: list[str],
) -> SelfLearning:
    ranks, job = place.setting.ranks, place.setting.job
    sampling = job.sampling
    inner = _inner_moves(place, models)
    data = DataSet(ranks.block, job.learning.validation_interval, ranks.device, place.classical)
    fits = ForceFits(data, ranks.chains)
    return SelfLearning(
        [_trainer(place, model, level, fits) for level, model in enumerate(models)],
        exact,
        SLMC(weight, inner, place.stream("test"), sampling.first_moves),
        shape=place.setting.lattice.shape,
        moves=sampling.first_moves,
        balances=sampling.moves is None,
        settling=job.thermalisation.moves - exact_moves(job),
        fit_linear=[section.start_from is None for section in job.levels],
        start_remarks=remarks,
        images=_images(place, models),
    )
