"""One statement of a person's own, read-only: for `ampstore sql`.

The connection may read this file and nothing else: SQLite asks an authoriser for every single thing that a
statement would do, and ATTACH, writing and most pragmas are denied, whatever the SQL says.
"""

import contextlib
import sqlite3
from pathlib import Path

from ampstore.backend.connections import Connections
from ampstore.errors import QueryError

STEPS = 100_000  # of SQLite's machine between two looks at Ctrl-C: some milliseconds
_PRAGMAS = {"table_info", "table_list", "table_xinfo", "index_list", "index_info", "integrity_check", "quick_check"}
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}

Rows = list[tuple[object, ...]]


def ask(path: Path, sql: str, most: int, timeout: float) -> tuple[list[str], Rows]:
    """Names of the columns, and rows, of a statement.

    Parameters
    ----------
    path : Path
        File of a store.
    sql : str
        One statement.
    most : int
        Rows to give at most; -1 for all.
    timeout : float
        Longest wait for a lock, seconds.

    Raises
    ------
    QueryError
        (a ValueError) If SQLite does not understand it, or it would do more than read.
    """
    connections = Connections(path, readonly=True, timeout=timeout, durability="normal")

    def read() -> tuple[list[str], Rows]:
        connection = connections.get()
        connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
        connection.set_authorizer(_allow_reading)
        connection.set_progress_handler(lambda: 0, STEPS)  # Python looks at signals whenever it is called
        with contextlib.closing(connection.execute(sql)) as cursor:
            rows = cursor.fetchall() if most < 0 else cursor.fetchmany(most)
            return [column[0] for column in cursor.description or ()], rows

    with contextlib.closing(connections):
        try:
            return connections.read(read)
        except (sqlite3.Error, sqlite3.Warning) as err:
            raise QueryError(sql, str(err)) from err


def _allow_reading(action: int, first: str | None, *_: object) -> int:
    if action in _READING or (action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
