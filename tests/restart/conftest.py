import sys
from pathlib import Path

import pytest
from launcher import QUIET, Launcher

sys.path.append(str(Path(__file__).parents[2] / "tools"))


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output directory of QUIET on 2 ranks, which nothing disturbed; to be compared with or copied,
    not changed.
    """
    launcher = Launcher(tmp_path_factory.mktemp("whole"))
    launcher.write(QUIET)
    result = launcher.run(2, "job.toml")
    assert result.returncode == 0, result.stderr
    return launcher.folder / "out"
