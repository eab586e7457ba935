"""One transaction, or a savepoint inside one, as a context manager that a signal may hit anywhere.

Ctrl-C raises between any two steps of Python, also before the first of `__exit__`. So everything
that ends a transaction may be called again, and the last call comes when the object goes.
"""

import contextlib
import sqlite3
from types import TracebackType
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
        self._is_open = self._is_written = False

    def __enter__(self) -> None:
        try:
            self._is_open = True
            if self._level:
                self._connection.execute(f"SAVEPOINT s{self._level}")
            else:
                self._writer.enter(self._connection)
                self._writer.begin(self._connection)
            self._local.depth = self._level + 1
        except BaseException:
            self._end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
            self._end()
        except BaseException:
            self._end()
            raise
        if kind is None and not self._level:
            self._writer.flush()

    def __del__(self) -> None:
        if self._is_open:
            self._end()

    def _commit(self) -> None:
        self._writer.commit(self._connection, f"RELEASE s{self._level}" if self._level else "COMMIT")
        self._is_written = True
        if not self._level:
            self._local.depth = 0
            self._writer.bound_wal()

    def _end(self) -> None:
        """Roll back what is still open, and let the next writer go on."""
        if self._writer.is_current(self._connection):
            if not self._is_written and self._connection.in_transaction:
                self._roll_back()
            self._local.depth = min(self._local.depth, self._level)
        if not self._level:
            self._writer.leave(self._connection)
        self._is_open = False

    def _roll_back(self) -> None:
        if not self._level:
            self._connection.execute("ROLLBACK")
        elif self._local.depth > self._level:  # else it came to an end with the outer one
            with contextlib.suppress(sqlite3.OperationalError):  # it was released just before a signal
                self._connection.execute(f"ROLLBACK TO s{self._level}")
                self._connection.execute(f"RELEASE s{self._level}")
