"""What the README and the pages of the docs show is true."""

import re
import tomllib
from pathlib import Path

from hpcslmc.job.load import load_job
from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job
from hpcslmc.plugins import MODELS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "hpcslmc/docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def test_the_commented_job_file_shows_every_key_with_its_default():
    (block,) = re.findall(r"```toml\n(.*?)```", (DOCS / "jobs.md").read_text(), re.DOTALL)
    shown = tomllib.loads(block)
    minimal = {"lattice": shown["lattice"], "ensemble": shown["ensemble"]}
    default = resolve(Job.model_validate(minimal))
    assert resolve(Job.model_validate(shown)) == default
    options = {key for name in MODELS for key in MODELS[name].Options.model_fields}
    keys = {re.sub(r"\.\d+\.", ".", key): value for key, value in default.keys().items()}
    of_models = {f"effective.{key}" for key in options}
    given = {key for key, value in keys.items() if value is not None} - of_models
    assert {f"{s}.{k}" for s, section in shown.items() for k in section} == given
    commented = set(re.findall(r"^# (\w+) = ", block, re.MULTILINE))
    assert commented == {key.split(".")[1] for key in keys.keys() - given} | options


def test_the_job_files_are_valid():
    paths = sorted((ROOT / "jobs").rglob("*.toml"))
    assert len(paths) >= 2
    learned = {tomllib.loads(path.read_text())["output"]["directory"] for path in paths}
    for path in paths:
        table = tomllib.loads(path.read_text())
        levels = table.get("effective", {})
        levels = levels if isinstance(levels, list) else [levels]
        starts = [Path(level["start_from"]) for level in levels if "start_from" in level]
        if starts:  # they need the run of another of these jobs
            assert {str(s.parent if s.suffix else s) for s in starts} <= learned
            Job.model_validate(table)
        else:
            load_job(str(path), ranks=2)


def test_every_link_leads_somewhere():
    """To a file, and to a heading where the link names one."""
    links = 0
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in target:
                continue
            name, _, heading = target.partition("#")
            path = page.parent / name if name else page
            assert path.exists(), f"{page.name}: {target}"
            if heading:
                headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
                assert heading in [h.lower().replace(" ", "-") for h in headings], target
            links += 1
    assert links > 20


def test_the_readme_is_short_and_names_every_page_and_every_room():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    for page in PAGES[1:]:
        assert f"](hpcslmc/docs/{page.name})" in readme, page.name
    tree = readme.split("## Where things are")[1].split("## Sources")[0]
    rooms = {path.parent.name for path in (ROOT / "hpcslmc").glob("*/__init__.py")}
    assert {name for name in re.findall(r"^      (\w+)/ ", tree, re.MULTILINE)} == rooms | {"docs"}
