"""Commands about the machines to work on: cores."""

import click

from ampstore.cli import output
from ampstore.cli.target import json_option


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


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count:,} hosts"


COMMANDS = (cores,)
