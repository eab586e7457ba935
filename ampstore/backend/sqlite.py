"""One SQLite file in WAL mode: connections, transactions, checkpoints.

Rules that this module holds, each for a reason that was measured or has a bug number:

* A connection is used by one thread of one process. After fork the child opens its own; what it
  inherited is kept and never touched, since closing it would act on locks of the parent.
* `wal_autocheckpoint` is 0 everywhere. SQLite 3.7.0 to 3.51.2 can lose committed transactions
  when a PASSIVE checkpoint runs beside a commit that resets the WAL (fixed in 3.51.3, 3.50.7,
  3.44.6). Checkpoints here are TRUNCATE, which holds the write lock, once the WAL passes
  `WAL_BOUND`.
* No read lasts longer than one chunk of rows, so nothing keeps the WAL from being reset.
* A read-only handle writes nothing, not even the -shm file that SQLite makes beside a WAL-mode
  database: while there is no WAL, the file is read as immutable and each read is checked
  against the file's stamp before and after.
"""

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

from ampstore.backend.statements import GROUP_SIZES, Statements, for_sqlite
from ampstore.errors import (
    AccessError,
    BusyError,
    ClosedError,
    DamagedStoreError,
    EntryTooLargeError,
    MissingStoreError,
    NotAStoreError,
    ReadOnlyError,
    StorageError,
    StoreError,
)
from ampstore.tables import VERSION_TABLE

Durability = Literal["normal", "full"]

WAL_BOUND = 4 << 20
"""Bytes of WAL after which a checkpoint empties it: at most some 10 ms for the writer that does it."""

UNCHECKED = 256 << 10
"""Bytes written by one connection between two looks at the size of the WAL."""

ROW_OVERHEAD = 16 << 10  # a commit of one small row appends about two 8 kB pages to the WAL

CHUNK_ROWS = 1000
CHUNK_BYTES = 8 << 20

_PRAGMAS = """
PRAGMA synchronous={synchronous};
PRAGMA wal_autocheckpoint=0;
PRAGMA cache_size=-16384;
PRAGMA temp_store=MEMORY;
PRAGMA trusted_schema=OFF;
PRAGMA cell_size_check=ON;
"""

_ERRORS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_BUSY: BusyError,
    sqlite3.SQLITE_LOCKED: BusyError,
    sqlite3.SQLITE_PERM: AccessError,
    sqlite3.SQLITE_AUTH: AccessError,
    sqlite3.SQLITE_READONLY: AccessError,
    sqlite3.SQLITE_IOERR: StorageError,
    sqlite3.SQLITE_FULL: StorageError,
    sqlite3.SQLITE_CORRUPT: DamagedStoreError,
    sqlite3.SQLITE_NOTADB: NotAStoreError,
}


class Row(NamedTuple):
    """One row to write, in the order of the `put` statement."""

    key: str
    codec: str
    kind: str
    size: int
    checksum: bytes
    written_at: float
    payload: bytes


