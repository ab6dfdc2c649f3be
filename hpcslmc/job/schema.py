"""The job file's schema."""

import codecs
import difflib
import itertools
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Strict, Tag

from hpcslmc.environment import expanded
from hpcslmc.errors import UserError
from hpcslmc.plugins import MODELS, WEIGHTS
from hpcslmc.storage.files import check_regular

LARGEST_FILE = 2**15
"""Bytes of a job file."""
COLDEST = 1e-8
"""Lowest temperature in units of the largest energy.

Below it log W, a sum of E/T, has no longer the accuracy that is promised.
"""
SHOWN = 60
"""Characters of a wrong value that a sentence repeats."""

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Side = Annotated[int, Strict(), Field(ge=2, le=1024)]
PathName = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]+$")]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class LatticeSection(_Section):
    """The lattice of classical spins."""

    shape: Annotated[tuple[Side, Side], Strict(False)]
    """Sites in x and y of the periodic lattice, each from 2 to 1024."""


class HamiltonianSection(_Section):
    """Parameters of the one-body Hamiltonian."""

    t: float = 1.0
    """Hopping; the unit of energy."""
    J: float = 1.0
    """Coupling of the classical spins to the electrons."""
    mu: float = 0.0
    """Chemical potential."""


def _one_or_several(value: object) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


class EnsembleSection(_Section):
    """Temperatures, and chemical potential or filling."""

    temperature: Annotated[
        Annotated[Positive, Tag("one")]
        | Annotated[tuple[Positive, ...], Strict(False), Tag("several")],
        Discriminator(_one_or_several),
    ]
    """Temperature in units of t (k_B = 1); a list, in order, is a ladder of temperatures, each with
    all chains.
    """
    rungs: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Temperatures of a ladder whose ends are the two of the list; thermalisation spaces the others
    for even exchange.
    """
    exchange: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Samples between two turns of exchange between neighbouring temperatures of a list; 0 for
    independent runs.
    """
    filling: Annotated[float, Field(gt=0, lt=2)] | None = None
    """Electrons per site that thermalisation tunes the chemical potential to, whatever mu is; it is
    frozen from then on.

    Thermalisation goes on, up to ``LONGEST_FILLING`` times as long, until the density is known to
    0.06 per cent.
    """

    @property
    def temperatures(self) -> tuple[float, ...]:
        """All temperatures; those of a ladder that is yet to be spaced, in equal ratios."""
        given = self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)
        if self.rungs is None:
            return given
        first, last = given
        return tuple(first * (last / first) ** (k / (self.rungs - 1)) for k in range(self.rungs))

    @property
    def is_ladder(self) -> bool:
        """Whether a list of temperatures was given."""
        return isinstance(self.temperature, tuple)


class WeightSection(_Section):
    """The exact fermion weight."""

    method: str = "auto"
    """How the exact weight is computed: auto or a key of ``WEIGHTS``."""


class EffectiveSection(_Section):
    """The effective model of log W."""

    model: str = "attention"
    """Architecture of log W_eff: a key of ``MODELS``."""
    shells: Count = 6
    """Neighbour shells the model sees, nearest first."""
    layers: Annotated[int, Field(ge=1, le=100)] | None = None
    """Blocks of attention, cnn or messages (3, messages 1, if not given); a linear model has none.

    One's own model has what is given.
    """
    channels: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Width of messages (8 if not given); the program's other models have none."""
    start_from: PathName | None = None
    """Model file or output directory of an earlier run whose model, of any lattice size, is where
    learning starts; of a ladder the nearest temperature's.
    """


class ThermalisationSection(_Section):
    """Exact moves before anything is learned or kept."""

    moves: Count = 50
    """Exact moves of every chain before anything is learned or kept; more where a filling, or the
    spacing of a ladder, takes them.
    """


