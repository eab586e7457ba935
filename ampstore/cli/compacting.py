"""The command that stores everything in less space."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ampstore.cli import output
from ampstore.cli.target import json_option, place_argument, plain_name, store_at

if TYPE_CHECKING:
    from ampstore.store.compaction import Compaction


@click.command()
@place_argument
@click.option("--level", type=click.IntRange(1, 22), help="zstd level for all; default: what pays for each kind.")
@json_option
def compact(path: Path | str, level: int | None, as_json: bool) -> None:
    """Store every entry in less space, and give the free space back.

    For each kind of values some are measured: which zstd level pays, and whether a trained dictionary
    does. Values stay the same, no code from them runs, and other programs may go on. Killed in the
    middle, nothing is lost, and the same command goes on. Loose files and archives of legacy programs
    are left alone; `ampstore archive` folds them in and compacts. On a server the space is used again, and not
    given back: VACUUM FULL, which locks everybody out, is for its administrator.
    """
    from ampstore.store import Store

    with Store(store_at(path), "w") as store, output.progress(plain_name(path)) as progress:
        report = store.compact(level, progress=progress)
    if as_json:
        output.print_json(report.as_dict())
    else:
        _show(report)
    if report.damaged:
        raise click.exceptions.Exit(1)


def _show(report: "Compaction") -> None:
    rows = [
        [
            output.printable(gain.kind), gain.codec, gain.entries, gain.rewritten, output.size(gain.before),
            output.size(gain.after), gain.level, "yes" if gain.dictionary else "no",
        ]
        for gain in report.kinds
    ]  # fmt: skip
    output.print_table(["kind", "codec", "entries", "rewritten", "before", "after", "level", "dictionary"], rows)
    click.echo(
        f"{output.size(report.before)} on disk before, {output.size(report.after)} after, in {report.seconds:.1f} s"
    )
    if report.damaged:
        click.echo(f"{report.damaged} damaged entries were left alone; `ampstore verify` names them", err=True)
