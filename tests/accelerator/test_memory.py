"""Work that the memory of an accelerator does not hold is divided."""

import pytest
import torch
from helpers import make_effective, random_spins
from simulated_accelerator import memory

from hpcslmc.parallel.memory import Batches
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.weight.checked import Guarded
from hpcslmc.weight.diagonalise import Diagonalise

CHAINS = 8


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(Batches, "said", False)


def weight(device: str, folder) -> Guarded:
    exact = Diagonalise(Ensemble(Hamiltonian(Lattice((4, 4)), 1.0, 1.0, device), 5.0, 0.0))
    return Guarded(exact, torch.arange(CHAINS), folder)


def model(device: str, folder):
    return make_effective("attention", Lattice((4, 4)), 3, 1).to(device)


@pytest.mark.parametrize("make", [weight, model])
def test_out_of_memory_halves_the_batch_and_is_said_once(device, tmp_path, capsys, make):
    density = make(device, tmp_path)
    spins = random_spins(CHAINS, 16).to(device)
    whole = density.evaluate(spins, forces=True)
    with memory(200_000 if make is weight else 60_000):
        parts = density.evaluate(spins, forces=True)
        density.evaluate(spins, forces=True)
    assert torch.allclose(parts.log_weight.cpu(), whole.log_weight.cpu(), rtol=1e-12, atol=0)
    assert torch.allclose(parts.forces.cpu(), whole.forces.cpu(), rtol=1e-12, atol=1e-12)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "hpcslmc: the accelerator's memory does not hold the work on 8 configurations at once: it "
        "is done in smaller batches, which takes longer"
    ]


def test_one_chain_that_does_not_fit_is_an_error(device, tmp_path):
    spins = random_spins(CHAINS, 16).to(device)
    density = weight(device, tmp_path)
    with memory(1000), pytest.raises(torch.OutOfMemoryError):
        density.evaluate(spins)
