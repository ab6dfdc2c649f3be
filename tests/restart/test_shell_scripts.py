"""tools/environment from any folder, and Slurm templates without their environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELLS = [shell for shell in ("bash", "zsh") if shutil.which(shell)]


def shell(name: str, text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    inherited = {key: value for key, value in os.environ.items() if key != "HPCSLMC_VENV"}
    return subprocess.run(
        [name, "-c", text], cwd=folder, capture_output=True, text=True, env=inherited | environment
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the script and an environment that is none but in name."""
    for folder in ("tools", ".venv/bin", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "tools/environment", tmp_path / "tools")
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    return tmp_path


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize(
    "start, script",
    [(".", "tools/environment"), ("elsewhere", "../tools/environment"), ("tools", "./environment")],
)
def test_the_environment_is_found_from_any_folder(project, name, start, script):
    result = shell(
        name,
        f"set -eu; source {script}; command -v python; echo ${{hpcslmc_venv-none}} "
        "$OMP_NUM_THREADS",
        project / start,
    )
    assert (
        result.stdout.split() == [str(project / ".venv/bin/python"), "none", "1"]
        and result.stderr == ""
    )


@pytest.mark.parametrize("name", SHELLS)
def test_an_environment_that_is_not_there_is_said(project, name):
    shutil.rmtree(project / ".venv")
    result = shell(name, "source tools/environment; echo $?", project)
    assert (
        result.stdout == "1\n"
        and f"there is no environment in {project}/.venv: run tools/setup" in result.stderr
    )
    assert shell(name, "set -e; source tools/environment; echo on", project).stdout == ""
    assert (
        "no environment in /absent"
        in shell(name, "source tools/environment", project, HPCSLMC_VENV="/absent").stderr
    )


@pytest.mark.parametrize("template", ["slurm_cpu.sh", "slurm_gpu.sh"])
def test_a_template_does_not_go_on_without_its_environment(tmp_path, template):
    result = shell(
        "bash", f"bash {ROOT}/jobs/{template} job.toml", tmp_path, HPCSLMC_LAUNCH="echo launched"
    )
    assert (
        result.returncode == 2
        and "there is no environment in .venv" in result.stderr
        and "launched" not in result.stdout
    )


@pytest.mark.parametrize("template", ["slurm_cpu.sh", "slurm_gpu.sh"])
@pytest.mark.parametrize("variables", [{}, {"SLURM_JOB_ID": ""}])
def test_a_template_outside_of_slurm_asks_for_no_requeue(tmp_path, template, variables):
    (tmp_path / "launch").write_text("#!/bin/sh\nexit 75\n")
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/asked\n")
    for name in ("launch", "scontrol"):
        (tmp_path / name).chmod(0o755)
    result = shell(
        "bash",
        f"bash {ROOT}/jobs/{template} job.toml",
        tmp_path,
        HPCSLMC_VENV=sys.prefix,
        HPCSLMC_LAUNCH=str(tmp_path / "launch"),
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        **variables,
    )
    assert result.returncode == 75 and not (tmp_path / "asked").exists(), result.stderr
