"""Connections to one SQLite file: one for every thread of every process, writing or only reading.

A connection that was inherited through fork nevertheless (see `ampstore.backend.forks`) is kept and
never touched, since closing it would act on locks of the parent.

A read-only connection writes nothing, not even the -shm file that SQLite makes beside a WAL-mode
database. While there is no WAL, nobody writes, and the file is read as immutable; it is read again
if its stamp was not the same before and after. Beside a writer SQLite's own locks do the work.

On a file system that several hosts share there is no WAL, but a rollback journal. A read happens under
SQLite's locks where those work, and counts if no journal was there and nothing had changed, before
and after: it is right also where locks are of one host only.
"""

import contextlib
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote

from ampstore.backend import forks
from ampstore.backend.failures import translate
from ampstore.backend.turns import leave
from ampstore.errors import BusyError, ClosedError, DamagedStoreError, MissingStoreError, StorageError, StoreError

Durability = Literal["normal", "full"]
Result = TypeVar("Result")

# wal_autocheckpoint: see ampstore.backend.wal. The last two keep a hostile file from running
# functions in its schema and from misleading the page parser.
_PRAGMAS = """
PRAGMA synchronous=NORMAL;
PRAGMA wal_autocheckpoint=0;
PRAGMA cache_size=-16384;
PRAGMA temp_store=MEMORY;
PRAGMA trusted_schema=OFF;
PRAGMA cell_size_check=ON;
PRAGMA mmap_size=0;
"""

