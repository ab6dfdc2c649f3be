"""Parts of a job in words, the same wherever a run is described."""

from collections.abc import Iterable

from hpcslmc.job.schema import Job


def size(job: Job) -> str:
    """Return the shape of the lattice, such as 6x6, or 6x6 kagome."""
    shape = "x".join(map(str, job.lattice.shape))
    if job.lattice.vectors is not None:
        return f"{shape} cells of {len(job.lattice.crystal.names)}"
    named = job.lattice.name or "square"
    return shape if named == "square" else f"{shape} {named}"


def couplings(job: Job) -> str:
    """Return the parameters of the Hamiltonian but the chemical potential."""
    return f"t = {values(job.hamiltonian.t)}, J = {values(job.hamiltonian.J)}"


def values(value: object) -> str:
    """Write a number, or a list or a table of numbers."""
    if isinstance(value, dict):
        return ", ".join(f"{one:g} ({name})" for name, one in value.items())
    if isinstance(value, tuple):
        return f"({', '.join(map(values, value))})"
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def listed(temperatures: Iterable[float]) -> str:
    """List temperatures by four digits."""
    return ", ".join(f"{temperature:.4g}" for temperature in temperatures)
