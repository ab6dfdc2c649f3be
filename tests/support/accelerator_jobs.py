"""Jobs of a second that use every model, weight and move that an accelerator may run."""

from collections.abc import Mapping

from small_jobs import KAGOME, RASHBA

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


MEASURES = dict.fromkeys(("fluctuations", "drude_weight", *ALL_PROFILES), 2)


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
        "measure": MEASURES,
    },
    "kagome, classical couplings": KAGOME | {"effective": {"model": "auto", "layers": None}},
    "kagome, messages": KAGOME | {"effective": {"model": "messages", "channels": 2}},
    "kagome, sweeps": KAGOME | {"sampling": {"method": "exact", "exact_move": "metropolis"}},
    "kagome, all profiles": KAGOME | {"sampling": {"method": "exact"}, "measure": MEASURES},
    "rashba": RASHBA | {"effective": {"model": "auto", "layers": None}},
    "rashba, all profiles": RASHBA | {"sampling": {"method": "exact"}, "measure": MEASURES},
    "triangular, easy plane": {
        "lattice": {"name": "triangular", "shape": [3, 4]},
        "classical": {"exchange": [0.1], "easy_axis": -0.2},
        "effective": {"model": "linear", "layers": None},
        "measure": {"scalar_chirality": 1, "hall_conductivity": 2},
    },
    "spins on one site of a cell": {
        "lattice": {"name": "lieb", "shape": [2, 3], "spins": ["A"]},
        "effective": {"model": "determinants", "layers": None},
    },
    "cubic": {
        "lattice": {"shape": [2, 2, 3], "name": "cubic"},
        "hamiltonian": {"J": 8.0, "mu": -8.0},
        "effective": {"model": "auto", "layers": None},
        "measure": MEASURES | {"conductivity_tensor": 2},
    },
}
