"""The sections of a job file that say which model is simulated, and what they stand for."""

import hashlib
import math
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, Strict

from hpcslmc.environment import expanded
from hpcslmc.errors import UserError
from hpcslmc.physics.catalogue import CATALOGUE, Named
from hpcslmc.physics.classical_couplings import ClassicalBond, ClassicalCouplings
from hpcslmc.physics.couplings import ONE, Couplings, Hop, Matrix
from hpcslmc.physics.crystal import Crystal, Link
from hpcslmc.section import PathName, Section
from hpcslmc.storage.files import check_regular

if TYPE_CHECKING:
    from hpcslmc.physics.lattice import Lattice

Side = Annotated[int, Strict(), Field(ge=1, le=1024)]
Coordinates = Annotated[tuple[float, ...], Strict(False), Field(min_length=1, max_length=3)]
Vector = Annotated[tuple[float, float, float], Strict(False)]
Amplitude = float | Annotated[str, Field(max_length=100)]
Name = Literal[
    "chain",
    "square",
    "triangular",
    "honeycomb",
    "kagome",
    "lieb",
    "checkerboard",
    "cubic",
    "fcc",
    "pyrochlore",
]
Bond = dict[str, Any]
Bonds = Annotated[tuple[Bond, ...], Strict(False)]


class LatticeSection(Section):
    """The lattice of classical spins."""

    name: Name | None = None
    """Crystal of the catalogue; square if neither a name nor vectors are given."""
    vectors: (
        Annotated[tuple[Coordinates, ...], Strict(False), Field(min_length=1, max_length=3)] | None
    ) = None
    """Lattice vectors in Cartesian coordinates, in place of a name."""
    sites: Annotated[dict[str, Coordinates], Field(min_length=1, max_length=64)] | None = None
    """Names and Cartesian positions of the sites of the unit cell, beside vectors.

    One, A at the origin, by default.
    """
    shape: Annotated[tuple[Side, ...], Strict(False), Field(min_length=1, max_length=3)]
    """Cells in the direction of each lattice vector, from 1 to 1024."""
    twist: Annotated[tuple[float, ...], Strict(False)] | None = None
    """Phases of the electrons across the boundary over 2 pi, one for each direction."""
    spins: Annotated[tuple[str, ...], Strict(False)] | None = None
    """Sites of the unit cell that have a classical spin; all by default."""

    @property
    def named(self) -> Named | None:
        """The catalogue's entry, None for a crystal that the job describes."""
        return CATALOGUE[self.name or "square"] if self.vectors is None else None

    @cached_property
    def crystal(self) -> Crystal:
        """The infinite crystal; UserError if the section describes none."""
        if self.named is not None:
            if self.sites is not None:
                raise UserError(
                    "[lattice] sites: they go with vectors; a named lattice has its own: remove "
                    "sites, or give vectors in place of a name."
                )
            return self.named.crystal
        assert self.vectors is not None
        d = len(self.vectors)
        if self.name is not None:
            raise UserError(
                "[lattice] name and vectors: a named lattice has its own vectors: remove one of "
                "the two keys."
            )
        sites = self.sites or {"A": (0.0,) * d}
        for key, rows in (("vectors", self.vectors), ("sites", sites.values())):
            if any(len(row) != d for row in rows):
                raise UserError(
                    f"[lattice] {key}: {d} lattice vectors need {d} coordinates each, and so does "
                    "every site."
                )
        try:
            return Crystal(self.vectors, tuple(sites), tuple(sites.values()))
        except ValueError as error:
            raise UserError(f"[lattice]: {error}.") from None

    def make(self) -> "Lattice":
        """Return the lattice; UserError if the shape is none."""
        from hpcslmc.physics.lattice import Lattice

        try:
            return Lattice(self.shape, self.crystal)
        except ValueError as error:
            raise UserError(f"[lattice] shape = {list(self.shape)}: {error}.") from None

    @property
    def points(self) -> Mapping[str, tuple[float, ...]]:
        """Momenta that have names, in units of the reciprocal vectors."""
        gamma = {"G": (0.0,) * self.crystal.dimension}
        return gamma | dict(self.named.points) if self.named is not None else gamma

    @property
    def orders(self) -> tuple[str, ...]:
        """Names of the momenta of known magnetic orders."""
        return self.named.orders if self.named is not None else ()


