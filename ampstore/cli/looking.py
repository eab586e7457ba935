"""Commands that change nothing: info, ls, get, verify, sql."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import click

from ampstore.cli import output
from ampstore.cli.choosing import Choice, Entry, listing
from ampstore.cli.target import FileOnly, allow_option, json_option, open_target, place_argument, shown, store_file


@click.command()
@place_argument
@json_option
def info(path: Path | str, as_json: bool) -> None:
    """Show what a database holds: entries, sizes, format, tiers."""
    from ampstore.store import Store

    with open_target(path) as target:
        facts: dict[str, object] = {"path": target.location, "entries": len(target)}
        store = target if isinstance(target, Store) else target.store
        if store is not None:
            stats = store.stats()
            facts |= {"bytes": stats.size, "stored": stats.stored, "disk": stats.disk, "codecs": stats.codecs}
            facts |= store.info()
        if not isinstance(target, Store):
            facts |= {f"in {tier}": count for tier, count in target.tiers().items()}
    if as_json:
        output.print_json(facts)
        return
    sizes = ("bytes", "stored", "disk")
    rows = [[name, output.size(value) if name in sizes else value] for name, value in facts.items()]  # type: ignore[arg-type]
    output.print_table(["fact", "value"], [[name, _text(value)] for name, value in rows])


def _text(value: object) -> str:
    return ", ".join(f"{count} {name}" for name, count in value.items()) if isinstance(value, dict) else str(value)


@click.command()
@place_argument
@click.argument("pattern", default="*")
@click.option("--kind", help="Only entries whose kind contains this text.")
@click.option("--prefix", default="", help="Only keys that begin so; fast in a store of any size.")
@click.option("--larger", metavar="BYTES", type=int, help="Only values of at least so many bytes.")
@click.option("--smaller", metavar="BYTES", type=int, help="Only values of at most so many bytes.")
@click.option(
    "--since", metavar="TIME", help="Only what was written since: 2026-11-26, 2026-11-26T12:00 (UTC), 90m, 12h, 7d."
)
@click.option(
    "--sort", type=click.Choice(["key", "bytes", "stored", "written"]), default="key", show_default=True, help="Order."
)
@click.option("--reverse", is_flag=True, help="The largest, or newest, first.")
@click.option("--limit", type=click.IntRange(0), default=0, help="Show at most so many; 0: all.")
@json_option
def ls(path: Path | str, pattern: str, limit: int, as_json: bool, sort: str, reverse: bool, **filters: Any) -> None:
    """List entries: key, kind, sizes, time of writing. PATTERN is a glob such as 'a1*'.

    Entries that a legacy program wrote and nobody folded in yet have no more than a key. With --json, one document a
    line.
    """
    with open_target(path) as target:
        found: Iterable[Entry] = listing(target, Choice.of(pattern, **filters))
        if sort != "key" or reverse:
            import heapq

            order = attrgetter(sort)
            top = heapq.nlargest if reverse else heapq.nsmallest
            found = top(limit, found, order) if limit else sorted(found, key=order, reverse=reverse)
        rows = list(islice(found, limit or None)) if not as_json else islice(found, limit or None)
        if as_json:
            for entry in rows:
                output.print_json({**entry._asdict(), "written": entry.time})
        else:
            output.print_table(Entry._fields, [[*entry[:-1], entry.time] for entry in rows])


@click.command()
@place_argument
@click.argument("keys", nargs=-1)
@allow_option
@json_option
def get(path: Path | str, keys: tuple[str, ...], allow: tuple[str, ...], as_json: bool) -> None:
    """Print the value of an entry, or of several.

    Of several, --json prints one document a line: {"key": ..., "value": ...}. KEYS of - reads keys from stdin, one a
    line, as `ampstore ls --json PATH | jq -r .key` makes them.
    """
    if not keys:
        raise click.UsageError("name a key, or - to read keys from stdin")
    many = len(keys) > 1 or keys == ("-",)
    missing = False
    with open_target(path, allow=allow) as target:
        for key in _keys(keys):
            try:
                value = target[key]
            except KeyError:
                click.echo(f"{shown(path)} has no entry {key!r}; `ampstore ls` lists what it has", err=True)
                missing = True
                continue
            _print_value(key, value, as_json=as_json, named=many)
    if missing:
        raise click.exceptions.Exit(1)


def _keys(keys: tuple[str, ...]) -> "Iterator[str]":
    for key in keys:
        if key == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        else:
            yield key


def _print_value(key: str, value: object, *, as_json: bool, named: bool) -> None:
    if as_json:
        output.print_json({"key": key, "value": value} if named else value)
        return
    if named:
        click.echo(f"{output.printable(key)}:")
    from pprint import pformat

    click.echo(pformat(value, width=100, compact=True, sort_dicts=False))


@click.command()
@place_argument
@click.option("--globals", "only_globals", is_flag=True, help="List the functions and classes that values refer to.")
@allow_option
@json_option
def verify(path: Path | str, only_globals: bool, allow: tuple[str, ...], as_json: bool) -> None:
    """Read everything, list what is damaged or left over, and what can be done.

    Exit code 1 if anything is damaged; what is left over does no harm. --globals imports nothing of what it
    lists, so it can be asked about a file from elsewhere before anything is allowed.
    """
    with open_target(path, allow=allow) as target:
        if only_globals:
            _show_globals(target.globals(), as_json)
            return
        damages, left = list(target.verify()), list(target.left_overs())
        entries = len(target)
    if as_json:
        damaged = [{**damage._asdict(), "remedy": damage.remedy} for damage in damages]
        output.print_json({"entries": entries, "damaged": damaged, "left_over": [one._asdict() for one in left]})
    else:
        for damage in damages:
            click.echo(output.printable(f"damaged: {damage.key or 'the file'}: {damage.reason}"))
            click.echo(f"    {damage.remedy}")
        for one in left:
            click.echo(output.printable(f"left over: {one.what}; {one.remedy}"))
        click.echo(f"{entries} entries, {len(damages)} damaged")
    if damages:
        raise click.exceptions.Exit(1)


def _show_globals(found: Counter[str], as_json: bool) -> None:
    if as_json:
        output.print_json(dict(found.most_common()))
    else:
        output.print_table(["global", "entries"], [[name, count] for name, count in found.most_common()])


@click.command()
@click.argument("path", type=FileOnly("ask a server with psql, where the view `entries` of its schema is the same"))
@click.argument("statement")
@click.option(
    "--limit", type=click.IntRange(0), default=1000, show_default=True, help="Show at most so many rows; 0: all."
)
@json_option
def sql(path: Path, statement: str, limit: int, as_json: bool) -> None:
    """Ask a store with SQL, read-only: 'select kind, count(*) from entries group by kind'.

    `entries` has key, kind, bytes, stored, ratio, codec, written. STATEMENT of - reads stdin. Nothing can be changed,
    and no other file be read. With --json, one document a line; BLOBs as hexadecimal text.
    """
    from ampstore.backend.asking import ask

    text = sys.stdin.read() if statement == "-" else statement
    columns, rows = ask(store_file(path), text, limit + 1 if limit else -1, 30.0)
    shown = rows[:limit] if limit else rows
    if as_json:
        for row in shown:
            output.print_json(dict(zip(columns, map(_cell, row), strict=True)))
    else:
        output.print_table(columns, [[_cell(cell) for cell in row] for row in shown])
    if len(rows) > len(shown):
        click.echo(f"only the first {limit} rows; --limit 0 shows all", err=True)


def _cell(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else "" if value is None else value