class LearningSection(_Section):
    """Data and training of the effective model."""

    rounds: Annotated[int, Field(ge=0, lt=2**31)] = 5
    """Most rounds of training and collecting; they end earlier when the acceptance stops rising.

    0 takes start_from as it is.
    """
    configurations: Count = 80
    """Exact configurations that each chain adds to the data before the first round and in every
    round.
    """
    budget: Count | None = None
    """Most exact evaluations, over all chains, that learning may take; if none is given, rounds and
    configurations set it.
    """
    steps: Count = 800
    """Gradient steps of a round."""
    batch_size: Count = 256
    """Configurations of a gradient step, over all ranks."""
    rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Peak learning rate of the optimiser (SOAP)."""
    force_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the forces' squared error in the loss; 0 learns from log W alone."""
    validation_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """Share of the chains kept for validation."""
    replay: Annotated[tuple[Annotated[str, Strict(), Field(min_length=1)], ...], Strict(False)] = ()
    """Data files or output directories of earlier runs, of lattices of any size, whose exact
    evaluations are learned from too.
    """
    keep_data: bool = False
    """Whether to write the exact evaluations that were learned from to data.h5, for other runs to
    replay.
    """


class SamplingSection(_Section):
    """Chains, moves and samples."""

    method: Literal["slmc", "guided", "exact"] = "slmc"
    """Self-learning Monte Carlo; exact HMC guided by the learned model; or the exact moves alone as
    a baseline.
    """
    exact_move: Literal["hmc", "metropolis"] = "hmc"
    """Move under the exact weight.

    Thermalises, gives the first data, and samples where method = "exact".
    """
    inner_move: Literal["hmc", "metropolis"] = "hmc"
    """Move under the effective weight."""
    trajectory: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Length of an HMC trajectory; a free spin turns by about that angle.

    If none is given, it is found before sampling.
    """
    moves: Count = 4
    """Moves between two samples.

    Inner moves of a proposal (slmc) or exact moves (guided, exact).
    """
    chains: Annotated[int, Field(ge=1, le=10**6)] = 64
    """Markov chains over all ranks; groups of ranks must divide it."""
    ranks_per_chain: Count = 1
    """Ranks of a group, which shares the exact weight of its chains."""
    samples: Count = 1000
    """Samples kept of every chain."""
    bin_size: Count = 1
    """Consecutive samples averaged into one stored draw."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Seed of all random streams."""

    @property
    def by_forces(self) -> bool:
        """Whether the moves between samples need exact forces."""
        return self.method == "guided" or (self.method == "exact" and self.exact_move == "hmc")


Interval = Annotated[int, Field(ge=0, lt=2**31)]


class MeasureSection(_Section):
    """Samples between two measurements of each kind."""

    electrons: Count = 1
    """Samples between two measurements of the electrons' energy and density; divides bin_size.

    The spins are measured at every sample.
    """
    fluctuations: Interval = 0
    """...of the electrons' own fluctuations, for specific heat and compressibility (a
    diagonalisation each); divides bin_size; 0 for none.
    """
    drude_weight: Interval = 0
    """...of hopping energy and Drude weight (a diagonalisation with eigenvectors each); divides
    bin_size; 0 for none.
    """
    structure_factor: Interval = 10
    """...of the spin structure factor on the whole Brillouin zone; 0 for none."""
    correlations: Interval = 10
    """...of the spin correlations in real space; 0 for none."""
    density_of_states: Interval = 0
    """...of the electrons' density of states (a diagonalisation each); 0 for none."""
    spectral_function: Interval = 0
    """...of A(k, omega) (a diagonalisation with eigenvectors each); 0 for none."""
    optical_conductivity: Interval = 0
    """...of the optical conductivity (a diagonalisation with eigenvectors each); 0 for none."""
    energies: Annotated[int, Field(ge=1, le=10**6)] = 200
    """Bins of energy of the functions of energy."""

    @property
    def profiles(self) -> dict[str, int]:
        """Intervals of the functions that are measured, by name."""
        names = (
            "structure_factor",
            "correlations",
            "density_of_states",
            "spectral_function",
            "optical_conductivity",
        )
        return {name: every for name in names if (every := getattr(self, name))}

    @property
    def scalars(self) -> dict[str, int]:
        """Intervals of the groups of numbers that are measured, by key."""
        return {
            name: every
            for name in ("electrons", "fluctuations", "drude_weight")
            if (every := getattr(self, name))
        }


