"""What is done in each training of the study of equivariance, and measured after it."""

import math
import time

import numpy as np
import torch
from equivariance_arms import ARMS, AVERAGED, BATCH, Cell, flops_of_step, fresh
from exact_samples import exact_weight, propose

from hpcslmc.effective import EffectiveModel, Physics
from hpcslmc.learning.augmentation import Augmentation
from hpcslmc.learning.data import NAMES, DataSet
from hpcslmc.learning.settings import LearningSection
from hpcslmc.learning.trainer import CHECKS, Trainer
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.field import tangential
from hpcslmc.streams import Stream

LEARNING_CHAINS, INTERVAL, TEST_CHAINS = 80, 5, 16
"""Chains that train and validate, every 5th of them the latter; and chains that neither do."""
TRAINING_CHAINS = LEARNING_CHAINS - LEARNING_CHAINS // INTERVAL
FORCE_WEIGHT = 0.5
AVERAGE = 8
"""Group elements over which log W_eff of a trained model is averaged."""
ELEMENTS, TRAJECTORIES, TESTS = 64, 4, 20
"""Group elements that the invariance is tested with; trajectories of a proposal; proposals."""


class Patient(Trainer):
    """Training that takes all its steps: the error may fall in the last, small ones."""

    patience = CHECKS


class Study:
    """The exact data, and what is done in each cell with them.

    Parameters
    ----------
    ensemble : Ensemble
    arrays : dict of str to array
        ``spins``, ``log_weight`` and ``forces`` (chains, draws, ...); test chains are the last.
    length : float
        Of exact trajectories.
    """

    def __init__(self, ensemble: Ensemble, arrays: dict[str, np.ndarray], length: float) -> None:
        self.ensemble, self.length = ensemble, length
        self.physics, self.weight = Physics.of(ensemble), exact_weight(ensemble)
        tensors = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in arrays.items()}
        tensors["spins"] = torch.nn.functional.normalize(tensors["spins"], dim=-1)
        self.learning = {k: v[:LEARNING_CHAINS] for k, v in tensors.items()}
        self.test = {k: v[LEARNING_CHAINS:].flatten(0, 1) for k, v in tensors.items()}
        self.ends = tensors["spins"][LEARNING_CHAINS:, -1]

    def data(self, configurations: int) -> DataSet:
        """Data of which only so many configurations train; they are repeated."""
        data = DataSet(ChainBlock.of(World(), LEARNING_CHAINS), INTERVAL)
        draws = self.learning["log_weight"].shape[1]
        each = max(1, min(draws, configurations // TRAINING_CHAINS))
        chosen = torch.as_tensor(np.linspace(0, draws - 1, each, dtype=np.int64))
        repeated = chosen[torch.arange(draws) % each]
        arrays = {name: self.learning[name].clone() for name in NAMES}
        for array in arrays.values():
            array[data.train_chains] = array[data.train_chains][:, repeated]
        data.load_state_dict(arrays)
        return data

    def results(self, cell: Cell) -> list[dict]:
        """What the training of a cell gives, and beside it what an average over the group does."""
        started = time.monotonic()
        model = fresh(cell, self.physics, self.ensemble)
        settings = LearningSection(
            steps=cell.steps,
            batch_size=BATCH,
            rate=ARMS[cell.arm].rate,
            force_weight=FORCE_WEIGHT,
            augment=ARMS[cell.arm].augment,
        )
        stream = Stream(cell.seed, torch.arange(LEARNING_CHAINS), "batches")
        trainer = Patient(model, self.data(cell.configurations), World(), stream, settings)
        began, taken = time.process_time(), 0
        trainer.start_round(fit_linear=True)
        while not trainer.round_finished:
            trainer.train_step()
            taken += 1
        trainer.finish_round()
        trained = {
            **cell._asdict(),
            "steps": taken,
            "seconds": time.process_time() - began,
            "flops": float(taken * flops_of_step(model)),
            "parameters": sum(p.numel() for p in trainer.parameters),
            "validation_mse": trainer.mse,
            "divergences": len(trainer.remarks),
        }
        found = [{**trained, **self._tested(model)}]
        if cell.arm in AVERAGED:
            averaged = fresh(cell, self.physics, self.ensemble, AVERAGE)
            averaged.load_state_dict(model.state_dict())
            found.append({**trained, "arm": AVERAGED[cell.arm], **self._tested(averaged)})
        found[0]["elapsed"] = time.monotonic() - started
        return found

    def _tested(self, model: EffectiveModel) -> dict[str, float]:
        """Errors of a model in the test chains, its invariance, and its acceptance from there."""
        spins, sites = self.test["spins"], model.sites
        evaluation = model.evaluate(spins, forces=True)
        errors = self.test["log_weight"] - evaluation.log_weight
        force_errors = self.test["forces"] - tangential(evaluation.forces, spins)
        elements = Augmentation.of(model).draw(
            Stream(1, torch.arange(len(self.ends)), "elements"), ELEMENTS
        )
        images = elements.image(self.ends[:, None].expand(-1, ELEMENTS, -1, -1))
        spread = model.evaluate(images.flatten(0, 1)).log_weight.unflatten(0, (-1, ELEMENTS))
        _, steps = propose(model, self.weight, self.length, self.ends, TRAJECTORIES, TESTS)
        accepted = torch.stack([step.acceptance.mean() for step in steps[1:]])
        return {
            "mse": float(errors.var()),
            "force_error": float(force_errors.square().sum((1, 2)).mean()) / sites,
            "invariance": float(spread.var(1).mean().sqrt()),
            "acceptance": float(accepted.mean()),
            "acceptance_error": float(accepted.std()) / math.sqrt(len(accepted)),
        }
