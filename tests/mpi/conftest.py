"""Tests that run inside MPI.

    mpirun -n 2 python -m pytest --with-mpi tests/mpi

Every rank runs every test. A test hands its verdict to ``agree``, which combines it over all ranks
before asserting, so that a failing rank cannot leave the others waiting.
"""

import os
import sys

import pytest

from hpcslmc.parallel.world import MPIWorld, World


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--with-mpi") or int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1")) < 2:
        pytest.exit(
            "tests/mpi: run them as mpirun -n 2 python -m pytest --with-mpi tests/mpi", returncode=4
        )
    if os.environ.get("OMPI_COMM_WORLD_RANK") != "0":
        sys.stdout = open(os.devnull, "w")  # one report is enough; failures count on every rank
        config.pluginmanager.unregister(name="terminalreporter")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.mpi)


@pytest.fixture(scope="session")
def world() -> MPIWorld:
    return MPIWorld()


@pytest.fixture
def agree(world: World):
    """agree(ok, text): fail on every rank if ``ok`` is false on any."""

    def verdict(ok: bool, text: str = "") -> None:
        verdicts = world.communicator.allgather((bool(ok), text))
        bad = [f"rank {rank}: {why}" for rank, (fine, why) in enumerate(verdicts) if not fine]
        assert not bad, bad

    return verdict