class OutputSection(_Section):
    """Where and how often files are written."""

    directory: PathName = "out"
    """Folder of checkpoint.h5 and results.h5, relative to where the program is started.

    In every path ``~`` and ``$NAME`` are expanded."""
    checkpoint_every_s: Positive = 300.0
    """Seconds between checkpoints."""
    progress_every_s: Positive = 10.0
    """Seconds between lines of progress where there is no terminal."""
    wall_time_s: Positive | None = None
    """Seconds after which the job is to have left with a checkpoint; Slurm's time limit counts too.
    """

    @property
    def folder(self) -> Path:
        """The directory as ``expanded`` gives it; UserError if a variable in it is not set."""
        return expanded(self.directory, "[output] directory")


class Job(_Section):
    """A job file, validated and with all defaults filled in."""

    lattice: LatticeSection
    hamiltonian: HamiltonianSection = HamiltonianSection()
    ensemble: EnsembleSection
    weight: WeightSection = WeightSection()
    effective: EffectiveSection = EffectiveSection()
    thermalisation: ThermalisationSection = ThermalisationSection()
    learning: LearningSection = LearningSection()
    sampling: SamplingSection = SamplingSection()
    measure: MeasureSection = MeasureSection()
    output: OutputSection = OutputSection()

    def keys(self) -> dict[str, object]:
        """All keys and values, named ``section.key``."""
        return {
            f"{name}.{key}": value
            for name, section in self.model_dump().items()
            for key, value in section.items()
        }

    def toml(self) -> str:
        """The resolved job as a job file; keys that do not apply are left out."""
        lines = []
        for name, section in self.model_dump(mode="json", exclude_none=True).items():
            lines += [
                f"[{name}]",
                *(f"{key} = {json.dumps(value)}" for key, value in section.items()),
                "",
            ]
        return "\n".join(lines)


STEERING_KEYS = {
    "sampling.samples",
    "sampling.ranks_per_chain",
    "output.directory",
    "output.checkpoint_every_s",
    "output.progress_every_s",
    "output.wall_time_s",
}
"""Keys that may differ when a run is resumed: they extend or steer it and change no chain."""


