"""Commands that change entries: put, rm, rekey."""

import ast
import contextlib
import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ampstore.cli import output
from ampstore.cli.target import json_option, open_target, place_argument, shown
from ampstore.errors import MissingStoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMES = ("v2", "v1", "v0")  # as in ampstore.images, whose import would cost every command 50 ms


@click.command()
@place_argument
@click.argument("key")
@click.argument("value", default="-")
def put(path: Path | str, key: str, value: str) -> None:
    """Store one entry; makes the store if it is not there. VALUE is a Python literal or JSON, - reads stdin."""
    from ampstore.database import FileDatabase
    from ampstore.legacy import container_path
    from ampstore.store import Store

    text = sys.stdin.read() if value == "-" else value
    parsed = _parse(text.strip())
    try:
        target = open_target(path, write=True)
    except MissingStoreError:
        container = isinstance(path, Path) and container_path(path).name == path.name
        target = FileDatabase(path) if container else Store(path, "c")
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
@place_argument
@click.argument("keys", nargs=-1, required=True)
@click.option("--glob", "is_glob", is_flag=True, help="KEYS are patterns such as 'a1*'.")
@click.option("--dry-run", is_flag=True, help="Print the keys that would be deleted, delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask, on a terminal, before patterns are deleted.")
def rm(path: Path | str, keys: tuple[str, ...], is_glob: bool, dry_run: bool, yes: bool) -> None:
    """Delete entries from every tier."""
    with open_target(path, write=not dry_run) as target:
        chosen = _matching(target, keys) if is_glob else list(dict.fromkeys(keys))
        missing = [key for key in (keys if not is_glob else ()) if key not in target]
        if is_glob and not (yes or dry_run) and chosen and sys.stdin.isatty():
            click.confirm(f"Delete {len(chosen)} entries of {shown(path)}?", abort=True)
        for key in chosen:
            if dry_run:
                if key not in missing:
                    click.echo(output.printable(key))
                continue
            with contextlib.suppress(KeyError):  # it was not there, or another process was faster
                del target[key]
    for key in missing:
        click.echo(f"{shown(path)} has no entry {key!r}", err=True)
    if is_glob and not chosen:
        click.echo(f"{shown(path)} has no entry like {' '.join(keys)}", err=True)
    if missing or not chosen:
        raise click.exceptions.Exit(1)


def _matching(target: "Iterable[str]", patterns: tuple[str, ...]) -> list[str]:
    return [key for key in target if any(fnmatchcase(key, pattern) for pattern in patterns)]


@click.command()
@place_argument
@click.argument("images")
@click.option("--from", "old", type=click.Choice(SCHEMES), required=True, help="Scheme that the keys have now.")
@click.option("--to", "new", type=click.Choice(SCHEMES), default=SCHEMES[0], show_default=True, help="Scheme to have.")
@click.option("--dry-run", is_flag=True, help="Tell what would be done, write nothing.")
@json_option
def rekey(path: Path | str, images: str, old: str, new: str, dry_run: bool, as_json: bool) -> None:
    """Change keys from one hash scheme to another; the values stay as they are.

    IMAGES is a file with the structures that the values belong to, as ASE reads it: a .traj, a .db, or
    any other. v2 are the keys of Amp 1.x, v1 and v0 those of 0.6.1 with NumPy >= 1.14 and before.

    Files of legacy programs in a container are folded into its store first. Entries whose image is not
    in the file stay and are listed; the exit code is then 1. Killed in the middle, the same command
    goes on; give it other files one after the other.
    """
    from ampstore.database import FileDatabase
    from ampstore.transfer import rekey as rekey_store

    with open_target(path, write=not dry_run) as target, output.progress(Path(shown(path)).name) as progress:
        try:
            if isinstance(target, FileDatabase):
                report = target.rekey(images, old, new, dry_run=dry_run, progress=progress)
            else:
                report = rekey_store(target, images, old, new, dry_run=dry_run, progress=progress)
        except FileNotFoundError as err:
            if err.filename != images:
                raise
            raise click.UsageError(f"{images}: there is no such file of images") from err
    if as_json:
        output.print_json(report.as_dict())
    else:
        for problem in report.left:
            click.echo(output.printable(f"left: {problem.name} ({problem.where}): {problem.reason}"), err=True)
        would = "would be " if dry_run else ""
        click.echo(
            f"{report.entries} entries: {report.changed} {would}changed from {old} to {new}, "
            f"{report.dropped} {would}dropped (the new key has the same), {report.unchanged} unchanged, "
            f"{len(report.left)} left"
        )
    if not report.complete:
        raise click.exceptions.Exit(1)
