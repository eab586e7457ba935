"""Commands that change nothing: info, ls, get, verify."""

import json
import re
import time
from fnmatch import fnmatchcase
from pathlib import Path
from pprint import pformat

import click

from ampstore.cli import output
from ampstore.cli.target import allow_option, json_option, open_target, path_argument


@click.command()
@path_argument
@json_option
def info(path: Path, as_json: bool) -> None:
    """Show what a database holds: entries, sizes, format, tiers."""
    from ampstore.database import FileDatabase

    with open_target(path) as target:
        facts: dict[str, object] = {"path": str(target.path), "entries": len(target)}
        store = target.store if isinstance(target, FileDatabase) else target
        if store is not None:
            stats = store.stats()
            facts |= {"bytes": stats.size, "stored": stats.stored, "disk": stats.disk, "codecs": stats.codecs}
            facts |= store.info()
        if isinstance(target, FileDatabase):
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
@path_argument
@click.argument("pattern", default="*")
@click.option("--limit", type=click.IntRange(0), default=0, help="Show at most so many; 0: all.")
@json_option
def ls(path: Path, pattern: str, limit: int, as_json: bool) -> None:
    """List entries: key, kind, sizes, time of writing. PATTERN is a glob such as 'a1*'.

    Entries that a legacy program wrote and nobody folded in yet have no more than a key.
    """
    from ampstore.database import FileDatabase

    columns = ["key", "kind", "bytes", "stored", "codec", "written"]
    rows: list[list[object]] = []
    with open_target(path) as target:
        store = target.store if isinstance(target, FileDatabase) else target
        prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        for key, kind, size, stored, codec, written in store.listing(prefix) if store is not None else ():
            if limit and len(rows) >= limit:
                break
            if fnmatchcase(key, pattern):
                rows.append([key, kind, size, stored, codec, _time(written)])
        for key in target.unfolded() if isinstance(target, FileDatabase) else ():
            if limit and len(rows) >= limit:
                break
            if fnmatchcase(key, pattern):
                rows.append([key, "legacy file", "", "", "", ""])
    if as_json:
        for row in rows:
            click.echo(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False))
    else:
        output.print_table(columns, rows)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@click.command()
@path_argument
@click.argument("key")
@allow_option
@json_option
def get(path: Path, key: str, allow: tuple[str, ...], as_json: bool) -> None:
    """Print the value of one entry."""
    with open_target(path, allow=allow) as target:
        try:
            value = target[key]
        except KeyError:
            click.echo(f"{path} has no entry {key!r}; `ampstore ls` lists what it has", err=True)
            raise click.exceptions.Exit(1) from None
    if as_json:
        output.print_json(value)
    else:
        click.echo(pformat(value, width=100, compact=True, sort_dicts=False))


@click.command()
@path_argument
@allow_option
@json_option
def verify(path: Path, allow: tuple[str, ...], as_json: bool) -> None:
    """Read everything and list what is damaged; exit code 1 if anything is."""
    with open_target(path, allow=allow) as target:
        damages = list(target.verify())
        entries = len(target)
    if as_json:
        output.print_json({"entries": entries, "damaged": [damage._asdict() for damage in damages]})
    else:
        for damage in damages:
            click.echo(output.printable(f"damaged: {damage.key or 'the file'}: {damage.reason}"))
        click.echo(f"{entries} entries, {len(damages)} damaged")
    if damages:
        raise click.exceptions.Exit(1)


COMMANDS = (info, ls, get, verify)
