"""Small things that many tests need."""

import math

import numpy as np
import torch

from hpcslmc.density import Evaluation
from hpcslmc.effective import (
    MODELS,
    Architecture,
    EffectiveModel,
    FreeElectrons,
    Physics,
    make_model,
)
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream
from hpcslmc.weight.diagonalise import Diagonalise


def random_spins(chains: int, sites: int, seed: int = 0) -> torch.Tensor:
    """Free spins (chains, sites, 3)."""
    return Stream(seed, torch.arange(chains), "test").directions(sites)


def make_diagonalise(
    shape: tuple[int, int], J: float = 1.0, beta: float = 5.0, mu: float = 0.0, t: float = 1.0
) -> Diagonalise:
    """Exact weight of a small lattice."""
    return Diagonalise(Ensemble(Hamiltonian(Lattice(shape), t, J), beta, mu))


def z_score(draws: np.ndarray, exact: float) -> float:
    """Deviation of the mean of draws (chains, draws) from the exact value, in standard errors.

    Chains are independent, so the error comes from the spread of their means: no autocorrelation
    enters.
    """
    means = draws.mean(axis=1)
    return float((means.mean() - exact) / (means.std(ddof=1) / math.sqrt(len(means))))


def make_effective(
    name: str, lattice: Lattice, shells: int, layers: int, **own: object
) -> EffectiveModel:
    """A model on the first shells of a lattice, in double precision, with options of its own."""
    options = MODELS[name].Options
    given = {"shells": shells, "layers": layers, "channels": 4, "frequencies": (1.0, 4.0)}
    given |= own
    settings = options(**{k: v for k, v in given.items() if k in options.model_fields})
    model = make_model(
        Architecture(name, settings.settings(lattice), Physics(FreeElectrons(1.0, 0.0, 5.0), 1.0)),
        lattice,
    )
    model.precision = torch.float64
    return model


@torch.no_grad()
def assert_invariant(model: EffectiveModel, lattice: Lattice, tolerance: float = 1e-10) -> None:
    """log W_eff of random spins is the same after rotations and reflections of all spins and the
    symmetries of the lattice.
    """
    spins = random_spins(4, lattice.sites)
    reference = model(spins)
    assert reference.std() > 0.1  # it is no constant
    rotation = torch.linalg.qr(random_spins(1, 3, seed=9)[0])[0]
    images = [
        spins @ rotation.T,
        spins @ -rotation.T,
        spins * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64),
    ]
    images += [spins[:, p] for p in [*lattice.point_group, *lattice.translations]]
    for image in images:
        assert (model(image) - reference).abs().max() < tolerance * max(1.0, reference.abs().max())


def unevaluated(spins: torch.Tensor) -> Evaluation:
    """An evaluation that knows nothing of the spins."""
    return Evaluation(torch.full((len(spins),), torch.nan, dtype=torch.float64))


def as_if_trained(model: EffectiveModel, name: str) -> EffectiveModel:
    """Give a model random parameters of the size that training gives them; ``name`` seeds them."""
    numbers = Stream(5, torch.zeros(1, dtype=torch.int64), name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                0.3 * min(1.0, 4.0 / parameter.shape[-1]) * numbers.normal(*parameter.shape)[0]
            )
    return model
