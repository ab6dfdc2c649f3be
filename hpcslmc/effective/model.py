"""The protocol of effective models, and the shell-wise smearing they share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hpcslmc.density import Evaluation
from hpcslmc.effective.free_electrons import FreeElectrons, Physics
from hpcslmc.effective.options import GivenOptions, ShellOptions
from hpcslmc.effective.options import Options as ModelOptions
from hpcslmc.effective.shells import on_site, shell_index, shell_links
from hpcslmc.errors import UserError
from hpcslmc.parallel.memory import Batches
from hpcslmc.parallel.world import World
from hpcslmc.physics.field import tangential
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.plugins import MODELS
from hpcslmc.streams import Stream


@dataclass(frozen=True)
class Architecture:
    """Name and settings of a model, for a lattice of any size.

    Parameters
    ----------
    name : str
        A key of ``MODELS``.
    settings : dict of str to plain values
        The model's own, as ``Options.settings`` gives them; they are attributes too, as in
        ``architecture.layers``.
    physics : Physics
        The fermions; ignored by models that know nothing of them.
    """

    name: str
    settings: dict[str, Any]
    physics: Physics

    @property
    def electrons(self) -> FreeElectrons:
        """The fermions without spins."""
        return self.physics.electrons

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get("settings", {})
        if name not in settings:
            raise AttributeError(f"the architecture has no {name!r}")
        return settings[name]


class Costs(NamedTuple):
    """Costs of evaluations of a model, in some unit.

    Attributes
    ----------
    alone, with_forces : float
        Of log W_eff alone, and with its forces.
    """

    alone: float
    with_forces: float


class EffectiveModel(nn.Module, ABC):
    r"""Learned logarithm of the fermion weight, log W_eff(S; theta).

    A subclass defines ``correlations(spins)`` and, unless it is linear in them, ``forward(spins) ->
    (chains,)``: twice differentiable, invariant under global O(3), translations and the symmetries
    of h on the lattice unless it says that it is not. Parameters belong to neighbour shells, named
    as in `hpcslmc.effective.shells`, or to functions of momentum, never to sites, so they load on a
    lattice of any size.

    Parameters
    ----------
    lattice : Lattice
    architecture : Architecture
    couplings : int
        Number of couplings of the linear readout.

    Attributes
    ----------
    lattice : Lattice
    couplings : (couplings,) parameter
        K of the linear readout, ``log W_eff = correlations(S) . K + N constant``.
    constant : () buffer
        Per site; irrelevant to sampling, kept so that errors of log W_eff can be read off.
    Options : type of Options
        Its keys of the job file's [effective].
    invariant : bool
        Whether log W_eff is invariant under rotations and reflections of all spins and under the
        symmetries of the lattice. Sampling is exact without, too.
    needs_symmetry : str or None
        Group of rotations of all spins that log W has to be invariant under for the model to make
        sense, as `Hamiltonian.spin_symmetry` names it; None if the model serves every Hamiltonian.
    is_density : bool
        Whether its forces are the gradient of log W_eff. If not, it can only guide the trajectories
        under another model.
    shares_ranks : bool
        Whether it is made with the group of ranks that share an exact weight, and shares its own
        work among them.
    guide : callable or None
        Forces (chains, sites, 3) close to those of log W_eff at a small part of their cost, if the
        model has such.
    """

    Options: ClassVar[type[ModelOptions]] = GivenOptions
    invariant: ClassVar[bool] = True
    needs_symmetry: ClassVar[str | None] = "O(3)"
    is_density: ClassVar[bool] = True
    shares_ranks: ClassVar[bool] = False
    guide: Callable[[Tensor], Tensor] | None = None
    constant: Tensor

    def __init__(self, lattice: Lattice, architecture: Architecture, couplings: int) -> None:
        super().__init__()
        self.lattice, self.sites, self.architecture = lattice, lattice.sites, architecture
        self.couplings = nn.Parameter(torch.zeros(couplings, dtype=torch.float64))
        self.register_buffer("constant", torch.zeros((), dtype=torch.float64))
        self._batches = Batches()

    @property
    def hamiltonian(self) -> Hamiltonian:
        """h(S) of the electrons that the model is for, on its lattice, on the CPU."""
        return self.architecture.physics.ensemble(self.lattice).hamiltonian

    def initialise(self, stream: Stream) -> None:
        """Draw starting parameters, close to the linear model.

        ``stream`` is one chain's, the same on all ranks.
        """

    @property
    def relative_costs(self) -> Costs | None:
        """Costs of evaluations in units of an exact test, where they are known."""
        return None

    @abstractmethod
    def correlations(self, spins: Tensor) -> Tensor:
        """Return the correlations that the couplings multiply, (chains, couplings).

        Sums over the lattice, such as S_i . S_j over pairs of sites.
        """

    def forward(self, spins: Tensor) -> Tensor:
        """Evaluate log W_eff (chains,) of spins (chains, sites, 3) by the linear readout."""
        return self.correlations(spins) @ self.couplings + self.sites * self.constant

    def with_forces(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """Return log W_eff (chains,) and tangential forces (chains, sites, 3), for training.

        Both are differentiable in the parameters.
        """
        spins = spins.detach().requires_grad_()
        log_weight = self(spins)
        (gradient,) = torch.autograd.grad(log_weight.sum(), spins, create_graph=True)
        return log_weight, tangential(gradient, spins)

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate log W_eff of spins (chains, sites, 3), and with ``forces`` its gradient.

        No graph is built for theta.
        """
        evaluate = self._with_forces if forces else self._without_forces
        parts = self._batches.map(lambda rows: evaluate(spins[rows]), len(spins))
        return Evaluation.joined(parts)

    @torch.no_grad()
    def _without_forces(self, spins: Tensor) -> Evaluation:
        return Evaluation(self(spins))

    @torch.enable_grad()
    def _with_forces(self, spins: Tensor) -> Evaluation:
        spins = spins.detach().requires_grad_()
        log_weight = self(spins)
        (gradient,) = torch.autograd.grad(log_weight.sum(), spins)
        return Evaluation(log_weight.detach(), gradient)


