"""The sections and keys of a job file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Strict, Tag

from hpcslmc.environment import expanded
from hpcslmc.job.model import ClassicalSection, HamiltonianSection, LatticeSection
from hpcslmc.job.model import classical as classical_of
from hpcslmc.job.model import couplings as couplings_of
from hpcslmc.learning.settings import LearningSection
from hpcslmc.physics.classical_couplings import ClassicalCouplings
from hpcslmc.physics.couplings import Couplings
from hpcslmc.plugins import MODELS
from hpcslmc.section import Count, PathName, Positive, Section, one_or_several

if TYPE_CHECKING:
    from hpcslmc.effective.options import Options


MOVES = 4
"""Moves between two samples if the job names no number."""


class EnsembleSection(Section):
    """Temperatures, and chemical potential or filling."""

    temperature: Annotated[
        Annotated[Positive, Tag("one")]
        | Annotated[tuple[Positive, ...], Strict(False), Tag("several")],
        Discriminator(one_or_several),
    ]
    """Temperature in units of t (k_B = 1), or a list of them.

    A list, in order, is a ladder of temperatures, each with all chains.
    """
    rungs: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Number of temperatures of a ladder whose ends are the two of the list.

    Thermalisation spaces the others for even exchange.
    """
    exchange: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Samples between two turns of exchange between neighbouring temperatures of a list.

    0 for independent runs.
    """
    filling: Annotated[float, Field(gt=0, lt=2)] | None = None
    """Electrons per site that thermalisation tunes the chemical potential to, whatever mu is.

    The potential is frozen from then on.

    Thermalisation goes on, up to ``LONGEST_FILLING`` times as long, until the density is known to
    0.06 per cent.
    """

    @property
    def given_temperatures(self) -> tuple[float, ...]:
        """Temperatures of the job file, the two ends of a ladder that is yet to be spaced."""
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """All temperatures; those of a ladder that is yet to be spaced, in equal ratios."""
        if self.rungs is None:
            return self.given_temperatures
        first, last = self.given_temperatures
        return tuple(first * (last / first) ** (k / (self.rungs - 1)) for k in range(self.rungs))

    @property
    def is_ladder(self) -> bool:
        """True if a list of temperatures was given."""
        return isinstance(self.temperature, tuple)


class WeightSection(Section):
    """The exact fermion weight."""

    method: str = "auto"
    """Method that computes the exact weight: auto or a key of ``WEIGHTS``."""


class EffectiveSection(Section):
    """An effective model of log W, and beside the keys below the model's own options."""

    model_config = ConfigDict(extra="allow")

    model: str = "auto"
    """Architecture of log W_eff: a key of ``MODELS``, or auto.

    auto is two levels of determinants, whose acceptance is high at all couplings and fillings: few
    for the trajectories, and more to screen their proposals. Where the moves want a cheap model
    rather than a close one it is the linear one.
    """
    start_from: PathName | None = None
    """Model file or output directory of an earlier run whose model is where learning starts.

    Its lattice may be of any size; a ladder's output has a model for each temperature, of which the
    nearest is taken.
    """

    guides: bool | None = None
    """Of several models, whether the first one's forces guide the trajectories of the next.

    If not, it makes proposals, which the next one screens.
    """

    @property
    def given(self) -> dict[str, Any]:
        """The model's own options that are given, not checked."""
        extra = self.model_extra or {}
        return {key: value for key, value in extra.items() if value is not None}

    @property
    def options(self) -> "Options":
        """The model's own options with all defaults.

        Raises
        ------
        pydantic.ValidationError
        """
        declared: type[Options] = MODELS.declared(self.model, "Options")
        # as JSON, in which a tuple is a list
        return declared.model_validate_json(json.dumps(self.given, default=str))


class ThermalisationSection(Section):
    """Moves before anything is kept."""

    moves: Count = 50
    """Moves of every chain before anything is kept.

    Exact ones before anything is learned. Of models that are fitted to forces, at a single
    temperature and chemical potential, the first 10 are; the rest are those of proposals of the
    model, whose acceptance is measured meanwhile. More where a filling, or the spacing of a ladder,
    takes them.
    """


class SamplingSection(Section):
    """Chains, moves and samples."""

    method: Literal["slmc", "guided", "exact"] = "slmc"
    """Sampler: self-learning Monte Carlo (slmc), guided HMC, or the exact moves alone.

    "guided" is exact HMC guided by the learned model; "exact" serves as a baseline.
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
    moves: Count | None = None
    """Moves between two samples.

    Inner moves of a proposal (slmc) or exact moves (guided, exact). 4 if none is given; of a model
    that knows its cost, as many as make an independent sample cheapest.
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
    def first_moves(self) -> int:
        """Moves between two samples, before anything is known of their cost."""
        return self.moves or MOVES

    @property
    def by_forces(self) -> bool:
        """True if the moves between samples need exact forces."""
        return self.method == "guided" or (self.method == "exact" and self.exact_move == "hmc")


