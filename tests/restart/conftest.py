import sys
from pathlib import Path

import pytest
from launcher import Launcher

sys.path.append(str(Path(__file__).parents[2] / "tools"))


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)
