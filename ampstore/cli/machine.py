"""Commands about the machine: cores to work on, the place where a store lies."""

from pathlib import Path

import click

from ampstore.cli import output
from ampstore.cli.target import FileOnly, json_option


@click.command()
@json_option
def cores(as_json: bool) -> None:
    """Show the hosts and cores that this batch job, or this machine, gives to programs.

    Exit code 1 if the variables of the batch system do not tell them.
    """
    from ampstore.cores import allocation

    found = allocation()
    if as_json:
        output.print_json({"system": found.system, "cores": found.hosts})
        return
    click.echo(f"{found.system}: {sum(found.hosts.values()):,} cores on {_hosts(len(found.hosts))}")
    output.print_table(["host", "cores"], [[host, str(count)] for host, count in found.hosts.items()])


@click.command()
@click.argument("path", type=FileOnly("`ampstore info` and `ampstore verify` take its URL"), default=".")
@click.option(
    "--speed/--no-speed", default=True, help="Measure how fast the directory takes synced writes.  [default: yes]"
)
@json_option
def doctor(path: Path, speed: bool, as_json: bool) -> None:
    """Look at the place where a store lies, or shall lie, and say what to do.

    SQLite and its bugs, file system, space, permissions, WAL, locks, format, versions, speed. Changes nothing. Exit
    code 1 if something keeps a store there from working as promised. `ampstore verify` reads the entries themselves.
    """
    from ampstore.doctor import examine

    if not (path.exists() or path.absolute().parent.is_dir()):
        raise click.UsageError(f"there is no directory {path.absolute().parent}")
    findings = list(examine(path, speed=speed))
    if as_json:
        output.print_json([finding._asdict() for finding in findings])
    else:
        for one in findings:
            click.echo(output.printable(f"{one.state:5} {one.subject}: {one.found}"))
            if one.advice:
                click.echo(output.printable(f"      → {one.advice}"))
    if any(finding.state == "bad" for finding in findings):
        raise click.exceptions.Exit(1)


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count:,} hosts"
