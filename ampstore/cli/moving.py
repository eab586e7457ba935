"""Commands that move whole databases: migrate, export, archive, backup, restore, upgrade, salvage."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ampstore.cli import output
from ampstore.cli.target import (
    FileOnly,
    allow_option,
    json_option,
    open_target,
    place_argument,
    store_at,
    store_file,
    store_place,
)

if TYPE_CHECKING:
    from ampstore.transfer import Report

_NO_LEGACY = "`ampstore copy CONTAINER URL` brings legacy files there"


@click.command()
@click.argument("paths", nargs=-1, required=True, type=FileOnly(_NO_LEGACY))
@click.option("--into", type=FileOnly(_NO_LEGACY), help="Store or directory to write to; default: in place.")
@click.option("--dry-run", is_flag=True, help="Read and check everything, write nothing.")
@click.option("--remove-source", is_flag=True, help="Remove legacy files once they are verified in the store.")
@click.option("--jobs", type=click.IntRange(1), help="Processes that read and encode; default: the cores there are.")
@allow_option
@json_option
def migrate(
    paths: tuple[Path, ...],
    into: Path | None,
    dry_run: bool,
    remove_source: bool,
    jobs: int | None,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Fold legacy pickles into stores, verified, running no code from them.

    PATHS are .ampdb containers, or directories that are searched for them. Every entry is read back
    and compared before it counts. What cannot be read stays where it is and is listed; the exit code
    is then 1. Killed in the middle, the same command goes on.

    With several containers, --into is a directory, in which each gets one of its own name.
    """
    from ampstore.transfer import find_containers, import_legacy

    containers = find_containers(paths)
    if not containers:
        raise click.UsageError(f"no .ampdb container in {', '.join(map(str, paths))}")
    reports = []
    for container in containers:
        with output.progress(container.name) as progress:
            reports.append(
                import_legacy(
                    container,
                    _destination(container, containers, paths, into),
                    allow=allow,
                    jobs=jobs or _cores(),
                    remove_source=remove_source,
                    dry_run=dry_run,
                    progress=progress,
                )
            )
    kept = not (dry_run or remove_source or into or as_json) and any(report.written for report in reports)
    try:
        _show(reports, as_json, "would be written" if dry_run else "written")
    finally:
        if kept:
            click.echo(
                "legacy files were kept, and loose ones still win over the store; "
                "`ampstore archive PATH` or --remove-source removes them",
                err=True,
            )


def _destination(container: Path, containers: list[Path], paths: tuple[Path, ...], into: Path | None) -> Path | None:
    if into is None or len(containers) == 1:
        return into
    roots = [path.absolute() for path in paths if container.is_relative_to(path.absolute())]
    relative = container.relative_to(roots[0]) if roots and container != roots[0] else Path(container.name)
    target = into / relative
    target.mkdir(parents=True, exist_ok=True)
    return target


def _cores() -> int:
    from ampstore.cores import usable_cores

    return usable_cores()


def _show(reports: "list[Report]", as_json: bool, verb: str = "written") -> None:
    if as_json:
        output.print_json([report.as_dict() for report in reports])
    else:
        names = _names(reports)
        rows = [_row(name, report) for name, report in zip(names, reports, strict=True)]
        if len(reports) > 1:
            before, after = (
                sum(report.bytes_before for report in reports),
                sum(report.bytes_after for report in reports),
            )
            numbers = [sum(getattr(report, name) for report in reports) for name in ("entries", "written", "unchanged")]
            left = sum(len(report.left) for report in reports)
            seconds = sum(report.seconds for report in reports)
            rows.append(["all", *numbers, left, *_sizes(before, after), f"{seconds:.2f}"])
        columns = ["database", "entries", verb, "same", "left", "before", "after", "ratio", "s"]
        output.print_table(columns, rows)
        for name, report in zip(names, reports, strict=True):
            for problem in report.left:
                line = f"left in {name}: {problem.where} {problem.name!r}: {problem.reason}"
                click.echo(output.printable(line), err=True)
    if not all(report.complete for report in reports):
        raise click.exceptions.Exit(1)


def _names(reports: "list[Report]") -> list[str]:
    """Last parts of the paths, or paths relative to the working directory where those are not enough."""
    names = [Path(report.source).name for report in reports]
    unique = len(set(names)) == len(names)
    return names if unique else [os.path.relpath(report.source) for report in reports]


def _row(name: str, report: "Report") -> list[object]:
    sizes = _sizes(report.bytes_before, report.bytes_after)
    return [name, report.entries, report.written, report.unchanged, len(report.left), *sizes, f"{report.seconds:.2f}"]


def _sizes(before: int, after: int) -> list[str]:
    return [output.size(before), output.size(after), f"{before / after:.1f}" if after else "-"]


