"""What a benchmark leaves behind: one JSON document with all its numbers, and `metrics` to compare releases by.

A metric is a list of ratios, one for each round, of ampstore to something timed in the same round:
lower is better, and the machine is divided out as far as it can be.
"""

import datetime
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from benchmarks import report

Metrics = dict[str, list[float]]
Document = dict[str, Any]

DIGITS = 4
"""Significant ones: more are noise, and a file of a release should stay small."""


def document(section: str, metrics: Metrics, **numbers: object) -> Document:
    """Put together the numbers of one benchmark."""
    return {
        "benchmark": section,
        "ampstore": version("ampstore"),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": report.machine(),
        "metrics": _short(metrics),
        **{name: _short(value) for name, value in numbers.items()},
    }


def write(file: Path, content: Document) -> None:
    """Write a document, an innermost list or mapping of numbers to a line."""
    file.write_text(_text(content) + "\n")


def publish(content: Document, sheets: list[report.Sheet], json_file: Path | None, markdown_file: Path | None) -> None:
    """Show the tables of a document, and write what was asked for."""
    terminal = report.console()
    for sheet in sheets:
        report.show(sheet, terminal)
    terminal.print(", ".join(report.machine().values()), highlight=False)
    if json_file:
        write(json_file, content)
    if markdown_file:
        markdown_file.write_text("\n".join(map(report.markdown, sheets)))


def outputs(command: Callable[..., None]) -> Callable[..., None]:
    """Give a benchmark the options that name the files for its numbers and for its tables."""
    place = click.Path(path_type=Path)
    with_tables = click.option("--markdown", "markdown_file", type=place, help="Write the tables here.")(command)
    return click.option("--json", "json_file", type=place, help="Write all numbers here.")(with_tables)


def read(file: Path) -> Document:
    """Read a document.

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    found = json.loads(file.read_text())
    if not isinstance(found, dict) or not isinstance(found.get("metrics"), dict):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not an argument
            f"{file} is no result of these benchmarks: it has no metrics"
        )
    return found


def _short(value: object) -> object:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    if hasattr(value, "_asdict"):
        return _short(value._asdict())
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return value


def _text(value: object, margin: str = "") -> str:
    """JSON where only what contains containers is spread over lines."""
    inner = margin + " "
    if isinstance(value, dict) and any(isinstance(item, dict | list) for item in value.values()):
        lines = (f"{inner}{json.dumps(name)}: {_text(item, inner)}" for name, item in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(inner + _text(item, inner) for item in value) + f"\n{margin}]"
    return json.dumps(value)
