"""Tables of what runs have learned and measured, as text and as Markdown."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpcslmc.analysis.results import MISSED, Results, Summary
from hpcslmc.analysis.statistics import UNKNOWN, bracket, largest
from hpcslmc.environment import terminal_width
from hpcslmc.errors import UserError, described_error
from hpcslmc.job.words import couplings, listed, size
from hpcslmc.measure.bins import left_over
from hpcslmc.measure.derived import main_order
from hpcslmc.measure.modes import measured_points

WIDE = 150
"""Width of a line where there is no terminal, in characters."""
INGREDIENTS = {
    "energy2",
    "energy_density",
    "total_energy2",
    "total_energy_density",
    "density2",
    "scalar_chirality2",
    "energy_fluctuation",
    "energy_number_fluctuation",
    "number_fluctuation",
}
"""Observables that are kept for what is derived from them, and not shown."""
IN_LADDERS = (
    "density",
    "energy",
    "specific_heat",
    "specific_heat_fixed_density",
    "m2_staggered",
    "m2_uniform",
    "binder_{}",
    "correlation_length_{}",
    "nn_correlation",
    "acceptance",
)
"""Observables that are shown for every temperature, and of every run among several.

With the name of the main order; beside them those of ``AT_POINTS`` at each momentum that the job
names.
"""
AT_POINTS = ("m2_", "binder_", "correlation_length_")
IN_PIECES = 0.01
"""Share of accepted swaps below which a pair of temperatures hardly exchanges."""
UNEVEN = 0.5
"""Smallest share of accepted swaps of a spaced ladder, in units of the largest."""
GAP = 2
"""Characters between two columns."""
NUMBER = re.compile(r"[\d.]+|inf")
"""Pattern of the number in a doubt."""

Part = TypeVar("Part")


class Sheet(NamedTuple):
    """A table in words: ``rows`` of cells below ``headings``.

    The first ``left`` columns are aligned to the left; the first ``keys`` say what a row is of.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]
    left: int = 0
    keys: int = 1

    def text(self, width: int) -> Table:
        """Lay the table out for a console of so many characters.

        Headings break between words where they have to, cells never.
        """
        widths = self._widths(str.splitlines)
        if sum(widths) + GAP * (len(widths) + 1) > width:
            widths = self._widths(str.split)
        table = Table(
            title=self.title,
            box=box.SIMPLE,
            title_justify="left",
            pad_edge=False,
            collapse_padding=True,
        )
        for k, heading in enumerate(self.headings):
            table.add_column(
                escape(heading), justify="left" if k < self.left else "right", width=widths[k]
            )
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def _widths(self, parts: Callable[[str], list[str]]) -> list[int]:
        """Count the characters of each column, its heading broken into parts."""
        return [
            max(map(len, (*parts(heading), *(row[k] for row in self.rows))))
            for k, heading in enumerate(self.headings)
        ]

    def fitting(self, width: int) -> "list[Sheet]":
        """Divide the table into sheets that are not wider than so many characters.

        Columns that have no room go below, behind the keys again.
        """
        ends = np.cumsum(np.array(self._widths(str.split)) + GAP) + GAP
        kept = max(self.keys + 1, int((ends <= width).sum()))
        if kept >= len(self.headings):
            return [self]

        def part(columns: list[int], title: str) -> Sheet:
            return self._replace(
                title=title,
                headings=[self.headings[k] for k in columns],
                rows=[[row[k] for k in columns] for row in self.rows],
            )

        rest = [*range(self.keys), *range(kept, len(self.headings))]
        return [part(list(range(kept)), self.title), *part(rest, "...").fitting(width)]

    def markdown(self) -> str:
        """Write the table in Markdown."""

        def line(cells: list[str]) -> str:
            escaped = [cell.replace("\n", " ").replace("|", r"\|") for cell in cells]
            return f"| {' | '.join(escaped)} |"

        rule = [":--" if k < self.left else "--:" for k in range(len(self.headings))]
        return "\n".join(
            [f"**{self.title}**", "", *map(line, (self.headings, rule, *self.rows)), ""]
        )