class HamiltonianSection(Section):
    """Parameters of the one-body Hamiltonian."""

    t: Amplitude | Annotated[tuple[Amplitude, ...], Strict(False), Field(max_length=16)] = 1.0
    """Hopping, the unit of energy, or a list of hoppings by shell of neighbours.

    Complex numbers are strings such as "0.5+0.3i".
    """
    bonds: Bonds = ()
    """Further bonds of the unit cell, as tables with ``from``, ``to``, ``cell``, ``value``.

    ``value`` may be complex, and be multiplied by a 2x2 ``matrix`` that acts on the spin.
    """
    J: float | Annotated[dict[str, float], Field(min_length=1)] = 1.0
    """Coupling of the classical spins to the electrons, or a table of couplings by site."""
    potential: dict[str, float] | None = None
    """On-site energies of the sites of the unit cell."""
    field: Vector | None = None
    """Zeeman field on the electrons."""
    site_file: PathName | None = None
    """HDF5 file of values for each site: ``J``, ``potential``, ``spin`` (whether there is one)."""
    site_digest: str | None = None
    """Digest of the values in that file, which the program fills in.

    A run goes on with the same values.
    """
    mu: float = 0.0
    """Chemical potential."""


class ClassicalSection(Section):
    """Energy of the classical spins by themselves."""

    exchange: float | Annotated[tuple[float, ...], Strict(False), Field(max_length=16)] = ()
    """Coupling K of K S.S by shell of neighbours; positive is antiferromagnetic."""
    bonds: Bonds = ()
    """Bonds of the unit cell, as tables with ``from``, ``to``, ``cell``, ``exchange``, ``dm``.

    ``dm`` is the vector D of D . (S_from x S_to).
    """
    field: Vector = (0.0, 0.0, 0.0)
    """Field h of -h . S."""
    easy_axis: float = 0.0
    """D of -D (S^z)^2; negative is an easy plane."""


def number(value: object, key: str) -> complex:
    """Read a number of a job file, a string where it is complex; UserError if it is none."""
    try:
        if isinstance(value, str):
            found = complex(re.sub(r"\s", "", value).replace("i", "j"))
            if math.isfinite(abs(found)):
                return found.real if found.imag == 0.0 else found
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if math.isfinite(value):
                return float(value)
    except (ValueError, OverflowError):
        pass
    raise UserError(f'{key} = {value!r}: use a number, or a complex one as in "0.5+0.3i".')


def _real(value: object, key: str) -> float:
    """Read a real number of a job file; UserError if it is none."""
    found = complex(number(value, key))
    if found.imag:
        raise UserError(f"{key} = {value!r}: use a real number.")
    return found.real


def couplings(lattice: LatticeSection, hamiltonian: HamiltonianSection) -> Couplings:
    """Return the electrons' couplings; UserError if the sections make no sense."""
    crystal = lattice.crystal
    given = hamiltonian.t if isinstance(hamiltonian.t, tuple) else (hamiltonian.t,)
    bonds = []
    for bond in hamiltonian.bonds:
        key = "[[hamiltonian.bonds]]"
        link = _link(bond, crystal, key, {"value", "matrix"})
        if "value" not in bond:
            raise UserError(f"{key}: every bond needs a value.")
        matrix = ONE if "matrix" not in bond else _matrix(bond["matrix"], f"{key} matrix")
        bonds.append(Hop(link, number(bond["value"], f"{key} value"), matrix))
    twist = lattice.twist
    if twist is not None and len(twist) != crystal.dimension:
        raise UserError(
            f"[lattice] twist = {list(twist)}: the lattice has {crystal.dimension} directions."
        )
    J = hamiltonian.J
    try:
        return Couplings.make(
            crystal,
            [number(t, "[hamiltonian] t") for t in given],
            _by_site(J, crystal, "J") if isinstance(J, dict) else J,
            bonds,
            _by_site(hamiltonian.potential or {}, crystal, "potential"),
            hamiltonian.field or (0.0, 0.0, 0.0),
            twist,
            _known_sites(lattice.spins, crystal),
        )
    except ValueError as error:
        key = "bonds" if bonds else "t"
        raise UserError(f"[hamiltonian] {key}: {error}.") from None


def classical(lattice: LatticeSection, section: ClassicalSection) -> ClassicalCouplings:
    """Return the classical couplings; UserError if the sections make no sense."""
    crystal, key = lattice.crystal, "[[classical.bonds]]"
    exchange = section.exchange
    bonds = []
    for bond in section.bonds:
        link = _link(bond, crystal, key, {"exchange", "dm"})
        dm = bond.get("dm", (0.0, 0.0, 0.0))
        if not isinstance(dm, list | tuple) or len(dm) != 3:
            raise UserError(f"{key} dm = {dm!r}: use a vector of three numbers.")
        real = [_real(value, f"{key} dm") for value in dm]
        strength = _real(bond.get("exchange", 0.0), f"{key} exchange")
        bonds.append(ClassicalBond(link, strength, (real[0], real[1], real[2])))
    try:
        return ClassicalCouplings.make(
            crystal,
            exchange if isinstance(exchange, tuple) else (exchange,),
            bonds,
            section.field,
            section.easy_axis,
        )
    except ValueError as error:
        key = "bonds" if bonds else "exchange"
        raise UserError(f"[classical] {key}: {error}.") from None


