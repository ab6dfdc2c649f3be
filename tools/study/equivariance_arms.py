"""Arms of the study of equivariance, and the trainings that it is made of."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hpcslmc.effective import MODELS, Architecture, EffectiveModel, Physics, make_model
from hpcslmc.effective.gatr import GATr
from hpcslmc.effective.kernels import Kernels
from hpcslmc.effective.torchmd_et import TorchMDET
from hpcslmc.effective.transformer import position_waves
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.field import tangential
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream

BATCH, SHELLS = 64, 9
LEAST_STEPS, MOST_STEPS = 50, 4000
"""Steps of a training between which a size is tried at a budget."""
DATA_SIZES = (64, 256, 1024, 4096)
"""Configurations to train on, by turns; trainings that are not about data use the most."""
DEPTHS = range(1, 7)


class WrongGroup(GATr):
    """A network that is equivariant under a group which is not that of log W, though like it.

    It sees spins whose z component counts half: what is built in are the matrices A^-1 R A with R
    in O(3) and A = diag(1, 1, 1/2). Parameters and costs are those of the right group.
    """

    def energy(self, spins: Tensor) -> Tensor:
        return super().energy(spins * spins.new_tensor([1.0, 1.0, 0.5])[:, None, None])


class Positions(nn.Module):
    """Kernels between sites that are learned functions of both positions, not of the displacement.

    Products of waves at one site and waves at the other. It takes the place of `Kernels`.
    """

    def __init__(self, kernels: Kernels, lattice: Lattice) -> None:
        super().__init__()
        self.pairs, waves = kernels.pairs, position_waves(lattice)
        products = torch.einsum("ai,bj->abij", waves, waves).flatten(0, 1)
        self.register_buffer("products", products / lattice.sites**0.5, persistent=False)

    def __len__(self) -> int:
        return len(self.products)

    def between(self, weights: Tensor) -> Tensor:
        """Return kernels (n, sites, sites) of weights (n, functions)."""
        return torch.tensordot(weights, self.products.to(weights.dtype), 1)

    def convolve(self, weights: Tensor, fields: Tensor) -> Tensor:
        """Smear fields (channels, ..., sites) with kernels of weights (channels, functions)."""
        smeared = fields.flatten(1, -2) @ self.between(weights).mT
        return smeared.view(len(weights), *fields.shape[1:])


class SpinsAlone(TorchMDET):
    """A network that is equivariant under rotations of the spins, and has to learn the lattice."""

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        super().__init__(lattice, architecture)
        positions = Positions(self.kernels, lattice)
        self.kernels = positions
        for block in (self.site, *self.layers):
            for name in {"start", "kernel", "location"} & set(block):
                zeros = torch.zeros(len(block[name]), len(positions), dtype=torch.float64)
                block[name] = nn.Parameter(zeros)


class Arm(NamedTuple):
    """A way to learn log W_eff.

    Attributes
    ----------
    model : str
    channels : tuple of int
        Of the sizes that share a budget.
    middle : int
        Of the size that learns from few data.
    options : dict
        Of the model, beside its defaults.
    augment : bool
    rate : float
        Peak rate of training.
    make : callable
        Makes the model of an architecture on a lattice.
    """

    model: str
    channels: tuple[int, ...]
    middle: int
    options: dict = {}
    augment: bool = False
    rate: float = 0.01
    make: Callable = lambda architecture, lattice: make_model(architecture, lattice)


ARMS = {
    "plain": Arm("transformer", (4, 8, 16, 32, 64), 32),
    "plain, augmented": Arm("transformer", (4, 8, 16, 32, 64), 32, augment=True),
    "relative": Arm("transformer", (4, 8, 16, 32, 64), 32, {"relative": True}),
    "relative, augmented": Arm(
        "transformer", (4, 8, 16, 32, 64), 32, {"relative": True}, augment=True
    ),
    "gatr": Arm("gatr", (4, 8, 16, 32), 8),
    "gatr, wrong group": Arm(
        "gatr",
        (4, 8, 16),
        8,
        make=lambda architecture, lattice: WrongGroup(lattice, architecture),
    ),
    "messages": Arm("messages", (4, 8, 16, 32), 16),
    "torchmd_et": Arm("torchmd_et", (4, 8, 16, 32), 16),
    "spins alone": Arm(
        "torchmd_et",
        (4, 8, 16),
        16,
        make=lambda architecture, lattice: SpinsAlone(lattice, architecture),
    ),
    "attention": Arm("attention", (), 0, rate=0.003),
}
"""Of which ``relative`` has the symmetries of the lattice, ``spins alone`` those of the spins,
``plain`` none, the others all."""
AVERAGED = {"plain, augmented": "plain, augmented and averaged"}
"""Arms that are evaluated a second time, averaged over group elements, and how they are named."""
SCALED = (
    "plain",
    "plain, augmented",
    "relative, augmented",
    "gatr",
    "gatr, wrong group",
    "messages",
    "torchmd_et",
    "spins alone",
)
"""Arms of the figures against compute..."""
STARVED = (
    "plain",
    "plain, augmented",
    "relative",
    "relative, augmented",
    "gatr",
    "messages",
    "torchmd_et",
    "spins alone",
)
"""...and of those against data."""
DEEP = {"attention": 0, "torchmd_et": 16}
"""Arms of the figure against layers, and their channels."""


class Cell(NamedTuple):
    """One training.

    Attributes
    ----------
    arm : str
    channels : int
        0 for a model that has none.
    layers : int
    steps : int
    budget : float
        FLOPs that the steps were made for; 0 where they were given.
    configurations : int
        Different ones to train on.
    seed : int
    """

    arm: str
    channels: int
    layers: int
    steps: int
    budget: float
    configurations: int
    seed: int

    @property
    def name(self) -> str:
        """What the results of the cell are kept under."""
        words = (f"{key} {value:g}" for key, value in self._asdict().items() if key != "arm")
        return ", ".join((self.arm, *words))


def fresh(
    cell: Cell, physics: Physics, ensemble: Ensemble, average: int | None = None
) -> EffectiveModel:
    """The model of a cell, untrained."""
    arm, lattice = ARMS[cell.arm], ensemble.hamiltonian.lattice
    options = MODELS[arm.model].Options
    given = {"channels": cell.channels, "layers": cell.layers, "average": average, **arm.options}
    known = {k: v for k, v in given.items() if v and k in options.model_fields}
    settings = options(shells=min(SHELLS, len(lattice.shells)), **known).settings(lattice)
    model = arm.make(Architecture(arm.model, settings, physics), lattice)
    model.initialise(Stream(cell.seed, torch.zeros(1, dtype=torch.int64), "parameters"))
    return model


def flops_of_step(model: EffectiveModel) -> int:
    """FLOPs of log W_eff, its forces and the gradient of their errors for one batch.

    Matrix products alone are counted.
    """
    spins = Stream(1, torch.arange(BATCH), "spins").directions(model.sites).requires_grad_()
    parameters = [p for p in model.parameters() if p.requires_grad]
    with FlopCounterMode(display=False) as counter:
        log_weight = model(1.0 * spins)  # the counter takes no leaf
        (forces,) = torch.autograd.grad(log_weight.sum(), spins, create_graph=True)
        loss = log_weight.square().sum() + tangential(forces, spins).square().sum()
        torch.autograd.grad(loss, parameters, materialize_grads=True)
    return counter.get_total_flops()


def default_layers(arm: str) -> int:
    """Layers of an arm's model that are its default."""
    return MODELS[ARMS[arm].model].Options().layers