def _is_ingredient(name: str) -> bool:
    return name in INGREDIENTS or name.startswith(("m4_", "m2_next_"))


def _in_ladders(names: list[str]) -> list[str]:
    """Return what is shown for every temperature, the acceptance last."""
    points, order = measured_points(names), main_order(names)
    return [
        *(name.format(order) for name in IN_LADDERS[:-1]),
        *(prefix + point for point in points for prefix in AT_POINTS),
        IN_LADDERS[-1],
    ]


def _number(value: float, digits: str) -> str:
    return format(value, digits) if math.isfinite(value) else "-"


def print_report(path: Path) -> None:
    """Print the tables of one run from its results.h5."""
    from hpcslmc.analysis.results_file import read

    print_tables({"": read(path)})


def print_tables(runs: Mapping[str, Results], markdown: bool = False) -> None:
    """Print the tables of runs by name, and one that compares them where there are several.

    They are as wide as the terminal, ``WIDE`` characters where there is none.
    """
    width = terminal_width() or WIDE
    console = Console(width=width, force_terminal=False, no_color=True)

    def show(part: Sheet | str) -> None:
        if markdown:
            print(part.markdown() if isinstance(part, Sheet) else f"{part}\n")
            return
        with console.capture() as captured:
            for piece in part.fitting(width) if isinstance(part, Sheet) else [part]:
                console.print(piece.text(width) if isinstance(piece, Sheet) else escape(piece))
        print("\n".join(map(str.rstrip, captured.get().splitlines())))

    for name, results in runs.items():
        if name:
            show(f"## {name}" if markdown else f"-- {name}: {described(results)}")
        for part in _parts(results):
            show(part)
    if len(runs) > 1:
        show(made("the table of all runs", _comparison, runs))


def described(results: Results) -> str:
    """Describe a run in a line: lattice, parameters and sampler."""
    job = results.parsed_job
    temperatures = listed(np.atleast_1d(results.temperature))
    merged = f", {len(results.others) + 1} runs merged" if results.others else ""
    model = f" with {job.finest.model}" if job.sampling.method != "exact" else ""
    samples = results.valid.sum(1) * results.bin_size
    long = _span(samples.min(), samples.max())
    mu = _span(f"{results.mu.min():.4g}", f"{results.mu.max():.4g}")
    return (
        f"{size(job)}, {couplings(job)}, mu = {mu}, T = {temperatures}; "
        f"{job.sampling.method}{model}, {len(samples)} chains of {long} samples{merged}"
    )


def _span(low: object, high: object) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _parts(results: Results) -> list[Sheet | str]:
    """Return the tables and remarks of one run, in order."""
    parts: list[Sheet | str] = []
    if results.rounds:
        parts += [made("the table of learning", _learning_sheet, results), *results.remarks]
    parts.append(
        made(
            "the table of observables",
            _ladder_sheet if results.is_ladder else _summary_sheet,
            results,
        )
    )
    if results.exchange:
        parts.append(made("the line on exchange", _exchange_line, results))
        parts += _ladder_doubts(results)
    parts += _left_over(results)
    doubts = made("the list of doubts", _doubts, results)
    parts += doubts if isinstance(doubts, list) else [doubts]
    return parts


def made(what: str, make: Callable[..., Part], *arguments: object) -> Part | str:
    """Make one part of a report; a sentence where that fails, so that the others are not lost."""
    try:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return make(*arguments)
    except UserError:
        raise
    except Exception as error:
        return f"{what} cannot be made: {described_error(error)}"


def _left_over(results: Results) -> list[str]:
    """Return a line for each job whose last samples fill no bin."""
    samplings = [job.sampling for job in (results.parsed_job, *results.other_jobs)]
    return [
        line for sampling in samplings if (line := left_over(sampling.samples, sampling.bin_size))
    ]


def _shown(results: Results) -> list[str]:
    summary = results.summary
    return [
        name
        for name in _in_ladders(summary.names)
        if name in summary.names and summary.of(name, "error").any()
    ]


