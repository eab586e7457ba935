"""The WAL of one SQLite file: checkpoints when it passes a bound, and nothing that SQLite does by itself.

`wal_autocheckpoint` is 0 on every connection. SQLite 3.7.0 to 3.51.2 can lose committed
transactions when a PASSIVE checkpoint runs beside a commit that resets the WAL (fixed in 3.51.3,
3.50.7, 3.44.6). Checkpoints here are FULL or TRUNCATE, which hold the write lock, once the WAL
passes `WAL_BOUND`. FULL lets the next writer start the WAL again from its beginning: emptying the
file every time (TRUNCATE) makes each commit 1.4 times as expensive, since the file system has to
allocate the space again.

A checkpoint stalls all writers for the time of copying `WAL_BOUND` bytes, or one transaction that is
larger, with two syncs, and for `FOR_READERS` at most. Beside a reader of an old state, which only a
program other than ampstore holds for long, the WAL grows until that reader is done: SQLite cannot
reuse what it may still read.
"""

import contextlib
import os
import sqlite3
from typing import Literal, NamedTuple

from ampstore.backend.connections import Connections
from ampstore.durable import sync
from ampstore.errors import BusyError, StorageError, StoreError

WAL_BOUND = 4 << 20
"""Bytes of WAL after which a checkpoint empties it: some 6 ms for the writer that does it."""

TRUNCATED_ABOVE = 4 * WAL_BOUND
"""Bytes of a WAL file (that a reader held back, or one large transaction made) that is cut off again."""

FOR_READERS = 0.02
"""Seconds that a writer waits for readers of older states, while it holds the write lock. What they
hold back is done next time, when the WAL has grown by half: a long reader costs few such waits."""

Mode = Literal["FULL", "TRUNCATE"]

UNCHECKED = 128 << 10
"""Bytes written by one connection between two looks at the WAL."""

_HEAD, _FRAME_HEAD = 32, 24
_CHUNK = 1 << 20

ROW_OVERHEAD = 12 << 10  # a commit of one row appends about three pages to the WAL besides its payload


class Wal:
    """Keeps the WAL of one file bounded.

    Parameters
    ----------
    connections : Connections
        Those of the file.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def wrote(self, size: int) -> None:
        """Count a write of this thread; empty the WAL if it may have passed its bound and no transaction is open."""
        local = self._connections.local
        local.unchecked += size + ROW_OVERHEAD
        if local.unchecked > UNCHECKED and not local.depth:
            self.bound()

    def bound(self) -> None:
        """Run a checkpoint if the WAL has passed its bound, whoever wrote it.

        Its file keeps its size while it is written again from the beginning, so the size does not tell. The salt
        does: the head of the file has a new one each time, and every page has that of its time.
        """
        local = self._connections.local
        local.unchecked = 0
        try:
            found = _beyond(WAL_BOUND, self._connections.wal)
        except OSError:  # there is no WAL, or no descriptor left to look at it: the value is stored all the same
            return
        # While somebody reads what is in it, it goes on growing, and a checkpoint for each bit of it helps nobody.
        if found and (found.salt != local.salt or found.used > local.upto):
            self.checkpoint(FOR_READERS, "TRUNCATE" if found.size > TRUNCATED_ABOVE else "FULL")
            local.salt, local.upto = found.salt, found.used + max(WAL_BOUND, found.used) // 2

    def checkpoint(self, wait: float = 1.0, mode: Mode = "TRUNCATE") -> bool:
        """Move the WAL into the main file; False if a reader held part of it back.

        Parameters
        ----------
        wait : float
            Longest wait for other connections, seconds.
        mode : {"FULL", "TRUNCATE"}
            The second empties the file of the WAL too.
        """
        connection = self._connections.get()
        try:
            connection.execute(f"PRAGMA busy_timeout={int(1000 * wait)}")
            busy = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0]
        except sqlite3.Error as err:
            failure = self._connections.translate(err)
            if isinstance(failure, BusyError):
                return False
            if getattr(err, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_FSYNC:
                self.write_again()
            raise failure from err
        else:
            return bool(busy == 0)
        finally:
            self._connections.be_patient(connection)

    def sync(self) -> None:
        """Put every commit so far on the disk: by a checkpoint, or by syncing the WAL beside readers."""
        if self._connections.local.depth or not self.checkpoint(0.05):
            for name in (self._connections.wal, os.path.dirname(self._connections.wal)):
                try:
                    sync(name)
                except FileNotFoundError:
                    pass
                except OSError as err:
                    self.write_again()
                    raise StorageError(name, f"fsync failed: {err.strerror}") from err

    def write_again(self) -> None:
        """After a sync that failed: write the WAL over itself, so that the next sync is about all of it.

        The kernel has told the failure once and takes those pages for clean: the next sync would say
        yes. A checkpoint relies on such a sync before it changes the main file; were the power cut in
        its midst, a WAL with a gap could not mend that, and the store would be damaged. No checkpoint
        runs meanwhile, as each needs the write lock. It helps as far as the kernel still has the pages.
        """
        with contextlib.suppress(sqlite3.Error, OSError, StoreError):  # the failure of the sync is what is told
            connection = self._connections.get()
            begun = not connection.in_transaction
            if begun:
                connection.execute("BEGIN IMMEDIATE")
            try:
                _write_over_itself(self._connections.wal)
            finally:
                if begun:
                    connection.execute("ROLLBACK")


class _Long(NamedTuple):
    """A WAL: the salt of the pages that it has now, bytes up to the last of them, and bytes of its file."""

    salt: bytes
    used: int
    size: int


def _beyond(bound: int, path: str) -> _Long | None:
    """The WAL if it has more than `bound` bytes of pages, None if not; see https://sqlite.org/fileformat2.html#walformat.

    SQLite has no locks on this file that closing it could drop.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size <= bound:
            return None
        head = os.pread(descriptor, _HEAD, 0)
        frame, salt = int.from_bytes(head[8:12], "big") + _FRAME_HEAD, head[16:24]

        def is_current(number: int) -> bool:
            return os.pread(descriptor, 8, _HEAD + number * frame + 8) == salt

        least, most = bound // frame, (size - _HEAD) // frame
        if not is_current(least):
            return None
        while most - least > 1:  # pages of the same time lie at the beginning, one after the other
            middle = (least + most) // 2
            least, most = (middle, most) if is_current(middle) else (least, middle)
        return _Long(salt, _HEAD + most * frame, size)
    finally:
        os.close(descriptor)


def _write_over_itself(path: str) -> None:
    with open(path, "r+b", buffering=0) as file:
        descriptor, offset = file.fileno(), 0
        while data := os.pread(descriptor, _CHUNK, offset):
            offset += os.pwrite(descriptor, data, offset)
        os.fdatasync(descriptor)
