"""Results as tables, for the terminal and as Markdown, and as JSON.

A ratio is the median over the rounds of (engine / base in the same round), its spread the least
and the greatest of them. A peer that is cheaper than ampstore in every round is marked.

What is said of writes compares equal durability: engines that fsync every commit are set beside
ampstore that does so, and those that may lose the file are named with it.
"""

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.engines import ENGINES, FSYNC, NORMAL
from benchmarks.operations import ORDER
from benchmarks.workload import Result, ratios

AMPSTORE = "ampstore"
FULL = "ampstore, full"
WRITES = ("set", "bulk set", "overwrite", "delete")
MINIMAL = "sqlite3 loop"
AHEAD = "*"
NOTHING = "-"
DIFFERS = "what differs"
DIGITS = 10  # numbers below have two decimals, those above none
WIDTH_OF_A_SPREAD = 15  # columns of the terminal
THOUSANDS = 10_000  # ratios above are written as 12k


class Sheet(NamedTuple):
    """A table: its first column names an engine, the others are numbers or text."""

    title: str
    header: list[str]
    rows: list[list[str]]


def sheets(result: Result) -> list[Sheet]:
    """Tabulate times, ratios to ampstore and ratios to the minimal loop of one kind of values."""
    title = f"{result.values}, {result.entries} entries"
    return [
        _times(f"{title}: µs per entry, median; bytes on disk per entry; MB of memory", result),
        _relative(f"{title}: times ampstore, median (min-max); {AHEAD} cheaper in every round", result, AMPSTORE),
        _relative(f"{title}: times the sqlite3 loop, median (min-max)", result, MINIMAL),
    ]


def verdict(result: Result) -> list[str]:
    """For each operation the peers that are ahead of ampstore: cheaper in every round, or smaller."""
    peers = [name for name in result.sizes if ENGINES[name].is_peer]
    lines = [f"Ahead of ampstore, {result.values}:"]
    for operation in (name for name in ORDER if name in result.times):
        found = {name: ratios(result.times, operation, name, equal_to(name, operation, result)) for name in peers}
        lines.append(f"- {operation}: {_ranked({name: median(one) for name, one in found.items() if _is_ahead(one)})}")
    for title, numbers in (("disk", result.sizes), ("memory", result.memory)):
        if not numbers:
            continue
        shares = {name: numbers[name] / numbers[AMPSTORE] for name in peers if name in numbers}
        lines.append(f"- {title}: {_ranked({name: share for name, share in shares.items() if share < 1})}")
    return lines


def equal_to(name: str, operation: str, result: Result) -> str:
    """Tell which form of ampstore gives what a peer gives: the one with an fsync per commit for writes of those."""
    syncs = ENGINES[name].durability == FSYNC and operation in WRITES and FULL in result.sizes
    return FULL if syncs else AMPSTORE


def engine_sheet(names: list[str]) -> Sheet:
    """Tell what each engine is and what is not equal."""
    rows = [[name, _version(name), ENGINES[name].durability, ENGINES[name].differs] for name in names]
    return Sheet("Engines", ["engine", "version", "durability", DIFFERS], rows)


def machine() -> dict[str, str]:
    """Tell what the numbers depend on besides the code."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def console(width: int = 170) -> Console:
    """Make a terminal, or what is piped `width` columns wide, for it would be folded at 80."""
    found = Console()
    return found if found.is_terminal else Console(width=width)


def show(sheet: Sheet, terminal: Console) -> None:
    """Print a table on the terminal; the spread of a ratio goes below it, where there is room."""
    is_text = sheet.header[-1] == DIFFERS
    is_wide = terminal.width >= WIDTH_OF_A_SPREAD * len(sheet.header)
    table = Table(title=sheet.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(sheet.header):
        table.add_column(name, justify="left" if index == 0 or is_text else "right", no_wrap=index == 0)
    for row in sheet.rows:
        cells = row if is_text else [cell.replace(" (", "\n(" if is_wide else "\0(").partition("\0")[0] for cell in row]
        table.add_row(*cells, style="bold" if row[0] == AMPSTORE else None)
    terminal.print(table)


def markdown(sheet: Sheet) -> str:
    """Write a table in Markdown."""
    lines = [sheet.header, ["---"] * len(sheet.header), *sheet.rows]
    cells = ("| " + " | ".join(cell.replace(AHEAD, f"\\{AHEAD}") for cell in line) + " |" for line in lines)
    return f"**{sheet.title.replace(AHEAD, chr(92) + AHEAD)}**\n\n" + "\n".join(cells) + "\n"


def text(results: list[Result], names: list[str]) -> str:
    """Write everything about the engines in Markdown."""
    parts = [markdown(engine_sheet(names))]
    for result in results:
        heading, *lines = verdict(result)
        parts += [*map(markdown, sheets(result)), heading, "", *lines, ""]
    return "\n".join([*parts, f"Machine: {', '.join(machine().values())}.", ""])


def _times(title: str, result: Result) -> Sheet:
    operations = [name for name in ORDER if name in result.times]
    rows = [
        [name, ENGINES[name].durability]
        + [_microseconds(result.times[operation].get(name)) for operation in operations]
        + [f"{size:,.0f}", f"{result.memory[name] / 1e6:.1f}" if name in result.memory else NOTHING]
        for name, size in result.sizes.items()
    ]
    return Sheet(title, ["engine", "durability", *operations, "disk", "memory"], rows)


def _relative(title: str, result: Result, base: str) -> Sheet:
    operations = [name for name in ORDER if name in result.times]
    rows = [
        [name]
        + [_ratio(ratios(result.times, operation, name, base), mark=base == AMPSTORE) for operation in operations]
        + [f"{size / result.sizes[base]:.2f}" + AHEAD * (base == AMPSTORE and size < result.sizes[base])]
        for name, size in result.sizes.items()
        if name != base
    ]
    return Sheet(title, ["engine", *operations, "disk"], rows)


def _ranked(ahead: dict[str, float]) -> str:
    names = sorted(ahead, key=lambda name: ahead[name])
    return "; ".join(f"{_with_durability(name)} {_short(ahead[name])}" for name in names) or "nobody"


def _with_durability(name: str) -> str:
    durability = ENGINES[name].durability
    return name if durability == NORMAL else f"{name} ({durability})"


def _is_ahead(found: list[float]) -> bool:
    return bool(found) and max(found) < 1


def _ratio(found: list[float], mark: bool) -> str:
    if not found:
        return NOTHING
    star = AHEAD if mark and _is_ahead(found) else ""
    return f"{_short(median(found))}{star} ({_short(min(found))}-{_short(max(found))})"


def _short(number: float) -> str:
    if number < DIGITS:
        return f"{number:.2f}"
    return f"{number:.0f}" if number < THOUSANDS else f"{number / 1000:.0f}k"


def _microseconds(seconds: list[float] | None) -> str:
    if not seconds:
        return NOTHING
    number = median(seconds) * 1e6
    return f"{number:.2f}" if number < DIGITS else f"{number:,.0f}"


def _version(name: str) -> str:
    distribution = ENGINES[name].distribution
    try:
        return version(distribution) if distribution else NOTHING
    except PackageNotFoundError:
        return platform.python_version() if distribution == "python" else NOTHING


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
