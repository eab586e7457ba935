"""The `ampstore` command: thin commands that parse, call and print.

    output     tables, sizes, progress, JSON
    target     what a PATH on the command line is: a store's file or a container
    moving     migrate, export, archive, backup, upgrade, salvage
    looking    info, ls, get, verify
    changing   put, rm
    annealing  anneal-report
    cluster    cores

Exit codes: 0 all is well; 1 something is damaged, missing or was left behind; 2 wrong usage, also a
path that is no store; 3 the store cannot be used now (busy, no permission, disk).
"""

import logging
from typing import Any

import click

from ampstore.cli import annealing, changing, cluster, looking, moving
from ampstore.errors import (
    AccessError,
    AmpstoreError,
    BusyError,
    MissingStoreError,
    NotAStoreError,
    StorageError,
)

_USAGE = (MissingStoreError, NotAStoreError, FileExistsError)
_NOT_NOW = (AccessError, BusyError, StorageError)


class _Group(click.Group):
    """Turns errors into one sentence and an exit code; the traceback only with --debug."""

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

    PATH is a store's file (results.db) or a container (label-fingerprints.ampdb; the suffix may be
    left out).
    """
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, format="%(levelname)s %(message)s")


for command in (*moving.COMMANDS, *looking.COMMANDS, *changing.COMMANDS, *annealing.COMMANDS, *cluster.COMMANDS):
    main.add_command(command)
