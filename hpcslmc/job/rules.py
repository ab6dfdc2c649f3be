"""Rules across the keys of a job file, and the defaults that depend on other keys."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pydantic

from hpcslmc.environment import expanded
from hpcslmc.errors import UserError
from hpcslmc.job.model import digest, site_values
from hpcslmc.job.schema import EffectiveSection, EnsembleSection, Job, MeasureSection
from hpcslmc.job.sentences import check_name, sentence, unknown_key
from hpcslmc.plugins import MODELS, WEIGHTS

if TYPE_CHECKING:
    from hpcslmc.effective.options import Options

COLDEST = 1e-8
"""Lowest temperature in units of the largest energy.

Below it log W, a sum of E/T, has no longer the accuracy that is promised.
"""
COLDEST_SINGLE = 1e-3
"""Lowest temperature in units of the largest energy for determinants in single precision."""
TRAJECTORIES_ACCEPTANCE = (0.3, 0.5)
"""Acceptance that none, and some, determinants for the trajectories are to reach to be tried.

Another model screens their proposals. Trajectories by one determinant take half the work of those
by two, by none a third of those by one (at 16x16): accepted less often than that, they cannot pay.
Above, it is the proposals of slow modes that are rejected: what a sample costs has to be measured.
"""


def resolve(job: Job) -> Job:
    """Fill in the defaults that depend on other keys; refuse combinations that make no sense.

    Raises
    ------
    UserError
    """
    check_name("[weight] method", job.weight.method, ("auto", *WEIGHTS))
    for section in job.levels:
        check_name("[effective] model", section.model, ("auto", *MODELS))
    job = check_system(job)
    check_ensemble(job.ensemble, job.sampling.samples)
    check_thermalisation(job)
    check_weight(job)
    check_paths(job)
    check_levels(job)
    levels = tuple(with_options(job, section) for section in automatic_levels(job))
    several = isinstance(job.effective, tuple) or len(levels) > 1
    job = job.model_copy(update={"effective": levels if several else levels[0]})
    check_densities(job)
    check_learning(job)
    if job.sampling.method != "exact":
        check_model(job)
        job = with_validation(job)
        if job.learning.rounds > 0:
            check_validation(job)
    check_temperature(job)
    check_measurements(job)
    return job


def check_system(job: Job) -> Job:
    """Check that there is such a lattice, and that it is long enough for the bonds.

    Returns the job with the digest of the values of its sites, if a file has some.
    """
    lattice = job.lattice.make()
    for section, bonds in (
        ("hamiltonian", job.couplings.hops),
        ("classical", job.classical_couplings.bonds),
    ):
        for bond in bonds:
            try:
                lattice.bond_ends(bond.link)
            except ValueError as error:
                raise UserError(
                    f"[lattice] shape = {list(job.lattice.shape)}: of the bonds of [{section}], "
                    f"{error}."
                ) from None
    hamiltonian = job.hamiltonian
    if hamiltonian.site_file is None:
        if hamiltonian.site_digest is not None:
            raise UserError(
                "[hamiltonian] site_digest belongs to values of a site_file: name the file, or "
                "remove site_digest."
            )
        return job
    found = digest(site_values(hamiltonian, lattice.sites))
    if hamiltonian.site_digest not in (None, found):
        raise UserError(
            f"[hamiltonian] site_file = {hamiltonian.site_file!r}: it has other values than "
            "site_digest says: remove site_digest for a new run with these."
        )
    return job.model_copy(
        update={"hamiltonian": hamiltonian.model_copy(update={"site_digest": found})}
    )


def check_ensemble(ensemble: EnsembleSection, samples: int) -> None:
    """Check that a ladder is one, and that its temperatures are exchanged within the run."""
    given = ensemble.given_temperatures
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


def check_levels(job: Job) -> None:
    """Check that several effective models have moves, and that the first one alone guides."""
    sampling, levels = job.sampling, job.levels
    if len(levels) > 1 and (sampling.method, sampling.inner_move) != ("slmc", "hmc"):
        raise UserError(
            "[[effective]]: several models are levels of self-learning proposals by HMC: use "
            '[sampling] method = "slmc" and inner_move = "hmc", or one [effective] table.'
        )
    guides = [number for number, section in enumerate(levels) if section.guides]
    if guides not in ([], [0]) or (guides and len(levels) == 1):
        raise UserError(
            "[effective] guides = true: the first of several [[effective]] tables may guide the "
            "trajectories of the next one: remove the key elsewhere."
        )


def check_densities(job: Job) -> None:
    """Check that models without a density only guide, and have forces to learn from."""
    for section in job.levels:
        if _is_density(section.model):
            continue
        if not section.guides:
            raise UserError(
                f'[effective] model = "{section.model}" gives forces of no density: give it '
                "guides = true, as the first of several [[effective]] tables."
            )
        if job.learning.rounds and not job.learning.force_weight:
            raise UserError(
                f'[learning] force_weight = 0: model = "{section.model}" learns from forces alone: '
                "use a positive number, such as 0.5."
            )


def _is_density(model: str) -> bool:
    """True if a model is a density that proposals can be made of."""
    return bool(MODELS.declared(model, "is_density", True))


def with_options(job: Job, effective: EffectiveSection) -> EffectiveSection:
    """Return an effective section with all options of its model; refuse those of other models."""
    if effective.start_from is not None:
        return _continued(effective, job.ensemble.temperatures[0])
    if effective.model == "auto":
        effective = effective.model_copy(update={"model": automatic_model(job)})
    check_options(effective.model, effective.given)
    try:
        options = effective.options
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise UserError(sentence({**first, "loc": ("effective", *first["loc"])})) from None
    return _with(effective, options)


def automatic_levels(job: Job) -> tuple[EffectiveSection, ...]:
    """Choose the levels of a job that says nothing of its effective model.

    Two determinant models in single precision: trajectories take few determinants, as each of their
    steps evaluates them with forces, and a model with as many as a good acceptance of the exact
    test needs, which is evaluated once, screens their proposals.
    """
    section = job.levels[0]
    silent = section == EffectiveSection() and not isinstance(job.effective, tuple)
    if not silent or automatic_model(job) != "determinants":
        return job.levels
    single = min(job.ensemble.temperatures) >= COLDEST_SINGLE * _largest_energy(job)
    common = {"model": "determinants", "precision": "single" if single else "double"}
    first = {**common, "acceptance": TRAJECTORIES_ACCEPTANCE, "tries": True}
    return EffectiveSection.model_validate(first), EffectiveSection.model_validate(common)


def _largest_energy(job: Job) -> float:
    """Bound the electrons' energies, measured from the chemical potential."""
    return job.couplings.bound + abs(job.hamiltonian.mu)


