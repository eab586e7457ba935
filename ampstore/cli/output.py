"""Tables, sizes, progress bars and JSON. Progress goes to stderr, and only to a terminal."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ampstore.transfer import Progress


def size(count: int) -> str:
    """Bytes for people: 12.3 MB."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def print_json(value: object) -> None:
    """One JSON document; NumPy arrays and numbers as lists and numbers, other objects as text."""
    click.echo(json.dumps(jsonable(value), ensure_ascii=False))


def jsonable(value: object) -> object:
    """The value in the types that JSON has."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    tolist = getattr(value, "tolist", None)
    return jsonable(tolist()) if tolist else repr(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table; numbers are aligned to the right."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=title or None, title_justify="left", box=None, pad_edge=False, collapse_padding=True, header_style="bold"
    )
    for n, column in enumerate(columns):
        numbers = n > 0 and any(_is_number(row[n]) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(str(cell))) for cell in row))
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def _is_number(cell: object) -> bool:
    return not isinstance(cell, str) or cell[:1].isdigit()


def printable(text: str) -> str:
    """The text with everything that could command a terminal written as an escape sequence of Python."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


@contextlib.contextmanager
def progress(label: str) -> "Iterator[Progress]":
    """A progress bar; what it gives is called with the entries done and all there are."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
