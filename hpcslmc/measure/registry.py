"""All measurements by the names that the job file and results.h5 know them by."""

from typing import Any

from hpcslmc.measure.density_of_states import DensityOfStates, SpectralFunction
from hpcslmc.measure.derived import DERIVED
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

BUILT_IN: tuple[type[Observable], ...] = (
    *WITHOUT_SPECTRUM,
    EnergyFluctuation,
    EnergyNumberFluctuation,
    NumberFluctuation,
    HoppingEnergy,
    DrudeWeight,
)
OBSERVABLES: Registry[type[Observable]] = Registry(
    {kind.name: kind for kind in BUILT_IN},
    taken=("acceptance", "chain", "draw", "temperature", *(quantity.name for quantity in DERIVED)),
    labelled=True,
)
PROFILES: dict[str, type[Any]] = {
    "structure_factor": StructureFactor,
    "correlations": RealSpaceCorrelations,
    "density_of_states": DensityOfStates,
    "spectral_function": SpectralFunction,
    "optical_conductivity": OpticalConductivity,
}
"""Classes of functions; what they are made of differs (``make_profile``)."""


def cheap_observables(lattice: Lattice) -> list[str]:
    """Names of all observables that exist on the lattice and need no spectrum; together they cost
    below one per cent of a log W.
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
    if kind.needs is Needs.SPINS:
        return kind(hamiltonian.lattice, every)
    return kind(electrons, energies, every)
