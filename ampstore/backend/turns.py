"""The queue of writers in front of one SQLite file: a lock of the kernel, so that nobody starves.

SQLite's own busy handler sleeps and tries again. With 16 writers the slowest got 0.001 of what the
fastest got, and waited for seconds. Here a writer takes `flock` on the file of the WAL first, and
the kernel wakes one writer after the other. It is a queue and nothing more: what SQLite promises
rests on SQLite's locks, which stand behind it, so that plain sqlite3 may write beside us.

Why the WAL: it is there as long as anybody has the store open and goes away with the last, so that
no further file lies about, and it is the one file on which SQLite has no POSIX locks. Those of a
process are lost when it closes any descriptor of the main file or of the -shm file.

`flock` has no time-out, and no thread can interrupt another that waits in it. So a thread that has
to wait lets a helper thread do it, and waits for that one, which can be bounded. A helper whose
thread gave up stays in line; when its turn comes, it passes it on.

To wake a process takes as long as to write a small value. So one that writes value after value
without a pause keeps the lock between them, for a `STINT`, where others wait; a helper takes it
from one that paused. A queue that does not move for `FROZEN` is passed by: whoever is at its
head may have been stopped, and SQLite's lock decides.

Where `flock` does not work, `works` is False, and writers try again with jitter instead.
"""

import contextlib
import errno
import fcntl
import os
import threading
import time
import weakref
from _thread import start_new_thread

GIVE_WAY = 1e-6
"""Seconds to sleep after a turn that others wait for; in fact the 50 us that a timer of the kernel takes.

Without it, who has just written takes the lock again before the next one wakes up."""

STINT = 3e-3
"""Seconds for which a process may have turn after turn while others wait; one that pauses loses it after as many."""

PAUSE = 2e-4
"""Seconds between two turns of a writer that is worth keeping the lock for."""

FROZEN = 2.0
"""Seconds after which a queue is passed by, or half of the longest wait if that is less."""

CLOSING = 0.5
"""Longest wait of `close` for a thread that is writing, seconds."""

IDLE = 1.0
"""Seconds after which a helper thread that nobody needs ends."""