class ForceFitted(EffectiveModel):
    """A linear model whose couplings are fitted to exact forces, and whose terms are chosen.

    A subclass defines ``correlation_forces`` and ``selections``; one with terms of very different
    costs ``cheap_terms`` and ``guiding`` too.

    Attributes
    ----------
    is_close : bool
        Whether nearly all proposals are accepted wherever the model is used.
    tries : bool
        Whether selections of more terms are tried, as long as independent samples cost less.
    guiding : (cheap terms,) buffer or None
        Couplings of the cheap terms alone that come closest to the exact forces, for ``guide``.
    """

    is_close: ClassVar[bool] = False
    tries: bool = False
    guiding: Tensor | None

    @property
    def terms(self) -> Hashable:
        """Key of the terms that the couplings multiply, the same for models of the same terms."""
        return id(self)

    @abstractmethod
    def correlation_forces(self, spins: Tensor) -> Tensor:
        """Return the gradients of all correlations, (chains, couplings, sites, 3)."""

    @property
    @abstractmethod
    def selections(self) -> list[list[np.ndarray]]:
        """Couplings that may be used together, sets of few before sets of many."""

    @property
    @abstractmethod
    def wanted_acceptances(self) -> list[float]:
        """Predicted acceptance, for each of ``selections``, with which none after it is tried."""

    @property
    def cheap_terms(self) -> np.ndarray:
        """Couplings of terms that cost next to nothing."""
        return np.arange(0)

    @property
    @abstractmethod
    def chosen_in_words(self) -> str:
        """The terms that were chosen, in a few words."""


