"""All measurements by the names that the job file and results.h5 know them by."""

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.measure import classical
from hpcslmc.measure.chirality import (
    AbsoluteChirality,
    ScalarChirality,
    ScalarChirality2,
    VectorChiralityX2,
    VectorChiralityY2,
)
from hpcslmc.measure.density_of_states import DensityOfStates, SpectralFunction
from hpcslmc.measure.derived import QUANTITIES, Derived
from hpcslmc.measure.electrons import (
    Electrons,
    EnergyFluctuation,
    EnergyNumberFluctuation,
    NumberFluctuation,
    SpectralObservable,
)
from hpcslmc.measure.hall import HallConductivity, HallConductivity2
from hpcslmc.measure.modes import derived_names, mode_names, named_kind
from hpcslmc.measure.momenta import is_square
from hpcslmc.measure.observables import (
    ALWAYS,
    ElectronDensity2,
    Energy2,
    EnergyDensity,
    Magnetisation4,
    Needs,
    NextToStaggered2,
    NextToUniform2,
    Observable,
    StaggeredMagnetisation4,
)
from hpcslmc.measure.profiles import Profile
from hpcslmc.measure.structure import PairCorrelations, RealSpaceCorrelations, StructureFactor
from hpcslmc.measure.transport import (
    ConductivityTensor,
    DrudeWeight,
    HoppingEnergy,
    OpticalConductivity,
)
from hpcslmc.physics.lattice import Lattice
from hpcslmc.plugins import Registry

T = TypeVar("T")
WITHOUT_SPECTRUM: tuple[type[Observable], ...] = (
    *ALWAYS,
    Energy2,
    EnergyDensity,
    ElectronDensity2,
    StaggeredMagnetisation4,
    Magnetisation4,
    NextToStaggered2,
    NextToUniform2,
    ScalarChirality,
    ScalarChirality2,
    AbsoluteChirality,
    VectorChiralityX2,
    VectorChiralityY2,
)
CLASSICAL = {kind.name for kind in classical.OBSERVABLES}
"""Names of what is measured where the spins have an energy of their own."""
BUILT_IN: tuple[type[Any], ...] = (
    *WITHOUT_SPECTRUM,
    EnergyFluctuation,
    EnergyNumberFluctuation,
    NumberFluctuation,
    HoppingEnergy,
    DrudeWeight,
    HallConductivity,
    HallConductivity2,
    StructureFactor,
    RealSpaceCorrelations,
    DensityOfStates,
    SpectralFunction,
    OpticalConductivity,
    ConductivityTensor,
    *classical.OBSERVABLES,
    *QUANTITIES,
    *classical.DERIVED.values(),
)
"""Measurements of the program's own."""


class Measurements(Registry[type]):
    """Registry of measurements; those of momenta and sublattices are made when asked for."""

    def __getitem__(self, name: str) -> type:
        return super().__getitem__(name) if name in self._found else named_kind(name)


MEASUREMENTS = Measurements(
    {kind.name: kind for kind in BUILT_IN},
    taken=(
        "acceptance",
        "chain",
        "draw",
        "electrons",
        "energies",
        "fluctuations",
        "replica",
        "temperature",
    ),
    labelled=True,
)
"""All that is measured: observables, functions, and what is derived from observables."""


class OfKind(MutableMapping[str, T]):
    """The measurements of one kind.

    Parameters
    ----------
    belongs : callable
        Whether a measurement is of that kind.
    """

    def __init__(self, belongs: Callable[[type], bool]) -> None:
        self._belongs = belongs

    def __getitem__(self, name: str) -> T:
        if not self._belongs(MEASUREMENTS[name]):
            raise KeyError(name)
        return cast(T, MEASUREMENTS[name])

    def __setitem__(self, name: str, value: T) -> None:
        """Add a measurement of this kind; raises as `Registry` does, and for other kinds."""
        kind = cast(type, value)
        MEASUREMENTS.check(name, kind)
        if not self._belongs(kind):
            raise ValueError(f"{name!r} is a measurement of another kind")
        MEASUREMENTS[name] = kind

    def __delitem__(self, name: str) -> None:
        del MEASUREMENTS[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, kind in MEASUREMENTS.items() if self._belongs(kind))

    def __len__(self) -> int:
        return sum(1 for _ in self)


OBSERVABLES: OfKind[type[Observable]] = OfKind(lambda kind: issubclass(kind, Observable))
DERIVED: OfKind[type[Derived]] = OfKind(lambda kind: issubclass(kind, Derived))
PROFILES: OfKind[type[Profile]] = OfKind(lambda kind: not issubclass(kind, Observable | Derived))
GROUPS = {Needs.ENERGIES: "electrons", Needs.LEVELS: "fluctuations", Needs.STATES: "drude_weight"}
"""Keys of [measure] for groups of observables, by what these need."""


