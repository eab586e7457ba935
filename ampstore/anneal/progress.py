"""How far a search is: points for a callback, a live line for a terminal, nothing anywhere else."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ampstore.anneal.chain import Chain
from ampstore.anneal.trace import Point

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

Progress = Callable[[Point], object]
"""Called with each new point of the trace."""

_REDRAW = 0.2  # seconds


class Watcher:
    """Shows nothing; tells new points to a callback if there is one."""

    def __init__(self, tell: Progress | None = None) -> None:
        self._tell = tell
        self._told = 0

    def look(self, chain: Chain) -> None:
        """See where the chain is."""
        if self._tell:
            for point in chain.trace.since(self._told):
                self._told += 1
                self._tell(point)


class _Live(Watcher):
    """A line on the terminal, redrawn from this thread."""

    def __init__(self, bar: "Bar", steps: int) -> None:
        super().__init__()
        self._bar = bar
        self._task = bar.add_task("", total=steps)
        self._drawn_at = 0.0

    def look(self, chain: Chain) -> None:
        now = time.monotonic()
        if chain.finished or now - self._drawn_at >= _REDRAW:
            self._drawn_at = now
            share = chain.accepted / max(chain.step, 1)
            text = f"T {chain.temperature:.3g}  loss {chain.loss:.4g}  best {chain.best_loss:.4g}  accepted {share:.0%}"
            self._bar.update(self._task, description=text, completed=chain.step, refresh=True)


@contextlib.contextmanager
def watch(progress: Progress | bool | None, steps: int) -> Iterator[Watcher]:
    """What shows or tells how far a search is.

    Parameters
    ----------
    progress : callable, bool or None
        A callable gets each new `Point`; True draws on stderr if that is a terminal.
    steps : int
        Moves of the whole search.
    """
    if callable(progress):
        yield Watcher(progress)
    elif progress and sys.stderr is not None and sys.stderr.isatty():
        with _bar() as bar:
            yield _Live(bar, steps)
    else:
        yield Watcher()


def _bar() -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    return Bar(*columns, console=Console(stderr=True), auto_refresh=False)
