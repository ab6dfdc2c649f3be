"""Interface for notebooks: one process, no MPI, no files unless asked for."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hpcslmc.analysis.results import Results
from hpcslmc.cli.progress import Progress
from hpcslmc.effective import EffectiveModel, make_model
from hpcslmc.errors import UserError
from hpcslmc.job.load import load_job, make_job
from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job
from hpcslmc.job.sentences import check_name
from hpcslmc.parallel.hardware import device
from hpcslmc.parallel.ranks import Ranks
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.plugins import MODELS, WEIGHTS
from hpcslmc.simulation import words
from hpcslmc.simulation.build import required
from hpcslmc.simulation.collect import collect
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.storage.models import check_parameters, load_model
from hpcslmc.storage.versions import versions
from hpcslmc.streams import Stream
from hpcslmc.weight import choose_method, make_weight
from hpcslmc.weight.method import ExactWeight


def exact_weight(
    hamiltonian: Hamiltonian, temperature: float, mu: float = 0.0, method: str = "auto"
) -> ExactWeight:
    r"""Evaluate exact fermionic log-weights of spin configurations, on the Hamiltonian's device.

    .. math:: \log W(S) = \sum_n \log(1 + e^{-(E_n - \mu) / T})

    Parameters
    ----------
    hamiltonian : Hamiltonian
    temperature, mu : float
        In units of t.
    method : str
        A key of ``WEIGHTS``, or auto for the one that is predicted to be the fastest.

    Returns
    -------
    ExactWeight
        Its ``log_weight(spins)``, ``log_weight_and_forces(spins)`` and ``evaluate(spins, forces)``
        (energy and density too) take spins (chains, sites, 3) float64.

    Raises
    ------
    UserError
        The temperature is none, or the method needs something that is not there, or cannot serve
        this temperature. The weight raises it where spins are not of that shape.
    """
    check_name("method", method, ("auto", *WEIGHTS))
    if not (0.0 < temperature < math.inf and math.isfinite(mu)):
        raise UserError(
            f"temperature = {temperature}, mu = {mu}: use a positive finite "
            "temperature, and a finite chemical potential."
        )
    ensemble = Ensemble(hamiltonian, 1.0 / temperature, mu)
    if method == "auto":
        method, _ = choose_method(ensemble, torch.device(hamiltonian.device).type, 1, True)
    return make_weight(method, ensemble, World())


def random_spins(chains: int, lattice: Lattice, seed: int = 0) -> Tensor:
    """Draw free spins, (chains, sites, 3) float64, each chain from random numbers of its own."""
    return Stream(seed, torch.arange(chains), "start").directions(lattice.sites)


def learned_model(path: str | Path, lattice: Lattice) -> EffectiveModel:
    """Read the effective model that a run has learned, on a lattice of any size.

    Parameters
    ----------
    path : str or Path
        A model file, or the output directory of a run (of a ladder, the folder of a temperature in
        it).
    lattice : Lattice
        With at least the neighbour shells that the model sees.

    Returns
    -------
    EffectiveModel
        ``model(spins)`` is log W_eff (chains,) of spins (chains, sites, 3), ``model.evaluate(spins,
        forces=True)`` its gradient too.

    Raises
    ------
    UserError
        If there is no model to read, or none of its name.
    """
    learned = load_model(str(path))
    check_name(f"{path}: model", learned.architecture.name, MODELS)
    model = make_model(learned.architecture, lattice)
    check_parameters(model, learned.parameters, str(path))
    model.load_state_dict(learned.parameters)
    return model


def run_job(job: Job | Mapping[str, Mapping] | str | Path, show: bool = False) -> Results:
    """Run a job in this process, to its last sample, and keep everything in memory.

    Parameters
    ----------
    job : Job, mapping or path
        A table of sections as in a job file, ``{"lattice": {"shape": [4, 4]}, "ensemble":
        {"temperature": 0.1}}``, or a job file.
    show : bool
        Whether to show progress.

    Returns
    -------
    Results
        ``draws["energy"]`` (chain, draw), ``summary.of("energy")``, ``dataset()`` for xarray,
        ``profiles["structure_factor"].mean``, ...

    Raises
    ------
    UserError
        If the job makes no sense.

    Notes
    -----
    No checkpoint is written, and no model or data: for a run that is longer than patience use the
    command.
    """
    if isinstance(job, str | Path):
        job = load_job(str(job))
    else:
        job = resolve(job) if isinstance(job, Job) else make_job(job)
    world = World()
    ranks = Ranks.of(world, job.sampling.chains, device=device(world))
    simulation = Simulation(job, ranks)
    progress = Progress(show, job.output.progress_every_s)

    def tell() -> None:
        simulation.phase.agree()
        progress.show(*words.progress(simulation), words.note(simulation))

    try:
        simulation.run(tell)
    finally:
        progress.close()
    return required(collect(simulation, versions(world)))
