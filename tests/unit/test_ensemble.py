import pytest
import torch
from helpers import random_spins
from measurement import fermi

from hpcslmc.effective import FreeElectrons, Physics
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.weight import make_weight

HAMILTONIAN = Hamiltonian(Lattice((3, 4)), 0.7, 1.3)


def test_its_bound_is_that_of_energies_from_mu():
    ensemble = Ensemble(HAMILTONIAN, 2.0, -1.5)
    levels = torch.linalg.eigvalsh(HAMILTONIAN.dense(random_spins(4, ensemble.sites)))
    assert ensemble.sites == 12
    assert (levels - ensemble.mu).abs().max() <= ensemble.bound == HAMILTONIAN.bound + 1.5


def test_occupation_is_the_fermi_function():
    levels = torch.linspace(-5.0, 5.0, 11, dtype=torch.float64)
    occupation = Ensemble(HAMILTONIAN, 2.0, 0.3).occupation(levels).numpy()
    assert occupation == pytest.approx(fermi(2.0 * (levels.numpy() - 0.3)), abs=1e-15)


@pytest.mark.parametrize("method", ["blocks", "matsubara"])
@pytest.mark.parametrize(
    ("shape", "mu", "half_filled"),
    [((4, 4), 0.0, True), ((4, 4), 0.2, False), ((3, 4), 0.0, False), ((3, 3), 0.0, False)],
)
def test_no_density_is_taken_for_one_that_is_not(method, shape, mu, half_filled):
    """On odd sides mu = 0 is not half filling: the density is found there."""
    ensemble = Ensemble(Hamiltonian(Lattice(shape), 1.0, 1.5), 5.0, mu)
    weight, exact = (make_weight(name, ensemble, World()) for name in (method, "diagonalise"))
    spins = random_spins(3, ensemble.sites)
    expected, found = exact.evaluate(spins), weight.with_energy(spins, weight.evaluate(spins))
    assert ensemble.is_half_filled == half_filled != weight.needs_arguments
    assert ((expected.density - 1.0).abs().max() < 1e-12) == half_filled
    assert torch.allclose(found.density, expected.density, atol=1e-9)
    assert torch.allclose(found.energy, expected.energy, atol=1e-7)


def test_what_files_say_of_it():
    ensemble = Ensemble(HAMILTONIAN, 2.0, 0.3)
    assert Physics.of(ensemble) == Physics(FreeElectrons(0.7, 0.3, 2.0), 1.3)