def observable_intervals(
    lattice: Lattice,
    groups: Mapping[str, int],
    named: Mapping[str, int],
    momenta: Sequence[str] | None = None,
    with_classical: bool = False,
) -> dict[str, int]:
    """Return the samples between two measurements of each observable that is measured.

    Parameters
    ----------
    lattice : Lattice
    groups : mapping of str to int
        Intervals of groups, by the values of ``GROUPS``; a group that is not there is not measured.
    named : mapping of str to int
        Intervals of measurements by their own names, which go before; 0 for none. What a derived
        quantity is made of is measured at least as often as the quantity is asked for.
    momenta : sequence of str, optional
        Those whose modes are measured, as a job gives them; the usual ones if not given.
    with_classical : bool
        Whether the spins have an energy of their own.
    """
    intervals = {}
    for name in _observables(lattice, momenta, named):
        kind = OBSERVABLES[name]
        usual = 1 if kind.needs is Needs.SPINS else groups.get(GROUPS[kind.needs], 0)
        intervals[name] = named.get(name, usual if kind.is_usual(lattice) else 0)
    for name, every in named.items():
        for each in DERIVED[name].inputs if every and name in DERIVED else ():
            intervals[each] = min(every, intervals.get(each) or every)
    return {
        name: every
        for name, every in intervals.items()
        if every and OBSERVABLES[name].exists(lattice) and (with_classical or name not in CLASSICAL)
    }


def _observables(
    lattice: Lattice, momenta: Sequence[str] | None, named: Iterable[str] = ()
) -> list[str]:
    """Return all names: those of the registry, and those made for the lattice or for the job."""
    names = [*OBSERVABLES, *mode_names(lattice, momenta)]
    return names + [name for name in named if name in OBSERVABLES and name not in names]


def function_intervals(own: Mapping[str, int], named: Mapping[str, int]) -> dict[str, int]:
    """Return the samples between two measurements of each function that is measured.

    Parameters
    ----------
    own : mapping of str to int
        Intervals of the program's own functions.
    named : mapping of str to int
        Intervals of measurements by their own names, functions or not; 0 for none.
    """
    return {**own, **{name: every for name, every in named.items() if every and name in PROFILES}}


def derived_quantities(
    measured: Collection[str], lattice: Lattice, beta: float, mu: float
) -> list[Derived]:
    """Make all derived quantities whose inputs are measured."""
    kinds = [DERIVED[name] for name in (*DERIVED, *derived_names(measured))]
    if CLASSICAL & set(measured):
        kinds = [kind for kind in kinds if kind.name not in classical.DERIVED]
    return [kind(lattice, beta, mu) for kind in kinds if set(kind.inputs) <= set(measured)]


def missing_observables(name: str, lattice: Lattice) -> list[str]:
    """Return the observables that an observable or a derived quantity lacks on a lattice.

    They are itself or its inputs, as far as they are not registered or do not exist there.
    """
    parts = DERIVED[name].inputs if name in DERIVED else (name,)
    return [it for it in parts if it not in OBSERVABLES or not OBSERVABLES[it].exists(lattice)]


def is_always_measured(name: str) -> bool:
    """True if every run measures it, as tables, figures and the run itself count on."""
    return name in {kind.name for kind in WITHOUT_SPECTRUM if kind is not AbsoluteChirality}


def cheap_observables(lattice: Lattice) -> list[str]:
    """Return the names of all usual observables on the lattice that need no spectrum.

    Together they cost below one per cent of a log W.
    """
    kinds = [kind for kind in WITHOUT_SPECTRUM if kind.is_usual(lattice)]
    names = [kind.name for kind in kinds if kind.exists(lattice)]
    return names + mode_names(lattice)


class OnMagneticSites:
    """A measurement of the spins that there are: vectors of other sites are set to 0.

    Parameters
    ----------
    measured : Observable or Profile
    magnetic : (sites,) bool
    """

    def __init__(self, measured: Observable | Profile, magnetic: np.ndarray) -> None:
        self._measured = measured
        self._magnetic = torch.as_tensor(magnetic)[:, None]

    def __getattr__(self, name: str) -> Any:
        """Return the attributes of the measurement itself."""
        return getattr(self._measured, name)

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """Measure spins (chains, sites, 3)."""
        return self._measured.measure(spins * self._magnetic.to(spins), evaluation)


def _of_spins(measured: T, magnetic: np.ndarray) -> T:
    """Restrict a measurement of the spins to sites that have one."""
    if magnetic.all():
        return measured
    return cast(T, OnMagneticSites(cast(Observable | Profile, measured), magnetic))


def make_observable(name: str, electrons: Electrons) -> Observable:
    """The observable of that name.

    Parameters
    ----------
    name : str
        A key of ``OBSERVABLES``.
    electrons : Electrons
        Of the lattice's Hamiltonian; asked for a spectrum only by what needs one.
    """
    kind, hamiltonian = OBSERVABLES[name], electrons.hamiltonian
    if name == classical.ElectronsLogWeight.name and electrons.ensemble.classical is not None:
        return classical.ElectronsLogWeight(electrons)
    if issubclass(kind, SpectralObservable):
        return kind(electrons)
    return _of_spins(kind(hamiltonian.lattice, hamiltonian.device), hamiltonian.magnetic)


def make_profile(name: str, electrons: Electrons, energies: int, every: int) -> Profile:
    """The profile of that name.

    Parameters
    ----------
    name : str
        A key of ``PROFILES``.
    electrons : Electrons
    energies : int
        Bins of energy, for those that have some.
    every : int
        Samples between two measurements.
    """
    kind, hamiltonian = PROFILES[name], electrons.hamiltonian
    make: Callable[..., Profile] = kind
    if kind is RealSpaceCorrelations and not is_square(hamiltonian.lattice):
        make = PairCorrelations
    if kind.needs is Needs.SPINS:
        return _of_spins(make(hamiltonian.lattice, every), hamiltonian.magnetic)
    return make(electrons, energies, every)
