"""The physics that a model was learned at, as plain values for files, and in words."""

import hashlib
import json
import math
from typing import Any

import numpy as np
import pydantic

from hpcslmc.effective.free_electrons import FreeElectrons, Physics
from hpcslmc.physics.couplings import Couplings

COUPLINGS = pydantic.TypeAdapter(Couplings)


def describe_electrons(electrons: FreeElectrons) -> dict[str, Any]:
    """Return what `read_electrons` reads, as JSON has it; values of single sites are not in it.

    t, mu and beta on the square lattice with one real hopping, else the couplings.
    """
    numbers: dict[str, Any] = {"mu": electrons.mu, "beta": electrons.beta}
    t = hopping(electrons.couplings)
    if t is not None:
        return {"t": t, **numbers}
    # real amplitudes are written as numbers, complex ones as text, without a warning of either
    couplings = COUPLINGS.dump_python(electrons.couplings, mode="json", warnings=False)
    return {"couplings": couplings, **numbers}


def describe(physics: Physics) -> dict[str, Any]:
    """Return plain values that are equal where the physics is; sites are told by a hash."""
    electrons = describe_electrons(physics.electrons)
    described: dict[str, Any] = {"electrons": electrons, "J": physics.J}
    if sites := hash_of_sites(physics):
        described["sites"] = sites
    return json.loads(json.dumps(described))


def hash_of_sites(physics: Physics) -> str:
    """Return a hash of the values of single sites; "" if there are none."""
    of_sites = physics.site_J, physics.electrons.site_potential
    return hashlib.sha256(json.dumps(of_sites).encode()).hexdigest() if any(of_sites) else ""


def read_electrons(described: dict[str, Any]) -> FreeElectrons:
    """Read electrons that were described.

    Raises
    ------
    KeyError, TypeError, ValueError
        They are none.
    """
    numbers: dict[str, Any] = {
        name: float(value) for name, value in described.items() if name != "couplings"
    }
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError("numbers that make no sense")
    if "couplings" in described:
        numbers["t"] = _read_couplings(described["couplings"])
    return FreeElectrons(**numbers)


def read_physics(described: dict[str, Any]) -> Physics:
    """Read physics that was described, but for values of single sites.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is none.
    """
    electrons, J = read_electrons(described["electrons"]), described["J"]
    if not isinstance(J, list):
        return Physics(electrons, float(J))
    if len(J) != len(electrons.couplings.J):
        raise ValueError("J does not fit the crystal")
    return Physics(electrons, tuple(map(float, J)))


def hopping(couplings: Couplings) -> float | None:
    """Return t of electrons on the square lattice that have nothing else."""
    if not couplings.hops:
        return None
    t = complex(couplings.hops[0].amplitude)
    return t.real if couplings == Couplings.make(t=t.real, J=couplings.J) else None


def _read_couplings(described: Any) -> Couplings:
    """Read couplings; ValueError if they are none."""
    try:
        found = COUPLINGS.validate_json(json.dumps(described, allow_nan=False))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
    crystal = found.crystal
    sites, dimension = len(crystal.names), crystal.dimension
    per_site = (crystal.places, found.J, found.potential)
    cells = (hop.link.cell for hop in found.hops)
    per_direction = (found.twist, *crystal.vectors, *crystal.places, *cells)
    fitting = all(len(values) == sites for values in per_site)
    fitting &= all(len(values) == dimension for values in per_direction)
    ends = [end for hop in found.hops for end in hop.link[:2]]
    numbers = [
        *(complex(hop.amplitude) for hop in found.hops),
        *(value for hop in found.hops for value in np.ravel(hop.matrix)),
    ]
    if not fitting or not all(0 <= end < sites for end in ends):
        raise ValueError("couplings whose parts do not fit each other")
    if not np.isfinite(numbers).all():
        raise ValueError("numbers that make no sense")
    # refuses a bond that is there twice
    Couplings.make(crystal, (), found.J, found.hops, found.potential, found.field, found.twist)
    return found


def differences(there: Physics, sites: str | None, here: Physics) -> str:
    """Describe what differs there from here, as what follows "learned at"; "" if nothing does.

    ``sites`` is the hash of the values of single sites there, None if it is not known; nor is a J
    that is not a number.
    """
    one, other = there.electrons, here.electrons
    words, numbers = [], {}
    t, own_t = hopping(one.couplings), hopping(other.couplings)
    if t is not None and own_t is not None:
        numbers["t"] = t, own_t
    else:
        parts = {
            "crystal": "another crystal",
            "hops": "other hopping",
            "potential": "other on-site energies",
            "field": "another field on the electrons",
            "twist": "another twist of the boundary",
        }
        words = [
            word
            for part, word in parts.items()
            if getattr(one.couplings, part) != getattr(other.couplings, part)
        ][:1]
    numbers |= {"mu": (one.mu, other.mu), "T": (1.0 / one.beta, 1.0 / other.beta)}
    words += [
        f"{name} = {value:.6g} (here {own:.6g})"
        for name, (value, own) in numbers.items()
        if not _close(value, own)
    ]
    of_there, of_here = there.couplings.J, here.couplings.J
    same = len(of_there) == len(of_here) and all(map(_close, of_there, of_here))
    if not same and not any(map(math.isnan, of_there)):
        words.append(f"J = {_said(there)} (here {_said(here)})")
    if sites not in (None, hash_of_sites(here)):
        words.append("other values of single sites")
    return ", ".join(words)


def _close(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12)


def _said(physics: Physics) -> str:
    """Say J, of all sites or of each sublattice by its name."""
    if not isinstance(physics.J, tuple):
        return f"{physics.J:.6g}"
    names = physics.couplings.crystal.names
    return ", ".join(f"{J:.6g} on {name}" for name, J in zip(names, physics.J, strict=True))
