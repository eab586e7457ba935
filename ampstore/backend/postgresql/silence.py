"""A connection that notices a server which does not answer any more, though its host does.

A process that is stopped, or starved by its machine, keeps its sockets open: nothing that libpq or the kernel can be
told ends such a wait, and the server's own time-outs stand still with it. So who waits looks whether the server still
takes connections, now and then; one that does is busy with the statement, and one that does not is frozen.
"""

import time
from collections.abc import Callable, Generator
from typing import Any

import psycopg


class FrozenServerError(psycopg.OperationalError):
    """The server was silent for too long, and the connection is closed."""

    sqlstate = "08006"  # connection_failure


class WatchedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose waits end.

    Attributes
    ----------
    patience : float
        Seconds of silence after which `is_frozen` is asked, again and again.
    is_frozen : callable(silent) -> bool
        Whether a server that has been silent for so many seconds is given up.
    """

    patience: float = float("inf")
    is_frozen: Callable[[float], bool]

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **more: Any) -> Any:
        """Result of a conversation with the server; psycopg sends every wait through here."""
        return super().wait(self._watched(gen), *args, **more)

    def _watched(self, conversation: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The same conversation; psycopg says "nothing happened" every 0.1 s."""
        since, look = 0.0, self.patience
        try:
            wanted = next(conversation)
            while True:
                happened = yield wanted
                if happened:
                    since = 0.0
                else:
                    now = time.monotonic()
                    if not since:
                        since, look = now, now + self.patience
                    elif now > look:
                        self._look(now - since)
                        look = time.monotonic() + self.patience
                wanted = conversation.send(happened)
        except StopIteration as end:
            return end.value

    def _look(self, silent: float) -> None:
        if self.is_frozen(silent):
            self.close()
            told = f"no answer for {silent:.0f} s, and none to a new connection"
            raise FrozenServerError(f"{told}; what it was asked for may still be done when it goes on")
