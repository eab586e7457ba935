"""One transaction, or a savepoint inside one, in steps that a signal may come between.

Ctrl-C raises between any two steps of Python. So what ends a transaction may be done again, and
`Writer.transaction` is a generator: if the signal comes before the first step of its `__exit__`,
it is closed together with the traceback. A `__del__` would swallow a signal instead.
"""

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from ampstore.backend.connections import PerThread

if TYPE_CHECKING:
    from ampstore.backend.writing import Writer


class Transaction:
    """All of the block is written, or nothing of it.

    Parameters
    ----------
    writer : Writer
    connection : sqlite3.Connection
        That of this thread.
    local : PerThread
        What is known of it; its depth grows by 1.
    """

    def __init__(self, writer: "Writer", connection: sqlite3.Connection, local: PerThread) -> None:
        self._writer = writer
        self._connection = connection
        self._local = local
        self._level = local.depth
        self._is_written = False

    def open(self) -> None:
        """Begin; whatever comes of it, `end` must follow."""
        if self._level:
            self._connection.execute(f"SAVEPOINT s{self._level}")
        else:
            self._writer.enter(self._connection)
            self._writer.begin(self._connection)
        self._local.depth = self._level + 1

    def commit(self) -> None:
        """Write all of it."""
        self._writer.commit(self._connection, f"RELEASE s{self._level}" if self._level else "COMMIT")
        self._is_written = True
        if not self._level:
            self._local.depth = 0
            self._writer.bound_wal()

    def end(self) -> None:
        """Roll back what is still open, and let the next writer go on. Ending twice is fine."""
        if self._writer.is_current(self._connection):
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed at the end of the program: rolled back by that
                if not self._is_written and self._connection.in_transaction:
                    self._roll_back()
            self._local.depth = min(self._local.depth, self._level)
        if not self._level:
            self._writer.leave(self._connection)

    def _roll_back(self) -> None:
        if not self._level:
            self._connection.execute("ROLLBACK")
        elif self._local.depth > self._level:  # else it came to an end with the outer one
            with contextlib.suppress(sqlite3.OperationalError):  # it was released just before a signal
                self._connection.execute(f"ROLLBACK TO s{self._level}")
                self._connection.execute(f"RELEASE s{self._level}")
