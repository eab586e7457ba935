"""An agent: works for a master on another node, with processes of its own node.

    master  -> agent    setup: function, main script, path, directory, cores   -> "hello" before, "unusable" after
    master  -> agent    jobs: key, image, key, image ...                       -> result, key, value, pace (at once)
                                                                               -> failure, key, cause, traceback
    agent   -> master   "beat" every two seconds

Images and results stay pickled on their way through. The agent itself calculates nothing: a calculator in
C that lets no other thread run must not keep it from saying that it is alive. A process of the node that
dies is replaced, and its jobs are given to others, just as on the master's machine (`local`).

Nobody tells it to end: it does when its stdin does, and its processes with it.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TextIO

from ampstore.errors import CalculatorError, WorkerError
from ampstore.messages import Client, Keys
from ampstore.parallel.local import run_for_another
from ampstore.parallel.work import Failure, Job, Pace
from ampstore.parallel.worker import MASTER_IS_GONE

BEAT = 2.0
"""Seconds between signs of life."""

PROTOCOL = b"1"
"""Of the messages; master and agents must have the same."""


def main(stdin: TextIO) -> None:
    """Work for the master whose address and keys are the first line of stdin."""
    given = json.loads(stdin.readline())
    threading.Thread(target=_end_with, args=(stdin,), daemon=True).start()
    client = Client(given["address"], Keys(*given["keys"]))
    relay = Relay(client)
    client.send(b"hello", PROTOCOL)
    try:
        kind, setup = relay.setup()
        run_for_another(kind, setup, relay, relay.pace, client.fileno())
    except (CalculatorError, WorkerError) as err:
        client.send(b"unusable", type(err).__name__.encode(), _reason(err).encode())
    client.close()


def _end_with(stdin: TextIO) -> None:
    stdin.read()
    os._exit(MASTER_IS_GONE)


def _reason(err: CalculatorError | WorkerError) -> str:
    return err.reason if isinstance(err, CalculatorError) else str(err)


class Relay:
    """A `Work` whose jobs come from a master, and whose results go there.

    Attributes
    ----------
    pace : Pace
        How long a job takes; the master wants to know with every result.
    """

    def __init__(self, client: Client) -> None:
        self.pace = Pace(1)
        self._client = client
        self._jobs: deque[str] = deque()
        self._images: dict[str, bytes] = {}
        self._beat = time.monotonic()

    def setup(self) -> tuple[str, bytes]:
        """Wait for what is to be done: kind of function, setup for processes."""
        while not (found := self._client.receive(BEAT)):
            self._client.send(b"beat")
        (_, options, setup), *rest = found
        given = json.loads(options)
        with contextlib.suppress(OSError):
            os.chdir(given["directory"])
        sys.path += [entry for entry in given["path"] if entry not in sys.path and os.path.exists(entry)]
        self.pace.width = given["cores"]
        self._take(rest)
        return given["kind"], setup

    @property
    def exhausted(self) -> bool:
        """Never: the master may have more at any time."""
        return False

    @property
    def remaining(self) -> int:
        """Jobs that wait here."""
        return len(self._jobs)

    def take(self, most: int) -> Sequence[Job]:
        """Next jobs; their images are pickled."""
        keys = [self._jobs.popleft() for _ in range(min(most, len(self._jobs)))]
        return [(key, self._images[key]) for key in keys]

    def still(self, key: str) -> bool:
        """Whether a job is still to be done."""
        return key in self._images

    def again(self, keys: Sequence[str], *, last: bool = False) -> None:
        """Take jobs back."""
        if last:
            self._jobs.extend(keys)
        else:
            self._jobs.extendleft(reversed(keys))

    def result(self, key: str, value: object) -> None:
        """Send a result, which is pickled."""
        del self._images[key]
        self._client.send(b"result", key.encode(), value, repr(self.pace.seconds).encode())  # type: ignore[arg-type]

    def failure(self, failure: Failure) -> None:
        """Send a failure."""
        del self._images[failure.key]
        self._client.send(b"failure", *(part.encode(errors="replace") for part in failure))

    def tick(self) -> float:
        """Take what has come, give a sign of life; seconds until the next one."""
        come = self._client.receive()
        self._take(come)
        now = time.monotonic()
        if now - self._beat >= BEAT:
            self._beat = now
            self._client.send(b"beat")
        return 0.0 if come else max(0.001, self._beat + BEAT - now)

    def _take(self, messages: Sequence[Sequence[bytes]]) -> None:
        for _, *parts in messages:
            keys = [key.decode() for key in parts[::2]]
            self._images.update(zip(keys, parts[1::2], strict=True))
            self._jobs.extend(keys)