def _ladder_sheet(results: Results) -> Sheet:
    """Make the table of the observables that are asked for most, by temperature."""
    summary = results.summary
    shown = _shown(results)
    mu = results.mu
    exchange = list(results.exchange_acceptance) if results.exchange else []
    tuned = bool(np.ptp(mu))
    headings = [
        "T",
        *(["mu"] if tuned else []),
        *(summary.labels[name] for name in shown),
        "tau",
        "R-hat",
    ]
    headings += ["exchange"] if results.exchange else []
    rows = []
    for k, temperature in enumerate(results.temperature):
        row = [f"{temperature:.4g}"] + ([f"{mu[k]:.4f}"] if tuned else [])
        row += [bracket(summary.of(name)[k], summary.of(name, "error")[k]) for name in shown]
        row += [
            _number(largest(summary.columns[column][:, k]), digits)
            for column, digits in (("tau", ".2f"), ("rhat", ".4f"))
        ]
        if results.exchange:
            row.append(f"{exchange[k]:.2f}" if k < len(exchange) else "")
        rows.append(row)
    return Sheet(
        "Observables by temperature: mean (standard error in brackets)",
        headings,
        rows,
        keys=2 if tuned else 1,
    )


def _exchange_line(results: Results) -> str:
    """Describe how replicas travelled along the ladder."""
    exchange = results.exchange
    trips = int(exchange["trips"].sum())
    turns = int(exchange["tried"][:, :2].sum()) * exchange["trips"].shape[1]
    often = f"{trips} journeys, one in {turns / trips:.0f} turns of a replica" if trips else "none"
    return (
        "tau, R-hat: the largest of all observables; exchange: accepted with the next row; from "
        f"end to end of the ladder: {often}"
    )


def _ladder_doubts(results: Results) -> list[str]:
    """Warn of each pair of temperatures that hardly exchange, or of an uneven ladder."""
    acceptance, temperatures = results.exchange_acceptance, results.temperature
    lines = [
        f"Ladder in pieces: {share:.2g} of the swaps between T = {temperatures[k]:.4g} and "
        f"{temperatures[k + 1]:.4g} were accepted; "
        "use more temperatures between them"
        for k, share in enumerate(acceptance)
        if share < IN_PIECES
    ]
    if (
        results.parsed_job.ensemble.rungs
        and not lines
        and np.min(acceptance) < UNEVEN * np.max(acceptance)
    ):
        lines.append(
            f"Ladder uneven: from {np.min(acceptance):.2f} to {np.max(acceptance):.2f} of the "
            "swaps of a pair were accepted; "
            "use more moves of thermalisation, or more rungs"
        )
    return lines


def _learning_sheet(results: Results) -> Sheet:
    columns = results.rounds
    headings = [
        "round",
        "exact\nevaluations",
        "validation MSE\nof log W",
        "MSE / N",
        "acceptance\nmeasured",
        "erfc(s/2)",
        "exp(-s)",
    ]
    rows = []
    for k in range(len(columns["round"])):
        rows.append(
            [
                str(columns["round"][k]),
                str(columns["evaluations"][k]),
                f"{columns['mse'][k]:.4g}",
                f"{columns['mse_per_site'][k]:.3g}",
                bracket(columns["acceptance"][k], columns["acceptance_error"][k]),
                f"{columns['predicted_erfc'][k]:.3f}",
                f"{columns['predicted_exp'][k]:.3f}",
            ]
        )
    if results.is_ladder:
        headings = ["T", *headings]
        rows = [[f"{t:.4g}", *row] for t, row in zip(columns["temperature"], rows, strict=True)]
    if "run" in columns:
        headings = ["run", *headings]
        rows = [[str(run), *row] for run, row in zip(columns["run"], rows, strict=True)]
    return Sheet(
        "Learning: acceptance of the exact test in each round",
        headings,
        rows,
        keys=1 + ("run" in columns) + results.is_ladder,
    )


