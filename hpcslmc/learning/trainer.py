"""Data-parallel training of an effective model on exact weights and forces."""

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from hpcslmc.effective import EffectiveModel
from hpcslmc.effective.model import ForceFitted
from hpcslmc.effective.network import SiteNetwork
from hpcslmc.errors import UserError
from hpcslmc.learning.augmentation import Augmentation
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.force_fits import ForceFits
from hpcslmc.learning.least_squares import (
    Configurations,
    fitted_configurations,
    moments,
    regression,
)
from hpcslmc.learning.optimiser import SOAP, schedule
from hpcslmc.learning.replay import Replay
from hpcslmc.learning.settings import LearningSection
from hpcslmc.learning.validation import check_identical, force_error
from hpcslmc.parallel.memory import Batches
from hpcslmc.parallel.world import World
from hpcslmc.streams import Stream

CHUNK_SITES = 16384
"""Sites that a model evaluates at once outside training."""
CHECKS = 10
"""Number of times that a round validates the model and keeps the best parameters."""
DIVERGED = 10.0
"""Ratio of validation error to the best one from which it is a divergence..."""
TOLERABLE = 0.01
"""...unless it is smaller than this, which costs 6 % of acceptance."""
FITTED_ROWS = 2048
"""Configurations of a replay that the least squares and the constant see."""
RECOVERIES = 3
"""Divergences of a round after which it ends with the best parameters so far."""


