"""Jobs of a second that use every model, weight and move that an accelerator may run."""

from collections.abc import Mapping

from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job

SMALL = {
    "lattice": {"shape": [4, 4]},
    "hamiltonian": {"mu": -0.3},
    "ensemble": {"temperature": 0.2},
    "weight": {"method": "diagonalise"},
    "effective": {"model": "attention", "layers": 1, "shells": 3},
    "thermalisation": {"moves": 3},
    "learning": {
        "validation_fraction": 0.25,
        "rounds": 1,
        "configurations": 3,
        "steps": 12,
        "batch_size": 8,
    },
    "sampling": {"chains": 4, "samples": 8, "moves": 1, "bin_size": 2},
}
ALL_PROFILES = (
    "structure_factor",
    "correlations",
    "density_of_states",
    "spectral_function",
    "optical_conductivity",
)


def make_job(changes: Mapping[str, dict]) -> Job:
    """A small job with some keys changed."""
    return resolve(
        Job.model_validate(
            {name: SMALL.get(name, {}) | changes.get(name, {}) for name in SMALL | changes}
        )
    )


JOBS: dict[str, dict] = {
    "attention": {},
    "linear": {"effective": {"model": "linear", "layers": None}},
    "cnn": {"effective": {"model": "cnn"}, "sampling": {"inner_move": "metropolis"}},
    "messages": {
        "effective": {"model": "messages", "channels": 2},
        "weight": {"method": "blocks"},
    },
    "determinants": {
        "effective": {"model": "determinants", "layers": None},
        "weight": {"method": "blocks"},
    },
    "ladder": {
        "hamiltonian": {},
        "ensemble": {"temperature": [0.5, 0.2], "exchange": 2},
        "sampling": {"method": "exact", "exact_move": "hmc"},
    },
    "guided": {
        "effective": {"model": "linear", "layers": None},
        "weight": {"method": "blocks"},
        "sampling": {"method": "guided"},
    },
    "half filling by PETSc": {
        "hamiltonian": {"mu": 0.0},
        "weight": {"method": "matsubara"},
        "sampling": {"method": "exact", "exact_move": "hmc"},
    },
    "sweeps by Green's functions": {
        "weight": {"method": "blocks"},
        "sampling": {"method": "exact", "exact_move": "metropolis"},
    },
    "all profiles": {
        "sampling": {"method": "exact"},
        "measure": dict.fromkeys(("fluctuations", "drude_weight", *ALL_PROFILES), 2),
    },
}