Interval = Annotated[int, Field(ge=0, lt=2**31)]


class MeasureSection(Section):
    """Samples between two measurements of each kind; further keys are names of measurements."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Interval] = Field(init=False)

    electrons: Count = 1
    """Samples between two measurements of the electrons' energy and density; divides bin_size.

    The spins are measured at every sample.
    """
    fluctuations: Interval = 0
    """...of the electrons' own fluctuations (a diagonalisation each); divides bin_size.

    They give specific heat and compressibility; 0 for none.
    """
    drude_weight: Interval = 0
    """...of hopping energy and Drude weight; divides bin_size.

    A diagonalisation with eigenvectors each; 0 for none.
    """
    momenta: Annotated[tuple[str, ...], Strict(False)] | None = None
    """Momenta of the spins' orders, each as "(1/3,2/3)" in units of the reciprocal vectors or "K".

    |m_q|^2, |m_q|^4, Binder ratio, susceptibility and correlation length are measured at each, and
    averaged over the momenta that the crystal's symmetry makes equivalent. If none are given, those
    of the orders known of a named crystal; (pi, pi) of the square lattice is measured in any case.
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
    def named(self) -> dict[str, int]:
        """Intervals of measurements by names that are no keys of the section's own."""
        return dict(self.model_extra or {})

    @property
    def profiles(self) -> dict[str, int]:
        """Intervals of the program's own functions that are measured, by name."""
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


class OutputSection(Section):
    """Folder of the files, and how often they are written."""

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


Levels = Annotated[
    Annotated[EffectiveSection, Tag("one")]
    | Annotated[
        tuple[EffectiveSection, ...],
        Strict(False),
        Field(min_length=1, max_length=8),
        Tag("several"),
    ],
    Discriminator(one_or_several),
]


class Job(Section):
    """A job file, validated and with all defaults filled in."""

    lattice: LatticeSection
    hamiltonian: HamiltonianSection = HamiltonianSection()
    classical: ClassicalSection = ClassicalSection()
    ensemble: EnsembleSection
    weight: WeightSection = WeightSection()
    effective: Levels = EffectiveSection()
    """The effective model, or several, cheapest first: each screens proposals for the next."""
    thermalisation: ThermalisationSection = ThermalisationSection()
    learning: LearningSection = LearningSection()
    sampling: SamplingSection = SamplingSection()
    measure: MeasureSection = MeasureSection()
    output: OutputSection = OutputSection()

    @property
    def levels(self) -> tuple[EffectiveSection, ...]:
        """All effective models, cheapest first."""
        return self.effective if isinstance(self.effective, tuple) else (self.effective,)

    @property
    def finest(self) -> EffectiveSection:
        """The effective model whose proposals the exact weight tests."""
        return self.levels[-1]

    @property
    def couplings(self) -> Couplings:
        """The electrons' couplings; UserError if they make no sense."""
        return couplings_of(self.lattice, self.hamiltonian)

    @property
    def classical_couplings(self) -> ClassicalCouplings:
        """The classical spins' own couplings; UserError if they make no sense."""
        return classical_of(self.lattice, self.classical)

    def keys(self) -> dict[str, object]:
        """Return all keys and values, named ``section.key``, ``effective.1.key`` of several."""
        found: dict[str, object] = {}
        for name, section in self.model_dump().items():
            tables = enumerate(section, 1) if isinstance(section, list | tuple) else [("", section)]
            for number, table in tables:
                place = f"{name}.{number}" if number else name
                found |= {f"{place}.{key}": value for key, value in table.items()}
        return found

    def toml(self) -> str:
        """Write the resolved job as a job file; keys that do not apply are left out."""
        lines = []
        for name, section in self.model_dump(mode="json", exclude_none=True).items():
            several = isinstance(section, list)
            for table in section if several else [section]:
                lines += [
                    f"[[{name}]]" if several else f"[{name}]",
                    *(f"{key} = {_toml(value)}" for key, value in table.items()),
                    "",
                ]
        return "\n".join(lines)


def _toml(value: object) -> str:
    """Write a value as TOML does."""
    if isinstance(value, dict):
        return (
            f"{{ {', '.join(f'{json.dumps(key)} = {_toml(one)}' for key, one in value.items())} }}"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)