def all_cells(
    ensemble: Ensemble, budgets: Sequence[float], data_budget: float, depth_steps: int, seeds: int
) -> list[Cell]:
    """All trainings, for each seed by depth, then by compute and data from the dearest on.

    Those by data or by depth are left out for a budget or for steps of 0.
    """
    physics, most = Physics.of(ensemble), DATA_SIZES[-1]

    @cache
    def flops(arm: str, channels: int) -> int:
        cell = Cell(arm, channels, default_layers(arm), 0, 0.0, 0, 1)
        return flops_of_step(fresh(cell, physics, ensemble))

    def of_budget(arm: str, channels: int, budget: float, configurations: int) -> Cell:
        steps = round(budget / flops(arm, channels))
        return Cell(arm, channels, default_layers(arm), steps, budget, configurations, 1)

    cells = [
        of_budget(arm, channels, budget, most)
        for arm in SCALED
        for channels in ARMS[arm].channels
        for budget in budgets
        if LEAST_STEPS <= budget / flops(arm, channels) <= MOST_STEPS
    ]
    if data_budget:
        cells += [
            of_budget(arm, ARMS[arm].middle, data_budget, configurations)
            for arm in STARVED
            for configurations in DATA_SIZES
        ]
    if depth_steps:
        cells += [
            Cell(arm, channels, layers, depth_steps, 0.0, most, 1)
            for arm, channels in DEEP.items()
            for layers in DEPTHS
        ]
    different = sorted(dict.fromkeys(cells), key=lambda cell: (cell.budget > 0.0, -cell.budget))
    return [cell._replace(seed=seed) for seed in range(1, seeds + 1) for cell in different]
