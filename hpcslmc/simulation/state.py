"""Schema of a job's checkpoint: kinds and bounds of its values, types and shapes of its arrays.

A file whose checksums are right may still have been made by hand. ``check_setup`` and
``check_state`` compare its outline with this description before any array is read, ``check_values``
looks at the arrays then. What passes restores without an error, and leads to no endless phase, to
no state that is no number, and to no array beyond the job's own.
"""

import math
from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from hpcslmc.job.schema import EffectiveSection
from hpcslmc.learning.rounds import STAGES, SelfLearning, without_streams
from hpcslmc.learning.trainer import RECOVERIES, Trainer
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.sampling import SLMC, Move
from hpcslmc.sampling.hmc import MOST_STEPS
from hpcslmc.sampling.slmc import MOST_INNER_MOVES
from hpcslmc.simulation.build import required
from hpcslmc.simulation.phases import GUIDED_TUNING, PHASES
from hpcslmc.simulation.tuning import LONGEST_FILLING, REACH
from hpcslmc.storage.checkpoint import Array
from hpcslmc.storage.checkpoint.kinds import (
    LARGEST_WORD,
    Kind,
    Rows,
    always,
    check,
    group,
    measured,
    never,
    one_of,
    real,
    text,
    whether,
    whole,
)
from hpcslmc.weight import WEIGHTS
from hpcslmc.weight.nodes import model_nodes

if TYPE_CHECKING:
    from hpcslmc.simulation.rung import Rung
    from hpcslmc.simulation.simulation import Simulation

LARGEST_COUNT = 2**31 - 1
"""Largest count, as in the job file."""
ROUNDING = 1e-6
"""Largest change by rounding of the length of a spin, or of an acceptance."""
MEASURED = ("/bins/", "/profile_")
"""Places of measured numbers, which may have any value.

Nothing depends on them: an observable of one's own may be nan.
"""
PIECE = 2**20
"""Numbers that are checked at once."""
FLOAT, INTEGER = np.dtype(np.float64).str, np.dtype(np.int64).str

STREAM = {"calls": whole(0)}
POINT = {
    "step": whole(0, LARGEST_COUNT),
    "loss": measured,
    "mse": measured,
    "mse_per_site": measured,
}
ROUND = {
    "round": whole(0, LARGEST_COUNT),
    "evaluations": whole(0),
    **dict.fromkeys(
        (
            "mse",
            "mse_per_site",
            "acceptance",
            "acceptance_error",
            "predicted_erfc",
            "predicted_exp",
            "tests",
        ),
        measured,
    ),
}


def check_setup(simulation: "Simulation", shared: dict) -> None:
    """Check what the chains of a simulation are built from; raises as ``check_state``."""
    job, settings = simulation.job, shared["settings"]
    check(
        shared["method"],
        one_of(*(WEIGHTS if job.weight.method == "auto" else [job.weight.method])),
        "method",
    )
    check(settings, Rows(group), "settings")
    levels = job.levels if simulation.learns else ()
    if len(settings) != len(levels) or not all(map(_fits, levels, settings, repeat(simulation))):
        raise ValueError(f"settings = {settings!r:.60}")


def _fits(section: EffectiveSection, settings: dict, simulation: "Simulation") -> bool:
    """Tell whether a model's settings are those of its section of the job."""
    if section.start_from is None:
        return settings == section.options.settings(simulation.lattice)
    return type(section.options).of(settings) == section.options