# A damaged page under a memory map is a signal, not an error. The rest is what our statements need at most.
_LIMITS = {
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1 << 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 1,  # VACUUM attaches the file that it writes
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 4,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


ATTEMPTS = 4
"""Reads of a file on a network file system that may fail one after the other."""

_FORKED = (
    "this process was forked while a transaction was open or other threads were at work, and shares SQLite's locks"
    " with its parent; fork outside of transactions, or start the process with spawn or forkserver"
)


class PerThread(threading.local):
    """State of one thread: its connection, the depth of its transaction, and what it knows of the WAL.

    `unchecked` bytes were written since it looked at the WAL. Of the pages with this `salt` it moved those it could
    into the main file, and tries again beyond `upto` bytes. `grouped` commits are put on the disk by `Flush`. An
    `impatient` connection has a shorter time-out for now. `counted` is a state of the rows and their number.
    `changes` is the number of changed rows before the transaction, `commit` its number among the durable ones, 0 if
    it changed nothing.
    """

    connection: sqlite3.Connection | None = None
    depth = 0
    unchecked = 0
    salt = b""
    upto = 0
    stamp: tuple[int, ...] | None = None
    grouped = False
    impatient = False
    changes = 0
    commit = 0
    counted: tuple[object, int] | None = None


class Connections:
    """Makes, keeps and closes the connections.

    Parameters
    ----------
    path : Path
    readonly : bool
    timeout : float
        Longest wait for other connections, seconds.
    durability : {"normal", "full"}
    shared : bool
        Several hosts may have the file system: a rollback journal, no WAL.
    """

    def __init__(
        self, path: Path, *, readonly: bool, timeout: float, durability: Durability, shared: bool = False
    ) -> None:
        self.path = path
        self.shared = shared
        self.wal = f"{path}-wal"
        self.readonly = readonly
        self.timeout = timeout
        self.closed = False
        self.local = PerThread()
        self._durability = durability
        self._lock = threading.Lock()
        self._made: dict[threading.Thread, sqlite3.Connection] = {}
        weakref.finalize(self, _close_all, self._made)
        forks.register(self)
        if shared and not readonly:
            with _headers_lock:
                _shared_writers.add(self)

    def get(self) -> sqlite3.Connection:
        """The connection of this thread."""
        return self.local.connection or self.connect()

    def connect(self) -> sqlite3.Connection:
        """A new connection for this thread; those of threads that ended are closed."""
        forks.wait_for_fork()
        if self.closed:
            raise ClosedError(str(self.path))
        if forks.is_inherited(self.identity()):
            raise StoreError(str(self.path), _FORKED)
        with self.translated():
            connection = self._open()
        with self._lock:
            for thread in [thread for thread in self._made if not thread.is_alive()]:
                self._made.pop(thread).close()
            self._made[threading.current_thread()] = connection
        self.local.connection = connection
        return connection

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists():
            raise MissingStoreError(str(self.path))
        mode = self._mode_to_read() if self.readonly else "rw"
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self.path))}?mode={mode}",
            uri=True,
            timeout=self.timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        try:
            if self.shared and not self.readonly:
                _leave_wal(connection)
            connection.executescript(_PRAGMAS)
            _harden(connection)
            if not self.readonly:
                self._prepare_to_write(connection)
        except UnicodeDecodeError as err:  # SQLite quotes its damaged schema, and sqlite3 cannot decode its message
            connection.close()
            message = bytes(err.object).decode("utf-8", "backslashreplace")
            raise DamagedStoreError(str(self.path), f"{DamagedStoreError.sentence} (SQLite: {message})") from err
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare_to_write(self, connection: sqlite3.Connection) -> None:
        # Asking for the mode reads the file, which opens the WAL: from now on it is there to be
        # locked and synced by ampstore.backend.turns and .flush, and does not go away with the
        # connection of a thread that has ended.
        has_wal = connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        if not has_wal and (self.shared or self._durability == "full"):
            # EXTRA syncs the directory too: a journal that a power cut brings back would undo the commit.
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("PRAGMA cache_spill=OFF")  # nothing in the file before the commit
        self.local.grouped = self._durability == "full" and has_wal

    def be_patient(self, connection: sqlite3.Connection) -> None:
        """Let SQLite wait for other connections as long as it may."""
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed meanwhile by another thread
            connection.execute(f"PRAGMA busy_timeout={int(1000 * self.timeout)}")

    def translate(self, err: sqlite3.Error) -> Exception:
        """Our error for one of SQLite's."""
        if isinstance(err, sqlite3.ProgrammingError) and self.closed:
            return ClosedError(str(self.path))
        if self.shared and _is_io_error(err):
            return StorageError(
                str(self.path),
                f"the network file system failed, or has no locks (SQLite: {err}); mount it with locks that reach all"
                " hosts (Lustre: flock; NFS: lockd), or keep the store on a local disk",
            )
        return translate(err, self.path, self.timeout)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """SQLite's errors from the block come out as ours."""
        try:
            yield
        except sqlite3.Error as err:
            raise self.translate(err) from err

    def number(self) -> int:
        """How many connections are open."""
        return len(self._made)

    def close(self) -> None:
        """Close the connections of all threads. Closing twice is fine."""
        self.closed = True
        with self._lock:
            _close_all(self._made)
        self.local.connection = None

    # -- forks: see ampstore.backend.forks -----------------------------------------------------

    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the file, None if it is gone."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def is_idle(self) -> bool:
        """Whether no connection is in a transaction."""
        return not any(connection.in_transaction for connection in self._made.values())

    def take_all(self) -> list[sqlite3.Connection]:
        """All connections; every thread opens a new one when it needs it."""
        taken = list(self._made.values())
        self._made.clear()
        self.local = PerThread()
        return taken

    def close_taken(self, taken: list[sqlite3.Connection]) -> None:
        """Close connections, and leave the queue of writers, which stands at a WAL that goes with them."""
        leave(self.wal)
        for connection in taken:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def forget_parent(self) -> None:
        """In a forked child: keep what was inherited, use none of it."""
        _inherited.extend(self._made.values())
        self._made.clear()
        self.local = PerThread()
        self._lock = threading.Lock()

    # -- reading only --------------------------------------------------------------------------

    def _mode_to_read(self) -> str:
        self.local.stamp = self._stamp()
        if self.shared:
            return "ro&immutable=1" if _has_wal_header(self.path) else "ro"
        return "ro&immutable=1" if self.local.stamp else "ro"

    def _stamp(self) -> tuple[int, ...] | None:
        """What changes whenever the main file does, or None while a WAL says that somebody writes."""
        try:
            if os.stat(self.wal).st_size:
                return None
        except FileNotFoundError:
            pass
        found = os.stat(self.path)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def read(self, read: Callable[[], Result]) -> Result:
        """Result of a read that saw one state of the file."""
        deadline = time.monotonic() + self.timeout
        if self.shared:
            return self._read_shared(read, deadline)
        self.get()
        while (stamp := self.local.stamp) is not None:
            if self._stamp() == stamp:
                result, failure = _try(read)
                if self._stamp() == stamp:
                    if failure:
                        raise failure
                    return result  # type: ignore[return-value]
            if time.monotonic() > deadline:
                raise BusyError(str(self.path), f"others kept changing the file for {self.timeout:g} s; try again")
            self._reconnect()
        return read()

    def _read_shared(self, read: Callable[[], Result], deadline: float) -> Result:
        """Result of a read beside which no host wrote; an I/O error (ESTALE) is tried again."""
        attempts = 0
        while True:
            before = self._settled(deadline)
            if self.local.connection is None or self.local.stamp != before:
                self._reconnect()
            result, failure = _try(read)
            attempts += _is_io_error(failure)
            if self._stamp() == before and not os.path.exists(f"{self.path}-journal"):
                if not _is_io_error(failure):
                    if failure:
                        raise failure
                    return result  # type: ignore[return-value]
                if attempts == ATTEMPTS:
                    raise StorageError(
                        str(self.path),
                        f"unreadable {ATTEMPTS} times in a row (SQLite: {failure}); check its mount",
                    )
                self.local.stamp = None
            self._check_patience(deadline)

    def _settled(self, deadline: float) -> tuple[int, ...] | None:
        """Stamp of the file while no transaction is in the middle of its commit."""
        while os.path.exists(f"{self.path}-journal"):
            self._check_patience(deadline)
            time.sleep(0.002)
        try:
            return self._stamp()
        except FileNotFoundError as err:
            raise MissingStoreError(str(self.path)) from err

    def _check_patience(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise BusyError(
                str(self.path),
                f"a maintainer was changing it for {self.timeout:g} s, or died doing so; try again, or open it once"
                " for writing, which takes over from one that is dead",
            )

    def _reconnect(self) -> None:
        with self._lock:
            connection = self._made.pop(threading.current_thread(), None)
        self.local.connection = None
        if connection:
            connection.close()
        self.connect()


def _harden(connection: sqlite3.Connection) -> None:
    for limit, most in _LIMITS.items():
        connection.setlimit(limit, most)
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)


def _leave_wal(connection: sqlite3.Connection) -> None:
    """Take a store out of WAL mode, without a -shm file; nothing happens to one that is in no such mode."""
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA locking_mode=NORMAL")
    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()  # only then the lock goes


def _has_wal_header(path: Path) -> bool:
    """Whether the file says that it is in WAL mode.

    Closing it would drop the locks of a connection of this process that writes; but then it is in no such mode.
    """
    with _headers_lock:
        if any(connections.path == path and not connections.closed for connections in _shared_writers):
            return False
        with open(path, "rb") as file:
            return file.read(19)[18:] == b"\2"


def _is_io_error(failure: sqlite3.Error | None) -> bool:
    return getattr(failure, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR


def _try(read: Callable[[], Result]) -> tuple[Result | None, sqlite3.Error | None]:
    try:
        return read(), None
    except sqlite3.Error as err:
        return None, err


_inherited: list[sqlite3.Connection] = []
_shared_writers: "weakref.WeakSet[Connections]" = weakref.WeakSet()
_headers_lock = threading.Lock()


def _close_all(connections: dict[threading.Thread, sqlite3.Connection]) -> None:
    while connections:
        connections.popitem()[1].close()