def load_job(path: str, ranks: int = 1) -> Job:
    """Read and check a job file.

    Parameters
    ----------
    path : str
    ranks : int
        MPI ranks of this run; they have to divide the chains.

    Raises
    ------
    UserError
        One sentence that names the file, the key, what is wrong and what would be right.
    """
    try:
        check_regular(Path(path), LARGEST_FILE)
        content = Path(path).read_bytes()
        text = content.decode("utf-8-sig")  # with or without a byte order mark
    except OSError as error:
        raise UserError(f"{path}: cannot read the job file: {error.strerror}.") from None
    except UnicodeDecodeError:
        wide = (
            ", but UTF-16: save it as UTF-8"
            if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            else ""
        )
        raise UserError(f"{path}: the job file is not UTF-8 text{wide}.") from None
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # of tomllib, or of an integer with more digits than Python reads
        raise UserError(f"{path}: not valid TOML: {_cut(str(error), 4 * SHOWN)}.") from None
    except RecursionError:
        raise UserError(f"{path}: not a job file: nested too deeply.") from None
    try:
        job = make_job(table)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    chains, per_chain = job.sampling.chains, job.sampling.ranks_per_chain
    if ranks % per_chain and ranks > 1:
        raise UserError(
            f"{path}: {ranks} ranks cannot be divided into groups of [sampling] ranks_per_chain = "
            f"{per_chain}: "
            f"use {_near_multiples(ranks, per_chain)} ranks."
        )
    groups = max(1, ranks // per_chain)
    if chains % groups:
        parties = f"{groups} ranks" if per_chain == 1 else f"{groups} groups of {per_chain} ranks"
        raise UserError(
            f"{path}: [sampling] chains = {chains} cannot be shared equally by {parties}: "
            f"use {_near_multiples(chains, groups)} chains, or other ranks."
        )
    return job


def make_job(table: Mapping[str, Mapping]) -> Job:
    """The job of a table of sections, as a job file has them, checked and with all defaults filled
    in.

    Raises
    ------
    UserError
        One sentence that names the key, what is wrong and what would be right.
    """
    if not isinstance(table, Mapping):
        raise UserError(f"a job has to be a table of sections, not {_cut(repr(table))}.")
    try:
        return resolve(Job.model_validate(table))
    except pydantic.ValidationError as error:
        # a misspelt name is why another is missing
        raise UserError(
            _sentence(min(error.errors(), key=lambda it: it["type"] != "extra_forbidden"))
        ) from None


def resolve(job: Job) -> Job:  # noqa: C901
    """The job with the defaults that depend on other keys; refuses combinations that make no sense.

    Raises
    ------
    UserError
    """
    effective, learning, sampling = job.effective, job.learning, job.sampling
    method, learns = job.weight.method, sampling.method != "exact"
    check_name("[weight] method", method, ("auto", *WEIGHTS))
    check_name("[effective] model", effective.model, MODELS)
    _check_ensemble(job.ensemble, sampling.samples)
    _check_thermalisation(job)
    if method == "scalapack" and (sampling.exact_move == "hmc" or learns):
        raise UserError(
            '[weight] method = "scalapack" gives no forces, which learning and exact_move = "hmc" '
            "need: use "
            'method = "blocks", or sampling with method = "exact" and exact_move = "metropolis".'
        )
    if method == "diagonalise" and sampling.ranks_per_chain > 1:
        raise UserError(
            "[sampling] ranks_per_chain > 1 needs a weight that ranks can share: use [weight] "
            'method = "blocks", '
            '"matsubara" or "scalapack".'
        )
    expanded(job.output.directory, "[output] directory")
    for path in learning.replay:
        expanded(path, "[learning] replay")
    if effective.start_from is not None:
        effective = _continued(effective, job.ensemble.temperatures[0])
    if effective.model == "linear" and effective.layers is not None:
        raise UserError(
            "[effective] layers belongs to attention, cnn and messages: remove it, or set model = "
            '"attention".'
        )
    if effective.model in ("linear", "attention", "cnn") and effective.channels is not None:
        raise UserError(
            '[effective] channels belongs to messages: remove it, or set model = "messages".'
        )
    layers, channels = {"attention": (3, None), "cnn": (3, None), "messages": (1, 8)}.get(
        effective.model, (None, None)
    )
    job = job.model_copy(
        update={
            "effective": effective.model_copy(
                update={
                    "layers": effective.layers or layers,
                    "channels": effective.channels or channels,
                }
            )
        }
    )
    if learns and learning.rounds == 0 and effective.start_from is None:
        raise UserError(
            "[learning] rounds = 0: without learning the model has to come from [effective] "
            "start_from."
        )
    if learns and learning.budget is not None and learning.budget < sampling.chains:
        raise UserError(
            f"[learning] budget = {learning.budget}: every chain takes at least one exact "
            "evaluation, so allow at "
            f"least {sampling.chains}."
        )
    if learning.keep_data and not learns:
        raise UserError(
            '[learning] keep_data = true: with [sampling] method = "exact" nothing is '
            "learned, and there are no data to keep: remove the key, or sample with "
            'method = "slmc" or "guided".'
        )
    if learning.replay and (job.ensemble.is_ladder or job.ensemble.filling is not None):
        raise UserError(
            "[learning] replay: data of earlier runs are of one temperature and chemical "
            "potential: use it without a list of "
            "temperatures and without [ensemble] filling."
        )
    if learns:
        available = _shells(job.lattice.shape)
        if effective.start_from is None and effective.shells > available:
            raise UserError(
                f"[effective] shells = {effective.shells}: a "
                f"{job.lattice.shape[0]}x{job.lattice.shape[1]} "
                f"lattice has only {available} neighbour shells."
            )
    if learns and learning.rounds > 0:
        if sampling.chains < 2:
            raise UserError(
                "[sampling] chains = 1: learning keeps some chains for validation, so use at least "
                "2 chains."
            )
        validation = sampling.chains // max(2, round(1.0 / learning.validation_fraction))
        if validation == 0:
            raise UserError(
                f"[learning] validation_fraction = {learning.validation_fraction} of "
                f"{sampling.chains} chains "
                f"is less than one chain: use at least {1.0 / sampling.chains:.3g}."
            )
        if learning.batch_size < sampling.chains - validation:
            raise UserError(
                f"[learning] batch_size = {learning.batch_size}: every training chain gives at "
                "least one "
                f"configuration to a batch, so use at least {sampling.chains - validation}."
            )
    largest = 4.0 * abs(job.hamiltonian.t) + 0.5 * abs(job.hamiltonian.J) + abs(job.hamiltonian.mu)
    if not min(job.ensemble.temperatures) >= COLDEST * largest:
        raise UserError(
            f"[ensemble] temperature = {min(job.ensemble.temperatures):g} is too low for electrons "
            f"of energies up to {largest:g} in "
            f"double precision: use at least {COLDEST * largest:g}."
        )
    for name, every in job.measure.profiles.items():
        asked_for = every != MeasureSection.model_fields[name].default
        if asked_for and every > sampling.samples:
            raise UserError(
                f"[measure] {name} = {every}: that many samples lie between two measurements, "
                f"and the run has only {sampling.samples} samples; use a smaller number, or 0 for "
                "none."
            )
    for name, every in job.measure.scalars.items():
        if sampling.bin_size % every:
            raise UserError(
                f"[measure] {name} = {every}: measurements that far apart do not fill bins of "
                f"[sampling] bin_size = {sampling.bin_size}: "
                f"use bin_size = {every * math.ceil(sampling.bin_size / every)}."
            )
    if sampling.samples < 4 * sampling.bin_size:
        raise UserError(
            f"[sampling] samples = {sampling.samples} in bins of {sampling.bin_size}: errors need "
            "at least 4 bins, "
            f"so use at least {4 * sampling.bin_size} samples."
        )
    return job


def _check_ensemble(ensemble: EnsembleSection, samples: int) -> None:
    given = ensemble.temperatures if ensemble.rungs is None else ensemble.temperature
    if ensemble.rungs is not None and not (ensemble.is_ladder and len(given) == 2):
        raise UserError(
            f"[ensemble] rungs = {ensemble.rungs}: temperature has to be a list of the two ends of "
            "the ladder, as in [0.5, 0.03]."
        )
    rises = [b > a for a, b in itertools.pairwise(given)]
    if ensemble.is_ladder and (
        len(given) < 2 or len(set(given)) < len(given) or any(rises) != all(rises)
    ):
        raise UserError(
            f"[ensemble] temperature = {list(given)}: a ladder is a list of at least two different "
            "temperatures in order."
        )
    names = [f"{temperature:.6g}" for temperature in ensemble.temperatures]
    if twice := [name for name, following in itertools.pairwise(names) if name == following]:
        raise UserError(
            f"[ensemble] temperature: the ladder has two temperatures {twice[0]}: use "
            "such as differ in their first six digits, by which folders are named."
        )
    if ensemble.is_ladder and ensemble.exchange > samples:
        raise UserError(
            f"[ensemble] exchange = {ensemble.exchange}: that many samples lie between "
            f"two turns of exchange, and the run has only {samples} samples; use a "
            "smaller number, or 0 for independent runs."
        )


def _check_thermalisation(job: Job) -> None:
    wanted = [
        f"[ensemble] {key}"
        for key in ("rungs", "filling")
        if getattr(job.ensemble, key) is not None
    ]
    if wanted and job.thermalisation.moves < 10:
        verb = "is" if len(wanted) == 1 else "are"
        raise UserError(
            f"[thermalisation] moves = {job.thermalisation.moves}: {' and '.join(wanted)} {verb} "
            "tuned in it, so use at "
            "least 10, better 100."
        )
    if job.ensemble.rungs is not None and not job.ensemble.exchange:
        raise UserError(
            "[ensemble] exchange = 0: a ladder is spaced by its exchange; remove rungs, and give "
            "all temperatures."
        )


def _continued(effective: EffectiveSection, temperature: float) -> EffectiveSection:
    """The section with the architecture of the model that learning starts from."""
    # needs torch, which other jobs do without until they run
    from hpcslmc.storage.models import (
        load_model,
    )

    architecture = load_model(effective.start_from, temperature).architecture
    check_name(
        f"[effective] start_from = {effective.start_from!r}: model", architecture.name, MODELS
    )
    found = {
        "model": architecture.name,
        "shells": len(architecture.shells),
        "layers": None if architecture.name == "linear" else architecture.layers or None,
        "channels": None
        if architecture.name in ("linear", "attention", "cnn")
        else architecture.channels or None,
    }
    for key in found.keys() & effective.model_fields_set:
        if getattr(effective, key) != found[key]:
            raise UserError(
                f"[effective] {key} = {getattr(effective, key)!r}: the model of start_from has "
                f"{found[key]!r}; "
                "remove the key."
            )
    try:
        return EffectiveSection(**found, start_from=effective.start_from)
    except pydantic.ValidationError as error:
        raise UserError(
            f"[effective] start_from = {effective.start_from!r}: the file's architecture is none, "
            f"{_sentence(error.errors()[0])}"
        ) from None


def changed_keys(old: Job, new: Job) -> tuple[list[str], list[str]]:
    """Keys that differ between two jobs, each with its old and new value.

    Returns
    -------
    taken : list of str
        Those that may differ when a run is resumed.
    refused : list of str
        Those that may not.
    """
    before, after = old.keys(), new.keys()
    taken, refused = [], []
    for key in sorted(after):
        if before[key] != after[key]:
            (taken if key in STEERING_KEYS else refused).append(
                f"{key} (was {_cut(repr(before[key]))}, is {_cut(repr(after[key]))})"
            )
    return taken, refused


def _shells(shape: tuple[int, int]) -> int:
    half_x, half_y = shape[0] // 2, shape[1] // 2
    return len({x * x + y * y for x in range(half_x + 1) for y in range(half_y + 1)}) - 1


def _near_multiples(number: int, divisor: int) -> str:
    below, above = number // divisor * divisor, (number // divisor + 1) * divisor
    return f"{below} or {above}" if below else str(above)


def check_name(key: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is not known.

    Parameters
    ----------
    key : str
        What has that name.
    name : str
    known : iterable of str

    Raises
    ------
    UserError
    """
    if name not in (known := list(known)):
        raise UserError(
            f"{key} = {_cut(repr(name))}: "
            f"{_hint(name, known, ', or is --import missing', ', and what --import adds')}"
        )


def _hint(name: str, known: list[str], otherwise: str = "", more: str = "") -> str:
    """What may have been meant."""
    lower = {known_name.lower(): known_name for known_name in known}
    close = difflib.get_close_matches(name[:SHOWN].lower(), lower, n=1, cutoff=0.5)
    return (
        f"did you mean '{lower[close[0]]}'{otherwise}?"
        if close
        else f"known are {', '.join(known)}{more}."
    )


def _cut(text: str, length: int = SHOWN) -> str:
    """A text on one line, cut to a length."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _sentence(error: dict) -> str:
    """One sentence from pydantic's description of an error."""
    location = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        section = Job.model_fields[location[0]].annotation if len(location) > 1 else Job
        hint, key = _hint(location[-1], list(section.model_fields)), _cut(location[-1])
        where = (
            f"[{location[0]}] has no key '{key}'"
            if len(location) > 1
            else f"no section or key '{key}'"
        )
        owners = [
            name
            for name, field in Job.model_fields.items()
            if location[-1] in field.annotation.model_fields
        ]
        return f"{where}: it belongs to [{owners[0]}]." if owners else f"{where}: {hint}"
    place = f"[{location[0]}]" + (f" {location[1]}" if len(location) > 1 else "")
    found = _cut(repr(error["input"]))
    if error["type"] == "missing":
        return f"{place} is missing and has no default."
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"{place} has to be a section of keys, not {found}."
    if error["type"] in ("too_short", "too_long", "tuple_type"):
        return f"{place} = {found}: input should be two integers, as in [6, 6]."
    if error["type"] == "string_pattern_mismatch":
        return f"{place} = {found}: a path has no control characters."
    wanted = error["msg"][0].lower() + error["msg"][1:]
    if len(location) > 2 and location[-1].isdigit():
        place += f" (entry {int(location[-1]) + 1})"
    return f"{place} = {found}: {wanted}."
