"""What a run of a calculation tells about itself in the store, so that `ampstore top` needs nothing else.

    note "run host:pid:…"  {"total": 2000, "done": 812, "failed": 1, "failures": [["a1b2", "ValueError: …"]], …}

A run writes it at its start, every few seconds, and at its end; notes of runs that ended stay until `MOST` newer ones
are there. They are facts for people: nothing is decided by them.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from ampstore.errors import StoreError
from ampstore.late import late_logger
from ampstore.store.store import RUN, Store

log = late_logger(__name__)

MOST = 50
FAILURES = 20
TEXT = 200
EVERY = 5.0  # seconds


class Run(NamedTuple):
    """One run, as it was when it last told.

    Attributes
    ----------
    owner : str
        Name of its claims: host:process:machine-start:random.
    program : str
    started, updated : float
        Seconds since 1970.
    ended : bool
        It came to its end; False also for one that was killed.
    total, done, failed : int
        Images that were missing when it started, stored since (by anybody), and failed in it.
    failures : list of [key, message]
        The first ones.
    """

    owner: str
    program: str
    started: float
    updated: float
    ended: bool
    total: int
    done: int
    failed: int
    failures: list[list[str]]

    @property
    def place(self) -> str:
        """Host and process."""
        host, process, *_ = self.owner.split(":")
        return f"{host}:{process}"

    @property
    def rate(self) -> float:
        """Images a second, since its start."""
        return self.done / max(self.updated - self.started, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds until it is done, None if nothing is known yet."""
        return (self.total - self.done - self.failed) / self.rate if self.done else None


class Telling:
    """Writes the note of one run.

    Parameters
    ----------
    owner : str
    total : int
    write : callable
        Gets name and value of the note.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self, owner: str, total: int, write: Callable[[str, str], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._name = RUN + owner
        self._write = write
        self._clock = clock
        self._told = float("-inf")
        self._facts = {"program": sys.argv[0][-TEXT:], "started": clock(), "total": total}

    def tell(self, done: int, failures: "list[list[str]]", failed: int, *, ended: bool = False) -> None:
        """Write how far it is, if it is time to; a store that cannot take it now is no reason to stop."""
        now = self._clock()
        if not ended and 0 <= now - self._told < EVERY:
            return
        self._told = now
        facts = {**self._facts, "updated": now, "done": done, "failed": failed, "failures": failures, "ended": ended}
        try:
            self._write(self._name, json.dumps(facts))
        except StoreError as err:
            log.debug("the progress of this run could not be noted: %s", err)


def runs(store: Store) -> list[Run]:
    """Runs that told of themselves in a store, the newest first; what is no such note is passed over."""
    found = [_parsed(name, text) for name, text in store.notes(RUN).items()]
    return sorted((run for run in found if run), key=lambda run: run.started, reverse=True)


def forget_old(store: Store) -> None:
    """Forget the runs that are too many, the oldest ones."""
    notes = store.notes(RUN)
    started = {name: run.started if (run := _parsed(name, text)) else 0.0 for name, text in notes.items()}
    for name in sorted(started, key=started.__getitem__, reverse=True)[MOST:]:
        store.forget(name)


def _parsed(name: str, text: str) -> Run | None:
    try:
        facts = json.loads(text)
        failures = [[str(key)[:TEXT], str(message)[:TEXT]] for key, message in facts["failures"][:FAILURES]]
        return Run(
            name.removeprefix(RUN),
            str(facts["program"]),
            float(facts["started"]),
            float(facts["updated"]),
            bool(facts["ended"]),
            int(facts["total"]),
            int(facts["done"]),
            int(facts["failed"]),
            failures,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
