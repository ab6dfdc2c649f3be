"""Tools and tests do not import each other, and every tool says what it does."""

import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("bench", "validate", "study")
TOOLS = sorted(path for room in ROOMS for path in (ROOT / "tools" / room).glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROGRAMS = [path for path in TOOLS if "if __name__" in path.read_text()]


def imported(path: Path) -> set[str]:
    """First names of all modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


def touches_path(path: Path) -> bool:
    """Whether a file changes where modules are looked for, or loads one by its place."""
    return any(
        isinstance(node, ast.Attribute)
        and (ast.unparse(node).startswith("sys.path.") or node.attr == "spec_from_file_location")
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_every_tool_is_in_a_room():
    assert list((ROOT / "tools").glob("*.py")) == []
    assert {path.name for path in (ROOT / "tools").iterdir() if path.is_dir()} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_tools_import_the_package_and_their_own_room(room):
    strangers = {path.stem for path in TESTS}
    strangers |= {path.stem for path in TOOLS if path.parent.name != room}
    for path in TOOLS:
        if path.parent.name == room:
            assert imported(path) & strangers == set(), path
            assert not touches_path(path), path


def test_tests_import_no_tool():
    names = {path.stem for path in TOOLS} - {path.stem for path in TESTS}
    assert len(names) > 20
    for path in TESTS:
        assert imported(path) & names == set(), path
        assert not touches_path(path), path


def test_every_tool_says_what_it_does_and_how_it_is_called():
    for path in PROGRAMS:
        text = ast.get_docstring(ast.parse(path.read_text()))
        assert f"tools/{path.parent.name}/{path.name}" in text, path

    def helped(path: Path) -> int:
        command = [sys.executable, str(path), "--help"]
        return subprocess.run(command, capture_output=True, timeout=60).returncode

    with ThreadPoolExecutor(2) as threads:
        assert dict(zip(PROGRAMS, threads.map(helped, PROGRAMS))) == dict.fromkeys(PROGRAMS, 0)


def test_the_tool_of_accelerators_makes_its_jobs_of_all_models_where_there_is_none():
    """And says so, once it has."""
    command = [sys.executable, str(ROOT / "tools/bench/accelerator.py")]
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=hidden)
    assert result.stderr == "there is no accelerator that torch sees: nothing to compare.\n"