class ShellModel(EffectiveModel):
    r"""A model whose kernels, and couplings K_n = beta J_n, belong to shells of distance.

    .. math::

        \log W_{\rm linear}
            = \sum_{n=1}^{n_{\max}} K_n \sum_{\langle ij \rangle_n} S_i \cdot S_j
              + N\,{\rm constant}

    Attributes
    ----------
    kinds : int
        Number of kinds of sites, those that no symmetry of h makes of each other.
    kernel_weights : int
        Number of weights of a kernel: one for each kind and each shell.
    """

    Options: ClassVar[type[ModelOptions]] = ShellOptions
    _smearing_index: Tensor

    def __init__(self, lattice: Lattice, architecture: Architecture) -> None:
        physics = architecture.physics
        own = on_site(physics.couplings)
        links = shell_links(physics.couplings, tuple(architecture.shells))
        super().__init__(lattice, architecture, len(links))
        self.kinds, self.kernel_weights = len(own), len(own) + len(links)
        index = shell_index(lattice, [*own, *links])
        magnetic = physics.magnetic(lattice)
        if magnetic.any():  # pairs with a site whose spin the electrons do not see are in no shell
            index[~np.logical_and.outer(magnetic, magnetic)] = self.kernel_weights
        self.register_buffer("_smearing_index", torch.as_tensor(index), persistent=False)

    def kernel(self, weights: Tensor) -> Tensor:
        """Return shell-wise kernels (..., sites, sites) of weights (..., kernel weights).

        The weights are those of each kind of site with itself, then of the shells.
        """
        padded = torch.cat((weights, weights.new_zeros(*weights.shape[:-1], 1)), -1)
        flat = padded.index_select(-1, self._smearing_index.flatten())
        return flat.reshape(*weights.shape[:-1], self.sites, self.sites)

    def readout(self, vectors: Tensor) -> Tensor:
        """Evaluate the linear model on site vectors (chains, sites, 3): (chains,)."""
        weights = torch.cat((self.couplings.new_zeros(self.kinds), self.couplings))
        field = self.kernel(weights) @ vectors
        return 0.5 * (vectors * field).sum((1, 2)) + self.sites * self.constant

    def correlations(self, spins: Tensor) -> Tensor:
        """Return sum_{<ij>_n} S_i . S_j of each shell (chains, n_max), for the couplings."""
        gram = (spins @ spins.transpose(1, 2)).flatten(1)
        sums = gram.new_zeros(len(spins), self.kernel_weights + 1)
        sums.index_add_(1, self._smearing_index.flatten(), gram)
        return 0.5 * sums[:, self.kinds : -1]


def normalise(vectors: Tensor) -> Tensor:
    """Normalise vectors along the last axis; a vector of length zero stays zero."""
    return vectors * (vectors.square().sum(-1, keepdim=True) + 1e-30).rsqrt()


def make_model(
    architecture: Architecture, lattice: Lattice, group: World | None = None
) -> EffectiveModel:
    """Make the registered model of that architecture.

    ``group`` are the ranks that share its work, where it is one that ranks can share.

    Raises
    ------
    UserError
        The Hamiltonian lacks a symmetry that the model has.
    """
    kind: Callable[..., EffectiveModel] = MODELS[architecture.name]
    check_symmetry(architecture.name, architecture.physics.ensemble(lattice).hamiltonian)
    if getattr(kind, "shares_ranks", False):
        return kind(lattice, architecture, group)
    return kind(lattice, architecture)


def check_symmetry(name: str, hamiltonian: Hamiltonian) -> None:
    """Check that log W has the symmetry that a registered model has.

    Raises
    ------
    UserError
    """
    needed = _needed_symmetry(name)
    if needed is None or needed == hamiltonian.spin_symmetry:
        return
    serving = " or ".join(f'"{other}"' for other in MODELS if _needed_symmetry(other) is None)
    names = {"inversion": "inversion alone", "none": "none"}
    found = names.get(hamiltonian.spin_symmetry, hamiltonian.spin_symmetry)
    raise UserError(
        f'[effective] model = "{name}" needs a log W of symmetry {needed} in the spins, and that '
        f"of this Hamiltonian is {found}: use model = {serving}."
    )


def _needed_symmetry(name: str) -> str | None:
    return getattr(MODELS[name], "needs_symmetry", EffectiveModel.needs_symmetry)


def on_lattice(
    model: EffectiveModel, lattice: Lattice, group: World | None = None
) -> EffectiveModel:
    """Make the same model on another lattice.

    The same parameters, shared and not copied, and a constant of its own.
    """
    other = make_model(model.architecture, lattice, group)
    for name, parameter in model.named_parameters():
        module, _, own = name.rpartition(".")
        other.get_submodule(module)._parameters[own] = parameter
    return other
