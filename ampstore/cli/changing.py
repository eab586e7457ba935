"""Commands that change single entries: put, rm."""

import ast
import json
import sys
from pathlib import Path

import click

from ampstore.cli.target import open_target, path_argument
from ampstore.errors import MissingStoreError


@click.command()
@path_argument
@click.argument("key")
@click.argument("value", default="-")
def put(path: Path, key: str, value: str) -> None:
    """Store one entry; makes the store if it is not there. VALUE is a Python literal or JSON, - reads stdin."""
    from ampstore.database import FileDatabase
    from ampstore.legacy import container_path
    from ampstore.store import Store

    text = sys.stdin.read() if value == "-" else value
    parsed = _parse(text.strip())
    try:
        target = open_target(path, write=True)
    except MissingStoreError:
        target = FileDatabase(path) if container_path(path).name == path.name else Store(path, "c")
    with target:
        target[key] = parsed


def _parse(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise click.UsageError(
            f"{text[:40]!r} is neither a Python literal nor JSON; quote a text: '\"text\"'"
        ) from None


@click.command()
@path_argument
@click.argument("keys", nargs=-1, required=True)
def rm(path: Path, keys: tuple[str, ...]) -> None:
    """Delete entries from every tier."""
    missing = []
    with open_target(path, write=True) as target:
        for key in keys:
            try:
                del target[key]
            except KeyError:
                missing.append(key)
    for key in missing:
        click.echo(f"{path} has no entry {key!r}", err=True)
    if missing:
        raise click.exceptions.Exit(1)


COMMANDS = (put, rm)