def check_state(simulation: "Simulation", chains: dict, shared: dict) -> None:
    """Check the outline of a checkpoint by a simulation of its job that has done nothing yet.

    Raises
    ------
    ValueError
        Names the place in the checkpoint.
    KeyError, TypeError, ...
        Where it is far from one.
    """
    job, rungs, moves = simulation.job, simulation.rungs, simulation.tuning.moves
    tuned = simulation.tuning.ended is None  # in thermalisation, or it is to be
    longest = (LONGEST_FILLING + 1) * moves if tuned else moves
    done = {"thermalise": whole(0, longest - 1)}
    if simulation.learns:
        done["learn"] = whole(0, 0)
    if job.sampling.method == "guided":
        done["tune"] = whole(0, GUIDED_TUNING - 1)
    done["sample"] = whole(0, LARGEST_COUNT)
    check(shared["phase"], one_of(*done), "phase")
    check(shared["done"], done[shared["phase"]], "done")
    if simulation.learns:
        _check_stages(rungs, shared)
    ladder = len(rungs)
    kinds: dict[str, Kind] = {
        "job": group,
        "versions": group,
        "method": text,
        "phase": text,
        "done": whole(0),
        "settings": Rows(group),
        "cpu_seconds": dict.fromkeys(PHASES, real(0.0)),
        "tuning": {
            "spaced": whether if job.ensemble.rungs else always,
            "ended": whole(-1, longest) if tuned else whole(0, 0),
            "fillings": {str(k): _filling(saved) for k, saved in _fillings(simulation, shared)},
        },
        "rungs": {
            str(rung.number): _shared(rung, shared, shared["rungs"][str(rung.number)])
            for rung in rungs
        },
    }
    chain_kinds: dict = {
        "rungs": {
            str(rung.number): _chain(rung, shared, chains["rungs"][str(rung.number)])
            for rung in rungs
        }
    }
    if simulation.tuning.fillings:
        chain_kinds["tuning"] = {
            str(k): {"means": Array(FLOAT, (len(saved["points"]),)), "sums": Array(FLOAT, (2,))}
            for k, saved in _fillings(simulation, shared)
        }
    if simulation.swaps:
        kinds["exchange"] = {
            "turn": whole(0),
            "stream": STREAM,
            "tried": Array(INTEGER, (ladder - 1,)),
        }
        chain_kinds["exchange"] = {
            "accepted": Array(INTEGER, (ladder - 1,)),
            "likely": Array(FLOAT, (ladder - 1,)),
            **dict.fromkeys(("replica", "trips", "last_end"), Array(INTEGER, (ladder,))),
        }
    check(shared, kinds, "shared")
    check(chains, chain_kinds, "chains")
    if shared["phase"] == "thermalise":
        _check_thermalisation_end(simulation, shared)


def _check_thermalisation_end(simulation: "Simulation", shared: dict) -> None:
    """Check that thermalisation has an end that lies ahead."""
    ended, done = shared["tuning"]["ended"], shared["done"]
    if ended > done or (ended > 0 and done >= simulation.tuning.thermalisation_end(ended)):
        raise ValueError(f"tuning ended = {ended} after {done} moves of thermalisation")


def _fillings(simulation: "Simulation", shared: dict) -> list[tuple[int, dict]]:
    """Return each temperature's search for a filling, as it was saved."""
    return [
        (k, shared["tuning"]["fillings"][str(k)]) for k in range(len(simulation.tuning.fillings))
    ]


def _filling(saved: dict) -> dict:
    """Return the kinds of a filling's search, whose counters agree with the intervals."""
    intervals = len(saved["points"])
    return {
        "points": Rows(Rows(real(), 2, 2)),
        "moves": whole(0, LARGEST_COUNT),
        "first": whole(0, intervals),
        "reached": measured,
        "error": measured,
    }


def _check_stages(rungs: "list[Rung]", shared: dict) -> None:
    """Check that temperatures learn in turn, between thermalisation and what follows learning."""
    untouched, before = required(rungs[0].learning).stage, "finished"
    allowed: tuple[str, ...]
    for rung in rungs:
        saved = shared["rungs"][str(rung.number)]["learning"]
        if shared["phase"] == "learn" and before == "finished":
            allowed = STAGES[:-1] if rung is rungs[-1] else STAGES
        else:
            allowed = (untouched,) if shared["phase"] in PHASES[:2] else ("finished",)
            check(
                saved["evaluations"],
                whole(0, LARGEST_WORD if allowed == ("finished",) else 0),
                "evaluations",
            )
        check(saved["stage"], one_of(*allowed), f"stage at temperature {rung.number}")
        before = saved["stage"]