@click.command()
@place_argument
@click.argument("destination", type=FileOnly("name a directory for the legacy layout, or use `ampstore copy`"))
@click.option("--archive", is_flag=True, help="Write one archive.tar.gz; default: a file per entry.")
@allow_option
@json_option
def export(path: Path | str, destination: Path, archive: bool, allow: tuple[str, ...], as_json: bool) -> None:
    """Write a database in the legacy layout, which real Amp reads, and verify every entry."""
    from ampstore.transfer import export_legacy

    with open_target(path, allow=allow) as source, output.progress(destination.name) as progress:
        report = export_legacy(source, destination, archive=archive, allow=allow, progress=progress)
    _show([report], as_json)


@click.command()
@click.argument("path", type=FileOnly("it has nothing to fold, and `ampstore compact` takes its URL"))
@allow_option
@json_option
def archive(path: Path, allow: tuple[str, ...], as_json: bool) -> None:
    """Fold loose files and archive.tar.gz of a container into its store and remove them."""
    from ampstore.database import FileDatabase

    with FileDatabase(path, allow=allow) as database, output.progress(path.name) as progress:
        if not database.path.is_dir():
            raise click.UsageError(f"{database.path} is no container")
        report = database.archive(progress)
    _show([report], as_json)


@click.command()
@place_argument
@click.argument("destination", type=FileOnly("a backup is a file; `ampstore copy` writes to a server"))
def backup(path: Path | str, destination: Path) -> None:
    """Copy a store into a new file, verified, while others go on writing."""
    from ampstore.store import Store

    with Store(store_at(path), "r") as store:
        made = store.backup(destination)
        click.echo(f"{made}: {len(store)} entries, {output.size(made.stat().st_size)}, verified")


@click.command()
@click.argument("source", type=FileOnly("a backup is a file", exists=True, dir_okay=False))
@click.argument("path", type=FileOnly("`ampstore copy BACKUP URL` writes the entries there, --overwrite over others"))
@click.option("--dry-run", is_flag=True, help="Verify the backup, write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before a store is replaced.")
def restore(source: Path, path: Path, dry_run: bool, yes: bool) -> None:
    """Put a backup, SOURCE, in the place of the store at PATH, verified first.

    The store that was there is kept beside it under a name that ends in .replaced. Programs that have it open go
    on with the old one until they open it again; end them first.
    """
    from ampstore.transfer import restore as restore_store

    target = store_place(path)
    if target.exists() and not (yes or dry_run) and sys.stdin.isatty():
        click.confirm(f"Replace {target} by {source}?", abort=True)
    done = restore_store(source, target, dry_run=dry_run)
    would = "would be " if dry_run else ""
    kept = f"; the old one is {done.replaced}" if done.replaced else ""
    click.echo(f"{target}: {done.entries} entries {would}restored, verified{kept}")


@click.command()
@place_argument
def upgrade(path: Path | str) -> None:
    """Bring a store of an older ampstore to the format of this one; a backup is made first, except on a server."""
    from ampstore.store import Store
    from ampstore.store.opening import upgrade as upgrade_store

    if isinstance(path, str):
        with Store(path, "w") as store:
            click.echo(f"{store.location} has format {store.info()['format']}")
        return
    file = store_file(path)
    made = upgrade_store(file, 30.0)
    with Store(file, "r") as store:
        revision = store.info()["format"]
    click.echo(f"{file} has format {revision}" + (f"; the backup is {made}" if made else ", nothing to do"))


@click.command()
@click.argument("source", type=FileOnly("`ampstore copy URL NEW` takes what is undamaged and names the rest"))
@click.argument("destination", type=FileOnly("name a new file, and `ampstore copy` it there"))
@click.option(
    "--second",
    multiple=True,
    type=FileOnly("`ampstore copy URL NEW` makes a file of it"),
    help="A copy (store, container, archive, loose files) to take lost entries from; may be given again.",
)
@click.option("--certain", is_flag=True, help="Leave out what may be an older version or a deleted entry.")
@allow_option
@json_option
def salvage(
    source: Path, destination: Path, second: tuple[Path, ...], certain: bool, allow: tuple[str, ...], as_json: bool
) -> None:
    """Get every undamaged entry out of a damaged store, archive or container into a new store.

    SOURCE is only read; DESTINATION must not exist. Exit code 1 if anything is lost or not certain; it
    is listed.
    """
    from ampstore.salvage import salvage as salvage_store

    report = salvage_store(source, destination, second=second, allow=allow, certain=certain)
    if as_json:
        output.print_json(report.as_dict())
    else:
        for damage in report.damage:
            click.echo(output.printable(f"damage: {damage}"), err=True)
        for finding in report.unsure:
            click.echo(output.printable(f"unsure: {finding.key}: {finding.reason}"), err=True)
        for finding in report.lost:
            click.echo(output.printable(f"lost: {finding.key}: {finding.reason}"), err=True)
        tail = "" if report.complete else "; more keys may be lost without a trace"
        click.echo(
            f"{destination}: {report.written} entries, {report.restored} of them restored, "
            f"{len(report.unsure)} unsure, {len(report.lost)} lost{tail}"
        )
    if not report.whole:
        raise click.exceptions.Exit(1)
