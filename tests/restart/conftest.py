from pathlib import Path

import pytest
from job_files import QUIET

from hpcslmc.cli.launch import Launcher


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
