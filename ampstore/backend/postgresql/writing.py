"""Writing rows of one store in PostgreSQL, each call in a transaction of its own unless one is open.

A transaction of the program (`transaction`) has the store for itself, as on SQLite: it holds an
advisory lock, which every other statement that writes an entry shares. Sharing it costs nothing that
could be measured; locking the table instead would stop the server's vacuum time and again.

Many rows are copied into a temporary table and go from there into `entry` in one statement. For 100 B and
1 kB that takes 0.3 and 0.7 of the time of a pipelined INSERT for each; arrays as parameters 0.8 and 2.4.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg

from ampstore.backend.connections import Durability
from ampstore.backend.postgresql.connections import Connection, Done
from ampstore.backend.postgresql.failures import AGAIN
from ampstore.backend.postgresql.reading import Reader
from ampstore.backend.server import Server
from ampstore.backend.statements import Recoded, Row, Trained
from ampstore.errors import AccessError, BusyError, ConnectionLostError, InvalidKeyError, ReadOnlyError, StoreError

Result = TypeVar("Result")

COPIED = 32
"""Rows from which on COPY is faster than one INSERT for each."""

_STAGING = """\
CREATE TEMPORARY TABLE IF NOT EXISTS ampstore_staging (position bigint, key text, codec text, kind text,
size bigint, checksum bytea, written_at double precision, payload bytea) ON COMMIT DELETE ROWS"""
_COPY = "COPY ampstore_staging FROM STDIN (FORMAT BINARY)"
_TYPES = ("int8", "text", "text", "text", "int8", "bytea", "float8", "bytea")


class Writer(Reader):
    """What can be changed; parameters and attributes are those of `PostgreSQL`."""

    def __init__(self, server: Server, *, readonly: bool, timeout: float, durability: Durability) -> None:
        super().__init__(server, readonly=readonly, timeout=timeout, durability=durability)
        name = hashlib.blake2b(f"ampstore {server.schema}".encode(), digest_size=8).digest()
        self.gate = int.from_bytes(name, signed=True)

    def _write(self, statement: str, parameters: Sequence[object]) -> Done:
        self._check_writable()
        return self._connections.run(statement, parameters)

    def _check_writable(self) -> None:
        if self.readonly:
            raise ReadOnlyError(self.location)

    def put(self, row: Row) -> None:
        """Write one row, in a transaction of its own unless one is open."""
        self._write(self.sql.put, (*row, self.gate))

    def put_new(self, row: Row) -> bool:
        """Write one row unless its key is there; whether it was written."""
        done = self._write(self.sql.put_new, (*row, self.gate))
        ours = done.repeated and self.head(row.key) == (row.checksum, row.written_at)
        return done.changed > 0 or ours

    def delete(self, key: str) -> bool:
        """Delete a row; False if there was none."""
        if "\0" in key:
            self._check_writable()
            return False
        done = self._write(self.sql.delete, (key, self.gate))
        return done.changed > 0 or done.repeated

    def rename(self, key: str, new: str) -> bool:
        """Give a row another key, its payload untouched; False if there is none, or one of the new key."""
        try:
            done = self._write(self.sql.rename, (new, key, new, self.gate))
        except StoreError as err:  # stored by another process in this very moment
            if isinstance(err.__cause__, psycopg.errors.UniqueViolation) and not self.in_transaction:
                return False
            raise
        return done.changed > 0 or (done.repeated and self.contains(new) and not self.contains(key))

    def clear(self) -> None:
        """Delete all rows."""
        with self.transaction(), self._patiently():
            self._write(self.sql.clear, (self.gate,))
            self._write(self.sql.trace_clear, ())

    def info_put(self, name: str, value: str) -> None:
        """Set one fact about the store."""
        if "\0" in name + value:
            raise InvalidKeyError(name, "PostgreSQL's text cannot hold the character U+0000")
        self._write(self.sql.info_put, (name, value))

    def info_delete(self, name: str) -> bool:
        """Forget one fact about the store; False if it was not known."""
        done = self._write(self.sql.info_delete, (name,))
        return done.changed > 0 or done.repeated

    def put_trace(self, run: str, chain: int, points: Iterable[Sequence[float]], replace: bool) -> None:
        """Write points of a trace; `replace` deletes those that this and later chains have before."""
        rows = [(run, chain, *point) for point in points]

        def write() -> None:
            if replace:
                self._write(self.sql.trace_delete, (run, chain))
            if rows:
                self._many(self.sql.trace_put, rows)

        self.whole(write)

    def recode(self, rows: Sequence[Recoded], dictionaries: Sequence[Trained]) -> set[int]:
        """Give rows other payloads, with the dictionaries that these need, in one transaction; ids of those changed.

        A row whose value is another one by now keeps it. The dictionaries are written in the same
        transaction, so that `drop_dictionaries` of another process cannot come in between.
        """

        def write() -> set[int]:
            if dictionaries:
                self._many(self.sql.dictionary_put, dictionaries)
            return {row.id for row in rows if self._write(self.sql.recode, (*row, self.gate)).changed > 0}

        return self.whole(write)

    def drop_dictionaries(self) -> int:
        """Delete the dictionaries that no row needs; how many. No row can begin to need one meanwhile."""
        with self.transaction():
            return self._write(self.sql.dictionary_drop, ()).changed

    # -- many rows -----------------------------------------------------------------------------

    def put_rows(self, rows: Sequence[Row]) -> None:
        """Write rows in one transaction."""
        self._check_writable()
        last = list({row.key: row for row in rows}.values())  # a statement cannot write one row twice
        if many := len(last) >= COPIED:
            self._make_staging()

        def write() -> None:
            if many and self._connections.local.staged:  # not after the connection broke just now
                self._copy(last)
            else:
                self._many(self.sql.put, [(*row, self.gate) for row in last])

        self.whole(write)

    def _many(self, statement: str, rows: Sequence[Sequence[object]]) -> int:
        """A statement for each of several rows, in a pipeline: no answer is waited for before the next."""
        with self._connections.inside():
            cursor = self._connections.cursor()
            cursor.executemany(statement, rows)
        return max(cursor.rowcount, 0)

    def _copy(self, rows: Sequence[Row]) -> None:
        connections = self._connections
        nested = connections.local.depth > 1
        with connections.inside():
            cursor = connections.cursor()
            with cursor.copy(_COPY) as copy:
                copy.set_types(_TYPES)
                for position, row in enumerate(rows):
                    copy.write_row((position, *row))
            cursor.execute(self.server_sql.unstage, prepare=True)
            if nested:  # more may follow in this transaction
                cursor.execute("TRUNCATE ampstore_staging")

    def _make_staging(self) -> None:
        """Give this connection its staging table; not every user may have temporary tables."""
        connections = self._connections
        connections.get()
        if connections.local.staged is not False:
            return
        try:
            with self._transaction("SELECT 1") if self.in_transaction else contextlib.nullcontext():
                connections.run(_STAGING, prepare=False)
            connections.local.staged = True
        except AccessError:
            connections.local.staged = None

    # -- claims --------------------------------------------------------------------------------

    def claim_many(
        self, wanted: Mapping[str, tuple[str, int, float] | None], owner: str, lease: float
    ) -> dict[str, int]:
        """Claim free keys (None), and those whose claim still is (owner, token, expiry); token by key."""
        free = sorted(key for key, was in wanted.items() if was is None)
        over = [(key, *was) for key, was in wanted.items() if was is not None]
        tokens: dict[str, int] = {}
        if free:
            tokens |= {row[0]: 1 for row in self._write(self.server_sql.claims_free, (owner, lease, free)).rows}
        if over:
            columns = [list(column) for column in zip(*over, strict=True)]
            tokens |= dict(self._write(self.server_sql.claims_over, (*columns, owner, lease)).rows)
        return tokens

    def renew_claims(self, owner: str, lease: float) -> int:
        """Let all claims of an owner last for `lease` seconds from now; how many it has."""
        return self._write(self.sql.claims_renew, (lease, owner)).changed

    def release_claim(self, key: str, owner: str, token: int) -> bool:
        """Give a claim back; False if it is another's by now."""
        done = self._write(self.sql.claim_release, (key, owner, token))
        return done.changed > 0 or done.repeated

    def release_claims(self, owner: str) -> int:
        """Give all claims of an owner back; how many it had."""
        return self._write(self.sql.claims_release, (owner,)).changed

    # -- transactions --------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; no other writer comes in between. Nests: an inner one can roll back alone."""
        self._check_writable()
        with self._transaction(f"SELECT pg_advisory_xact_lock({self.gate})"):
            yield

    def whole(self, work: Callable[[], Result]) -> Result:
        """Result of `work` in one transaction beside others; it runs again if the server went away or clashed.

        For work that does the same when it is done twice.
        """
        self._check_writable()
        share = f"SELECT pg_advisory_xact_lock_shared({self.gate})"
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                with self._transaction(share):
                    return work()
            except (ConnectionLostError, BusyError) as err:
                state = getattr(err.__cause__, "sqlstate", None)
                again = isinstance(err, ConnectionLostError) or state in AGAIN
                if self.in_transaction or not again or time.monotonic() > deadline:
                    raise

    @contextlib.contextmanager
    def _transaction(self, first: str) -> Iterator[None]:
        connections, local = self._connections, self._connections.local
        outermost = not local.depth
        connection = self._begin(first) if outermost else self._save(local.depth, first)
        local.depth += 1
        try:
            yield
            connections.check_still_open(local, connection)
            self._commit(connection) if outermost else self._release(local.depth - 1)
        except BaseException:
            if connections.local is local and not connections.closed and not local.lost:
                self._roll_back(None if outermost else local.depth - 1)
            raise
        finally:
            local.depth -= 1
            if outermost and local.lost and connections.local is local:
                connections.drop()
                local.lost = False

    def _begin(self, first: str) -> Connection:
        connections = self._connections
        try:
            connections.run(f"BEGIN; {first}", prepare=False)
        except BaseException:
            if not connections.closed and connections.local.connection is not None:
                self._roll_back(None)
            raise
        return connections.get()

    def _save(self, depth: int, first: str) -> Connection:
        self._connections.run(f"SAVEPOINT s{depth}; {first}", prepare=False)
        return self._connections.get()

    def _release(self, depth: int) -> None:
        self._connections.run(f"RELEASE s{depth}", prepare=False)

    def _commit(self, connection: Connection) -> None:
        try:
            cursor = connection.execute("COMMIT")
        except psycopg.Error as err:
            if not connection.closed:
                raise self._connections.translate(err) from err
            self._connections.local.lost = True
            # The commit may have reached the disk before the answer was lost.
            raise self._connections.lost("whether it was stored is not known; look, or run it again") from err
        if cursor.statusmessage != "COMMIT":
            raise StoreError(self.location, "a statement of this transaction failed, so nothing of it was stored")

    def _roll_back(self, depth: int | None) -> None:
        connections = self._connections
        connection = connections.local.connection
        connections.local.staged = None if connections.local.staged is None else False  # it may have been made in there
        statement = "ROLLBACK" if depth is None else f"ROLLBACK TO s{depth}; RELEASE s{depth}"
        try:
            if connection is not None:
                connection.execute(statement)
        except psycopg.Error:  # the server rolls back what is left open
            if depth is None:
                connections.drop()
            else:
                connections.local.lost = True

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has a transaction open."""
        return self._connections.local.depth > 0

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads of the block see one state, that of its beginning."""
        if self.in_transaction:
            yield
            return
        local: Any = self._connections.local
        self._connections.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", prepare=False)
        local.depth += 1
        try:
            yield
        finally:
            local.depth -= 1
            self._roll_back(None)
            local.lost = False