def _summary_sheet(results: Results) -> Sheet:
    summary = results.summary
    rows = [
        [
            summary.labels[name],
            bracket(float(summary.of(name)), float(summary.of(name, "error"))),
            _number(float(summary.of(name, "tau")), ".2f"),
            _number(float(summary.of(name, "rhat")), ".4f"),
            _number(float(summary.of(name, "ess")), ".0f"),
        ]
        for name in summary.names
        if not _is_ingredient(name)
    ]
    return Sheet(
        "Observables: mean (standard error in brackets)",
        ["observable", "mean", "tau / samples", "R-hat", "n_eff"],
        rows,
        left=1,
    )


def _comparison(runs: Mapping[str, Results]) -> Sheet:
    """Make the table that compares runs: a row for each temperature of each run."""
    every = [name for results in runs.values() for name in results.summary.names]
    shown = [
        name
        for name in _in_ladders(list(dict.fromkeys(every)))
        if any(name in _shown(results) for results in runs.values())
    ]
    labels = {
        name: label for results in runs.values() for name, label in results.summary.labels.items()
    }
    rows = []
    for name, results in runs.items():
        summary = results.summary
        for at in np.ndindex(results.temperature.shape):
            cells = [
                bracket(float(summary.of(o)[at]), float(summary.of(o, "error")[at]))
                if o in summary.names
                else ""
                for o in shown
            ]
            rows.append(
                [
                    name,
                    size(results.parsed_job),
                    f"{results.temperature[at]:.4g}",
                    f"{results.mu[at]:.4g}",
                    *cells,
                ]
            )
    headings = ["run", "lattice", "T", "mu", *(labels[name] for name in shown)]
    return Sheet("All runs: mean (standard error in brackets)", headings, rows, left=1, keys=4)


def _doubts(results: Results) -> list[str]:
    """List each kind of doubt at each temperature: its worst case, and whom it concerns.

    What is the same at several temperatures is one line.
    """
    where: dict[tuple[str, str], list[float]] = {}
    for at, temperature in enumerate(np.atleast_1d(results.temperature)):
        for parts in _doubts_at(results, at):
            where.setdefault(parts, []).append(float(temperature))
    return [
        what + (f" at T = {listed(at)}" if results.is_ladder else "") + whom
        for (what, whom), at in where.items()
    ]


def _doubts_at(results: Results, at: int) -> Iterator[tuple[str, str]]:
    """List the doubts at a temperature: what there is, and what goes behind its place."""
    if idle := np.atleast_1d(results.idle)[at]:
        chains = f"{idle} of {len(results.spins)} chains"
        yield "Doubtful means and errors", f": {chains} stand still, no proposal was accepted"
    for found in _kinds_of_doubt(results.summary, at).values():
        labels = [doubt.label for doubt in found]
        worst = max(found).text
        whom = ", ".join(labels[:3])
        if len(labels) > 3:
            whom += f" and {len(labels) - 3} more"
        if worst.startswith(MISSED):
            yield "Filling missed", f": {worst.removeprefix(MISSED)}"
        else:
            what = "No estimate" if worst.startswith(UNKNOWN) else "Doubtful errors"
            yield what, f" ({worst.removeprefix(UNKNOWN)}): {whom}"


class _Doubt(NamedTuple):
    """A doubt about one observable; the larger ``size``, the worse."""

    size: float
    text: str
    label: str


def _kinds_of_doubt(summary: Summary, at: int) -> dict[str, list[_Doubt]]:
    """Group the doubts at a temperature by their text without its number."""
    kinds: dict[str, list[_Doubt]] = {}
    for k, name in enumerate(summary.names):
        if _is_ingredient(name):
            continue
        for text in filter(None, np.atleast_1d(summary.doubts[k])[at].split("; ")):
            number = None if text.startswith((UNKNOWN, MISSED)) else NUMBER.search(text)
            kind, size = text, 0.0
            if number:
                kind = text.replace(number[0], "", 1)
                # A large R-hat is bad; of numbers of draws, a small one
                size = float(number[0]) * (1.0 if "R-hat" in text else -1.0)
            kinds.setdefault(kind, []).append(_Doubt(size, text, summary.labels[name]))
    return kinds
