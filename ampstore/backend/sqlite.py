"""Rows of one SQLite file in WAL mode: reading, writing, transactions, checkpoints.

`wal_autocheckpoint` is 0 on every connection. SQLite 3.7.0 to 3.51.2 can lose committed
transactions when a PASSIVE checkpoint runs beside a commit that resets the WAL (fixed in 3.51.3,
3.50.7, 3.44.6). Checkpoints here are FULL or TRUNCATE, which hold the write lock, once the WAL
passes `WAL_BOUND`. FULL lets the next writer start the WAL again from its beginning: emptying the
file every time (TRUNCATE) makes each commit 1.4 times as expensive, since the file system has to
allocate the space again. No read lasts longer than one chunk of rows, so nothing of ours keeps the
WAL from being emptied.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ampstore.backend.compiled import SQLITE
from ampstore.backend.connections import Connections, Durability, PerThread
from ampstore.backend.failures import LARGEST, is_bad_text, translate, translated
from ampstore.backend.statements import GROUP_SIZES, Statements
from ampstore.durable import sync
from ampstore.errors import BusyError, ClosedError, DamagedStoreError, ReadOnlyError, StorageError, StoreError

WAL_BOUND = 4 << 20
"""Bytes of WAL after which a checkpoint empties it: some 6 ms for the writer that does it."""

TRUNCATED_ABOVE = 4 * WAL_BOUND
"""Bytes of a WAL file (that a reader held back, or one large transaction made) that is cut off again."""

UNCHECKED = 256 << 10
"""Bytes written by one connection between two looks at the size of the WAL."""

ROW_OVERHEAD = 12 << 10  # a commit of one row appends about three pages to the WAL besides its payload

CHUNK_ROWS = 1000
CHUNK_BYTES = 8 << 20


class Row(NamedTuple):
    """One row to write, in the order of the `put` statement."""

    key: str
    codec: str
    kind: str
    size: int
    checksum: bytes
    written_at: float
    payload: bytes


class SQLite:
    """Rows of one SQLite file.

    Safe for threads and for processes that fork: every thread of every process has a connection of
    its own, made when it is first needed.

    Parameters
    ----------
    path : Path
        The file; it must exist and hold the schema.
    readonly : bool
        Write nothing, create nothing, lock nothing.
    timeout : float
        Longest wait for another writer, seconds.
    durability : {"normal", "full"}
        "normal": a power cut may take the last commits, never more, and never corrupts; "full":
        every commit is on the disk when the call returns (one fsync each).

    Attributes
    ----------
    largest : int
        Bytes that one payload may have.
    """

    def __init__(self, path: Path, *, readonly: bool, timeout: float, durability: Durability) -> None:
        self.path = path
        self.readonly = readonly
        self.timeout = timeout
        self.largest = LARGEST
        self.sql = Statements(**SQLITE)
        self._connections = Connections(path, readonly=readonly, timeout=timeout, durability=durability)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._connections.closed

    def connection(self) -> sqlite3.Connection:
        """The DBAPI connection of this thread."""
        return self._connections.get()

    def close(self) -> None:
        """Close the connections of all threads. Closing twice is fine."""
        self._connections.close()

    # -- reading -------------------------------------------------------------------------------

    def _read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        try:
            if self.readonly:
                return self._connections.read(lambda: self.connection().execute(sql, parameters).fetchall())
            connections = self._connections
            return (connections.local.connection or connections.connect()).execute(sql, parameters).fetchall()
        except sqlite3.Error as err:
            if self._may_decode(err):
                with self._any_text():
                    return self._read(sql, parameters)
            raise self._translate(err) from err

    def _read_some(self, sql: str, parameters: Sequence[object], rows: int, size: int) -> list[tuple[object, ...]]:
        """First rows of a result, at most `rows`, and at most `size` bytes of payload (the last column)."""

        def read() -> list[tuple[object, ...]]:
            found: list[tuple[object, ...]] = []
            room = size
            with contextlib.closing(self.connection().execute(sql, parameters)) as cursor:
                for row in cursor:
                    found.append(row)
                    room -= len(row[-1]) if isinstance(row[-1], bytes) else 0
                    if len(found) >= rows or room <= 0:
                        break
            return found

        try:
            return self._connections.read(read) if self.readonly else read()
        except sqlite3.Error as err:
            if self._may_decode(err):
                with self._any_text():
                    return self._read_some(sql, parameters, rows, size)
            raise self._translate(err) from err

    def _may_decode(self, err: sqlite3.Error) -> bool:
        return is_bad_text(err) and self.connection().text_factory is str

    @contextlib.contextmanager
    def _any_text(self) -> Iterator[None]:
        """Read damaged text too: one row whose text is no UTF-8 must not hide the others."""
        connection = self.connection()
        connection.text_factory = _decode_anything
        try:
            yield
        finally:
            connection.text_factory = str

    def fetch(self, key: str) -> tuple[str, int, bytes, bytes] | None:
        """codec, size, checksum and payload of an entry."""
        connection = self._connections.local.connection
        if connection is not None and not self.readonly:  # the hot path; whatever goes wrong is named below
            try:
                return connection.execute(self.sql.fetch, (key,)).fetchone()  # type: ignore[no-any-return]
            except sqlite3.Error:
                pass
        rows = self._read(self.sql.fetch, (key,))
        return rows[0] if rows else None  # type: ignore[return-value]

    def head(self, key: str) -> tuple[bytes, float] | None:
        """Checksum and time of writing of an entry, without its payload."""
        rows = self._read(self.sql.head, (key,))
        return rows[0] if rows else None  # type: ignore[return-value]

    def contains(self, key: str) -> bool:
        """Whether there is an entry, without its payload."""
        return bool(self._read(self.sql.contains, (key,)))

    def count(self) -> int:
        """Number of entries."""
        return self._read(self.sql.number)[0][0]  # type: ignore[return-value]

    def last_id(self) -> int:
        """Largest id in use, 0 in an empty store."""
        return self._read(self.sql.last_id)[0][0] or 0  # type: ignore[return-value]

    def keys(self, after: int, last: int) -> list[tuple[int, str]]:
        """Some of the ids and keys with after < id <= last, in order of insertion; [] at the end."""
        return self._read_some(self.sql.keys, (after, last), CHUNK_ROWS, CHUNK_BYTES)  # type: ignore[return-value]

    def rows(self, after: int, last: int) -> list[tuple[int, str, str, int, bytes, bytes]]:
        """Some of the whole rows with after < id <= last, in order of insertion; [] at the end."""
        return self._read_some(self.sql.rows, (after, last), CHUNK_ROWS, CHUNK_BYTES)  # type: ignore[return-value]

    def scan(self) -> Iterator[tuple[int, str, str, int, bytes, bytes]]:
        """All rows that are there now, in order of insertion, in constant memory."""
        last, after = self.last_id(), 0
        while chunk := self.rows(after, last):
            after = chunk[-1][0]
            yield from chunk

    def fetch_many(self, keys: Sequence[str]) -> Iterator[tuple[str, str, int, bytes, bytes]]:
        """key, codec, size, checksum and payload of those keys that are there, in any order."""
        return self._by_group(self.sql.fetch_groups, keys)  # type: ignore[return-value]

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that are there."""
        return {row[0] for row in self._by_group(self.sql.known_groups, keys)}  # type: ignore[misc]

    def _by_group(self, statements: dict[int, str], keys: Sequence[str]) -> Iterator[tuple[object, ...]]:
        small, large = GROUP_SIZES
        for start in range(0, len(keys), large):
            group = keys[start : start + large]
            size = small if len(group) <= small else large
            yield from self._read(statements[size], [*group, *[None] * (size - len(group))])

    def listing(self, prefix: str) -> Iterator[tuple[str, str, int, int, str, float]]:
        """key, kind, size, stored size, codec and time of writing, by key, from `prefix` on."""
        start, skip = prefix, False
        while rows := self._read_some(self.sql.listing, (start,), CHUNK_ROWS, CHUNK_BYTES):
            yield from rows[1:] if skip else rows  # type: ignore[misc]
            if len(rows) < CHUNK_ROWS:
                return
            start, skip = rows[-1][0], True  # type: ignore[assignment]

    def kinds(self) -> list[tuple[str, int, int, int]]:
        """codec, entries, bytes of streams and bytes stored, for every codec in use."""
        return self._read(self.sql.kinds)  # type: ignore[return-value]

    def info(self) -> dict[str, str]:
        """Facts about the store."""
        return dict(self._read(self.sql.info_all))  # type: ignore[arg-type]

    def info_get(self, name: str) -> str | None:
        """One fact about the store."""
        rows = self._read(self.sql.info_get, (name,))
        return rows[0][0] if rows else None  # type: ignore[return-value]

    # -- writing -------------------------------------------------------------------------------

    def put(self, row: Row) -> None:
        """Write one row, in a transaction of its own unless one is open."""
        self._write(self.sql.put, row, len(row.payload))

    def put_rows(self, rows: Sequence[Row]) -> None:
        """Write rows in one transaction."""
        with self.transaction(), self._translated():
            self.connection().executemany(self.sql.put, rows)
            self._connections.local.unchecked += sum(len(row.payload) for row in rows) + ROW_OVERHEAD

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

    def put_trace(self, run: str, chain: int, points: Iterable[Sequence[float]], replace: bool) -> None:
        """Write points of a trace; `replace` deletes those that this and later chains have before."""
        with self.transaction(), self._translated():
            connection = self.connection()
            if replace:
                connection.execute(self.sql.trace_delete, (run, chain))
            connection.executemany(self.sql.trace_put, [(run, chain, *point) for point in points])
            self._connections.local.unchecked += ROW_OVERHEAD

    # -- claims --------------------------------------------------------------------------------

    def claims(self, keys: Sequence[str]) -> list[tuple[str, str, int, float, float]]:
        """key, owner, token, time of expiry and seconds left, for those of the keys that are claimed."""
        return list(self._by_group(self.sql.claims_groups, keys))  # type: ignore[arg-type]

    def claim(self, key: str, owner: str, lease: float) -> bool:
        """Claim a key for `lease` seconds from now; False if it is claimed."""
        return self._write(self.sql.claim_free, (key, owner, lease), 0) > 0

    def take_claim(self, key: str, owner: str, lease: float, was: tuple[str, int, float]) -> bool:
        """Claim a key whose claim still is `was`: owner, token, time of expiry. The token goes up by 1."""
        return self._write(self.sql.claim_over, (owner, lease, key, *was), 0) > 0

    def renew_claims(self, owner: str, lease: float) -> int:
        """Let all claims of an owner last for `lease` seconds from now; how many it has."""
        return self._write(self.sql.claims_renew, (lease, owner), 0)

    def claims_of(self, owner: str) -> dict[str, int]:
        """Token by key of the claims of an owner."""
        return dict(self._read(self.sql.claims_owned, (owner,)))  # type: ignore[arg-type]

    def release_claim(self, key: str, owner: str, token: int) -> bool:
        """Give a claim back; False if it is another's by now."""
        return self._write(self.sql.claim_release, (key, owner, token), 0) > 0

    def release_claims(self, owner: str) -> int:
        """Give all claims of an owner back; how many it had."""
        return self._write(self.sql.claims_release, (owner,), 0)

    def _write(self, sql: str, parameters: Sequence[object], size: int) -> int:
        # One statement outside a transaction is a transaction: SQLite takes a fresh snapshot and the
        # write lock together, as BEGIN IMMEDIATE does, for a third of the statements.
        local = self._connections.local
        try:
            changed = self._writable().execute(sql, parameters).rowcount
        except sqlite3.Error as err:
            raise self._translate(err) from err
        local.unchecked += size + ROW_OVERHEAD
        if local.unchecked > UNCHECKED and not local.depth:
            self._bound_wal()
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
        with self._translated():
            connection.execute(begin)
        local.depth += 1
        try:
            yield
            self._check_still_open(local, connection)
            with self._translated():
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
            self._bound_wal()

    def _check_still_open(self, local: PerThread, connection: sqlite3.Connection) -> None:
        if self._connections.local is not local or local.connection is not connection:
            raise StoreError(str(self.path), "a transaction does not cross fork or close; begin it in the child")

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has a transaction open."""
        return self._connections.local.depth > 0

    # -- care ----------------------------------------------------------------------------------

    def _bound_wal(self) -> None:
        """Empty the WAL if it may have passed its bound.

        Its file keeps its size while it is written again from the beginning. So the size tells only
        while it grows; afterwards every connection counts what it has written itself.
        """
        local = self._connections.local
        local.written, local.unchecked = local.written + local.unchecked, 0
        try:
            size = os.stat(self._connections.wal).st_size
        except FileNotFoundError:
            return
        if size <= WAL_BOUND or (size <= local.known and local.written < WAL_BOUND):
            return
        # Wait for other writers, but hardly for readers: what they hold back is done next time.
        large = size > TRUNCATED_ABOVE
        done = self.checkpoint(1.0 if large else 0.05, "TRUNCATE" if large else "FULL")
        local.written = 0
        local.known = size if done else size + WAL_BOUND // 2

    def checkpoint(self, wait: float = 1.0, mode: Literal["FULL", "TRUNCATE"] = "TRUNCATE") -> bool:
        """Move the WAL into the main file; False if a reader held part of it back.

        Parameters
        ----------
        wait : float
            Longest wait for other connections, seconds.
        mode : {"FULL", "TRUNCATE"}
            The second empties the file of the WAL too.
        """
        connection = self._writable()
        try:
            connection.execute(f"PRAGMA busy_timeout={int(1000 * wait)}")
            return connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0] == 0  # type: ignore[no-any-return]
        except sqlite3.Error as err:
            failure = self._translate(err)
            if isinstance(failure, BusyError):
                return False
            raise failure from err
        finally:
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed meanwhile by another thread
                connection.execute(f"PRAGMA busy_timeout={int(1000 * self.timeout)}")

    def sync(self) -> None:
        """Put every commit so far on the disk: by a checkpoint, or by syncing the WAL beside readers."""
        if self.in_transaction or not self.checkpoint(0.05):
            for name in (self._connections.wal, os.path.dirname(self._connections.wal)):
                try:
                    sync(name)
                except FileNotFoundError:
                    pass
                except OSError as err:
                    raise StorageError(name, f"fsync failed: {err.strerror}") from err

    def compact(self) -> None:
        """Rewrite the file without its free pages, and empty the WAL."""
        with self._translated():
            self._writable().execute("VACUUM")
        self.checkpoint()

    def copy_to(self, destination: Path) -> None:
        """Copy one snapshot into a new file while others go on writing."""
        with self._translated():
            target = sqlite3.connect(destination, isolation_level=None)
            try:
                self.connection().backup(target)
            finally:
                target.close()

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file; [] if nothing."""
        try:
            found = [str(row[0]) for row in self._read("PRAGMA integrity_check(100)")]
        except DamagedStoreError as err:
            return [err.detail]
        return [] if found == ["ok"] else found

    def revision(self) -> str | None:
        """Revision of the schema, None if this is a database of somebody else."""
        try:
            rows = self._read(self.sql.revision)
        except StoreError as err:
            cause = err.__cause__
            if isinstance(cause, sqlite3.Error) and cause.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                return None  # no such table
            raise
        return str(rows[0][0]) if rows else None

    def stored_bytes(self) -> int:
        """Bytes on the disk: the main file and the WAL."""
        total = 0
        for name in (str(self.path), self._connections.wal):
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(name).st_size
        return total

    def _translate(self, err: sqlite3.Error) -> Exception:
        if isinstance(err, sqlite3.ProgrammingError) and self.closed:
            return ClosedError(str(self.path))
        return translate(err, self.path, self.timeout)

    def _translated(self) -> contextlib.AbstractContextManager[None]:
        return translated(self.path, self.timeout)


def _decode_anything(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
