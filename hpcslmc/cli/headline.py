"""Headline of a run: the lines that it begins with."""

from hpcslmc.job.schema import Job
from hpcslmc.job.words import couplings, listed, size
from hpcslmc.parallel.world import World


def physics(job: Job) -> str:
    """Return what a job simulates, and how, in a line."""
    model = ", then ".join(f"{part.model} ({part.options.described})" for part in job.levels)
    how = {
        "slmc": f"self-learning with {model}",
        "guided": f"exact hmc guided by {model}",
        "exact": f"exact {job.sampling.exact_move}",
    }
    filling = job.ensemble.filling
    filled = f"mu = {job.hamiltonian.mu:g}" if filling is None else f"filling {filling:g}"
    temperatures = listed(job.ensemble.temperatures)
    return (
        f"{size(job)} lattice, {couplings(job)}, {filled}, T = {temperatures}; "
        f"{how[job.sampling.method]}"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def layout(job: Job, world: World, weight: str, device: str, threads: int) -> str:
    """Return where and by what a job runs, in a line."""
    grouped = min(job.sampling.ranks_per_chain, world.size) > 1
    groups = f" in groups of {job.sampling.ranks_per_chain}" if grouped else ""
    return (
        f"exact weight by {weight}; {_counted(job.sampling.chains, 'chain')} on "
        f"{_counted(world.size, 'rank')}{groups}, {device}, "
        f"{_counted(threads, 'thread')} a rank"
    )
