"""Data-parallel training."""

import pytest
import torch
from helpers import make_diagonalise, make_effective, random_spins

from hpcslmc.lattice import Lattice
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.trainer import Trainer
from hpcslmc.parallel import ChainBlock, World
from hpcslmc.streams import Stream

CHAINS = 16


def trained(name: str, world: World, steps: int = 100) -> torch.Tensor:
    """Parameters after 100 steps on the same chains, shared out over the ranks of a world."""
    weight, block = make_diagonalise((4, 4), beta=20.0), ChainBlock.of(world, CHAINS)
    model = make_effective(name, Lattice((4, 4)), 3, 1)
    model.initialise(Stream(1, torch.zeros(1, dtype=torch.int64), "parameters"))
    data = DataSet(block, 0.25)
    mine = slice(block.first, block.first + block.count)
    for k in range(10):
        spins = random_spins(CHAINS, 16, seed=k)[mine]
        data.add(spins, weight.evaluate(spins, forces=True))
    stream = Stream(1, torch.as_tensor(block.indices()), "batches")
    trainer = Trainer(model, data, world, stream, steps=steps, batch_size=24, rate=0.01, force_weight=0.5)
    trainer.start_round(fit_linear=True)
    while not trainer.round_finished:
        trainer.train_step()
    assert not trainer.remarks and trainer.step == steps
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", ["attention", "messages"])
def test_any_number_of_ranks_learns_the_same_parameters(world, agree, name):
    together, alone = trained(name, world), trained(name, World())
    agree((together - alone).abs().max() < 1e-10, f"{(together - alone).abs().max():.1e}")
