"""Sentences that tell the user about a run."""

import math

from hpcslmc.analysis.statistics import bracket
from hpcslmc.job.words import listed
from hpcslmc.simulation.phases import Learn, Phase
from hpcslmc.simulation.rung import NotFinite, Rung
from hpcslmc.simulation.simulation import Simulation

NO_GUIDE = "the model's forces are further from the exact ones than none"


def progress(simulation: Simulation) -> tuple[str, int, int]:
    """Return the name of the present stage, units done, units in all."""
    phase = simulation.phase
    return _label(simulation, phase), *phase.progress


def _label(simulation: Simulation, phase: Phase) -> str:
    if not isinstance(phase, Learn):
        return phase.name
    learning = phase.learning
    stage = learning.stage
    round_of = stage if stage == "explore" else f"{stage}, round {learning.round}"
    return f"{phase.name}: {_at(simulation, phase.rung)}{round_of}"


def note(simulation: Simulation) -> str:
    """Return how well the present stage goes, in a few words."""
    phase = simulation.phase
    if isinstance(phase, Learn) and phase.stage == "train":
        return f"loss {phase.learning.trainer.loss:.3g}"
    return f"acceptance {phase.acceptance:.2f}" if math.isfinite(phase.acceptance) else ""


def remarks(simulation: Simulation) -> list[str]:
    """Return what the user should know of the run so far."""
    found = []
    if simulation.phase.name != "thermalise":
        found += _of_thermalisation(simulation)
    for rung in simulation.rungs:
        learned = rung.learning.remarks if rung.learning else []
        found += [f"{_at(simulation, rung)}{remark}" for remark in learned]
    if simulation.phase.name == "sample":
        found += _of_sampling(simulation)
    return found


def _of_thermalisation(simulation: Simulation) -> list[str]:
    """Return what thermalisation has found."""
    found, rungs, ensemble = [], simulation.rungs, simulation.job.ensemble
    if ensemble.rungs:
        found.append("temperatures: " + listed(rung.temperature for rung in rungs))
    if simulation.tuning.fillings:
        found.append(
            f"chemical potential for n = {ensemble.filling:g}, with the density that was found: "
            + ", ".join(
                f"{rung.mu:.5g} ({bracket(filling.reached, filling.error)})"
                for rung, filling in zip(rungs, simulation.tuning.fillings, strict=True)
            )
        )
    found += [
        f"{_at(simulation, rung)}{NO_GUIDE}: thermalisation went without them"
        for rung in rungs
        if rung.exact.misguided
    ]
    return found


def _of_sampling(simulation: Simulation) -> list[str]:
    """Return what has been found before sampling, and stays as it is."""
    found = [
        f"{_at(simulation, rung)}{NO_GUIDE}: trajectories go without them"
        for rung in simulation.rungs
        if rung.guided and rung.guided.misguided
    ]
    trajectories = [rung.sampler.describe() for rung in simulation.rungs]
    if all(trajectories):
        found.append("trajectories, length (evaluations): " + ", ".join(trajectories))
    return found


def alarm(simulation: Simulation, found: NotFinite) -> str:
    """Return what the user should know at once of a measurement that is not finite."""
    return (
        f"{_at(simulation, found.rung)}{found.name} of chain {found.chain} is not finite at sample "
        f"{found.sample}: its mean and error will be nan"
    )


def stand_still(simulation: Simulation) -> str:
    """Return a remark on the chains that stand still."""
    chains = simulation.job.sampling.chains * len(simulation.rungs)
    return (
        f"{simulation.phase.idle} of {chains} chains have stood still so far, "
        "no proposal was accepted: no mean or error can be trusted"
    )


def _at(simulation: Simulation, rung: Rung) -> str:
    return f"T = {rung.temperature:.4g}, " if simulation.job.ensemble.is_ladder else ""
