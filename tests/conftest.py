"""What all tests share."""

import os

import pytest
import torch

torch.set_num_threads(1)
os.environ["PYTHONWARNINGS"] = (
    "error"  # of the processes that tests start; pytest has its own in pyproject.toml
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--validate", action="store_true", help="run the long statistical checks too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--validate"):
        left_out = [item for item in items if item.get_closest_marker("validate")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