class Trainer:
    r"""SOAP on the squared error of log W and of the forces, one flat allreduce a step.

    .. math:: {\rm loss} = \epsilon \langle (\log W - \log W_{\rm eff})^2 \rangle
              + \lambda \langle \textstyle\sum_i |F_i - F^{\rm eff}_i|^2 \rangle

    with F the tangential forces; configurations without forces teach log W alone. Every training
    chain gives the same number of configurations to a batch, so a batch is the same whatever the
    number of ranks, and ranks carry equal loads. The constant of log W_eff follows the mean error
    of the batches and is set to that of all training data at the end: only the variance of the
    error matters to sampling.

    Ten times a round the validation error is measured and the best parameters are kept, with which
    the round ends. It ends early when five checks found nothing better. A loss that is not finite,
    or a validation error ten times the best, brings the best parameters back with a fresh optimiser
    at a third of the rate.

    Parameters
    ----------
    model : EffectiveModel
    data : DataSet
    world : World
    stream : Stream
        One stream per chain of this rank: which configurations enter a batch.
    settings : LearningSection
        The rate warms up and decays to zero over the steps of a round; the batch size is rounded
        down to the same number of configurations from each training chain; a ``force_weight``
        (lambda) of 0 needs no second derivatives, an ``energy_weight`` (epsilon) of 0 learns from
        forces alone.
    replays : list of (Replay, EffectiveModel)
        Data of other lattices, each with the model on that lattice, which shares its parameters
        with ``model``. Every step takes as many configurations of each as of the run's own data,
        their loss weighted by the ratio of sites.
    draws : Stream
        The same on all ranks: which configurations of the replays enter a batch.
    fits : ForceFits, optional
        Of other models to the same data.

    Attributes
    ----------
    step : int
    loss : float
        Of the last batch.
    mse : float
        Validation error of the parameters kept.
    curve : list of dict
        Of this round: step, loss, validation MSE of log W, MSE per site.
    remarks : list of str
        What the user should know about this round.
    selected : int
        Which of the model's selections of terms the last fit chose.
    patience : int
        Checks without a better validation error after which a round ends.
    """

    patience = 5

    def __init__(
        self,
        model: EffectiveModel,
        data: DataSet,
        world: World,
        stream: Stream,
        settings: LearningSection,
        replays: Sequence[tuple[Replay, EffectiveModel]] = (),
        draws: Stream | None = None,
        fits: ForceFits | None = None,
    ) -> None:
        self.replays, self.draws, self.fits = replays, draws, fits or ForceFits(data, world)
        self.model, self.data, self.world, self.stream = model, data, world, stream
        self.settings = settings
        self.draws_per_batch = max(1, settings.batch_size // data.train_chains_total)
        self.step, self.loss, self.mse, self.selected = 0, math.nan, math.inf, 0
        self.curve: list[dict] = []
        self.remarks: list[str] = []
        self._optimiser: SOAP | None = None
        self._best: dict[str, Tensor] = {}
        self._recoveries = 0
        self._batches = Batches()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._augmentations = [Augmentation.of(one) for one in self._models if settings.augment]

    @property
    def is_linear(self) -> bool:
        """True if least squares are all there is to learn: no parameter takes gradient steps."""
        return not self.parameters

    @property
    def selections(self) -> int:
        """Number of selections that there are for the model's terms, 0 for a model without."""
        return len(self.model.selections) if isinstance(self.model, ForceFitted) else 0

    def _fresh_optimiser(self) -> SOAP | None:
        """Return an optimiser of the parameters, None where there are none to optimise."""
        return SOAP(self.parameters, lr=self.settings.rate) if self.parameters else None

    def fit_linear(self, least: int = 0) -> None:
        """Fit the couplings of the linear readout by least squares. Collective.

        The target is what the rest of the model leaves of log W; or exact forces, where the model
        is one that they are enough for. ``least`` is the first of its selections then.
        """
        if isinstance(self.model, ForceFitted):
            self._fit_to_forces(self.model, least)
            return
        with torch.no_grad():
            self.model.couplings.zero_()
        covariance, mean = moments(
            self._columns(self.model, *self._configurations(self.data.train_chains)), self.world
        )
        for replay, model in self.replays:
            spins, log_weight, _ = self._sample_of(replay)
            columns = self._columns(model, spins, log_weight)
            theirs, _ = moments(columns, self.world)
            covariance = covariance + theirs * (self.model.sites / model.sites)
        solution = regression(covariance)
        with torch.no_grad():
            self.model.couplings.copy_(torch.as_tensor(solution))
            self.model.constant += (mean[-1] - mean[:-1] @ solution) / self.model.sites

    def _fit_to_forces(self, model: ForceFitted, least: int) -> None:
        """Fit the couplings to exact forces of few configurations, and choose the terms."""

        def replayed() -> list[tuple[ForceFitted, Configurations]]:
            return [
                (cast(ForceFitted, on), self._sample_of(replay, fitted_configurations(on.sites)))
                for replay, on in self.replays
            ]

        self.selected = self.fits.fit(model, replayed, least).number

    def _columns(self, model: EffectiveModel, spins: Tensor, log_weight: Tensor) -> Tensor:
        """Return correlations and log W - log W_eff of configurations, (rows, couplings + 1)."""
        features = torch.cat(
            [model.correlations(chunk) for chunk in self._chunks(model, spins)]
            or [spins.new_zeros(0, len(model.couplings))]
        )
        errors = torch.as_tensor(self._errors(model, spins, log_weight), device=spins.device)
        return torch.cat((features, errors[:, None]), 1)

    def fit_scale(self) -> None:
        """Fit a network's scale, and the linear part beside it, to log W. Collective.

        Other models have their constant fitted alone.
        """
        if not (isinstance(self.model, SiteNetwork) and self.model.is_density):
            return
        spins, log_weight = self._configurations(self.data.train_chains)
        with torch.no_grad():
            self.model.couplings.zero_()
        columns = self._columns(self.model, spins, log_weight)
        network = log_weight[:, None] - columns[:, -1:]
        columns = torch.cat((network, columns[:, :-1], log_weight[:, None]), 1)
        scale, *couplings = regression(moments(columns, self.world)[0])
        with torch.no_grad():
            self.model.rescale(scale)
            self.model.couplings.copy_(torch.as_tensor(np.array(couplings)))

    def _sample_of(self, replay: Replay, most: int = FITTED_ROWS) -> tuple[Tensor, Tensor, Tensor]:
        """Read this rank's share of configurations spread evenly over a replay."""
        rows = np.linspace(0, len(replay) - 1, min(len(replay), most), dtype=np.int64)
        return replay.read(rows[self.world.rank :: self.world.size], self.data.stacked()[1].device)

    def start_round(self, fit_linear: bool = False, least: int = 0) -> None:
        """Start a round: fresh optimiser and schedule over all data so far. Collective.

        With ``fit_linear`` the couplings are set by least squares first, as ``fit_linear`` does.
        """
        self._optimiser = self._fresh_optimiser()
        if fit_linear:
            self.fit_linear(least)
        self.step, self.loss, self.mse = 0, math.nan, math.inf
        self.curve, self.remarks, self._recoveries = [], [], 0
        self._centre()
        for replay, model in self.replays:
            self._centre_on(model, self._errors(model, *self._sample_of(replay)[:2]))
        self._check()

    @property
    def _models(self) -> list[EffectiveModel]:
        """The model on this lattice, then on those of the replays."""
        return [self.model, *(model for _, model in self.replays)]

    @property
    def round_finished(self) -> bool:
        """True if all gradient steps of the round are done."""
        return self.step == self.settings.steps

    def train_step(self) -> None:
        """Take one gradient step on a fresh batch.

        Collective: one allreduce of gradient, loss and mean error. A model that is all least
        squares has no such step to take, and the round is over.
        """
        if self._optimiser is None:
            self.step = self.settings.steps
            return
        # sum the loss and its gradient over this rank's share of the batch, then of each replay
        spins, log_weight, forces = self._batch()
        gradient, losses = self._gradient(self.model, spins, log_weight, forces)
        size = self.draws_per_batch * self.data.train_chains_total
        for place, (_, model) in enumerate(self.replays):
            part, (_, error) = self._gradient(model, *self._replayed(place, size))
            gradient, losses = (
                gradient + part * (self.model.sites / model.sites),
                torch.cat((losses, error[None])),
            )
        # average over all ranks
        flat = self.world.sum(torch.cat((gradient, losses)).cpu().numpy()) / size
        self.step += 1
        if not np.isfinite(flat).all():
            self._recover("the loss was not finite")
            return
        averaged = torch.as_tensor(flat[: len(gradient)], device=gradient.device)
        self.loss, *mean_errors = flat[len(gradient) :].tolist()
        # take the step with the averaged gradient
        offset = 0
        for p in self.parameters:
            p.grad = averaged[offset : offset + p.numel()].reshape(p.shape)
            offset += p.numel()
        self._optimiser.param_groups[0]["lr"] = (
            self.settings.rate
            * 3.0**-self._recoveries
            * schedule((self.step - 1) / self.settings.steps)
        )
        self._optimiser.step()
        # let each constant follow the mean error of its lattice
        for model, mean_error in zip(self._models, mean_errors, strict=True):
            model.constant += 0.2 * mean_error / model.sites
        if self.step % max(1, self.settings.steps // CHECKS) == 0 or self.round_finished:
            self._check()

    def _check(self) -> None:
        """Validate the model, and keep its parameters if they are the best so far.

        If they are far off, go back to the best.
        """
        mse = self.validate()
        self.curve.append(
            {
                "step": self.step,
                "loss": self.loss,
                "mse": mse,
                "mse_per_site": mse / self.model.sites,
            }
        )
        if mse < self.mse:
            self.mse, self._best = (
                mse,
                {name: value.clone() for name, value in self.model.state_dict().items()},
            )
        elif not mse < max(DIVERGED * self.mse, TOLERABLE):
            self._recover(f"the validation error rose from {self.mse:.3g} to {mse:.3g}")
        elif (
            len(self.curve) > self.patience
            and min(point["mse"] for point in self.curve[-self.patience :]) >= self.mse
        ):
            self.step = self.settings.steps

    def _recover(self, what: str) -> None:
        if not self._best:
            raise UserError(
                "the effective model gives log W_eff that is not finite before any training: check "
                "[effective] start_from."
            )
        self.model.load_state_dict(self._best)
        self._optimiser = self._fresh_optimiser()
        self._recoveries += 1
        after = (
            f"went on from the best parameters (validation MSE {self.mse:.3g}) at a third of the "
            "rate"
        )
        if self._recoveries > RECOVERIES:
            self.step, after = (
                self.settings.steps,
                "the round ended with the best parameters; a smaller [learning] rate would help",
            )
        self.remarks.append(
            f"training diverged at step {self.step} of {self.settings.steps}: {what}; {after}"
        )

    def validate(self) -> float:
        """Return the mean squared error of log W on the validation chains, its mean removed.

        Collective. That of all forces of a configuration, where the model is no density.
        """
        if not self.model.is_density:
            return force_error(self.model, self.data, CHUNK_SITES, self.world)
        error = self._errors(self.model, *self._configurations(self.data.validation_chains))
        count, total = self.world.sum(np.array([len(error), error.sum()]))
        squares = self.world.sum(np.array([np.square(error - total / count).sum()]))
        return float(squares[0] / count)

    def finish_round(self) -> None:
        """Take the best parameters, centre them, and check that all ranks hold the same.

        Collective. Those of a model that is all least squares are centred already.
        """
        self.model.load_state_dict(self._best)
        if not self.is_linear:
            if not self.settings.energy_weight:
                self.fit_scale()
            self._centre()
            if not self.settings.energy_weight:
                self.mse = self.validate()
        check_identical(self.model, self.world)

    def _centre(self) -> None:
        """Set the constant to the training data's."""
        self._centre_on(
            self.model, self._errors(self.model, *self._configurations(self.data.train_chains))
        )

    def _centre_on(self, model: EffectiveModel, errors: np.ndarray) -> None:
        """Take the mean of all ranks' errors out of a model's constant."""
        count, total = self.world.sum(np.array([len(errors), errors.sum()]))
        model.constant += total / count / model.sites

    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        spins, log_weight, forces = self.data.stacked()
        draw = (self.stream.uniform(self.draws_per_batch) * len(self.data)).long()
        picked = self.data.train_chains[:, None], draw[self.data.train_chains]
        spins, log_weight, forces = spins[picked], log_weight[picked], forces[picked]
        if self._augmentations:
            drawn = self._augmentations[0].draw(self.stream, self.draws_per_batch)
            symmetries = drawn.part(self.data.train_chains)
            spins, forces = symmetries.image(spins), symmetries.image(forces)
        return spins.flatten(0, 1), log_weight.flatten(), forces.flatten(0, 1)

    def _replayed(self, place: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return this rank's share of a batch of so many configurations of a replay."""
        assert self.draws is not None, "replays come with a stream"
        replay, share = self.replays[place][0], slice(self.world.rank, None, self.world.size)
        rows = (self.draws.uniform(size)[0] * len(replay)).long()[share]
        device = self.data.stacked()[1].device
        spins, log_weight, forces = replay.read(rows.cpu().numpy(), device)
        if self._augmentations:
            symmetries = self._augmentations[1 + place].draw(self.draws, size).part(0).part(share)
            spins, forces = symmetries.image(spins), symmetries.image(forces)
        return spins, log_weight, forces

    def _gradient(
        self, model: EffectiveModel, spins: Tensor, log_weight: Tensor, forces: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the summed loss, flat, and (summed loss, summed error).

        Zero without configurations.
        """
        if not len(spins):  # a rank whose chains all validate
            return torch.zeros_like(parameters_to_vector(self.parameters)), log_weight.new_zeros(2)
        parts = self._batches.map(
            lambda rows: self._gradient_of(model, spins[rows], log_weight[rows], forces[rows]),
            len(spins),
        )
        gradient, losses = parts[0]
        for more_gradient, more_losses in parts[1:]:
            gradient, losses = gradient + more_gradient, losses + more_losses
        return gradient, losses

    def _gradient_of(
        self, model: EffectiveModel, spins: Tensor, log_weight: Tensor, forces: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return ``_gradient`` of some configurations, at once."""
        if self.settings.force_weight > 0.0:
            model_log_weight, model_forces = model.with_forces(spins)
            known = forces.flatten(1).any(1)[:, None, None]
            force_error = torch.where(known, forces - model_forces, 0.0).square().sum()
        else:
            model_log_weight = model(spins)
            force_error = torch.zeros((), dtype=torch.float64, device=spins.device)
        error = log_weight - model_log_weight
        loss = self.settings.energy_weight * error.square().sum()
        loss = loss + self.settings.force_weight * force_error
        gradients = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        return torch.cat([g.flatten() for g in gradients]), torch.stack(
            (loss, error.sum())
        ).detach()

    def _configurations(self, chains: Tensor) -> tuple[Tensor, Tensor]:
        spins, log_weight, _ = self.data.stacked()
        return spins[chains].flatten(0, 1), log_weight[chains].flatten()

    def _errors(self, model: EffectiveModel, spins: Tensor, log_weight: Tensor) -> np.ndarray:
        """Return log W - log W_eff of configurations."""
        predicted = [model.evaluate(chunk).log_weight for chunk in self._chunks(model, spins)]
        return (log_weight - torch.cat(predicted)).cpu().numpy() if predicted else np.zeros(0)

    def _chunks(self, model: EffectiveModel, spins: Tensor) -> list[Tensor]:
        return list(spins.split(max(1, CHUNK_SITES // model.sites))) if len(spins) else []

    def state_dict(self) -> dict:
        """Return the state of the round; the model's parameters are saved with the model."""
        if not self.curve:  # before the first round
            return {"stream": self.stream.state_dict()}
        return {
            "stream": self.stream.state_dict(),
            "step": self.step,
            "loss": self.loss,
            "mse": self.mse,
            "curve": self.curve,
            "remarks": self.remarks,
            "recoveries": self._recoveries,
            "best": self._best,
            "moments": self._optimiser.moments(self.parameters) if self._optimiser else {},
            "draws": self.draws.state_dict() if self.draws else {},
            "constants": [float(model.constant) for model in self._models[1:]],
        }

    def load_state_dict(self, state: dict) -> None:
        self.stream.load_state_dict(state["stream"])
        if "step" in state:
            self._optimiser = self._fresh_optimiser()
            self.step, self.loss, self.mse, self.curve = (
                state["step"],
                state["loss"],
                state["mse"],
                state["curve"],
            )
            self.remarks, self._recoveries, self._best = (
                state["remarks"],
                state["recoveries"],
                state["best"],
            )
            if self.draws:
                self.draws.load_state_dict(state["draws"])
            for model, constant in zip(self._models[1:], state["constants"], strict=True):
                model.constant.fill_(constant)
            if self._optimiser:
                self._optimiser.load_moments(self.parameters, state["moments"])