class Turns:
    """Place of this process, and of the threads in it, among the writers of one store.

    Parameters
    ----------
    wal : str
        File of the WAL. It must be open in a connection of this process, so that SQLite keeps it.
    syncs : bool, default False
        A turn is followed by a sync, which lets the next writer wake up well enough.

    Attributes
    ----------
    works : bool
        Whether there is a queue; False where the file system has no `flock`, or the store no WAL.
    """

    def __init__(self, wal: str, *, syncs: bool = False) -> None:
        self.wal = wal
        self.syncs = syncs
        self.works = True
        self._start()
        _alive.add(self)

    def _start(self) -> None:
        self._ours = threading.RLock()  # of the threads of this process, one stands in line
        self._waiting = 0
        self._since = self._left = 0.0  # when our stint began, when our last turn ended that others waited for
        self._is_quick = self._was_quick = False
        self._line: _Line | None = None
        self._end: weakref.finalize[..., Turns] | None = None

    def enter(self, timeout: float) -> float:
        """Wait for the turn of this thread.

        Call it inside the `try` that leaves, so that no signal comes between.

        Returns
        -------
        float
            Seconds that it took, 0.0 if nobody was before us.

        Raises
        ------
        TimeoutError
            If it did not come in time.
        """
        if self._ours.acquire(blocking=False):
            if self._try():
                return 0.0
            start = time.monotonic()
        else:
            start = time.monotonic()
            self._waiting += 1
            try:
                if not self._ours.acquire(timeout=timeout):
                    raise TimeoutError
            finally:
                self._waiting -= 1
        if not self._try():
            left = timeout - (time.monotonic() - start)
            if self._line and self._line.wait(max(min(left, FROZEN, timeout / 2), 0.0)):
                self._since = time.monotonic()
            elif time.monotonic() - start >= timeout:
                raise TimeoutError
        return time.monotonic() - start

    def _try(self) -> bool:
        """Whether the turn is ours without waiting."""
        line = self._line or self._stand()
        if line is None:
            return True
        was, self._was_quick = self._was_quick, self._left > 0 and time.monotonic() - self._left < PAUSE
        self._is_quick = was or self._was_quick  # one long pause may be the scheduler's
        if line.is_kept and line.resume():
            return True
        if line.in_line:
            return False
        try:
            fcntl.flock(line.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            if err.errno in (errno.EWOULDBLOCK, errno.EINTR):
                line.waited = True
                return False
            self.works = False  # ENOLCK, ENOSYS, EOPNOTSUPP: never again, each look costs time
            self._drop()
        return True

    def leave(self) -> None:
        """Give the turn to the next writer; nothing happens if this thread does not have it.

        A signal may come at its very start; then call it once more.
        """
        ours = self._ours
        if not ours._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition does
            return
        line, crowded = self._line, self._waiting > 0
        try:
            if line is not None and not line.in_line:
                crowded = self._hand_on(line, crowded or line.waited)
        finally:
            while ours._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
                ours.release()
        if crowded:
            if not self.syncs:
                time.sleep(GIVE_WAY)
            self._left = time.monotonic()

    def _hand_on(self, line: "_Line", crowded: bool) -> bool:
        """Unlock, or keep the lock for the next turn of a stint; whether to give way."""
        if crowded and self._is_quick and (now := time.monotonic()) - self._since < STINT:
            self._left = now
            line.keep()
            return False
        line.waited = False
        try:  # noqa: SIM105 - half a microsecond less
            fcntl.flock(line.descriptor, fcntl.LOCK_UN)
        except OSError:
            pass  # the descriptor went at the end of the program, and the lock with it
        return crowded

    def _stand(self) -> "_Line | None":
        if not self.works:
            return None
        try:
            descriptor = os.open(self.wal, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.works = False  # no WAL: a store on a network file system
            return None
        self._line = _Line(descriptor)
        self._end = weakref.finalize(self, self._line.end)
        return self._line

    @property
    def descriptor(self) -> int | None:
        """A descriptor of the WAL, None if there is no queue; for the thread whose turn it is."""
        line = self._line or self._stand()
        return None if line is None else line.descriptor

    def _drop(self) -> None:
        if self._end:
            self._end()
        self._line = self._end = None

    def close(self) -> None:
        """Leave the queue for good. Closing twice is fine.

        A thread in the middle of a batch is not waited for: the descriptor goes with the last user.
        """
        if self._ours.acquire(timeout=CLOSING):
            self._drop()
            self._ours.release()

    def forget_parent(self) -> None:
        """In a forked child: the lock belongs to the parent as long as nobody else has its descriptor."""
        if self._line:
            if self._end:
                self._end.detach()
            with contextlib.suppress(OSError):
                os.close(self._line.descriptor)
        self._start()


class _Line:
    """One descriptor, and the helper thread that waits on it, or watches it, when somebody has to.

    Bare locks, whose `with` is written in C: a signal cannot come between and leave them locked.

    Attributes
    ----------
    in_line : bool
        The helper is waiting, or has the lock and did not say so yet.
    waited : bool
        Somebody was there before us, so that others may be behind us.
    is_kept : bool
        The lock is ours between two turns.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.in_line = False
        self.waited = False
        self.is_kept = False
        self._state = threading.RLock()  # a handler of a signal may write too
        self._asked = _locked()  # opens when the helper has something to do
        self._given = _locked()  # opens when the helper got the lock for a thread that waits
        self._wanted = False
        self._watched = False
        self._running = False
        self._ended = False

    def wait(self, timeout: float) -> bool:
        """Whether the lock is ours within that time."""
        try:
            with self._state:
                self._wanted = self.waited = True
                self.in_line = True
                self._wake_helper()  # also if it was in line: a signal may have come between these two
            return self._given.acquire(timeout=timeout)
        finally:
            with self._state:
                self._wanted = False
                self._given.acquire(blocking=False)  # it was given to us too late

    def keep(self) -> None:
        """Keep the lock, for the rest of the stint at most."""
        with self._state:
            self.is_kept = True
            if not self._watched:
                self._watched = True
                self._wake_helper()

    def resume(self) -> bool:
        """Whether the lock is kept still; it is in use from now on."""
        with self._state:
            kept, self.is_kept = self.is_kept, False
            return kept

    def _wake_helper(self) -> None:
        if not self._running:
            start_new_thread(self._help, ())
            self._running = True
        if self._asked.locked():
            self._asked.release()

    def _help(self) -> None:
        while self._is_needed():
            if self.in_line:
                with contextlib.suppress(OSError):  # a queue that fails lets everybody through to SQLite's lock
                    fcntl.flock(self.descriptor, fcntl.LOCK_EX)
                self._pass_on()
            if self._watched:
                self._watch()

    def _is_needed(self) -> bool:
        self._asked.acquire(timeout=IDLE)
        with self._state:
            if not (self.in_line or self._watched):
                self._running = False
            return self._running

    def _pass_on(self) -> None:
        with self._state:
            self.in_line = False
            if self._ended:
                os.close(self.descriptor)
            elif self._wanted:
                self._watched = True  # at once: to be woken for it would cost the writer two of its first turns
                self._given.release()
            else:
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def _watch(self) -> None:
        # Once, at the end of the stint: each look in between takes the interpreter from the writer.
        self._asked.acquire(timeout=STINT)
        with self._state:
            self._watched = False
            if self.is_kept and not self._ended:
                self.is_kept = False
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            if self.in_line and self._asked.locked():
                self._asked.release()  # what woke us was meant for the next thing to do

    def end(self) -> None:
        """Close the descriptor, now or when the helper is done with it."""
        with self._state:
            if self._ended:
                return
            self._ended = True
            self.is_kept = False
            if not self.in_line:
                os.close(self.descriptor)
            if self._running:
                self._wake_helper()


def _locked() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


_alive: "weakref.WeakSet[Turns]" = weakref.WeakSet()


def leave(wal: str) -> None:
    """Leave the queues at this WAL, which is about to go; the next writer of this process stands in a new one."""
    for turns in list(_alive):
        if turns.wal == wal:
            turns.close()


def _after_fork() -> None:
    for turns in list(_alive):
        turns.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
