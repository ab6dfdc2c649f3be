"""Tests on a simulated accelerator, which torch sees in these tests alone."""

from collections.abc import Iterator

import pytest
import simulated_accelerator

simulated_accelerator.set_devices(0)


@pytest.fixture(autouse=True)
def device() -> Iterator[str]:
    """Name of the only device."""
    simulated_accelerator.set_devices(1)
    yield "simulated:0"
    simulated_accelerator.set_devices(0)
