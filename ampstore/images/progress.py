"""Progress of something long: a callback, or a bar on a terminal's stderr."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

Progress = Callable[[int, int | None], object]
"""Called with what is done and with all there is, None where that is unknown."""

PATIENCE = 2.0
"""Seconds before a bar that nobody asked for appears."""

_BETWEEN = 0.1


def watched(items: Iterable[Item], total: int | None, progress: Progress | bool | None, label: str) -> Iterator[Item]:
    """The same items; progress is shown while they are taken.

    Parameters
    ----------
    items : iterable
        What is counted.
    total : int or None
        How many there will be, if that is known.
    progress : callable(done, total), bool or None
        True shows a bar, False none; None shows one on a terminal when it takes longer than `PATIENCE`.
    label : str
        What the bar says.
    """
    if callable(progress):
        return _counted(items, total, progress)
    if progress or (progress is None and sys.stderr is not None and sys.stderr.isatty()):
        return _with_bar(items, total, label, 0.0 if progress else PATIENCE)
    return iter(items)


def _counted(items: Iterable[Item], total: int | None, progress: Progress) -> Iterator[Item]:
    for done, item in enumerate(items, 1):
        yield item
        progress(done, total)


def _with_bar(items: Iterable[Item], total: int | None, label: str, patience: float) -> Iterator[Item]:
    """Redrawn from this thread, at most every `_BETWEEN` seconds: no thread that a fork could lose."""
    due = time.monotonic() + patience
    source = iter(items)
    taken = 0
    for item in source:
        taken += 1
        yield item
        if time.monotonic() >= due:
            break
    else:
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=patience > 0) as bar:
        task = bar.add_task(label, total=total, completed=taken)
        due = 0.0
        for taken, item in enumerate(source, taken + 1):  # noqa: B020 - goes on where it stopped
            yield item
            if time.monotonic() >= due:
                bar.update(task, completed=taken, refresh=True)
                due = time.monotonic() + _BETWEEN
        bar.update(task, completed=taken, refresh=True)