def _by_site(values: Mapping[str, float], crystal: Crystal, key: str) -> list[float]:
    """Return values by sublattice, 0 where none is given."""
    if unknown := sorted(values.keys() - set(crystal.names)):
        raise UserError(
            f"[hamiltonian] {key}: there is no site {unknown[0]} in the unit cell, which has "
            f"{', '.join(crystal.names)}."
        )
    return [values.get(name, 0.0) for name in crystal.names]


def _known_sites(names: tuple[str, ...] | None, crystal: Crystal) -> list[bool] | None:
    if names is None:
        return None
    if unknown := sorted(set(names) - set(crystal.names)):
        raise UserError(
            f"[lattice] spins: there is no site {unknown[0]} in the unit cell, which has "
            f"{', '.join(crystal.names)}."
        )
    if not names:
        raise UserError("[lattice] spins = []: one site of the unit cell at least needs a spin.")
    return [name in names for name in crystal.names]


def _link(bond: Bond, crystal: Crystal, key: str, own: set[str]) -> Link:
    """Return the link that a bond's table describes."""
    if unknown := sorted(bond.keys() - own - {"from", "to", "cell"}):
        raise UserError(
            f"{key} {unknown[0]}: unknown key; a bond has from, to, cell and "
            f"{' and '.join(sorted(own))}."
        )
    ends = []
    for end in ("from", "to"):
        name = bond.get(end, crystal.names[0] if len(crystal.names) == 1 else None)
        if name not in crystal.names:
            raise UserError(
                f"{key} {end} = {name!r}: use a site of the unit cell, {', '.join(crystal.names)}."
            )
        ends.append(crystal.names.index(name))
    cell = bond.get("cell", [0] * crystal.dimension)
    whole = isinstance(cell, list | tuple) and all(type(step) is int for step in cell)
    if not whole or len(cell) != crystal.dimension:
        raise UserError(
            f"{key} cell = {cell!r}: use {crystal.dimension} whole numbers, the cell of ``to`` "
            "seen from that of ``from``."
        )
    return Link(ends[0], ends[1], tuple(cell))


def _matrix(value: object, key: str) -> Matrix:
    rows = value if isinstance(value, list | tuple) else ()
    if len(rows) != 2 or any(not isinstance(row, list | tuple) or len(row) != 2 for row in rows):
        raise UserError(f"{key} = {value!r}: use two rows of two numbers.")
    (a, b), (c, d) = ([number(entry, key) for entry in row] for row in rows)
    return (a, b), (c, d)


def digest(values: Mapping[str, Any]) -> str:
    """Return a digest of arrays by name."""
    found = hashlib.sha256()
    for name in sorted(values):
        found.update(name.encode() + values[name].tobytes())
    return found.hexdigest()


def site_values(section: HamiltonianSection, sites: int) -> dict[str, Any]:
    """Read values of single sites from the file that the section names, by name.

    Raises
    ------
    UserError
        The file cannot be read, or does not have such values for each site.
    """
    import h5py
    import numpy as np

    if section.site_file is None:
        return {}
    path = Path(expanded(section.site_file, "[hamiltonian] site_file"))
    key = f"[hamiltonian] site_file = {section.site_file!r}"
    try:
        check_regular(path)
        with h5py.File(path, "r") as file:
            found = {name: np.asarray(file[name][()]) for name in file}
    except (OSError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{key}: cannot read it: {reason}.") from None
    kinds = {"J": float, "potential": float, "spin": bool}
    if not found or (unknown := sorted(found.keys() - kinds.keys())):
        what = f"unknown values {unknown[0]}" if found else "no values"
        raise UserError(f"{key}: {what}; it may have J, potential and spin.")
    for name, values in found.items():
        if values.shape != (sites,) or values.dtype.kind not in "fiub":
            raise UserError(
                f"{key}: {name} has to be one number for each of {sites} sites, not "
                f"{values.dtype} {values.shape}."
            )
        if name == "spin" and not (np.isin(values, (0, 1)).all() and values.any()):
            raise UserError(f"{key}: spin has to be 0 or 1 at each site, and 1 at some.")
        found[name] = values.astype(kinds[name])
        if not np.isfinite(found[name]).all():
            raise UserError(f"{key}: {name} is not finite everywhere.")
    return found