def automatic_model(job: Job) -> str:
    """Choose the model that auto stands for.

    Moves by forces under the model take the determinants. Where a move evaluates the model once for
    each site, or the exact weight beside it, a model has to be cheap before it is close: linear.
    """
    sampling = job.sampling
    by_forces = sampling.method == "slmc" and sampling.inner_move == "hmc"
    return "determinants" if by_forces else "linear"


def check_options(model: str, given: Mapping[str, object]) -> None:
    """Check that a model has such options.

    Raises
    ------
    UserError
    """
    own = _option_names(model)
    if clash := sorted(own & EffectiveSection.model_fields.keys()):
        raise UserError(
            f"[effective] {clash[0]} is the program's own key: the option of {model} needs another "
            "name."
        )
    for key in given:
        if key in own:
            continue
        owners = [name for name in MODELS if key in _option_names(name)]
        if owners:
            raise UserError(
                f"[effective] {key} belongs to {_listed(owners)}: remove it, or set model = "
                f'"{owners[0]}".'
            )
        raise UserError(unknown_key("effective", key, [*EffectiveSection.model_fields, *own]))


def _option_names(model: str) -> set[str]:
    """Return the names of a model's own options."""
    return set(MODELS.declared(model, "Options").model_fields)


def _with(effective: EffectiveSection, options: "Options") -> EffectiveSection:
    """Return the section with options in place of those it has."""
    own = {name: getattr(effective, name) for name in EffectiveSection.model_fields}
    return EffectiveSection.model_validate(own | options.model_dump(mode="json"))


