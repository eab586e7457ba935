"""A calculation as it looks from the store alone: for `ampstore top`.

Runs tell of themselves in notes; claims say who is at work. A run that told nothing for a while and whose process has
ended, or that has no claim left, was killed: the store cannot be told that by anybody, so it is concluded here.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from ampstore.data.runs import Run, runs
from ampstore.database import FileDatabase
from ampstore.owner import has_ended
from ampstore.store import Store
from ampstore.store.claims import LEASE

Opened = AbstractContextManager["Store | FileDatabase"]

SHOWN = 20
WINDOW = 30


class RunState(NamedTuple):
    """One run, with what its claims say.

    Attributes
    ----------
    run : Run
    state : str
        "at work", "ended", "killed", or "silent" for one that has not told anything for long.
    claims : int
        Keys that it has claimed now.
    """

    run: Run
    state: str
    claims: int

    def cells(self) -> list[str]:
        """What a row of a table shows."""
        run = self.run
        left = seconds(run.left) if self.state == "at work" else ""
        numbers = [f"{number:,}" for number in (run.done, run.total, run.failed, self.claims)]
        return [run.place, self.state, *numbers, f"{run.rate:.1f}/s", left]


class Overview(NamedTuple):
    """A calculation at one moment.

    Attributes
    ----------
    entries : int
        In the store.
    rate : float
        Entries a second, of late.
    claimed : int
        Keys that are claimed by anybody.
    runs : list of RunState
        The newest first.
    """

    entries: int
    rate: float
    claimed: int
    runs: list[RunState]

    @property
    def at_work(self) -> list[RunState]:
        """Runs that go on."""
        return [run for run in self.runs if run.state == "at work"]

    @property
    def working(self) -> bool:
        """Whether anybody is at work."""
        return bool(self.at_work) or self.claimed > 0

    @property
    def total(self) -> int:
        """Images of the largest run that goes on: several runs of one calculation have the same ones."""
        return max((one.run.total for one in self.at_work), default=0)

    @property
    def done(self) -> int:
        """Of these, how many are done."""
        return max((one.run.done + one.run.failed for one in self.at_work if one.run.total == self.total), default=0)

    @property
    def left(self) -> float | None:
        """Seconds until all is done at the present rate, None if that is not known."""
        return (self.total - self.done) / self.rate if self.rate > 0 and self.total else None

    @property
    def failures(self) -> list[list[str]]:
        """Key and message of images that failed, of the runs that are shown."""
        return [failure for one in self.runs for failure in one.run.failures]

    def line(self) -> str:
        """All of it in one line."""
        parts = [f"{self.entries:,} entries", f"{self.rate:.1f}/s", f"{self.claimed:,} claimed"]
        if self.total:
            parts.append(f"{self.done:,} of {self.total:,} done")
            parts.append(f"about {seconds(self.left)} left")
        if failed := sum(one.run.failed for one in self.at_work):
            parts.append(f"{failed:,} failed")
        parts.append(f"{len(self.at_work)} at work")
        return time.strftime("%H:%M:%S ") + ", ".join(parts)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        facts: dict[str, object] = {
            "entries": self.entries,
            "rate": round(self.rate, 3),
            "claimed": self.claimed,
            "done": self.done,
        }
        facts |= {"total": self.total, "left": self.left}
        shown = [{**one.run._asdict(), "state": one.state, "claims": one.claims} for one in self.runs]
        return {**facts, "runs": shown}


class Watch:
    """Looks at a store again and again, and so knows how fast it grows.

    Parameters
    ----------
    opened : callable
        Opens the store or container for reading, anew at each look: nothing is held open in between.
    clock : callable
        Monotonic time, seconds.
    """

    def __init__(self, opened: Callable[[], Opened], clock: Callable[[], float] = time.monotonic) -> None:
        self._opened = opened
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque(maxlen=WINDOW)

    def look(self) -> Overview:
        """How it is now."""
        with self._opened() as target:
            store = target.store if isinstance(target, FileDatabase) else target
            entries, files = target.progress() if isinstance(target, FileDatabase) else (len(target), 0)
            claims = {owner: keys for owner, keys, left in store.claimants() if left > 0} if store is not None else {}
            found = runs(store)[:SHOWN] if store is not None else []
        self._seen.append((self._clock(), entries))
        states = [RunState(run, state_of(run, claims.get(run.owner, 0)), claims.get(run.owner, 0)) for run in found]
        return Overview(entries, self._rate(states), sum(claims.values()) + files, states)

    def _rate(self, states: list[RunState]) -> float:
        """From two looks; from what the runs tell before there are two."""
        (then, before), (now, after) = self._seen[0], self._seen[-1]
        if now > then:
            return (after - before) / (now - then)
        return sum(one.run.rate for one in states if one.state == "at work")


def state_of(run: Run, claims: int) -> str:
    """What became of a run: "at work", "ended", "killed" or "silent"."""
    if run.ended:
        return "ended"
    if has_ended(run.owner):
        return "killed"
    return "at work" if claims or time.time() - run.updated < LEASE else "silent"


def seconds(count: float | None) -> str:
    """A time for people: 42 s, 5 min, 3.2 h; ? if it is not known."""
    if count is None:
        return "?"
    if count < 90:
        return f"{count:.0f} s"
    return f"{count / 60:.0f} min" if count < 5400 else f"{count / 3600:.1f} h"
