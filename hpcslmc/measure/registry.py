"""All measurements by the names that the job file and results.h5 know them by."""

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar, cast

from hpcslmc.measure.density_of_states import DensityOfStates, SpectralFunction
from hpcslmc.measure.derived import QUANTITIES, Derived
from hpcslmc.measure.electrons import (
    Electrons,
    EnergyFluctuation,
    EnergyNumberFluctuation,
    NumberFluctuation,
    SpectralObservable,
)
from hpcslmc.measure.observables import WITHOUT_SPECTRUM, Needs, Observable
from hpcslmc.measure.profiles import Profile
from hpcslmc.measure.structure import RealSpaceCorrelations, StructureFactor
from hpcslmc.measure.transport import DrudeWeight, HoppingEnergy, OpticalConductivity
from hpcslmc.physics.lattice import Lattice
from hpcslmc.plugins import Registry

T = TypeVar("T")
BUILT_IN: tuple[type[Any], ...] = (
    *WITHOUT_SPECTRUM,
    EnergyFluctuation,
    EnergyNumberFluctuation,
    NumberFluctuation,
    HoppingEnergy,
    DrudeWeight,
    StructureFactor,
    RealSpaceCorrelations,
    DensityOfStates,
    SpectralFunction,
    OpticalConductivity,
    *QUANTITIES,
)
"""Measurements of the program's own."""
MEASUREMENTS: Registry[type] = Registry(
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
    lattice: Lattice, groups: Mapping[str, int], named: Mapping[str, int]
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
    """
    intervals = {}
    for name, kind in OBSERVABLES.items():
        usual = 1 if kind.needs is Needs.SPINS else groups.get(GROUPS[kind.needs], 0)
        intervals[name] = named.get(name, usual)
    for name, every in named.items():
        for each in DERIVED[name].inputs if every and name in DERIVED else ():
            intervals[each] = min(every, intervals[each] or every)
    return {
        name: every
        for name, every in intervals.items()
        if every and OBSERVABLES[name].exists(lattice)
    }


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
    return [
        quantity(lattice, beta, mu)
        for quantity in DERIVED.values()
        if set(quantity.inputs) <= set(measured)
    ]


def missing_observables(name: str, shape: tuple[int, ...]) -> list[str]:
    """Return the observables that an observable or a derived quantity lacks.

    They are itself or its inputs, as far as they are not registered or do not exist on a lattice of
    that shape.
    """
    lattice = Lattice(shape)
    parts = DERIVED[name].inputs if name in DERIVED else (name,)
    return [it for it in parts if it not in OBSERVABLES or not OBSERVABLES[it].exists(lattice)]


def is_always_measured(name: str) -> bool:
    """True if every run measures it, as tables, figures and the run itself count on."""
    return name in {kind.name for kind in WITHOUT_SPECTRUM}


def cheap_observables(lattice: Lattice) -> list[str]:
    """Return the names of all observables that exist on the lattice and need no spectrum.

    Together they cost below one per cent of a log W.
    """
    return [kind.name for kind in WITHOUT_SPECTRUM if kind.exists(lattice)]


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
    return (
        kind(electrons)
        if issubclass(kind, SpectralObservable)
        else kind(hamiltonian.lattice, hamiltonian.device)
    )


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
    if kind.needs is Needs.SPINS:
        return make(hamiltonian.lattice, every)
    return make(electrons, energies, every)
