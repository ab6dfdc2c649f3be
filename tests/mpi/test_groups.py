"""Ranks that share the exact weight of their chains."""

import pytest
from helpers import make_diagonalise, random_spins
from small_jobs import KAGOME, make_job, ranks_of, run

from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.weight import make_weight
from hpcslmc.weight.nodes import matsubara_nodes


@pytest.mark.parametrize("method", ["blocks", "matsubara", "scalapack"])
def test_a_group_finds_what_one_rank_finds(world, agree, method):
    dense, spins = make_diagonalise((4, 6), 1.0, 20.0, -0.5), random_spins(3, 24)
    weight, exact = (
        make_weight(method, Ensemble(dense.hamiltonian, 20.0, -0.5), world),
        dense.evaluate(spins, forces=True),
    )
    agree((weight.log_weight(spins) - exact.log_weight).abs().max() < 1e-8, "log W")
    if method != "scalapack":
        shared = weight.evaluate(spins, forces=True)
        agree((shared.forces - exact.forces).abs().max() < 1e-8, "forces")
        agree((shared.energy - exact.energy).abs().max() < 1e-9, "energy")
        agree((shared.density - exact.density).abs().max() < 1e-9, "density")
        completed = weight.with_energy(spins, weight.evaluate(spins))
        agree((completed.energy - exact.energy).abs().max() < 1e-8, "energy without forces")
        agree((completed.density - exact.density).abs().max() < 1e-8, "density without forces")
        for found in (shared.log_weight, completed.energy, completed.density):
            everywhere = world.communicator.allgather(found.numpy().tobytes())
            agree(len(set(everywhere)) == 1, "bits differ in the group")


@pytest.mark.parametrize(
    ("method", "own"),
    [
        ("blocks", {}),
        ("matsubara", {}),
        ("blocks", {"system": KAGOME, "effective": {"model": "auto"}}),
    ],
)
def test_a_job_in_groups_has_the_chains_of_one_rank(world, agree, method, own):
    jobs = [make_job(method, ranks_per_chain=2, **own), make_job("diagonalise", **own)]
    jobs = [
        job.model_copy(update={"measure": job.measure.model_copy(update={"density_of_states": 3})})
        for job in jobs
    ]
    together, alone = run(jobs[0], world), run(jobs[1], World())
    mine = together.ranks.block.indices()
    agree(abs(together.rungs[0].bins.draws - alone.rungs[0].bins.draws[mine]).max() < 1e-6, "draws")
    agree(
        (together.rungs[0].chains.spins - alone.rungs[0].chains.spins[mine]).abs().max() < 1e-6,
        "spins",
    )
    densities = [run.rungs[0].profiles[-1].chain_means for run in (together, alone)]
    agree(
        abs(densities[0] - densities[1][mine]).sum(1).max() < 0.02 * densities[0].sum(1).max(),
        "density of states",
    )


@pytest.mark.parametrize("method", ["blocks", "matsubara"])
def test_more_ranks_than_shifts(world, agree, method):
    dense, spins = make_diagonalise((2, 3), 0.0, 0.5, 0.3), random_spins(1, 6)
    weight = make_weight(method, Ensemble(dense.hamiltonian, 0.5, 0.3), world)
    assert (
        world.size < 4
        or len(matsubara_nodes(0.5, dense.hamiltonian.bound + 0.3).weights) < world.size
    )
    agree((weight.log_weight(spins) - dense.log_weight(spins)).abs().max() < 1e-8, "log W")
    agree(
        (weight.log_weight_and_forces(spins)[1] - dense.log_weight_and_forces(spins)[1]).abs().max()
        < 1e-8,
        "forces",
    )


def test_a_group_sweeps_as_one_rank(world, agree):
    settings = {"method": "exact", "exact_move": "metropolis"}
    together, alone = (
        run(make_job("blocks", ranks_per_chain=2, **settings), world),
        run(make_job("blocks", **settings), World()),
    )
    mine = together.ranks.block.indices()
    agree(together.rungs[0].exact.local is not None, "no local sweeps")
    agree(
        (together.rungs[0].chains.spins - alone.rungs[0].chains.spins[mine]).abs().max() < 1e-8,
        "spins",
    )


def test_one_rank_of_all_chooses_the_method(world, agree, monkeypatch):
    monkeypatch.setattr(
        "hpcslmc.simulation.simulation.choose_method",
        lambda *arguments: ("blocks" if world.is_root else "diagonalise", f"by rank {world.rank}"),
    )
    job = make_job("auto", ranks_per_chain=2)
    simulation = Simulation(job, ranks_of(world, job))
    agree(
        (simulation.method, simulation.method_reason) == ("blocks", "by rank 0"),
        simulation.method_reason,
    )


@pytest.mark.parametrize("precision", ["double", "single"])
def test_a_group_samples_the_determinant_model_as_one_rank_does(world, agree, precision):
    """In fits and in moves; a rank without chains that validate fits as the others."""
    effective = {"model": "determinants", "shells": 3, "precision": precision}
    settings = {"effective": effective, "learning": {"configurations": 4}, "trajectory": 0.3}
    alone = run(make_job("blocks", **settings), World())
    for ranks_per_chain in (1, 2):
        together = run(make_job("blocks", ranks_per_chain=ranks_per_chain, **settings), world)
        mine = together.ranks.block.indices()
        own, other = together.rungs[0], alone.rungs[0]
        agree(
            (own.learning.model.couplings - other.learning.model.couplings).abs().max() < 1e-6,
            "couplings",
        )
        agree(
            (own.chains.spins - other.chains.spins[mine]).abs().max() < 1e-6,
            f"spins, {ranks_per_chain} ranks a chain",
        )


def test_levels_sample_alike_on_any_ranks(world, agree):
    levels = [
        {"model": "messages", "shells": 3, "channels": 2},
        {"model": "determinants", "determinants": 1},
    ]
    learning = {"configurations": 4, "steps": 20, "force_weight": 0.5}
    settings = {"effective": levels, "learning": learning, "trajectory": 0.3}
    alone = run(make_job("blocks", **settings), World())
    together = run(make_job("blocks", ranks_per_chain=2, **settings), world)
    mine = together.ranks.block.indices()
    own, other = together.rungs[0], alone.rungs[0]
    for model, same in zip(own.learning.models, other.learning.models, strict=True):
        agree((model.couplings - same.couplings).abs().max() < 1e-6, "couplings")
    agree((own.chains.spins - other.chains.spins[mine]).abs().max() < 1e-5, "spins")
