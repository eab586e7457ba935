"""The thread that serves sessions.

One thread serves all sessions of a pump. It is started with the first session and ends with the
last one. It holds no result and takes no decision: it moves bytes, and notes what has happened.
"""

import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ampstore.launch.node import watch

LOOK = 0.1


class Served(Protocol):
    """What a pump serves; all methods are called by its thread, under its lock."""

    @property
    def over(self) -> bool:
        """Whether there is nothing left to serve."""

    def look(self) -> None:
        """Do what is due; called several times a second."""


class Pump:
    """Serves sessions in one thread.

    Attributes
    ----------
    changed : threading.Condition
        Its lock guards all that sessions tell; it is notified when something has happened.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.selector = selectors.DefaultSelector()
        self._served: list[Served] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._wake, self._woken = -1, -1

    def add(self, served: Served) -> None:
        """Serve a session until it is over."""
        with self.changed:
            self._served.append(served)
            if self._thread is None:
                self._woken, self._wake = os.pipe()
                os.set_blocking(self._woken, False)
                watch(self.selector, self._woken, selectors.EVENT_READ, lambda _: os.read(self._woken, 1024))
                self._thread = threading.Thread(target=self._run, name="ampstore sessions", daemon=True)
                self._thread.start()

    def call(self, function: Callable[[], None]) -> None:
        """Have the thread call a function."""
        with self.changed:
            if self._thread is not None:
                self._calls.append(function)
                os.write(self._wake, b".")

    def join(self, timeout: float) -> None:
        """Wait until all sessions are over."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            ready = self.selector.select(LOOK)
            with self.changed:
                for key, events in ready:
                    if self.selector.get_map().get(key.fd) is key:  # not gone by what another one did
                        key.data(events)
                while self._calls:
                    self._calls.popleft()()
                for served in self._served:
                    served.look()
                self._served = [served for served in self._served if not served.over]
                self.changed.notify_all()
                if not self._served:
                    self._end()
                    return

    def _end(self) -> None:
        watch(self.selector, self._woken, 0, None)
        os.close(self._woken)
        os.close(self._wake)
        self._thread = None
