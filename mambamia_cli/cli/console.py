"""stderr: progress, warnings and errors. stdout belongs to the results alone (output.py)."""

import shutil
import sys
import textwrap
import time
from typing import Any

HEARTBEAT_SECONDS = 10.0
"""Without a terminal, -v prints a line this often, so that a log shows that the run is alive."""


def one_line(text: str) -> str:
    """Text fit for one line of a terminal: control characters (a file name may hold some) become spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


class Console:
    """What a run says on stderr.

    A progress bar is drawn on a terminal only; without one, -v gives heartbeat lines. -q leaves errors alone.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False):
        self.quiet, self.verbose = quiet, verbose
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._title = ""
        self._said: set[str] = set()
        self._beat = time.monotonic()

    def begin(self, source: str, place: str = "") -> None:
        """A new input: its name stands before the stages of its progress, and before that its place among many ("[17/1000] ")."""
        self._title = place + one_line(source.rsplit("/", 1)[-1])[:40]
        self._said.clear()

    def progress(self, stage: str, done: float, total: float | None) -> None:
        """`stage` has come to `done` of `total` (seconds of video, bytes of a download); total None = not known."""
        if self.quiet:
            return
        if sys.stderr.isatty():
            self._draw(stage, done, total)
        elif self.verbose and time.monotonic() - self._beat >= HEARTBEAT_SECONDS:
            self._beat = time.monotonic()
            share = f" of {total:.0f} ({min(done / total, 1):.0%})" if total else ""
            print(f"mambamia: {self._title}: {stage} {done:.0f}{share}", file=sys.stderr, flush=True)

    def _draw(self, stage: str, done: float, total: float | None) -> None:
        from rich.console import Console as Rich
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        if self._bar is None:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=30),
                       TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
            self._bar = Progress(*columns, console=Rich(stderr=True), transient=True)
            self._bar.start()
        if stage not in self._tasks:
            for task in self._tasks.values():
                self._bar.remove_task(task)
            self._tasks = {stage: self._bar.add_task(f"{self._title}  {stage}", total=total)}
        self._bar.update(self._tasks[stage], completed=min(done, total) if total else done, total=total)

    def status(self, text: str) -> None:
        """One line about a step that takes a while and has no measure, such as a download by pip."""
        if not self.quiet and (self.verbose or sys.stderr.isatty()):
            self._say(text)

    def clear(self) -> None:
        """Take the bar off the terminal: a result or a message is about to be printed."""
        if self._bar is not None:
            self._bar.stop()
            self._bar, self._tasks = None, {}

    def note(self, text: str) -> None:
        """A line for -v."""
        if self.verbose:
            self._say(text)

    def warn(self, text: str) -> None:
        """A line for everybody but -q; said once an input."""
        if not self.quiet and text not in self._said:
            self._said.add(text)
            self._say(f"warning: {text}")

    def say(self, text: str) -> None:
        """A line for everybody but -q that warns of nothing."""
        if not self.quiet:
            self._say(text)

    def error(self, text: str) -> None:
        self._say(f"error: {text}")

    def _say(self, text: str) -> None:
        self.clear()
        line = f"mambamia: {one_line(text)}"
        if sys.stderr.isatty():  # broken between words; a name that is longer than a line stays whole, to be copied
            width = shutil.get_terminal_size().columns
            line = textwrap.fill(line, max(width - 1, 30), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        print(line, file=sys.stderr, flush=True)