class _PerThread(threading.local):
    connection: sqlite3.Connection | None = None
    depth = 0
    unchecked = 0
    retry_above = WAL_BOUND
    stamp: object = None


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
    closed : bool
        Whether `close` was called.
    """

    def __init__(self, path: Path, *, readonly: bool, timeout: float, durability: Durability) -> None:
        self.path = path
        self.readonly = readonly
        self.timeout = timeout
        self.durability = durability
        self.sql: Statements = for_sqlite()
        self.largest = 1_000_000_000
        self._wal = f"{path}-wal"
        self.closed = False
        self._local = _PerThread()
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        weakref.finalize(self, _close_all, self._connections)
        _alive.add(self)

    # -- connections ---------------------------------------------------------------------------

    def connection(self) -> sqlite3.Connection:
        """The DBAPI connection of this thread."""
        return self._local.connection or self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self.closed:
            raise ClosedError(str(self.path))
        with self._translated():
            connection = self._open()
        self.largest = min(self.largest, connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH))
        with self._lock:
            for thread in [thread for thread in self._connections if not thread.is_alive()]:
                self._connections.pop(thread).close()
            self._connections[threading.current_thread()] = connection
        self._local.connection = connection
        return connection

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists():
            raise MissingStoreError(str(self.path))
        mode = "rw"
        if self.readonly:
            stamp = self._local.stamp = self._stamp()
            mode = "ro" if stamp is None else "ro&immutable=1"
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self.path))}?mode={mode}",
            uri=True,
            timeout=self.timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        try:
            synchronous = "FULL" if self.durability == "full" else "NORMAL"
            connection.executescript(_PRAGMAS.format(synchronous=synchronous))
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the connections of all threads. Closing twice is fine."""
        self.closed = True
        with self._lock:
            _close_all(self._connections)
        self._local.connection = None

    def forget_parent(self) -> None:
        """In a forked child: keep what was inherited, use none of it."""
        _inherited.extend(self._connections.values())
        self._connections.clear()
        self._local = _PerThread()
        self._lock = threading.Lock()

    # -- read-only handles ---------------------------------------------------------------------

    def _stamp(self) -> tuple[int, ...] | None:
        """What changes whenever the main file does, or None while a WAL says that somebody writes."""
        try:
            if os.stat(self._wal).st_size:
                return None
        except FileNotFoundError:
            pass
        found = os.stat(self.path)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _steady(self, read: Callable[[], list[tuple[object, ...]]]) -> list[tuple[object, ...]]:
        """Run a read on an immutable file; read again if somebody changed the file meanwhile."""
        while True:
            stamp = self._local.stamp
            if stamp is None:
                return read()  # beside a writer SQLite's own locks protect the read
            if self._stamp() == stamp:
                try:
                    rows, failure = read(), None
                except sqlite3.Error as err:
                    rows, failure = [], err
                if self._stamp() == stamp:
                    if failure:
                        raise failure
                    return rows
            self._reopen()

    def _reopen(self) -> None:
        with self._lock:
            connection = self._connections.pop(threading.current_thread(), None)
        self._local.connection = None
        if connection:
            connection.close()
        self.connection()

    # -- reading -------------------------------------------------------------------------------

    def _read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        try:
            if self.readonly:
                self.connection()
                return self._steady(lambda: self.connection().execute(sql, parameters).fetchall())
            return (self._local.connection or self._connect()).execute(sql, parameters).fetchall()
        except sqlite3.Error as err:
            if _is_bad_text(err) and self.connection().text_factory is str:
                with self._any_text():
                    return self._read(sql, parameters)
            raise self._translate(err) from err

    @contextlib.contextmanager
    def _any_text(self) -> Iterator[None]:
        """Read damaged text too: one row whose text is no UTF-8 must not hide the others."""
        connection = self.connection()
        connection.text_factory = _decode_anything
        try:
            yield
        finally:
            connection.text_factory = str

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
            self.connection()
            return self._steady(read) if self.readonly else read()
        except sqlite3.Error as err:
            if _is_bad_text(err) and self.connection().text_factory is str:
                with self._any_text():
                    return self._read_some(sql, parameters, rows, size)
            raise self._translate(err) from err

    def fetch(self, key: str) -> tuple[str, int, bytes, bytes] | None:
        """codec, size, checksum and payload of an entry."""
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
            self._local.unchecked += sum(len(row.payload) for row in rows) + ROW_OVERHEAD

    def delete(self, key: str) -> bool:
        """Delete a row; False if there was none."""
        return self._write(self.sql.delete, (key,), 0) > 0

    def clear(self) -> None:
        """Delete all rows."""
        self._write(self.sql.clear, (), WAL_BOUND)

    def info_put(self, name: str, value: str) -> None:
        """Set one fact about the store."""
        self._write(self.sql.info_put, (name, value), 0)

    def _write(self, sql: str, parameters: Sequence[object], size: int) -> int:
        # One statement outside a transaction is a transaction: SQLite takes a fresh snapshot and the
        # write lock together, as BEGIN IMMEDIATE does, for a third of the statements.
        local = self._local
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
        return self._local.connection or self._connect()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; holds the write lock from the start. Nests: an inner one can roll back alone."""
        connection, local = self._writable(), self._local
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
            if self._local is local and connection.in_transaction:
                connection.execute(rollback)
                if local.depth > 1:
                    connection.execute(commit)
            raise
        finally:
            local.depth -= 1
        if not local.depth:
            self._bound_wal()

    def _check_still_open(self, local: _PerThread, connection: sqlite3.Connection) -> None:
        if self._local is not local or local.connection is not connection:
            raise StoreError(str(self.path), "a transaction does not cross fork or close; begin it in the child")

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has a transaction open."""
        return self._local.depth > 0

    # -- care ----------------------------------------------------------------------------------

    def _bound_wal(self) -> None:
        local = self._local
        local.unchecked = 0
        try:
            size = os.stat(self._wal).st_size
        except FileNotFoundError:
            return
        if size <= WAL_BOUND:
            local.retry_above = WAL_BOUND
        elif size > local.retry_above:
            # Wait for other writers, but hardly for readers: what they hold back is done next time.
            done = self.checkpoint(0.05 if size < 4 * WAL_BOUND else 1.0)
            local.retry_above = WAL_BOUND if done else size + WAL_BOUND // 2

    def checkpoint(self, wait: float = 1.0) -> bool:
        """Move the WAL into the main file and empty it; False if a reader held part of it back.

        Parameters
        ----------
        wait : float
            Longest wait for other connections, seconds.
        """
        connection = self._writable()
        try:
            connection.execute(f"PRAGMA busy_timeout={int(1000 * wait)}")
            return connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0  # type: ignore[no-any-return]
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
            for name in (self._wal, os.path.dirname(self._wal)):
                _sync_file(name)

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
            rows = self._read(f"SELECT version_num FROM {VERSION_TABLE}")
        except StoreError as err:
            cause = err.__cause__
            if isinstance(cause, sqlite3.Error) and cause.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                return None  # no such table
            raise
        return str(rows[0][0]) if rows else None

    def stored_bytes(self) -> int:
        """Bytes on the disk: the main file and the WAL."""
        total = 0
        for name in (str(self.path), self._wal):
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(name).st_size
        return total

    # -- errors --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as err:
            raise self._translate(err) from err

    def _translate(self, err: sqlite3.Error) -> Exception:
        """Our error for one of SQLite's; the only place that knows its codes."""
        location = str(self.path)
        if isinstance(err, sqlite3.ProgrammingError) and self.closed:
            return ClosedError(location)
        code = getattr(err, "sqlite_errorcode", None)
        if code is None:
            return StoreError(location, str(err))
        primary = code & 0xFF
        if primary == sqlite3.SQLITE_TOOBIG:
            return EntryTooLargeError(self.largest, self.largest)
        if primary == sqlite3.SQLITE_CANTOPEN:
            missing = not self.path.exists()
            return MissingStoreError(location) if missing else AccessError(location, self._access_detail())
        cls = _ERRORS.get(primary, StoreError)
        detail = "" if cls in (NotAStoreError, BusyError) else f"{cls._sentence} (SQLite: {err})"
        if cls is BusyError:
            detail = f"another process held the store for {self.timeout:g} s; try again or open with a larger timeout="
        return cls(location, detail)

    def _access_detail(self) -> str:
        return (
            f"cannot be opened; this user needs read{'' if self.readonly else ' and write'} permission for the file "
            "and its directory (a crashed writer's WAL is recovered there)"
        )


def _is_bad_text(err: sqlite3.Error) -> bool:
    """Whether the error comes from the module, not from SQLite: it could not decode a text column."""
    return type(err) is sqlite3.OperationalError and getattr(err, "sqlite_errorcode", None) is None


def _decode_anything(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _sync_file(name: str) -> None:
    # Never the main file: closing any descriptor of it drops the locks that SQLite has on it.
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as err:
            raise StorageError(name, f"fsync failed: {err.strerror}") from err
        finally:
            os.close(descriptor)


_alive: "weakref.WeakSet[SQLite]" = weakref.WeakSet()
_inherited: list[sqlite3.Connection] = []


def _close_all(connections: dict[threading.Thread, sqlite3.Connection]) -> None:
    while connections:
        connections.popitem()[1].close()


def _after_fork() -> None:
    for backend in list(_alive):
        backend.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
