"""The `ampstore` command: thin commands that parse, call and print.

    output      tables, sizes, progress, JSON
    target      what a PATH on the command line is: a store's file, a container, a URL
    copying     copy, merge, diff
    moving      migrate, export, archive, backup, restore, upgrade, salvage
    compacting  compact
    looking     info, ls, get, verify, sql
    changing    put, rm, rekey
    watching    top, report
    machine     cores, doctor
    annealing   anneal-report
    shell       completion

A module is imported when one of its commands is used, so that `ampstore ls` does not wait for the others, and
`ampstore --help` for none.

Exit codes: 0 all is well; 1 something is damaged, missing or was left behind; 2 wrong usage, also a
path that is no store; 3 the store cannot be used now (busy, no permission, disk); 130 interrupted.
"""

from importlib import import_module
from typing import Any

import click

from ampstore.errors import (
    AccessError,
    AmpstoreError,
    BusyError,
    ConnectionLostError,
    LocationError,
    MissingStoreError,
    NotAStoreError,
    StorageError,
)

COMMANDS = {
    "anneal-report": ("annealing", "Show the searches by simulated annealing of a store."),
    "archive": ("moving", "Fold loose files and archive.tar.gz into the store."),
    "backup": ("moving", "Copy a store, verified, while others use it."),
    "compact": ("compacting", "Store every entry in less space."),
    "completion": ("shell", "Print the completion for bash, zsh or fish."),
    "copy": ("copying", "Copy the entries of one store into another, verified."),
    "cores": ("machine", "Show the hosts and cores of this batch job."),
    "diff": ("copying", "List what two stores do not have in common."),
    "doctor": ("machine", "Look at the place of a store and say what to do."),
    "export": ("moving", "Write a database as files that real Amp reads."),
    "get": ("looking", "Print the value of an entry, or of several."),
    "info": ("looking", "Show what a database holds: entries, sizes, format."),
    "ls": ("looking", "List entries: key, kind, sizes, time of writing."),
    "merge": ("copying", "Copy the entries of several stores into one."),
    "migrate": ("moving", "Fold legacy pickles into stores, verified."),
    "put": ("changing", "Store one entry."),
    "rekey": ("changing", "Change keys from one hash scheme to another."),
    "report": ("watching", "Write one HTML file about a store."),
    "restore": ("moving", "Put a backup in the place of a store."),
    "rm": ("changing", "Delete entries from every tier."),
    "salvage": ("moving", "Get what is undamaged out of a damaged store."),
    "sql": ("looking", "Ask a store with SQL, read-only."),
    "top": ("watching", "Watch a calculation: done, claimed, rate, time left."),
    "upgrade": ("moving", "Bring a store to the format of this ampstore."),
    "verify": ("looking", "Read everything and list what is damaged."),
}
"""Module of each command, and what it does in a line; its function there has the same name, with _ for -."""

_USAGE = (LocationError, MissingStoreError, NotAStoreError, FileExistsError)
_NOT_NOW = (AccessError, BusyError, ConnectionLostError, StorageError)


class _Group(click.Group):
    """Imports a command when it is used; turns errors into one sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click fixed the signatures
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        name, about = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"{__name__}.{name}"), cmd_name.replace("-", "_"))
        command.short_help = about
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands, which imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in sorted(COMMANDS.items())])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click knows what to do when the reader of a pipe goes away
        except (AmpstoreError, OSError) as err:
            if ctx.params.get("debug"):
                raise
            raise _Failure(str(err), _exit_code(err)) from err


class _Failure(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


def _exit_code(err: Exception) -> int:
    if isinstance(err, _USAGE):
        return 2
    foreign = isinstance(err, OSError) and not isinstance(err, AmpstoreError)
    return 3 if foreign or isinstance(err, _NOT_NOW) else 1


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks and the log.")
@click.version_option(package_name="ampstore")
def main(debug: bool) -> None:
    """Look into, migrate and mend ampstore databases.

    PATH is a store's file (results.db), a container (label-fingerprints.ampdb; the suffix may be left
    out), or for most commands the URL of a database (postgresql+psycopg://user@host/db).

    Exit codes: 0 all is well; 1 something is damaged, missing or was left behind; 2 wrong usage, or
    a path that is no store; 3 the store cannot be used now (busy, no permission, disk).
    """
    if debug:
        import logging

        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(message)s")
