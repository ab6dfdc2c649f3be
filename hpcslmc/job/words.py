"""Parts of a job in words, the same wherever a run is described."""

from collections.abc import Iterable

from hpcslmc.job.schema import Job


def size(job: Job) -> str:
    """Return the shape of the lattice, such as 6x6."""
    return "x".join(map(str, job.lattice.shape))


def couplings(job: Job) -> str:
    """Return the parameters of the Hamiltonian but the chemical potential."""
    return f"t = {job.hamiltonian.t:g}, J = {job.hamiltonian.J:g}"


def listed(temperatures: Iterable[float]) -> str:
    """List temperatures by four digits."""
    return ", ".join(f"{temperature:.4g}" for temperature in temperatures)
