"""Commands between stores of any kind: copy, merge, diff."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import click

from ampstore.cli import output
from ampstore.cli.target import allow_option, json_option

if TYPE_CHECKING:
    from ampstore.transfer import Conflict, Copied, Difference, Preference, Version

_LISTED = 20
"""Conflicts that are printed without --json."""

jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Threads that read, write and compare chunks, or processes that encode legacy files; default: usable cores.",
)


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("--overwrite", is_flag=True, help="Replace values of the destination that differ.")
@click.option("--keep", is_flag=True, help="Keep values of the destination that differ.")
@click.option(
    "--legacy", type=click.Choice(["loose", "archive"]), help="Write the legacy layout: a file per entry, or a tar.gz."
)
@click.option("--dry-run", is_flag=True, help="Read and check everything, write nothing.")
@jobs_option
@allow_option
@json_option
def copy(
    source: str,
    destination: str,
    overwrite: bool,
    keep: bool,
    legacy: str | None,
    dry_run: bool,
    jobs: int | None,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Copy the entries of one store into another, verified.

    SOURCE and DESTINATION are a store's file, a container (.ampdb) with its tiers, or the URL of a database.
    Every entry is read back and compared. Killed anywhere, the same command goes on.

    Where the destination has another value for a key, it stays, the key is listed and the exit code is 1,
    unless --overwrite or --keep says what to do.
    """
    if overwrite and keep:
        raise click.UsageError("--overwrite and --keep exclude each other")
    from ampstore.transfer import copy as copy_store
    from ampstore.transfer.places import Layout

    with output.progress(_name(source)) as progress:
        report = copy_store(
            source,
            destination,
            conflicts="overwrite" if overwrite else "keep" if keep else "refuse",
            layout=cast("Layout", legacy or "store"),
            allow=allow,
            jobs=jobs or _cores(),
            dry_run=dry_run,
            progress=progress,
        )
    if as_json:
        output.print_json(report.as_dict())
    else:
        _show([report])
        if report.undecided:
            click.echo("--overwrite takes the values of the source, --keep those of the destination", err=True)
    if not report.complete:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("destination")
@click.argument("sources", nargs=-1, required=True)
@click.option("--prefer", type=click.Choice(["newest", "first", "last"]), help="Which of several values is taken.")
@click.option("--dry-run", is_flag=True, help="Read and check everything, write nothing.")
@jobs_option
@allow_option
@json_option
def merge(
    destination: str,
    sources: tuple[str, ...],
    prefer: "Preference | None",
    dry_run: bool,
    jobs: int | None,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Copy the entries of several stores, SOURCES, into one.

    What DESTINATION has already counts as the first. Where a key has several values, DESTINATION keeps what it
    has, the key is listed and the exit code is 1, unless --prefer says which value is taken. Keys of different
    hash schemes are refused.
    """
    from ampstore.transfer import merge as merge_stores

    with output.progress(_name(destination)) as progress:
        merged = merge_stores(
            destination, sources, prefer=prefer, allow=allow, jobs=jobs or _cores(), dry_run=dry_run, progress=progress
        )
    if as_json:
        output.print_json(merged.as_dict())
    else:
        _show(merged.copies)
    if not merged.complete:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("a")
@click.argument("b")
@allow_option
@json_option
def diff(a: str, b: str, allow: tuple[str, ...], as_json: bool) -> None:
    """List what two stores do not have in common, by key.

    A line begins with < for a key that only A has, > for one that only B has, ! for one whose values differ.
    With --json, one document a line. Exit code 0 if they are equal, 1 if not.
    """
    from ampstore.transfer import diff as differences

    found = False
    for found_one in differences(a, b, allow=allow):
        found = True
        line = json.dumps(found_one.as_dict(), ensure_ascii=False) if as_json else _difference(found_one)
        click.echo(line if as_json else output.printable(line))
    if found:
        raise click.exceptions.Exit(1)


def _cores() -> int:
    from ampstore.cores import usable_cores

    return usable_cores()


def _name(store: str) -> str:
    """Last part of a path, or a URL without its password."""
    from ampstore.transfer.places import place_of

    place = place_of(store)
    return place if isinstance(place, str) else place.name


def _show(reports: "list[Copied]") -> None:
    rows = [
        [
            _name(report.source),
            report.entries,
            report.written,
            report.unchanged,
            report.kept,
            report.undecided,
            len(report.left),
            output.size(report.bytes_before),
            f"{report.seconds:.2f}",
        ]
        for report in reports
    ]
    verb = "would be written" if any(report.dry_run for report in reports) else "written"
    output.print_table(["store", "entries", verb, "same", "kept", "undecided", "left", "bytes", "s"], rows)
    for report in reports:
        for problem in report.left:
            line = f"left in {report.source}: {problem.where} {problem.name!r}: {problem.reason}"
            click.echo(output.printable(line), err=True)
        for conflict in report.conflicts[:_LISTED]:
            click.echo(output.printable(_conflict(conflict)), err=True)
        if (more := report.kept + report.undecided + report.overwritten - _LISTED) > 0:
            click.echo(f"and {more} more; --json lists {len(report.conflicts)}", err=True)


def _conflict(conflict: "Conflict") -> str:
    verdict = f"taken from the {conflict.taken}" if conflict.taken else "undecided"
    return (
        f"{verdict}: {conflict.key!r}: {_version(conflict.destination)} at the destination, "
        f"{_version(conflict.source)} in {conflict.source.location}"
    )


def _difference(one: "Difference") -> str:
    if one.reason:
        return f"? {one.key!r} {one.what}: {one.reason}"
    sign = {"only in a": "<", "only in b": ">"}.get(one.what, "!")
    sides = " | ".join(_version(side) for side in (one.a, one.b) if side)
    return f"{sign} {one.key} {sides}"


def _version(version: "Version") -> str:
    when = datetime.fromtimestamp(version.written_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{version.kind}, {output.size(version.size)}, {when}"
