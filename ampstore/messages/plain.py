"""Sockets for unmodified workers of Amp: REQ with a pickled message in the worker, REP here.

    worker   {"id": "3", "subject": "<request>", "data": "images"}   ->   master
    worker                                            pickled images  <-   master

Amp's workers can neither encrypt nor say who they are, so the way to these sockets is guarded: they
listen on Unix sockets of this user, and `ampstore.launch` leads only to what it has started itself.
What arrives is nevertheless not trusted. It is read by the safe rule, and a message that is none is
answered with nothing and dropped.

Amp waits for ever for a worker that is gone. This socket looks from time to time and raises instead.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import zmq

from ampstore.codec.safe import Rule
from ampstore.errors import CodecError
from ampstore.late import late_logger

log = late_logger(__name__)

LOOK = 0.25
"""Seconds between looks at workers while the socket waits."""

LINGER = 1000  # milliseconds for the last answer to leave

RESULT = "<result>"


def largest_message() -> int:
    """Bytes that one message may have: a quarter of the memory, or AMPSTORE_LARGEST_MESSAGE.

    Amp's workers send all their results in one.
    """
    if given := os.environ.get("AMPSTORE_LARGEST_MESSAGE"):
        return int(given)
    return max(256 << 20, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)


class Master(zmq.Socket[bytes]):
    """A REP socket that knows its workers.

    Used by one thread, as all sockets of ZMQ.

    Attributes
    ----------
    workers : int
        Numbers of workers are from 0 to this, exclusive.
    watch : callable
        Called now and then while the socket waits; raises if waiting is in vain.
    translate : callable
        Number of a worker and a text that it is to be sent -> text as that worker must have it.
    subjects : dict of int to str
        What each worker said last.
    loops : set of int
        Workers that ask for parameters again and again, so that a result is not their last word.
    """

    workers: int = 0
    watch: Callable[[], None] = staticmethod(lambda: None)
    translate: Callable[[int, str], str] = staticmethod(lambda _, text: text)
    subjects: dict[int, str] = {}
    loops: set[int] = set()
    dropped: int = 0
    _asking: int = 0
    _looked: float = 0.0
    _rule: Rule = Rule()

    def recv(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        """Next message as bytes; raises what `watch` raises."""
        if not flags & zmq.NOBLOCK:
            self._wait()
        return super().recv(flags, copy, track)

    def _wait(self) -> None:
        limit = self.getsockopt(zmq.RCVTIMEO)
        deadline = time.monotonic() + limit / 1000 if isinstance(limit, int) and limit >= 0 else None
        while True:
            if time.monotonic() - self._looked >= LOOK:
                self.watch()
                self._looked = time.monotonic()
            if self.poll(int(1000 * LOOK)) or (deadline is not None and time.monotonic() > deadline):
                return

    def recv_pyobj(self, flags: int = 0) -> Any:
        """Next message of a worker: a dict with the keys id, subject and data."""
        while True:
            data = self.recv(flags)
            message = self._read(data)
            if message is not None:
                return message
            self.dropped += 1
            super().send(b"")

    def send_pyobj(self, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer to the worker that was heard last."""
        if isinstance(obj, str):
            obj = self.translate(self._asking, obj)
        return super().send_pyobj(obj, *args, **kwargs)

    def _read(self, data: bytes) -> dict[str, object] | None:
        try:
            message = self._rule.loads("message", data)
        except (CodecError, ImportError) as err:
            log.warning("a message of %d bytes was dropped: %s", len(data), str(err))
            return None
        if not (isinstance(message, dict) and message.keys() == {"id", "subject", "data"}):
            log.warning("a message of %d bytes was dropped: it is no dict with id, subject and data", len(data))
            return None
        worker, subject = _number(message["id"]), message["subject"]
        if worker is None or not 0 <= worker < self.workers or not isinstance(subject, str):
            log.warning("a message was dropped: there is no worker %.50r, or no subject %.50r", message["id"], subject)
            return None
        if subject == RESULT == self.subjects.get(worker):
            log.warning("a second result of worker %d was dropped", worker)
            return None
        self.subjects[worker], self._asking = subject, worker
        if message["data"] == "parameters":
            self.loops.add(worker)
        return message


def _number(given: object) -> int | None:
    if isinstance(given, str) and given.isascii() and given.isdecimal() and len(given) < 10:
        return int(given)
    return given if isinstance(given, int) and not isinstance(given, bool) else None


def plain_master(path: str, workers: int) -> Master:
    """REP socket at the path of a Unix socket."""
    socket = Master(zmq.Context.instance(), zmq.REP)  # a context of its own nobody could close
    socket.workers, socket.subjects, socket.loops = workers, {}, set()
    _bind(socket, path)
    return socket


def plain_publisher(beside: Master, path: str) -> "zmq.Socket[bytes]":
    """PUB socket in the context of a master."""
    socket: zmq.Socket[bytes] = zmq.Socket(beside.context, zmq.PUB)
    _bind(socket, path)
    return socket


def _bind(socket: "zmq.Socket[bytes]", path: str) -> None:
    socket.setsockopt(zmq.LINGER, LINGER)
    socket.setsockopt(zmq.MAXMSGSIZE, largest_message())
    socket.bind(f"ipc://{path}")
