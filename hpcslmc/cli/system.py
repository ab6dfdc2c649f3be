"""Description of a job's lattice and couplings, as comments below a validated job."""

from collections.abc import Iterator

from hpcslmc.job.schema import Job


def expansion(job: Job) -> str:
    """Describe vectors, sites, bonds, momenta and symmetries, as comments of a job file."""
    return "".join(f"# {line}\n" for line in _lines(job))


def _lines(job: Job) -> Iterator[str]:
    crystal, couplings = job.lattice.crystal, job.couplings
    yield f"lattice vectors {', '.join(map(_numbers, crystal.vectors))}"
    sites = zip(crystal.names, crystal.places, strict=True)
    yield f"sites of a cell {', '.join(f'{name} {_numbers(place)}' for name, place in sites)}"
    for kind, bonds in (
        ("hop", [(hop.link, _amplitude(hop.amplitude, hop.is_scalar)) for hop in couplings.hops]),
        (
            "coupling of spins",
            [(bond.link, f"{bond.exchange:g}") for bond in job.classical_couplings.bonds],
        ),
    ):
        for link, strength in bonds:
            ends = crystal.names[link.start], crystal.names[link.end]
            yield (
                f"{kind} {strength} from {ends[0]} to {ends[1]} in cell {list(link.cell)}, "
                f"length {crystal.length(link):.6g}"
            )
    points = (f"{name} {_numbers(point)}" for name, point in job.lattice.points.items())
    yield f"momenta in units of the reciprocal vectors: {', '.join(points)}"
    yield f"reciprocal vectors {', '.join(map(_numbers, crystal.reciprocal.tolist()))}"
    yield f"operations of the space group that the couplings leave: {len(couplings.symmetries)}"


def _numbers(values: tuple[float, ...] | list[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"


def _amplitude(value: complex, is_scalar: bool) -> str:
    value = complex(value)
    number = f"{value.real:g}" if value.imag == 0.0 else f"{value.real:g}{value.imag:+g}i"
    return number if is_scalar else f"{number} times a matrix"