def _listed(names: Sequence[str]) -> str:
    """List names, such as "attention, cnn and messages"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _continued(effective: EffectiveSection, temperature: float) -> EffectiveSection:
    """Return the section with the options of the model that learning starts from."""
    # needs torch, which other jobs do without until they run
    from hpcslmc.storage.models import load_model

    path = str(effective.start_from)
    architecture = load_model(path, temperature).architecture
    check_name(f"[effective] start_from = {path!r}: model", architecture.name, MODELS)
    options = MODELS.declared(architecture.name, "Options").of(architecture.settings)
    found = {"model": architecture.name, **options.model_dump(mode="json")}
    given = {"model": effective.model} if effective.model != "auto" else {}
    for key, value in (given | effective.given).items():
        if key in found and value != found[key]:
            raise UserError(
                f"[effective] {key} = {value!r}: the model of start_from has {found[key]!r}; "
                "remove the key."
            )
    check_options(architecture.name, effective.given)
    return _with(effective.model_copy(update={"model": architecture.name}), options)


def check_learning(job: Job) -> None:
    """Check that there is a model, or data for one, and that all keys of learning can be met."""
    learning, sampling = job.learning, job.sampling
    learns = sampling.method != "exact"
    if learns and learning.rounds == 0 and any(part.start_from is None for part in job.levels):
        raise UserError(
            "[learning] rounds = 0: without learning the model has to come from [effective] "
            "start_from."
        )
    if learns and learning.chain_budget(sampling.chains) == 0:
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


def check_model(job: Job) -> None:
    """Check that the lattice has what a new model is to see of it."""
    for section in job.levels:
        if section.start_from is None:
            section.options.settings(job.lattice.make())
    if not (job.couplings.is_scalar and job.couplings.is_real):
        # needs torch, which other jobs do without until they run
        from hpcslmc.effective.model import check_symmetry
        from hpcslmc.physics.hamiltonian import Hamiltonian

        hamiltonian = Hamiltonian(job.lattice.make(), job.couplings)
        for section in job.levels:
            check_symmetry(section.model, hamiltonian)


def with_validation(job: Job) -> Job:
    """Let one of few chains validate, unless the job says how many do."""
    learning, chains = job.learning, job.sampling.chains
    if "validation_fraction" in learning.model_fields_set or chains < 2:
        return job
    fraction = max(learning.validation_fraction, 1.0 / chains)
    return job.model_copy(
        update={"learning": learning.model_copy(update={"validation_fraction": fraction})}
    )


def check_validation(job: Job) -> None:
    """Check that there are chains to validate with, and a batch for the others."""
    learning, sampling = job.learning, job.sampling
    if sampling.chains < 2:
        raise UserError(
            "[sampling] chains = 1: learning keeps some chains for validation, so use at least "
            "2 chains."
        )
    validation = learning.validation_chains(sampling.chains)
    if validation == 0:
        raise UserError(
            f"[learning] validation_fraction = {learning.validation_fraction} of {sampling.chains} "
            f"chains is less than one chain: use at least {1.0 / sampling.chains:.3g}."
        )
    if learning.energy_weight == learning.force_weight == 0.0:
        raise UserError(
            "[learning] energy_weight = 0 and force_weight = 0: nothing is left to learn from."
        )
    if learning.batch_size < sampling.chains - validation:
        raise UserError(
            f"[learning] batch_size = {learning.batch_size}: every training chain gives at least "
            f"one configuration to a batch, so use at least {sampling.chains - validation}."
        )


def check_temperature(job: Job) -> None:
    """Check that double precision resolves the lowest temperature."""
    largest = _largest_energy(job)
    if not min(job.ensemble.temperatures) >= COLDEST * largest:
        raise UserError(
            f"[ensemble] temperature = {min(job.ensemble.temperatures):g} is too low for electrons "
            f"of energies up to {largest:g} in "
            f"double precision: use at least {COLDEST * largest:g}."
        )


def check_measurements(job: Job) -> None:
    """Check that what is measured is measured within the run, and that bins are full of it."""
    sampling = job.sampling
    check_momenta(job)
    scalars, functions = job.measure.scalars, job.measure.profiles
    if job.measure.named:
        more_scalars, more_functions = _named(job)
        scalars, functions = scalars | more_scalars, functions | more_functions
    for name, every in functions.items():
        field = MeasureSection.model_fields.get(name)
        asked_for = field is None or every != field.default
        if asked_for and every > sampling.samples:
            raise UserError(
                f"[measure] {name} = {every}: that many samples lie between two measurements, "
                f"and the run has only {sampling.samples} samples; use a smaller number, or 0 for "
                "none."
            )
    for name, every in scalars.items():
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


def check_momenta(job: Job) -> None:
    """Check that the momenta at which orders are measured are the lattice's."""
    from hpcslmc.measure.momenta import check_momentum

    lattice = job.lattice.make()
    try:
        names = [check_momentum(text, lattice) for text in job.measure.momenta or ()]
    except ValueError as error:
        raise UserError(f"[measure] momenta: {error}.") from None
    if len(set(names)) < len(names):
        raise UserError(f"[measure] momenta = {list(job.measure.momenta or ())}: one comes twice.")


def _named(job: Job) -> tuple[dict[str, int], dict[str, int]]:
    """Return the intervals, by their names, of scalars and of functions that are measured.

    Raises
    ------
    UserError
        A name is not registered, or cannot be measured, or is measured whatever the job says.
    """
    # needs torch, which jobs without such names do without until they run
    from hpcslmc.measure.registry import (
        MEASUREMENTS,
        PROFILES,
        is_always_measured,
        missing_observables,
    )

    scalars: dict[str, int] = {}
    functions: dict[str, int] = {}
    for name, every in job.measure.named.items():
        if name not in MEASUREMENTS:
            keys = list(MeasureSection.model_fields)
            raise UserError(unknown_key("measure", name, keys, list(MEASUREMENTS)))
        if every == 0:
            if is_always_measured(name):
                raise UserError(f"[measure] {name} = 0: every run measures it: use 1 or more.")
        elif name in PROFILES:
            functions[name] = every
        elif missing := missing_observables(name, job.lattice.make()):
            raise UserError(
                f"[measure] {name} = {every}: there is no {' and no '.join(missing)} on a lattice "
                f"of {' x '.join(map(str, job.lattice.shape))} sites."
            )
        else:
            scalars[name] = every
    return scalars, functions
