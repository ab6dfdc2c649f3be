"""Results of a simulation, gathered from all ranks."""

from collections.abc import Mapping

import numpy as np

from hpcslmc.analysis.results import ProfileResult, Results
from hpcslmc.measure.profiles import ProfileSums
from hpcslmc.simulation.build import required
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.simulation.words import remarks


def collect(simulation: "Simulation", versions: Mapping[str, str]) -> Results | None:
    """Collect what a simulation has found so far, on the root. Collective."""
    world, rungs, seconds = simulation.ranks.chains, simulation.rungs, simulation.cpu_seconds()
    ladder = simulation.job.ensemble.is_ladder

    def stacked(arrays: list[np.ndarray]) -> np.ndarray | None:
        """Gather the chains of all ranks, of all temperatures on the last axis."""
        return world.gather(np.stack(arrays, -1) if ladder else arrays[0])

    # gather on the root what each rank has of its own chains
    draws = stacked([rung.bins.draws for rung in rungs])
    variances = stacked([rung.bins.variances for rung in rungs])
    spins = stacked([rung.chains.spins.cpu().numpy() for rung in rungs])
    profiles = [
        stacked([rung.profiles[k].chain_means for rung in rungs])
        for k in range(len(rungs[0].profiles))
    ]
    exchange = _exchange(simulation)
    if draws is None or variances is None or spins is None:  # not on the root
        return None
    names = rungs[0].bins.names
    labels = {name: name for name in names} | {o.name: o.label for o in rungs[0].observables}
    return Results(
        job=simulation.job.toml(),
        versions=dict(versions),
        cpu_seconds=seconds,
        bin_size=rungs[0].bins.size,
        temperature=np.array(
            [rung.temperature for rung in rungs] if ladder else rungs[0].temperature
        ),
        mu=np.array([rung.mu for rung in rungs] if ladder else rungs[0].mu),
        draws={name: draws[:, :, k] for k, name in enumerate(names)},
        labels=labels,
        bin_variances={name: variances[:, k] for k, name in enumerate(names)},
        spins=spins,
        profiles={
            sums.profile.name: _profile(sums, required(means))
            for sums, means in zip(rungs[0].profiles, profiles, strict=True)
            if sums.count
        },
        curve=_history(simulation, "curve"),
        rounds=_history(simulation, "history"),
        remarks=remarks(simulation),
        exchange=exchange,
    )


def _exchange(simulation: Simulation) -> dict[str, np.ndarray]:
    """Collect the counts of the exchange by ladder, complete on the root. Collective."""
    swaps, world = simulation.swaps, simulation.ranks.chains
    if swaps is None:
        return {}
    tried = np.tile(swaps.tried, (len(swaps.replica), 1))
    counts = {
        "accepted": swaps.accepted,
        "replica": swaps.replica,
        "trips": swaps.trips,
        "tried": tried,
    }
    gathered = {name: world.gather(count) for name, count in counts.items()}
    return {name: count for name, count in gathered.items() if count is not None}


def _profile(sums: "ProfileSums", chains: np.ndarray) -> ProfileResult:
    return ProfileResult(
        sums.profile.label, dict(sums.profile.grid), chains, np.full(len(chains), sums.count)
    )


def _history(simulation: "Simulation", which: str) -> dict[str, np.ndarray]:
    """Return a table of the learning of all temperatures, column by column."""
    if not simulation.learns:
        return {}
    rows = [
        {"temperature": rung.temperature, **row}
        for rung in simulation.rungs
        for row in getattr(rung.learning, which)
    ]
    return {column: np.array([row[column] for row in rows]) for column in rows[0]}
