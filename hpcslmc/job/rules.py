"""Rules across the keys of a job file, and the defaults that depend on other keys."""

import itertools
import math

import pydantic

from hpcslmc.environment import expanded
from hpcslmc.errors import UserError
from hpcslmc.job.schema import EffectiveSection, EnsembleSection, Job, MeasureSection
from hpcslmc.job.sentences import check_name, sentence
from hpcslmc.physics.bounds import spectral_bound
from hpcslmc.plugins import MODELS, WEIGHTS

COLDEST = 1e-8
"""Lowest temperature in units of the largest energy.

Below it log W, a sum of E/T, has no longer the accuracy that is promised.
"""


def resolve(job: Job) -> Job:
    """Fill in the defaults that depend on other keys; refuse combinations that make no sense.

    Raises
    ------
    UserError
    """
    check_name("[weight] method", job.weight.method, ("auto", *WEIGHTS))
    check_name("[effective] model", job.effective.model, MODELS)
    check_ensemble(job.ensemble, job.sampling.samples)
    check_thermalisation(job)
    check_weight(job)
    check_paths(job)
    job = job.model_copy(update={"effective": with_architecture(job)})
    check_learning(job)
    if job.sampling.method != "exact":
        check_shells(job)
        if job.learning.rounds > 0:
            check_validation(job)
    check_temperature(job)
    check_measurements(job)
    return job


def check_ensemble(ensemble: EnsembleSection, samples: int) -> None:
    """Check that a ladder is one, and that its temperatures are exchanged within the run."""
    given = ensemble.temperatures if ensemble.rungs is None else ensemble.temperature
    if ensemble.rungs is not None and not (ensemble.is_ladder and len(given) == 2):
        raise UserError(
            f"[ensemble] rungs = {ensemble.rungs}: temperature has to be a list of the two ends of "
            "the ladder, as in [0.5, 0.03]."
        )
    rises = [b > a for a, b in itertools.pairwise(given)]
    if ensemble.is_ladder and (
        len(given) < 2 or len(set(given)) < len(given) or any(rises) != all(rises)
    ):
        raise UserError(
            f"[ensemble] temperature = {list(given)}: a ladder is a list of at least two different "
            "temperatures in order."
        )
    names = [f"{temperature:.6g}" for temperature in ensemble.temperatures]
    if twice := [name for name, following in itertools.pairwise(names) if name == following]:
        raise UserError(
            f"[ensemble] temperature: the ladder has two temperatures {twice[0]}: use "
            "such as differ in their first six digits, by which folders are named."
        )
    if ensemble.is_ladder and ensemble.exchange > samples:
        raise UserError(
            f"[ensemble] exchange = {ensemble.exchange}: that many samples lie between "
            f"two turns of exchange, and the run has only {samples} samples; use a "
            "smaller number, or 0 for independent runs."
        )


def check_thermalisation(job: Job) -> None:
    """Check that what thermalisation tunes has the moves and the exchange it is tuned by."""
    wanted = [
        f"[ensemble] {key}"
        for key in ("rungs", "filling")
        if getattr(job.ensemble, key) is not None
    ]
    if wanted and job.thermalisation.moves < 10:
        verb = "is" if len(wanted) == 1 else "are"
        raise UserError(
            f"[thermalisation] moves = {job.thermalisation.moves}: {' and '.join(wanted)} {verb} "
            "tuned in it, so use at "
            "least 10, better 100."
        )
    if job.ensemble.rungs is not None and not job.ensemble.exchange:
        raise UserError(
            "[ensemble] exchange = 0: a ladder is spaced by its exchange; remove rungs, and give "
            "all temperatures."
        )


def check_weight(job: Job) -> None:
    """Check that the weight gives what the moves need, to as many ranks as share it."""
    method, sampling = job.weight.method, job.sampling
    if method == "auto":
        return
    needs_forces = sampling.exact_move == "hmc" or sampling.method != "exact"
    if needs_forces and not WEIGHTS.declared(method, "gives_forces", True):
        raise UserError(
            f'[weight] method = "{method}" gives no forces, which learning and exact_move = "hmc" '
            'need: use method = "blocks", or sampling with method = "exact" and exact_move = '
            '"metropolis".'
        )
    if sampling.ranks_per_chain > 1 and not WEIGHTS.declared(method, "shares_ranks", True):
        *most, last = [
            f'"{name}"' for name in WEIGHTS if WEIGHTS.declared(name, "shares_ranks", True)
        ]
        raise UserError(
            "[sampling] ranks_per_chain > 1 needs a weight that ranks can share: use [weight] "
            f"method = {', '.join(most)} or {last}."
        )


def check_paths(job: Job) -> None:
    """Check that the variables in paths are set."""
    expanded(job.output.directory, "[output] directory")
    for path in job.learning.replay:
        expanded(path, "[learning] replay")


def with_architecture(job: Job) -> EffectiveSection:
    """Return the effective section with all options of its model; refuse those of other models."""
    effective = job.effective
    if effective.start_from is not None:
        effective = _continued(effective, job.ensemble.temperatures[0])
    if effective.model == "linear" and effective.layers is not None:
        raise UserError(
            "[effective] layers belongs to attention, cnn and messages: remove it, or set model = "
            '"attention".'
        )
    if effective.model in ("linear", "attention", "cnn") and effective.channels is not None:
        raise UserError(
            '[effective] channels belongs to messages: remove it, or set model = "messages".'
        )
    layers, channels = {"attention": (3, None), "cnn": (3, None), "messages": (1, 8)}.get(
        effective.model, (None, None)
    )
    return effective.model_copy(
        update={"layers": effective.layers or layers, "channels": effective.channels or channels}
    )


