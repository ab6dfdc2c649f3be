"""Results on crystals as a run would leave them, of spins that are given."""

import numpy as np
import torch
from helpers import unevaluated
from small_jobs import make_job

from hpcslmc.analysis.results import ProfileResult, Results
from hpcslmc.measure.electrons import Electrons
from hpcslmc.measure.registry import cheap_observables, make_observable, make_profile
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice

PROFILES = ("structure_factor", "correlations", "spectral_function")


def crystal_results(
    lattice: Lattice, spins: np.ndarray, temperatures: tuple[float, ...] = (), **couplings: object
) -> Results:
    """Results of draws of spins (chains, draws, sites, 3), the same at all temperatures."""
    chains, draws, sites, _ = spins.shape
    electrons = Electrons(Ensemble(Hamiltonian(lattice, **couplings), 5.0, 0.0))
    flat = torch.as_tensor(spins.reshape(-1, sites, 3))
    evaluation = unevaluated(flat)

    def at_all(values: np.ndarray) -> np.ndarray:
        repeated = np.repeat(values[..., None], max(1, len(temperatures)), -1)
        return repeated if temperatures else repeated[..., 0]

    made = [make_observable(name, electrons) for name in cheap_observables(lattice)]
    made = [o for o in made if o.name not in ("log_weight", "energy", "density", "energy2")]
    made = [o for o in made if o.name not in ("energy_density", "density2")]
    series = {o.name: o.measure(flat, evaluation).numpy().reshape(chains, draws) for o in made}
    series["acceptance"] = np.ones((chains, draws))
    profiles = {}
    for name in PROFILES:
        profile = make_profile(name, electrons, 60, 1)
        values = profile.measure(flat, evaluation).numpy()
        means = values.reshape(chains, draws, *values.shape[1:]).mean(1)
        counts = np.full(chains, draws)
        profiles[name] = ProfileResult(profile.label, dict(profile.grid), at_all(means), counts)
    one = make_job(ensemble={"temperature": list(temperatures) or 0.2})
    results = Results(
        job=one.toml(),
        versions={},
        cpu_seconds={},
        bin_size=1,
        temperature=np.array(temperatures) if temperatures else np.array(0.2),
        mu=np.zeros(max(1, len(temperatures))) if temperatures else np.array(0.0),
        draws={name: at_all(x) for name, x in series.items()},
        bin_variances={name: at_all(np.zeros(chains)) for name in series},
        labels={o.name: o.label for o in made} | {"acceptance": "acceptance"},
        spins=at_all(spins[:, -1]),
        profiles=profiles,
    )
    results.__dict__["lattice"] = lattice  # the job file names no crystal
    return results
