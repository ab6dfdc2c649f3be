"""Effective models on a device, on lattices that are not square."""

import pytest
import torch
from helpers import random_spins

from hpcslmc.effective import MODELS, Architecture, FreeElectrons, Physics, make_model
from hpcslmc.physics.catalogue import CATALOGUE
from hpcslmc.physics.couplings import Couplings
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream


@pytest.mark.parametrize(
    ("crystal", "shape", "J"), [("lieb", (2, 3), (2.0, 2.0, 0.0)), ("triangular", (12, 9), 2.0)]
)
@pytest.mark.parametrize("name", MODELS)
def test_log_weight_and_forces_are_those_of_the_cpu(device, name, crystal, shape, J):
    couplings = Couplings.make(CATALOGUE[crystal].crystal, 1.0, J)
    lattice = Lattice(shape, couplings.crystal)
    settings = MODELS[name].Options().settings(lattice)
    physics = Physics(FreeElectrons(couplings, -0.5, 5.0), couplings.J)
    model = make_model(Architecture(name, settings, physics), lattice)
    model.precision = torch.float64
    model.initialise(Stream(1, torch.zeros(1, dtype=torch.int64), "parameters"))
    with torch.no_grad():
        model.couplings.copy_(torch.linspace(0.3, -0.2, len(model.couplings)))
    spins = random_spins(2, lattice.sites)
    here = model.evaluate(spins, forces=True)
    there = model.to(device).evaluate(spins.to(device), forces=True)
    assert str(there.log_weight.device) == device
    assert torch.allclose(there.log_weight.cpu(), here.log_weight, rtol=1e-12, atol=1e-10)
    assert torch.allclose(there.known_forces.cpu(), here.known_forces, atol=1e-10)
