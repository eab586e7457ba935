"""Group commit: how a commit of durability "full" gets on the disk.

SQLite syncs the WAL at every commit while it holds the write lock (synchronous=FULL), so that all
writers wait for one disk one after the other. Here a commit is written with the lock, and synced
without it: meanwhile others write, and one sync serves all threads whose commits came before it.
Syncs of several processes overlap, which the kernel and the disk turn into fewer.

A call returns when its own commit is on the disk. Others may read it some milliseconds before; what
they write because of it comes after it in the same WAL, so no crash keeps the one without the other.
"""

import itertools
import os
import threading
from collections.abc import Callable

from ampstore.backend.turns import Turns
from ampstore.durable import sync
from ampstore.errors import StorageError

_LOST = "commits may be lost; check the disk, then open it again"


class Flush:
    """Syncs the WAL of one file for the threads of this process.

    Parameters
    ----------
    turns : Turns
        Those of the file; it has the descriptor.
    mend : callable()
        Called after a sync that failed, `Wal.write_again`.
    """

    def __init__(self, turns: Turns, mend: Callable[[], None]) -> None:
        self._turns = turns
        self._mend = mend
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._tickets = itertools.count(1)
        self._last = self._done = 0
        self._named = False
        self._failure: str | None = None
        self._disk = threading.Lock()

    def wait(self) -> None:
        """Return when every commit that this thread made so far is on the disk.

        Raises
        ------
        StorageError
            If the disk failed, now or before. The kernel reports a failed sync once and forgets the
            data: no later sync tells the truth about them, so there is no later success.
        """
        if self._process != os.getpid():  # a forked child; the lock may be that of a thread of the parent
            self._start()
        self._last = ticket = next(self._tickets)
        with self._disk:
            if self._failure:
                raise StorageError(self._turns.wal, self._failure)
            if self._done >= ticket:
                return
            upto = self._last  # or less, if another thread is just taking a ticket; never more
            try:
                self._sync()
            except OSError as err:
                self._failure = f"fsync failed ({err.strerror}): {_LOST}"
                self._mend()
                raise StorageError(self._turns.wal, self._failure) from err
            self._done = upto

    def _sync(self) -> None:
        descriptor = self._turns.descriptor
        if descriptor is None:
            sync(self._turns.wal)
        else:
            os.fdatasync(descriptor)
        if not self._named:  # SQLite syncs the name of a new WAL only together with a sync of its own
            sync(os.path.dirname(self._turns.wal))
            self._named = True
