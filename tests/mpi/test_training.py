"""Data-parallel training."""

import tempfile
from pathlib import Path

import pytest
import torch
from helpers import make_diagonalise, make_effective, random_spins

from hpcslmc.effective import MODELS, FreeElectrons, Physics, on_lattice
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.replay import Replay, write_data
from hpcslmc.learning.settings import LearningSection
from hpcslmc.learning.trainer import Trainer
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream

CHAINS = 16
PHYSICS = Physics(FreeElectrons(1.0, 0.0, 20.0), 1.0)


def kept_data(folder: Path) -> str:
    """A file of 90 configurations of another lattice."""
    weight, data = make_diagonalise((4, 6), beta=20.0), DataSet(ChainBlock(9, 0, 9), 2)
    for k in range(10):
        spins = random_spins(9, 24, seed=100 + k)
        data.add(spins, weight.evaluate(spins, forces=True))
    write_data(folder / "data.h5", data, (4, 6), PHYSICS, {}, World())
    return str(folder)


def trained(
    name: str, world: World, steps: int, replay: str = "", augment: bool = False
) -> torch.Tensor:
    """Parameters after some steps on the same chains, shared out over the ranks of a world, and on
    a replay.
    """
    weight, block = make_diagonalise((4, 4), beta=20.0), ChainBlock.of(world, CHAINS)
    model = make_effective(name, Lattice((4, 4)), 3, 1)
    model.initialise(Stream(1, torch.zeros(1, dtype=torch.int64), "parameters"))
    data = DataSet(block, 4)
    mine = slice(block.first, block.first + block.count)
    for k in range(10):
        spins = random_spins(CHAINS, 16, seed=k)[mine]
        data.add(spins, weight.evaluate(spins, forces=True))
    stream = Stream(1, torch.as_tensor(block.indices()), "batches")
    twin = on_lattice(model, Lattice((4, 6)))
    twin.precision = torch.float64
    replays = [(Replay(replay, PHYSICS), twin)] if replay else []
    trainer = Trainer(
        model,
        data,
        world,
        stream,
        LearningSection(steps=steps, batch_size=24, rate=0.01, force_weight=0.5, augment=augment),
        replays=replays,
        draws=Stream(1, torch.zeros(1, dtype=torch.int64), "replay"),
    )
    trainer.start_round(fit_linear=True)
    while not trainer.round_finished:
        trainer.train_step()
    assert not trainer.remarks and trainer.step == steps
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("attention", 100),
        ("messages", 100),
        *((name, 5) for name in MODELS if name not in ("attention", "messages", "determinants")),
    ],
)
def test_any_number_of_ranks_learns_the_same_parameters(world, agree, name, steps):
    together, alone = trained(name, world, steps), trained(name, World(), steps)
    agree((together - alone).abs().max() < 1e-10, f"{(together - alone).abs().max():.1e}")


@pytest.mark.parametrize(("name", "augment"), [("messages", False), ("transformer", True)])
def test_any_number_of_ranks_learns_the_same_from_a_replay(world, agree, name, augment):
    steps = 5 if augment else 50
    with tempfile.TemporaryDirectory() as folder:
        replay = world.on_root(lambda: kept_data(Path(folder)))
        together, alone, without = (
            trained(name, *rest, augment=augment)
            for rest in ((world, steps, replay), (World(), steps, replay), (World(), steps))
        )
        world.barrier()
    agree((together - alone).abs().max() < 1e-10, f"{(together - alone).abs().max():.1e}")
    agree((together - without).abs().max() > 1e-3, "the replay changed nothing")
