"""Writing rows of one SQLite file, each call in a transaction of its own unless one is open.

wait for the turn -> BEGIN IMMEDIATE ... COMMIT -> checkpoint if the WAL is full -> leave
    -> with durability "full": wait until the commit is on the disk
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ampstore.backend.connections import Durability
from ampstore.backend.failures import busy, is_busy
from ampstore.backend.flush import Flush
from ampstore.backend.reading import Reader
from ampstore.backend.statements import GAPS, Recoded, Row, Trained
from ampstore.backend.transaction import Transaction
from ampstore.backend.turns import Turns
from ampstore.backend.wal import WAL_BOUND, Wal
from ampstore.backend.witness import Note, Witness
from ampstore.errors import LostCommitsError, ReadOnlyError, StoreError
from ampstore.late import late_logger

log = late_logger(__name__)

NOTICED = 0.05
"""Share of the time-out that a writer may wait for its turn before SQLite's part of it is cut by that."""

LONGEST_PAUSE = 5e-3
"""Longest sleep of a writer between two tries where there is no queue, seconds."""

Result = TypeVar("Result")


class Writer(Reader):
    """What can be changed in one file; parameters and attributes are those of `SQLite`."""

    def __init__(
        self, path: Path, *, readonly: bool, timeout: float, durability: Durability, shared: bool = False
    ) -> None:
        super().__init__(path, readonly=readonly, timeout=timeout, durability=durability, shared=shared)
        self._wal = Wal(self._connections)
        self._turns = Turns(self._connections.wal, syncs=durability == "full")
        self._flush = Flush(self._turns, self._wal.write_again)
        self._witness = Witness(str(self.path))
        self._is_trusted = False
        self._name: tuple[sqlite3.Connection, str] | None = None  # id of the store, and who read it

    def close(self) -> None:
        """Close the connections of all threads. Closing twice is fine."""
        super().close()
        self._turns.close()

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
        with self.transaction(), self._connections.translated():
            connection = self.connection()
            found = connection.execute(self.sql.id_of, (key,)).fetchone()
            if found is None:
                return False
            connection.execute(self.sql.delete, (key,))
            last = connection.execute(self.sql.last_id).fetchone()[0] or 0
            if more := 1 - max(found[0] - last, 0):  # a gap more, or those fewer that now lie behind the last entry
                connection.execute(self.sql.info_add, (more, GAPS))
            self._wal.wrote(0)
        return True

    def rename(self, key: str, new: str) -> bool:
        """Give a row another key, its payload untouched; False if there is none, or one of the new key."""
        return self._write(self.sql.rename, (new, key, new), 0) > 0

    def clear(self) -> None:
        """Delete all rows."""
        with self.transaction():
            self._write(self.sql.clear, (), WAL_BOUND)
            self._write(self.sql.info_put, (GAPS, "0"), 0)
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

    def claim_many(
        self, wanted: Mapping[str, tuple[str, int, float] | None], owner: str, lease: float
    ) -> dict[str, int]:
        """Claim free keys (None), and those whose claim still is (owner, token, expiry); token by key."""
        tokens = {}
        with self.transaction():
            for key, was in wanted.items():
                if self.claim(key, owner, lease) if was is None else self.take_claim(key, owner, lease, was):
                    tokens[key] = was[1] + 1 if was else 1
        return tokens

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

    def whole(self, work: Callable[[], Result]) -> Result:
        """Result of `work` in one transaction; a server may have to run it again."""
        with self.transaction():
            return work()

    # -- transactions --------------------------------------------------------------------------

    def _write(self, sql: str, parameters: Sequence[object], size: int) -> int:
        connection, local = self._writable(), self._connections.local
        if local.depth:
            return self._change(connection, sql, parameters, size)
        if local.grouped or not self._turns.works:
            with self.transaction():
                return self._change(connection, sql, parameters, size)
        # One statement outside a transaction is a transaction: SQLite takes a fresh snapshot and the
        # write lock together, as BEGIN IMMEDIATE does, for a third of the statements.
        try:
            self.enter(connection)
            changed = self._change(connection, sql, parameters, size)
            self.leave(connection)
        except BaseException:
            self.leave(connection)
            raise
        return changed

    def _change(self, connection: sqlite3.Connection, sql: str, parameters: Sequence[object], size: int) -> int:
        try:
            changed = connection.execute(sql, parameters).rowcount
        except sqlite3.Error as err:
            raise self._connections.translate(err) from err
        self._wal.wrote(size)
        return changed

    def _writable(self) -> sqlite3.Connection:
        if self.readonly:
            raise ReadOnlyError(str(self.path))
        if not self._is_trusted:
            if loss := self.loss():
                raise LostCommitsError(str(self.path), loss)
            self._is_trusted = True
        return self._connections.get()

    def loss(self) -> str | None:
        """What says that acknowledged commits are gone, None if nothing does; see `ampstore.backend.witness`."""
        note = self._witness.read()  # first: the store may only be ahead of it
        return self._compare(note, self._commits()) if note else None

    def _compare(self, note: Note, commits: int) -> str | None:
        if commits >= note.commits or note.store != self._id():
            return None
        return (
            f"it has had {commits} durable commits, and {self._witness.path} says {note.commits}: acknowledged "
            "commits are gone, or this is an older copy; restore a newer one, or remove that file to accept this one"
        )

    def _id(self) -> str:
        return self.info_get("store") or ""

    def _commits(self) -> int:
        noted = self.info_get("commits") or ""
        return int(noted) if noted.isdigit() else 0

    def _number(self, connection: sqlite3.Connection) -> None:
        """Count this transaction among the durable ones, unless it changed nothing."""
        local = self._connections.local
        local.commit = 0
        if not local.grouped or connection.total_changes == local.changes:
            return
        note, commits = self._witness.read(), self._commits()
        if note and (loss := self._compare(note, commits)):
            raise LostCommitsError(str(self.path), loss)
        local.commit = commits + 1
        connection.execute(self.sql.info_put, ("commits", str(local.commit)))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; holds the write lock from the start. Nests: an inner one can roll back alone."""
        transaction = Transaction(self, self._writable(), self._connections.local)
        try:
            transaction.open()
            yield
            transaction.commit()
            transaction.end()
        except BaseException:
            transaction.end()
            raise
        if not self.in_transaction:
            self.flush()

    @contextlib.contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """The connection of this thread while it is its turn, for what is no transaction: VACUUM, checkpoints."""
        connection = self._writable()
        if self.in_transaction:
            yield connection
            return
        try:
            self.enter(connection)
            yield connection
        finally:
            self.leave(connection)

    def enter(self, connection: sqlite3.Connection) -> None:
        """Wait for the turn of this thread; call `leave` whatever comes of it."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")  # a signal kept the last one from it
        try:
            waited = self._turns.enter(self.timeout)
        except TimeoutError:
            raise busy(self.path, self.timeout) from None
        if waited > NOTICED * self.timeout:
            self._connections.local.impatient = True
            connection.execute(f"PRAGMA busy_timeout={int(1000 * max(self.timeout - waited, 0))}")

    def leave(self, connection: sqlite3.Connection) -> None:
        """End the turn of this thread. A signal may come at its very start; then call it once more."""
        self._turns.leave()
        if self._connections.local.impatient:
            self._connections.local.impatient = False
            self._connections.be_patient(connection)

    def begin(self, connection: sqlite3.Connection) -> None:
        """BEGIN IMMEDIATE; where there is no queue, with tries at random moments instead of SQLite's regular ones."""
        with self._connections.translated():
            self._connections.local.changes = connection.total_changes
            if self._turns.works:
                connection.execute("BEGIN IMMEDIATE")
                return
            from random import uniform

            deadline = time.monotonic() + self.timeout
            connection.execute("PRAGMA busy_timeout=0")
            try:
                while not self._has_begun(connection, deadline):
                    time.sleep(uniform(0, LONGEST_PAUSE))  # noqa: S311 - no secret
            finally:
                self._connections.be_patient(connection)

    @staticmethod
    def _has_begun(connection: sqlite3.Connection, deadline: float) -> bool:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as err:
            if not is_busy(err) or time.monotonic() > deadline:
                raise
            return False
        return True

    def commit(self, connection: sqlite3.Connection, statement: str) -> None:
        """End a transaction well; a checkpoint belongs to the turn of the writer that makes it necessary."""
        if not self.is_current(connection):
            raise StoreError(str(self.path), "a transaction does not cross fork or close; begin it in the child")
        with self._connections.translated():
            if statement == "COMMIT":
                self._number(connection)
            connection.execute(statement)

    def bound_wal(self) -> None:
        """Run a checkpoint if the WAL has passed its bound."""
        self._wal.bound()

    def flush(self) -> None:
        """With durability "full", wait until the last commit is on the disk."""
        local = self._connections.local
        if not local.grouped:
            return
        self._flush.wait()
        if local.commit:
            self._bear_witness(local.commit)

    def _bear_witness(self, commit: int) -> None:
        connection = self._connections.get()
        if self._name is None or self._name[0] is not connection:
            self._name = connection, self._id()
        try:
            self._witness.note(Note(self._name[1], commit))
        except OSError as err:
            log.warning("%s cannot be written (%s): a loss of commits would not be noticed", self._witness.path, err)

    def is_current(self, connection: sqlite3.Connection) -> bool:
        """Whether this still is the connection of this thread: not after close, not in a forked child."""
        return self._connections.local.connection is connection

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has a transaction open."""
        return self._connections.local.depth > 0
