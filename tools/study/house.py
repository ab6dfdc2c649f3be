"""Print the figures of the code's structure, for one tree or for two side by side.

    python tools/study/house.py [TREE ...]

Counts, in hpcslmc/: files in no room, circles of imports (also without those for types alone),
functions that multiply by the coupling J, errors of mypy, length of files; in hpcslmc/, tests/ and
tools/: findings of ruff and lines over 100 characters. Functions of a complexity over 15 are named,
those excused in the code too. ruff and mypy judge every tree by the rules of this one.
"""

import argparse
import ast
import json
import statistics
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "pyproject.toml"
PARTS = ("hpcslmc", "tests", "tools")
LONGEST_LINE = 100


def sources(tree: Path, *parts: str) -> list[Path]:
    """Python files of some parts of a tree, without the examples of the docs."""
    found = (path for part in parts for path in (tree / part).rglob("*.py"))
    return sorted(path for path in found if "docs" not in path.relative_to(tree).parts)


def module(tree: Path, path: Path) -> str:
    """Dotted name of a file's module."""
    parts = path.relative_to(tree).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imported(path: Path, known: Collection[str], types: bool) -> set[str]:
    """Known modules that a file imports, in functions too; those for types only if asked for."""

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                if not types:
                    continue
            if isinstance(child, ast.Import):
                yield from (name.name for name in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                names = [f"{child.module}.{name.name}" for name in child.names]
                yield from (name if name in known else child.module for name in names)
            yield from walk(child)

    return set(walk(ast.parse(path.read_text()))) & set(known)


def circles(tree: Path, types: bool) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others."""
    files = {module(tree, path): path for path in sources(tree, "hpcslmc")}
    edges = {name: imported(path, files, types) for name, path in files.items()}
    reached = {name: reachable(name, edges) for name in edges}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in edges
        if name in reached[name]
    }
    return sorted(list(group) for group in groups if len(group) > 1)


def reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    """Modules that are imported by way of a module."""
    found: set[str] = set()
    waiting = list(edges[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += edges[name]
    return found


def places_of_coupling(tree: Path) -> list[str]:
    """Functions in which something is multiplied by an attribute J: the coupling written out."""
    found = []
    for path in sources(tree, "hpcslmc"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                map(multiplies_by_coupling, ast.walk(node))
            ):
                found.append(f"{path.stem}.{node.name}")
    return found


def multiplies_by_coupling(node: ast.AST) -> bool:
    """Whether a node is a product with an attribute J as a factor."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)):
        return False
    return any(isinstance(x, ast.Attribute) and x.attr == "J" for x in (node.left, node.right))


def ruff(tree: Path, *options: str) -> list[dict]:
    """Findings of ruff in the code of a tree."""
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "json", *options, *PARTS]
    said = subprocess.run(command, cwd=tree, capture_output=True, text=True).stdout
    return json.loads(said)


def complex_functions(tree: Path) -> list[str]:
    """Functions of a complexity over 15, whether or not the code excuses them."""
    options = ("--isolated", "--ignore-noqa", "--select", "C901")
    found = ruff(tree, *options, "--config", "lint.mccabe.max-complexity=15")
    return sorted(
        f"{Path(finding['filename']).stem}.{finding['message'].split('`')[1]}"
        for finding in found
        if "hpcslmc" in Path(finding["filename"]).relative_to(tree).parts
    )


def mypy_errors(tree: Path) -> str:
    """Number of mypy's errors in the package, or "not checked" where mypy is not installed."""
    command = [sys.executable, "-m", "mypy", "--config-file", str(RULES), "hpcslmc"]
    result = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    if "No module named mypy" in result.stderr:
        return "not checked"
    return str(sum(": error:" in line for line in result.stdout.splitlines()))


def figures(tree: Path) -> dict[str, str]:
    """All figures of a tree, by what they count."""
    package, everything = sources(tree, "hpcslmc"), sources(tree, *PARTS)
    lengths = {path: len(path.read_text().splitlines()) for path in package}
    longest = max(package, key=lambda path: lengths[path])
    long_lines = sum(
        len(line) > LONGEST_LINE for path in everything for line in path.read_text().splitlines()
    )
    roomless = [path for path in package if path.parent == tree / "hpcslmc"]
    together, without_types = circles(tree, True), circles(tree, False)
    coupling, complex_ones = places_of_coupling(tree), complex_functions(tree)
    return {
        "files in no room": str(len(roomless)),
        "circles of imports": listed([" ".join(circle) for circle in together]),
        "...without imports for types": listed([" ".join(circle) for circle in without_types]),
        "functions that multiply by J": listed(coupling),
        "errors of mypy": mypy_errors(tree),
        "findings of ruff": str(len(ruff(tree, "--config", str(RULES)))),
        "lines over 100 characters": str(long_lines),
        "files of the package": str(len(package)),
        "median length of a file": f"{statistics.median(lengths.values()):.0f}",
        "longest file": f"{longest.relative_to(tree)}: {lengths[longest]}",
        "functions of complexity over 15": listed(complex_ones),
    }


def listed(names: list[str]) -> str:
    """How many there are, and which."""
    return "\n".join([str(len(names)), *names])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trees", type=Path, nargs="*", default=[ROOT], metavar="TREE")
    trees = [tree.resolve() for tree in parser.parse_args().trees]
    columns = [figures(tree) for tree in trees]
    table = Table("", *(str(tree) for tree in trees), title="The house", show_lines=True)
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    Console(width=60 + 50 * len(trees), force_terminal=False).print(table)


if __name__ == "__main__":
    main()
