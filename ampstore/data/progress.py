"""How far a calculation is: a bar on a terminal, a line a minute in a log."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ampstore.late import late_logger

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

log = late_logger(__name__)

QUIET = 1.0  # seconds before there is a bar: most runs are over by then
HEARTBEAT = 60.0
REDRAW = 0.1


class Progress:
    """Counts what is done and says so from time to time.

    Parameters
    ----------
    total : int
    say : callable or None
        Gets a line of text every minute where there is no terminal.
    clock : callable
        Monotonic time, seconds.
    """

    def __init__(
        self, total: int, say: Callable[..., object] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self._say = say
        self._clock = clock
        self._start = self._shown = clock()
        self._on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar: Bar | None = None

    def tick(self) -> None:
        """Show it if it is time to."""
        now = self._clock()
        if self._on_terminal:
            if now - self._start > QUIET and now - self._shown > REDRAW:
                self._shown = now
                self._draw()
        elif now - self._shown > HEARTBEAT:
            self._shown = now
            self._tell(self.line(now))

    def line(self, now: float) -> str:
        """A sentence on how far it is."""
        elapsed = now - self._start
        left = elapsed / self.done * (self.total - self.done) if self.done else float("nan")
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f" {self.done:,} of {self.total:,} calculated{failed}; about {left:.0f} s left."

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._draw()
            self._bar.stop()
            self._bar = None

    def _tell(self, line: str) -> None:
        log.info(line.strip())
        if self._say is not None:
            self._say(line)

    def _draw(self) -> None:
        if self._bar is None:
            self._bar = _bar()
            self._bar.start()
            self._bar.add_task("calculating", total=self.total)
        self._bar.update(self._bar.task_ids[0], completed=self.done, refresh=True)


def _bar() -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Bar(*columns, console=Console(stderr=True), auto_refresh=False)
