"""A lease on a directory: one holder among many hosts, and it survives that its holder's host dies.

No lock of the kernel is used, since those of network file systems fail or lie. Files with numbers say it all:

    maintainer.7   "free"             given back: whoever makes maintainer.8 with O_EXCL has it
    maintainer.8   "host:pid:… 12"    held; the second part is a heartbeat, which grows
    maintainer.9                      made by somebody who saw maintainer.8 unchanged for longer than the lease

The holder is whoever made the file with the highest number, and the number is the fencing token. Taking over
touches no file that another taker may own, so that of many takers exactly one wins, whatever the delays. Time is
each taker's own monotonic clock: no two clocks are compared. A holder of the same machine that has ended is
noticed at once.

What it cannot do: stop a holder that sleeps between `check` and its write for longer than the lease. So the
holder checks right before each commit, and prepares nothing in between.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ampstore.durable import sync
from ampstore.errors import BusyError
from ampstore.late import late_logger
from ampstore.owner import has_ended, new_owner

log = late_logger(__name__)

LEASE = 20.0
"""Seconds without a heartbeat after which a holder counts as dead; it sends one every quarter of that."""

PREFIX = "maintainer."
FREE = b"free"
PAUSE = 0.02
"""Seconds between two looks of one who waits, at first; twice as much every time, up to a quarter of a second."""


class _Seen(NamedTuple):
    number: int
    content: bytes
    changed_ns: int


class Lease:
    """The right to maintain what a directory holds; one object for all uses in one process.

    Safe for threads: one of them holds it at a time.

    Parameters
    ----------
    directory : Path
        It must exist when the lease is taken.
    lease : float, optional
        Seconds; `LEASE` by default. All who share the directory must use the same.
    clock : callable
        Monotonic time of this process, seconds.
    """

    def __init__(
        self, directory: Path, lease: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.directory = directory
        self.lease = LEASE if lease is None else lease
        self.token = 0
        self._clock = clock
        self._mutex = threading.Lock()
        self._beating = threading.Lock()
        self._descriptor = -1
        self._beats = 0
        self._owner = ""
        self._seen: tuple[_Seen, float] | None = None

    @contextlib.contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Hold the lease while the block runs, with a heartbeat from a thread of its own.

        Raises
        ------
        BusyError
            If another one held it for longer than `timeout` seconds.
        """
        self.acquire(timeout)
        stop = threading.Event()
        thread = threading.Thread(target=self._keep, args=(stop,), name="ampstore-lease", daemon=True)
        try:
            thread.start()
            yield
        finally:
            stop.set()
            if thread.ident is not None:
                thread.join()
            self.release()

    def acquire(self, timeout: float) -> None:
        """Take the lease, waiting for its holder, or until that one counts as dead.

        Raises
        ------
        BusyError
        """
        deadline, pause = self._clock() + timeout, PAUSE
        while not self.try_acquire():
            if self._clock() > deadline:
                raise BusyError(
                    str(self.directory),
                    f"another process maintained it for {timeout:g} s; try again, or open it with a larger timeout="
                    f" (one that is dead is noticed after {self.lease:g} s)",
                )
            time.sleep(pause)
            pause = min(2 * pause, 0.25)

    def try_acquire(self) -> bool:
        """Take the lease if it is free or its holder counts as dead; whether it is ours."""
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            taken = self._take()
        except BaseException:
            self._mutex.release()
            raise
        if not taken:
            self._mutex.release()
        return taken

    def check(self) -> None:
        """Send a heartbeat, and make sure that nobody took over.

        Raises
        ------
        BusyError
            If somebody did: what was prepared must not be written.
        """
        try:
            self._beat()
            ours = os.fstat(self._descriptor).st_nlink > 0 and self._highest() == self.token
        except OSError as err:  # ESTALE: the file is gone on the server
            log.debug("the lease on %s cannot be renewed: %s", self.directory, err)
            ours = False
        if not ours:
            raise BusyError(
                str(self.directory),
                f"another process took over the maintenance, as this one was silent for more than {self.lease:g} s;"
                " nothing of it was written, try again",
            )

    def release(self) -> None:
        """Give the lease back."""
        try:
            with contextlib.suppress(OSError), self._beating:  # taken over meanwhile: it is not ours to free
                os.pwrite(self._descriptor, FREE, 0)
                os.ftruncate(self._descriptor, len(FREE))
            os.close(self._descriptor)
        finally:
            self.token, self._descriptor = 0, -1
            self._mutex.release()

    # -- files ---------------------------------------------------------------------------------

    def _take(self) -> bool:
        seen = self._look()
        if seen.number and not self._is_over(seen):
            return False
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path(seen.number + 1), flags, 0o666)
        except FileExistsError:
            return False
        self.token, self._descriptor, self._owner = seen.number + 1, descriptor, new_owner()
        try:
            self._beat()
            sync(self.directory)
            if self._highest() == self.token:
                self._remove_older()
                return True
        except BaseException:
            os.close(descriptor)
            raise
        # A slow taker: what it saw was over long ago, and others came after.
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(self.token))
        return False

    def _is_over(self, seen: _Seen) -> bool:
        owner = seen.content.decode(errors="replace").split(" ")[0]
        if seen.content == FREE or has_ended(owner):
            return True
        now = self._clock()
        if self._seen is None or self._seen[0] != seen:
            self._seen = (seen, now)
        return now - self._seen[1] > self.lease

    def _look(self) -> _Seen:
        number = self._highest()
        try:
            with open(self._path(number), "rb") as file:
                return _Seen(number, file.read(4096), os.fstat(file.fileno()).st_mtime_ns)
        except FileNotFoundError:
            return _Seen(number, b"", 0)

    def _numbers(self) -> list[int]:
        names = (name.removeprefix(PREFIX) for name in os.listdir(self.directory) if name.startswith(PREFIX))
        return [int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 19]

    def _highest(self) -> int:
        return max(self._numbers(), default=0)

    def _path(self, number: int) -> Path:
        return self.directory / f"{PREFIX}{number}"

    def _remove_older(self) -> None:
        for number in self._numbers():
            if number < self.token:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path(number))

    def _beat(self) -> None:
        with self._beating:
            self._beats += 1
            os.pwrite(self._descriptor, f"{self._owner} {self._beats:012}".encode(), 0)
            os.fsync(self._descriptor)

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(self.lease / 4):
            try:
                self._beat()
            except OSError as err:  # `check` says it before anything is written
                log.warning("the lease on %s could not be renewed: %s", self.directory, err)
                return
