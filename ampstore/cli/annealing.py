"""Commands about searches that are kept in a store: anneal-report."""

from pathlib import Path

import click

from ampstore.cli import output
from ampstore.cli.target import json_option, open_target, place_argument


@click.command("anneal-report")
@place_argument
@click.option("--name", help="Only the search of this name; default: all that are kept there.")
@click.option(
    "--output",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a picture of loss, temperature, acceptance, exchanges: a .png, or a self-contained .html.",
)
@json_option
def anneal_report(path: Path | str, name: str | None, file: Path | None, as_json: bool) -> None:
    """Show the searches by simulated annealing whose checkpoints are in a store."""
    from ampstore.anneal.plot import kept_searches, report

    if file is not None and file.suffix not in (".png", ".html", ".htm"):
        raise click.UsageError(f"--output {file}: a report is a .png or an .html file")
    with open_target(path) as target:
        searches = kept_searches(target, name)
    if as_json:
        traces = [[trace.columns() for trace in search.traces] for search in searches]
        both = zip(searches, traces, strict=True)
        output.print_json([{"name": search.name, **search.facts, "traces": columns} for search, columns in both])
    else:
        facts = searches[0].facts
        output.print_table(["name", *facts], [[search.name, *search.facts.values()] for search in searches])
    if file is not None:
        try:
            report(searches, file)
        except ImportError as err:
            raise click.ClickException("pictures need matplotlib: pip install 'ampstore[plot]'") from err
        click.echo(f"written: {file}", err=True)
