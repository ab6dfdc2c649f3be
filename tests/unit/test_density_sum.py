"""The number of electrons from arguments of determinants that are known modulo 2 pi."""

import numpy as np
import pytest
import torch

from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.weight import density_sum as module
from hpcslmc.weight.density_sum import density_sum
from hpcslmc.weight.nodes import energy_sum, matsubara_nodes, model_nodes

REACHES = [0.1, 1.0, 10.0, 30.0, 100.0, 160.0, 300.0, 1000.0, 3000.0, 10000.0, 13000.0]
BOUND = 4.0 + 0.5 * 4.0 + 2.0  # of the model's levels from mu


def make_ensemble(reach: float, length: int) -> Ensemble:
    """J = 4, mu = -2, at the temperature of a given beta R."""
    return Ensemble(Hamiltonian(Lattice((length, length)), 1.0, 4.0), reach / BOUND, -2.0)


@pytest.mark.parametrize("reach", REACHES)
def test_four_frequencies_serve_lattices_of_800_sites(reach):
    ensemble = make_ensemble(reach, 28)
    nodes = matsubara_nodes(ensemble.beta, ensemble.bound)
    found = density_sum(nodes, ensemble)
    energies = energy_sum(nodes, ensemble.beta, ensemble.bound, ensemble.beta * found.frequencies)
    assert ensemble.beta * ensemble.bound == pytest.approx(reach)
    assert len(found.frequencies) == 4
    assert 2 * ensemble.sites * found.argument_error <= 3.0
    assert found.error < 4e-9 and energies.error < 8e-9
    assert max(float(found.weights[1:].abs().max()), np.abs(energies.weights).max()) < 4e4


def make_levels(kind: str, bound: float, count: int) -> torch.Tensor:
    """Levels (4, count) between -bound and bound: anywhere, or many at the same few places."""
    generator = torch.Generator().manual_seed(1)
    if kind == "anywhere":
        return bound * (2.0 * torch.rand(4, count, dtype=torch.float64, generator=generator) - 1.0)
    places = torch.tensor([bound, 0.3 * bound, 0.02 * bound, 1e-3 * bound], dtype=torch.float64)
    return places[:, None].expand(4, count)


@pytest.mark.parametrize("length", [4, 24, 36, 64])
@pytest.mark.parametrize("kind", ["anywhere", "at one place"])
@pytest.mark.parametrize("reach", [1.0, 30.0, 160.0, 1000.0])
def test_arguments_are_unwrapped_whatever_the_levels(reach, kind, length):
    ensemble = make_ensemble(reach, length)
    nodes = model_nodes(ensemble)
    found = density_sum(nodes, ensemble)
    e = make_levels(kind, ensemble.bound, 2 * ensemble.sites)
    frequencies = torch.as_tensor(np.append(nodes.frequencies, found.frequencies))
    exact = torch.arctan(e[..., None] / frequencies).sum(1)
    turn = 2.0 * torch.pi
    wrapped = torch.remainder(exact + torch.pi, turn) - torch.pi
    trace = ensemble.beta * e.sum(1)
    for chain in range(len(e)):
        unwrapped = found.unwrap(wrapped[[chain]], float(trace[chain]))
        assert torch.allclose(unwrapped[0, 1:], exact[chain, found.order], rtol=1e-12, atol=1e-9)
        density = found.density(wrapped[[chain]], float(trace[chain]), ensemble.sites)
        occupied = torch.special.expit(-ensemble.beta * e[chain]).sum() / ensemble.sites
        assert abs(float(density - occupied)) < 1e-8


@pytest.mark.parametrize(("length", "most"), [(32, 4), (48, 5), (64, 6)])
def test_larger_lattices_take_a_few_more(length, most):
    ensemble = make_ensemble(160.0, length)
    found = density_sum(model_nodes(ensemble), ensemble)
    assert len(found.frequencies) <= most
    assert 2 * ensemble.sites * found.argument_error <= 3.0


def test_too_many_levels_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_FREQUENCIES", 5)
    ensemble = make_ensemble(160.0, 64)
    with pytest.raises(ValueError, match="8192 levels"):
        density_sum(model_nodes(ensemble), ensemble)
