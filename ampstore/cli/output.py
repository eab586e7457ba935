"""Tables, sizes, progress bars and JSON. Progress goes to stderr, and only to a terminal."""

import contextlib
import os
import sys
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
    import json

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


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; numbers are aligned to the right. Lines are folded only where a terminal is too narrow for them."""
    right = [n > 0 and any(_is_number(row[n]) for row in rows) for n in range(len(columns))]
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    terminal = sys.stdout.isatty()
    if terminal and sum(widths) + len(widths) - 1 > _terminal_columns():
        _print_folded(columns, cells, right)
        return
    header, *lines = (_line(row, widths, right) for row in (columns, *cells))
    click.echo(click.style(header, bold=True) if terminal and os.environ.get("TERM") != "dumb" else header)
    for line in lines:
        click.echo(line)


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    gaps = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
    padded = [gap + cell if end else cell + gap for cell, gap, end in zip(row, gaps, right, strict=True)]
    return " ".join(padded).rstrip()


def _terminal_columns() -> int:
    from shutil import get_terminal_size  # with the modules of compression, 5 ms

    return get_terminal_size().columns


def _width(text: str) -> int:
    """Places that a text takes in a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _print_folded(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    from rich.console import Console  # 60 ms, more than all else that `ampstore ls` does
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for column, end in zip(columns, right, strict=True):
        table.add_column(column, justify="right" if end else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(soft_wrap=False).print(table)


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
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