def _shared(rung: "Rung", shared: dict, saved: dict) -> dict:
    """Return the kinds of the state that all chains of a rung share."""
    job = rung.setting.job
    sampled = shared["done"] if shared["phase"] == "sample" else 0
    temperatures = job.ensemble.temperatures if job.ensemble.rungs else [rung.temperature]
    ends = (rung.mu, rung.mu)
    if job.ensemble.filling is not None:
        reach = rung.setting.hamiltonian.bound + REACH * max(temperatures)
        ends = (-reach, reach)
    kinds = {
        "temperature": real(min(temperatures), max(temperatures)),
        "mu": real(*ends),
        "exact": _move(rung.exact),
        "bins": {"samples_in_partial": whole(*2 * [sampled % rung.bins.size])},
        **{
            f"profile_{sums.profile.name}": {"count": whole(*2 * [sampled // sums.profile.every])}
            for sums in rung.profiles
        },
    }
    if rung.learning:
        slmc = rung.learning.slmc
        kinds |= {
            "learning": _learning(rung.learning, saved["learning"]),
            "models": _parameters(rung.learning),
            "slmc": _step(slmc, rung.learning.balances),
        }
    if rung.guided:
        kinds["guided"] = _move(rung.guided)
    return kinds


def _step(step: SLMC, balances: bool) -> dict:
    """Return the kinds of a self-learning step, whose inner moves may be such steps.

    Their number is the job's, or may have been found.
    """
    number, inner = step.inner_moves, step.inner
    found = whole(1, max(number, MOST_INNER_MOVES)) if balances else whole(number, number)
    kinds = _step(inner, balances) if isinstance(inner, SLMC) else _move(inner)
    return {"inner": kinds, "inner_moves": found, "stream": STREAM}


def _parameters(learning: SelfLearning) -> dict:
    """Return the kinds of all models' parameters."""
    return {str(level): _like(model.state_dict()) for level, model in enumerate(learning.models)}


def _move(move: Move) -> dict:
    """Return the kinds of a move's parameters, as tuning may leave them."""
    kinds = {name: _between(*ends) for name, ends in move.limits().items()}
    return {**kinds, "tunings": whole(0), "stream": STREAM}


def _between(low: float, high: float) -> Kind:
    """Accept a number from low to high, or a truth that may be true if ``high`` is."""
    if isinstance(high, bool):
        return whether if high else never
    return real(low, high)


def _learning(learning: SelfLearning, saved: dict) -> dict:
    """Return the kinds of self-learning's state, whose counters agree with the stage."""
    stage, number, settings = saved["stage"], saved["round"], learning.settings
    trains = settings.rounds > 0 and stage != "explore"
    longest = max(map(learning.longest, ("explore", "collect")))
    acceptances = Rows(real(0.0, 1.0 + ROUNDING), 0, learning.longest("collect"))
    check(number, whole(1, settings.rounds) if trains else whole(0, 0), "round")
    ended = max(1, number) if stage == "finished" else max(0, number - 1)
    trainers = {
        str(level): {} if stage == "finished" else {"stream": STREAM} | training
        for level, trainer in enumerate(learning.trainers)
        for training in [_training(trainer, stage, trainer is learning.trainer) if trains else {}]
    }
    return {
        "stage": text,
        "round": whole(0),
        "curve": Rows({"round": whole(0), **POINT}, ended),
        "history": Rows(ROUND, ended, ended),
        "evaluations": whole(0, longest * (settings.rounds + 1) + MOST_STEPS),
        "remarks": Rows(text),
        "accepted": acceptances,
        "inner_accepted": acceptances,
        "best": {
            "score": real(-math.inf, 1.0 + ROUNDING),
            "parameters": _parameters(learning),
            "moves": without_streams(_step(learning.slmc, learning.balances)),
            "round": whole(0, number),
        }
        if ended
        else {},
        "least": whole(0, learning.trainers[0].selections if learning.tries else 0),
        "images": {"stream": STREAM} if learning.images else {},
        "trainers": trainers,
    }


def _training(trainer: Trainer, stage: str, is_last: bool) -> dict:
    """Return the kinds of a round's state, in training or after it.

    Of several models the last one ends the stage.
    """
    end = trainer.settings.steps
    steps = (0, end - int(is_last)) if stage == "train" else (end, end)
    moments = {
        str(i): _moments(len(p), p.numel() // len(p)) for i, p in enumerate(trainer.parameters)
    }
    return {
        "step": whole(*steps),
        "loss": measured,
        "mse": real(0.0),
        "curve": Rows(POINT, 1),
        "remarks": Rows(text),
        "recoveries": whole(0, RECOVERIES + 1),
        "best": _like(trainer.model.state_dict()),
        "draws": STREAM,
        "constants": Rows(real(), *2 * [len(trainer.replays)]),
        "moments": lambda found: found in ({}, moments),
    }


def _moments(rows: int, columns: int) -> dict[str, Array]:
    """Return the kinds of the optimiser's state of a parameter."""
    return {
        "step": Array(INTEGER, ()),
        **dict.fromkeys(("left", "left_basis"), Array(FLOAT, (rows, rows))),
        **dict.fromkeys(("right", "right_basis"), Array(FLOAT, (columns, columns))),
        **dict.fromkeys(("mean", "square"), Array(FLOAT, (rows, columns))),
    }


def _like(parameters: dict[str, Tensor]) -> dict[str, Array]:
    return {
        name: Array(value.cpu().numpy().dtype.str, tuple(value.shape))
        for name, value in parameters.items()
    }


def _chain(rung: "Rung", shared: dict, saved: dict) -> dict:
    """Return the kinds of the state of each chain of a rung."""
    sites, phase, bins = rung.setting.lattice.sites, shared["phase"], rung.bins
    if (count := saved["bins"]["deviations"].shape[-1]) != len(bins.names):
        raise ValueError(
            f"bins of {count} observables, not {len(bins.names)}; those of one's own come with "
            "--import"
        )
    sampled = shared["done"] if phase == "sample" else 0
    known = {
        "log_weight": (),
        "forces": (sites, 3),
        "energy": (),
        "density": (),
        "spectrum": (2 * sites,),
        "energy_part": (),
        "arguments": (_shifts(rung, shared) if "arguments" in saved["evaluation"] else 0,),
    }
    needed = {
        "log_weight",
        *({"energy", "density"} if saved["evaluation"].keys() & {"energy", "density"} else ()),
    }
    if _goes_on_by_forces(rung, shared):
        needed.add("forces")
    kinds = {
        "spins": Array(FLOAT, (sites, 3)),
        "evaluation": {
            name: Array(FLOAT, shape)
            for name, shape in known.items()
            if name in needed | saved["evaluation"].keys()
        },
        "bins": {
            "complete": Array(FLOAT, (sampled // bins.size, len(bins.names))),
            "deviations": Array(FLOAT, (len(bins.names),)),
            "partial": Array(FLOAT, (2, len(bins.names))),
        },
        **{
            f"profile_{sums.profile.name}": {"sum": Array(FLOAT, sums.chain_means.shape[1:])}
            for sums in rung.profiles
        },
    }
    if (
        rung.learning
        and (draws := shared["rungs"][str(rung.number)]["learning"]["evaluations"])
        and (phase == "learn" or "data" in saved)
    ):
        kinds["data"] = {
            "spins": Array(FLOAT, (draws, sites, 3)),
            "log_weight": Array(FLOAT, (draws,)),
            "forces": Array(FLOAT, (draws, sites, 3)),
        }
    return kinds


def _shifts(rung: "Rung", shared: dict) -> int:
    """Count the determinants of a log W at the temperature that was saved, which may be tuned.

    Raises ValueError where there are none.
    """
    saved = shared["rungs"][str(rung.number)]
    check(saved["temperature"], real(), "temperature")
    check(saved["mu"], real(), "mu")
    ensemble = Ensemble(rung.setting.hamiltonian, 1.0 / saved["temperature"], saved["mu"])
    return len(model_nodes(ensemble).weights)


def _goes_on_by_forces(rung: "Rung", shared: dict) -> bool:
    """Tell whether the next move of a rung starts from forces."""
    sampling = rung.setting.job.sampling
    if shared["phase"] == "sample":
        return sampling.by_forces
    explores = (
        shared["phase"] == "learn"
        and shared["rungs"][str(rung.number)]["learning"]["stage"] == "explore"
    )
    return sampling.exact_move == "hmc" and (explores or shared["phase"] == "thermalise")


def check_values(chains: dict, shared: dict) -> None:
    """Check the values of this rank's arrays, whose outline is right.

    Raises ValueError as ``check_state``.
    """
    for place, tensor in _tensors(chains, "chains"):
        if any(part in place for part in MEASURED):
            continue
        unknown = (
            tensor.isnan()
            if place.endswith(("/evaluation/energy", "/evaluation/density"))
            else False
        )
        _require(tensor.isfinite() | unknown, place)
    for number, rung in chains["rungs"].items():
        _require(
            (rung["spins"].square().sum(-1) - 1.0).abs() < ROUNDING, f"chains/rungs/{number}/spins"
        )
    for place, tensor in _tensors(shared, "shared"):
        counts = place.endswith(("/step", "/tried"))
        _require(tensor.isfinite() & (tensor >= 0 if counts else True), place)
    if exchange := chains.get("exchange"):
        replica = exchange["replica"]
        _require(
            replica.sort(1).values == replica.new_tensor(range(replica.shape[1])),
            "chains/exchange/replica",
        )


def _require(fine: Tensor, where: str) -> None:
    if not fine.all():
        raise ValueError(f"{where} holds numbers that make no sense")


def _tensors(tree: dict, where: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the numbers in all tensors of a nested dict, with the tensors' places.

    Those of a large tensor come in pieces, as a check takes memory too.
    """
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _tensors(value, f"{where}/{key}")
        elif isinstance(value, Tensor):
            yield from ((f"{where}/{key}", piece) for piece in value.reshape(-1).split(PIECE))
