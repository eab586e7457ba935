"""Commands that show a store to people: top, report."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ampstore.cli import output
from ampstore.cli.target import json_option, open_target, place_argument, plain_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Group

    from ampstore.overview import Overview


@click.command()
@place_argument
@click.option("--every", type=click.FloatRange(0.2), default=2.0, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Look once.")
@json_option
def top(path: Path | str, every: float, once: bool, as_json: bool) -> None:
    """Watch a calculation: done, claimed by whom, rate, time left, failures. Ctrl-C ends it.

    Everything comes from the store, so it works from any terminal that reaches it. On a terminal the view is live;
    elsewhere there is a line at each look, or with --json a document a line. It ends by itself when no run goes on
    any more.
    """
    from rich.console import Console
    from rich.live import Live

    from ampstore.overview import Watch

    watch = Watch(lambda: open_target(path))
    console = Console()
    live = console.is_terminal and not as_json
    try:
        if not live:
            _follow(watch.look, every, once=once, as_json=as_json)
            return
        with Live(console=console, auto_refresh=False) as screen:
            while True:
                seen = watch.look()
                screen.update(_view(seen), refresh=True)
                if once or not seen.working:
                    return
                time.sleep(every)
    except KeyboardInterrupt:
        return


def _follow(look: "Callable[[], Overview]", every: float, *, once: bool, as_json: bool) -> None:
    while True:
        seen = look()
        if as_json:
            output.print_json(seen.as_dict())
        else:
            click.echo(output.printable(seen.line()))
        if once or not seen.working:
            return
        time.sleep(every)


def _view(seen: "Overview") -> "Group":
    from rich.console import Group
    from rich.markup import escape
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "state", "done", "of", "failed", "claims", "rate", "left"):
        table.add_column(name, justify="left" if name in ("run", "state") else "right")
    for run in seen.runs:
        table.add_row(*(escape(output.printable(cell)) for cell in run.cells()))
    parts: list[object] = [escape(output.printable(seen.line())), table]
    if seen.total:
        parts.insert(1, ProgressBar(total=seen.total, completed=seen.done, width=60))
    parts += [escape(output.printable(f"failed: {key}: {message}")) for key, message in seen.failures[:5]]
    return Group(*parts)  # type: ignore[arg-type]


@click.command()
@place_argument
@click.option(
    "--output",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write.  [default: PATH's name with .html]",
)
def report(path: Path | str, file: Path | None) -> None:
    """Write one HTML file about a store: sizes by kind, growth, largest entries, runs and failures, annealing.

    The file holds everything that it shows and loads nothing from elsewhere: it can be mailed.
    """
    from ampstore.report import write_report

    with open_target(path) as target:
        made = file or Path(f"{plain_name(path)}.html")
        try:
            write_report(target, made)
        except ImportError as err:
            raise click.ClickException("pictures need matplotlib: pip install 'ampstore[plot]'") from err
    click.echo(f"written: {made}", err=True)
