"""Which room may import which: the plan of the package, read from its import statements."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpcslmc

PACKAGE = Path(hpcslmc.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "docs" not in path.parts)
NUMERICAL = {"numpy", "scipy", "torch", "spglib"}
GROUND = {"errors", "streams", "density", "environment", "plugins", "autocorrelation"}
"""Files in no room that every room may import."""
FORBIDDEN = {
    "weight": {"job", "simulation", "storage", "analysis", "cli"},
    "effective": {"job", "simulation", "storage", "analysis", "cli"},
    "sampling": {"job", "simulation", "storage", "analysis", "cli"},
    "learning": {"job", "simulation", "analysis", "cli"},
    "measure": {"job", "simulation", "storage", "analysis", "cli"},
    "parallel": {"job", "simulation", "storage", "analysis", "cli"},
    "storage": {"job", "simulation", "analysis", "cli"},
    "job": {"simulation", "analysis", "cli"},
    "simulation": {"cli"},
    "analysis": {"simulation", "cli"},
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Modules that a file imports, and whether only when a function runs; not those for types."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                yield from ((name.name, inside) for name in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.module and not child.level, f"{path}: a relative import"
                if child.module == "hpcslmc":
                    yield from ((f"hpcslmc.{name.name}", inside) for name in child.names)
                else:
                    yield child.module, inside
            within = inside or isinstance(child, ast.FunctionDef | ast.Lambda)
            yield from walk(child, within)

    yield from walk(ast.parse(path.read_text()), False)


def room(path: Path) -> str:
    """The room of a file, "" for those in no room."""
    place = path.relative_to(PACKAGE).parent
    return place.parts[0] if place.parts else ""


def rooms(path: Path) -> set[str]:
    """Rooms and ground files that a file imports."""
    return {name.split(".")[1] for name, _ in imports(path) if name.startswith("hpcslmc.")}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_room_imports_only_what_lies_below(name):
    files = [path for path in FILES if room(path) == name]
    assert files
    assert {path.name: found for path in files if (found := rooms(path) & FORBIDDEN[name])} == {}


def test_the_physics_stands_on_numerical_libraries_alone():
    for path in FILES:
        if room(path) == "physics":
            outside = {name.split(".")[0] for name, _ in imports(path)} - {"hpcslmc"}
            assert outside - NUMERICAL - set(__import__("sys").stdlib_module_names) == set(), path
            assert rooms(path) - GROUND <= {"physics"}, path


def test_one_room_alone_talks_mpi():
    for path in FILES:
        talks = {name for name, _ in imports(path) if name.split(".")[0] == "mpi4py"}
        talks |= {name for name, _ in imports(path) if name.startswith("torch.distributed")}
        assert not talks or room(path) == "parallel", path


def test_petsc_and_slepc_are_imported_when_a_job_asks_for_them():
    lazy = [
        inside
        for path in FILES
        for name, inside in imports(path)
        if name.split(".")[0] in ("petsc4py", "slepc4py")
    ]
    assert lazy and all(lazy)


def test_few_files_lie_in_no_room():
    assert len([path for path in FILES if room(path) == ""]) <= 10


def test_no_circle_of_imports():
    """Depth-first search over modules; those imported for types alone do not count."""
    edges = {}
    for path in FILES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(("hpcslmc", *parts)).removesuffix(".__init__")
        edges[name] = {found for found, _ in imports(path) if found.startswith("hpcslmc.")}
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, f"a circle: {' > '.join((*trail, name))}"
        if name in edges and name not in state:
            state[name] = 1
            for other in edges[name]:
                visit(other, (*trail, name))
            state[name] = 2

    for name in edges:
        visit(name, ())
