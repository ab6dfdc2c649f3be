"""Gradient steps per second of data-parallel training, all ranks together against one rank alone,
in the same run.

    mpirun -n 2 python tools/bench/training_speed.py [--length 8] [--batch 64] [--steps 20]

Random spins and numbers stand for the data: their values do not matter to the time. Medians over
blocks of steps, in turn.
"""

import argparse
import statistics
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from timing import alternate, median_ratio

from hpcslmc.density import Evaluation
from hpcslmc.effective import Architecture, FreeElectrons, Physics, make_model
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.settings import LearningSection
from hpcslmc.learning.trainer import Trainer
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.parallel.world import MPIWorld, World
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream

DESIGNS = {
    "attention, 3 layers": ("attention", 3, 0),
    "messages, 1 layer, 8 channels": ("messages", 1, 8),
}
CHAINS = 80


def make_trainer(design: str, world: World, length: int, batch: int, steps: int) -> Trainer:
    """A trainer on made-up data of this rank's chains, forces included."""
    name, layers, channels = DESIGNS[design]
    lattice, block = Lattice((length, length)), ChainBlock.of(world, CHAINS)
    model = make_model(
        Architecture(
            name,
            {"shells": lattice.shells[:6].tolist(), "layers": layers, "channels": channels},
            Physics(FreeElectrons(1.0, 0.0, 20.0), 1.0),
        ),
        lattice,
    )
    model.initialise(Stream(1, torch.zeros(1, dtype=torch.int64), "parameters"))
    data, chains = DataSet(block, 5), torch.as_tensor(block.indices())
    for k in range(4):
        spins = Stream(k, chains, "spins").directions(lattice.sites)
        data.add(
            spins,
            Evaluation(
                Stream(k, chains, "log_weight").normal(1)[:, 0],
                Stream(k, chains, "forces").normal(lattice.sites, 3),
            ),
        )
    trainer = Trainer(
        model,
        data,
        world,
        Stream(1, chains, "batches"),
        LearningSection(steps=10**9, batch_size=batch, rate=1e-9, force_weight=0.5),
    )
    trainer.start_round()
    return trainer


def train(trainer: Trainer, steps: int) -> None:
    """Take some gradient steps."""
    for _ in range(steps):
        trainer.train_step()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--length", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="of a block")
    options = parser.parse_args()
    prepare_process()
    world = MPIWorld()
    table = Table(
        "model",
        "one rank, steps / s",
        f"{world.size} ranks, steps / s",
        "speed-up",
        title=(
            f"{options.length}x{options.length}, {options.batch} configurations a step, with forces"
        ),
    )
    for design in DESIGNS:
        together = make_trainer(design, world, options.length, options.batch, options.steps)
        alone = make_trainer(design, World(), options.length, options.batch, options.steps)
        calls = {
            "one": partial(train, alone, options.steps),
            "all": partial(train, together, options.steps),
        }
        times = alternate(calls, world, together=("all",))
        one, many = (options.steps / statistics.median(taken) for taken in times.values())
        table.add_row(
            design, f"{one:.1f}", f"{many:.1f}", f"{median_ratio(times['one'], times['all']):.2f}"
        )
    if world.is_root:
        Console(width=120, force_terminal=False).print(table)


if __name__ == "__main__":
    main()