def _continued(effective: EffectiveSection, temperature: float) -> EffectiveSection:
    """The section with the architecture of the model that learning starts from."""
    # needs torch, which other jobs do without until they run
    from hpcslmc.storage.models import load_model

    architecture = load_model(effective.start_from, temperature).architecture
    check_name(
        f"[effective] start_from = {effective.start_from!r}: model", architecture.name, MODELS
    )
    found = {
        "model": architecture.name,
        "shells": len(architecture.shells),
        "layers": None if architecture.name == "linear" else architecture.layers or None,
        "channels": None
        if architecture.name in ("linear", "attention", "cnn")
        else architecture.channels or None,
    }
    for key in found.keys() & effective.model_fields_set:
        if getattr(effective, key) != found[key]:
            raise UserError(
                f"[effective] {key} = {getattr(effective, key)!r}: the model of start_from has "
                f"{found[key]!r}; "
                "remove the key."
            )
    try:
        return EffectiveSection(**found, start_from=effective.start_from)
    except pydantic.ValidationError as error:
        raise UserError(
            f"[effective] start_from = {effective.start_from!r}: the file's architecture is none, "
            f"{sentence(error.errors()[0])}"
        ) from None


def check_learning(job: Job) -> None:
    """Check that there is a model, or data for one, and that all keys of learning can be met."""
    learning, sampling = job.learning, job.sampling
    learns = sampling.method != "exact"
    if learns and learning.rounds == 0 and job.effective.start_from is None:
        raise UserError(
            "[learning] rounds = 0: without learning the model has to come from [effective] "
            "start_from."
        )
    if learns and learning.budget is not None and learning.budget < sampling.chains:
        raise UserError(
            f"[learning] budget = {learning.budget}: every chain takes at least one exact "
            f"evaluation, so allow at least {sampling.chains}."
        )
    if learning.keep_data and not learns:
        raise UserError(
            '[learning] keep_data = true: with [sampling] method = "exact" nothing is '
            "learned, and there are no data to keep: remove the key, or sample with "
            'method = "slmc" or "guided".'
        )
    if learning.replay and (job.ensemble.is_ladder or job.ensemble.filling is not None):
        raise UserError(
            "[learning] replay: data of earlier runs are of one temperature and chemical "
            "potential: use it without a list of temperatures and without [ensemble] filling."
        )


def check_shells(job: Job) -> None:
    """Check that the lattice has the neighbour shells that a new model is to see."""
    available = _shells(job.lattice.shape)
    if job.effective.start_from is None and job.effective.shells > available:
        raise UserError(
            f"[effective] shells = {job.effective.shells}: a "
            f"{job.lattice.shape[0]}x{job.lattice.shape[1]} "
            f"lattice has only {available} neighbour shells."
        )


def check_validation(job: Job) -> None:
    """Check that there are chains to validate with, and a batch for the others."""
    learning, sampling = job.learning, job.sampling
    if sampling.chains < 2:
        raise UserError(
            "[sampling] chains = 1: learning keeps some chains for validation, so use at least "
            "2 chains."
        )
    validation = sampling.chains // max(2, round(1.0 / learning.validation_fraction))
    if validation == 0:
        raise UserError(
            f"[learning] validation_fraction = {learning.validation_fraction} of "
            f"{sampling.chains} chains "
            f"is less than one chain: use at least {1.0 / sampling.chains:.3g}."
        )
    if learning.batch_size < sampling.chains - validation:
        raise UserError(
            f"[learning] batch_size = {learning.batch_size}: every training chain gives at least "
            f"one configuration to a batch, so use at least {sampling.chains - validation}."
        )


def check_temperature(job: Job) -> None:
    """Check that double precision resolves the lowest temperature."""
    largest = spectral_bound(job.hamiltonian.t, job.hamiltonian.J) + abs(job.hamiltonian.mu)
    if not min(job.ensemble.temperatures) >= COLDEST * largest:
        raise UserError(
            f"[ensemble] temperature = {min(job.ensemble.temperatures):g} is too low for electrons "
            f"of energies up to {largest:g} in "
            f"double precision: use at least {COLDEST * largest:g}."
        )


def check_measurements(job: Job) -> None:
    """Check that what is measured is measured within the run, and that bins are full of it."""
    sampling = job.sampling
    for name, every in job.measure.profiles.items():
        asked_for = every != MeasureSection.model_fields[name].default
        if asked_for and every > sampling.samples:
            raise UserError(
                f"[measure] {name} = {every}: that many samples lie between two measurements, "
                f"and the run has only {sampling.samples} samples; use a smaller number, or 0 for "
                "none."
            )
    for name, every in job.measure.scalars.items():
        if sampling.bin_size % every:
            raise UserError(
                f"[measure] {name} = {every}: measurements that far apart do not fill bins of "
                f"[sampling] bin_size = {sampling.bin_size}: "
                f"use bin_size = {every * math.ceil(sampling.bin_size / every)}."
            )
    if sampling.samples < 4 * sampling.bin_size:
        raise UserError(
            f"[sampling] samples = {sampling.samples} in bins of {sampling.bin_size}: errors need "
            f"at least 4 bins, so use at least {4 * sampling.bin_size} samples."
        )


def _shells(shape: tuple[int, int]) -> int:
    half_x, half_y = shape[0] // 2, shape[1] // 2
    return len({x * x + y * y for x in range(half_x + 1) for y in range(half_y + 1)}) - 1
