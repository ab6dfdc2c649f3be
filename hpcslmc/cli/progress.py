"""Progress of a run.

A live bar on a terminal, a line now and then elsewhere; the root rank only.
"""

import sys
import time
from typing import TYPE_CHECKING

from hpcslmc.environment import terminal_width
from hpcslmc.errors import tell

if TYPE_CHECKING:
    import rich.progress

WIDEST = 110
"""Columns that the bar fills at most."""


class Pace:
    """Units of work per second in the present phase."""

    def __init__(self) -> None:
        self._phase, self.per_s = "", 0.0

    def at(self, phase: str, done: int) -> None:
        """Note that so many units of the phase are done."""
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._start, self._first, self.per_s = phase, now, done, 0.0
        elif done > self._first:
            self.per_s = (done - self._first) / max(now - self._start, 1e-9)


class Progress:
    """Show how far each phase is.

    On a terminal: a bar of the present one, below a line for each that is done.

    Parameters
    ----------
    visible : bool
        True if this rank shows anything.
    every_s : float
        Seconds between lines where there is no terminal.
    """

    def __init__(self, visible: bool, every_s: float) -> None:
        self.visible, self.every_s = visible, every_s
        self._phase = self._note = ""
        self._total = 0
        self._since = self._last_line = 0.0
        self._pace = Pace()
        self._bar: rich.progress.Progress | None = None
        width = terminal_width() if visible else None
        if width:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            console = Console(file=sys.stderr, force_terminal=True, width=min(width, WIDEST))
            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(compact=True),
                console=console,
                expand=True,
            )
            self._task = self._bar.add_task("", note="", rate="")
            self._bar.start()

    def show(self, phase: str, done: int, total: int, note: str) -> None:
        """Show ``done`` of ``total`` units of a phase, and a note such as the acceptance."""
        if not self.visible:
            return
        now = time.monotonic()
        self._pace.at(phase, done)
        if phase != self._phase:
            self._enter(phase, done, total, now)
        self._note, rate = note, self._pace.per_s
        if self._bar:
            self._bar.update(
                self._task, completed=done, note=note, rate=f"{rate:.3g}/s" if rate else ""
            )
        elif done == total or now - self._last_line >= self.every_s:
            left = f"{rate:.3g}/s  {(total - done) / rate:.0f} s left" if rate else ""
            self.say(f"{phase}: {done}/{total}  {note}  {left}".rstrip())
            self._last_line = now

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self.visible:
            tell(text)

    def _enter(self, phase: str, done: int, total: int, now: float) -> None:
        if not self._bar:
            self.say(f"{phase}: {done}/{total}")
        else:
            if self._phase:
                done_phase = f"{self._phase}: {self._total}/{self._total}"
                took = f"{now - self._since:.1f} s"
                self.say("  ".join(filter(None, (done_phase, self._note, took))))
            self._bar.reset(
                self._task, description=phase, total=total, completed=done, note="", rate=""
            )
        self._phase = phase
        self._total = total
        self._since = self._last_line = now

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar:
            self._bar.stop()
