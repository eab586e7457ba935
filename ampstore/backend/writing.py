"""Writing rows of one SQLite file, each call in a transaction of its own unless one is open."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ampstore.backend.connections import Durability, PerThread
from ampstore.backend.reading import Reader
from ampstore.backend.wal import WAL_BOUND, Wal
from ampstore.errors import ReadOnlyError, StoreError


class Row(NamedTuple):
    """One row to write, in the order of the `put` statement."""

    key: str
    codec: str
    kind: str
    size: int
    checksum: bytes
    written_at: float
    payload: bytes


class Trained(NamedTuple):
    """One dictionary to write, in the order of the `dictionary_put` statement."""

    id: int
    kind: str
    trained_at: float
    data: bytes


class Recoded(NamedTuple):
    """Another payload of one row, in the order of the `recode` statement."""

    codec: str
    checksum: bytes
    payload: bytes
    id: int
    checksum_was: bytes
    codec_was: str


class Writer(Reader):
    """What can be changed in one file; parameters and attributes are those of `SQLite`."""

    def __init__(self, path: Path, *, readonly: bool, timeout: float, durability: Durability) -> None:
        super().__init__(path, readonly=readonly, timeout=timeout, durability=durability)
        self._wal = Wal(self._connections)

    def put(self, row: Row) -> None:
        """Write one row, in a transaction of its own unless one is open."""
        self._write(self.sql.put, row, len(row.payload))

    def put_rows(self, rows: Sequence[Row]) -> None:
        """Write rows in one transaction."""
        with self.transaction(), self._connections.translated():
            self.connection().executemany(self.sql.put, rows)
            self._wal.wrote(sum(len(row.payload) for row in rows))

    def put_new(self, row: Row) -> bool:
        """Write one row unless its key is there; whether it was written."""
        return self._write(self.sql.put_new, row, len(row.payload)) > 0

    def delete(self, key: str) -> bool:
        """Delete a row; False if there was none."""
        return self._write(self.sql.delete, (key,), 0) > 0

    def rename(self, key: str, new: str) -> bool:
        """Give a row another key, its payload untouched; False if there is none, or one of the new key."""
        return self._write(self.sql.rename, (new, key, new), 0) > 0

    def clear(self) -> None:
        """Delete all rows."""
        with self.transaction():
            self._write(self.sql.clear, (), WAL_BOUND)
            self._write(self.sql.trace_clear, (), 0)

    def info_put(self, name: str, value: str) -> None:
        """Set one fact about the store."""
        self._write(self.sql.info_put, (name, value), 0)

    def info_delete(self, name: str) -> bool:
        """Forget one fact about the store; False if it was not known."""
        return self._write(self.sql.info_delete, (name,), 0) > 0

    def put_trace(self, run: str, chain: int, points: Iterable[Sequence[float]], replace: bool) -> None:
        """Write points of a trace; `replace` deletes those that this and later chains have before."""
        with self.transaction(), self._connections.translated():
            connection = self.connection()
            if replace:
                connection.execute(self.sql.trace_delete, (run, chain))
            connection.executemany(self.sql.trace_put, [(run, chain, *point) for point in points])
            self._wal.wrote(0)

    def recode(self, rows: Sequence[Recoded], dictionaries: Sequence[Trained]) -> set[int]:
        """Give rows other payloads, with the dictionaries that these need, in one transaction; ids of those changed.

        A row whose value is another one by now keeps it. The dictionaries are written in the same
        transaction, so that `drop_dictionaries` of another process cannot come in between.
        """
        with self.transaction(), self._connections.translated():
            connection = self.connection()
            connection.executemany(self.sql.dictionary_put, dictionaries)
            changed = {row.id for row in rows if connection.execute(self.sql.recode, row).rowcount > 0}
            self._wal.wrote(sum(len(row.payload) for row in rows) + sum(len(one.data) for one in dictionaries))
        return changed

    def drop_dictionaries(self) -> int:
        """Delete the dictionaries that no row needs; how many. No row can begin to need one meanwhile."""
        return self._write(self.sql.dictionary_drop, (), 0)

    # -- claims --------------------------------------------------------------------------------

    def claim(self, key: str, owner: str, lease: float) -> bool:
        """Claim a key for `lease` seconds from now; False if it is claimed."""
        return self._write(self.sql.claim_free, (key, owner, lease), 0) > 0

    def take_claim(self, key: str, owner: str, lease: float, was: tuple[str, int, float]) -> bool:
        """Claim a key whose claim still is `was`: owner, token, time of expiry. The token goes up by 1."""
        return self._write(self.sql.claim_over, (owner, lease, key, *was), 0) > 0

    def renew_claims(self, owner: str, lease: float) -> int:
        """Let all claims of an owner last for `lease` seconds from now; how many it has."""
        return self._write(self.sql.claims_renew, (lease, owner), 0)

    def release_claim(self, key: str, owner: str, token: int) -> bool:
        """Give a claim back; False if it is another's by now."""
        return self._write(self.sql.claim_release, (key, owner, token), 0) > 0

    def release_claims(self, owner: str) -> int:
        """Give all claims of an owner back; how many it had."""
        return self._write(self.sql.claims_release, (owner,), 0)

    # -- transactions --------------------------------------------------------------------------

    def _write(self, sql: str, parameters: Sequence[object], size: int) -> int:
        # One statement outside a transaction is a transaction: SQLite takes a fresh snapshot and the
        # write lock together, as BEGIN IMMEDIATE does, for a third of the statements.
        try:
            changed = self._writable().execute(sql, parameters).rowcount
        except sqlite3.Error as err:
            raise self._connections.translate(err) from err
        self._wal.wrote(size)
        return changed

    def _writable(self) -> sqlite3.Connection:
        if self.readonly:
            raise ReadOnlyError(str(self.path))
        return self._connections.get()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; holds the write lock from the start. Nests: an inner one can roll back alone."""
        connection, local = self._writable(), self._connections.local
        begin, commit, rollback = (
            (f"SAVEPOINT s{local.depth}", f"RELEASE s{local.depth}", f"ROLLBACK TO s{local.depth}")
            if local.depth
            else ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        )
        with self._connections.translated():
            connection.execute(begin)
        local.depth += 1
        try:
            yield
            self._check_still_open(local, connection)
            with self._connections.translated():
                connection.execute(commit)
        except BaseException:
            # SQLite has rolled back by itself after some errors (full disk, I/O).
            if self._connections.local is local and connection.in_transaction:
                connection.execute(rollback)
                if local.depth > 1:
                    connection.execute(commit)
            raise
        finally:
            local.depth -= 1
        if not local.depth:
            self._wal.bound()

    def _check_still_open(self, local: PerThread, connection: sqlite3.Connection) -> None:
        if self._connections.local is not local or local.connection is not connection:
            raise StoreError(str(self.path), "a transaction does not cross fork or close; begin it in the child")

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has a transaction open."""
        return self._connections.local.depth > 0
