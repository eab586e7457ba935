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
from typing import Literal

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

FRAME = 4096 + 24
"""Bytes of the WAL for each page that was written, in every store that ampstore made."""

MOST_ALLOWED = 8 * WAL_BOUND
"""Most that one connection may believe to have written into `WAL_BOUND` bytes of WAL: rows on a page share it."""

UNCHECKED = 256 << 10
"""Bytes written by one connection between two looks at the size of the WAL."""

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
        """Empty the WAL if it may have passed its bound.

        Its file keeps its size while it is written again from the beginning. So the size tells only
        while it grows; afterwards every connection counts what it has written itself, and learns from
        each checkpoint how much the WAL then had.
        """
        local = self._connections.local
        local.written, local.unchecked = local.written + local.unchecked, 0
        try:
            size = os.stat(self._connections.wal).st_size
        except FileNotFoundError:
            return
        if size <= WAL_BOUND or (size <= local.known and local.written < (local.allowed or WAL_BOUND)):
            return
        done, frames = self._checkpoint(FOR_READERS, "TRUNCATE" if size > TRUNCATED_ABOVE else "FULL")
        if done and frames > 0:
            was, fits = local.allowed or WAL_BOUND, local.written * WAL_BOUND / (frames * FRAME)
            local.allowed = min(max(fits, was / 2, UNCHECKED), 2 * was, MOST_ALLOWED)
        local.written = 0
        local.known = size if done else size + max(WAL_BOUND, size) // 2

    def checkpoint(self, wait: float = 1.0, mode: Mode = "TRUNCATE") -> bool:
        """Move the WAL into the main file; False if a reader held part of it back.

        Parameters
        ----------
        wait : float
            Longest wait for other connections, seconds.
        mode : {"FULL", "TRUNCATE"}
            The second empties the file of the WAL too.
        """
        return self._checkpoint(wait, mode)[0]

    def _checkpoint(self, wait: float, mode: Mode) -> tuple[bool, int]:
        """Whether all of the WAL is in the main file, and how many pages it had; none if it was emptied."""
        connection = self._connections.get()
        try:
            connection.execute(f"PRAGMA busy_timeout={int(1000 * wait)}")
            busy, frames, _ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as err:
            failure = self._connections.translate(err)
            if isinstance(failure, BusyError):
                return False, 0
            if getattr(err, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_FSYNC:
                self.write_again()
            raise failure from err
        else:
            return busy == 0, frames
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


def _write_over_itself(path: str) -> None:
    with open(path, "r+b", buffering=0) as file:
        descriptor, offset = file.fileno(), 0
        while data := os.pread(descriptor, _CHUNK, offset):
            offset += os.pwrite(descriptor, data, offset)
        os.fdatasync(descriptor)
