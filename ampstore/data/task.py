"""One run of a calculation: what to hand out, what to store and when.

    pending --take--> in work --result--> group --flush--> stored
       ^                 |
       |                 +--failure--> failures
       +--- others <--- claimed by other programs; looked at again from time to time

A group of results is stored as soon as storing costs less than 5 % of the time since the last one
was: at once if a result takes 10 ms or more to calculate, after 0.5 s, 1,000 results or 1 MB at the
latest. So a program that is killed loses at most half a second of work that was finished.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from ampstore.data.interrupts import Interrupts
from ampstore.data.progress import Progress
from ampstore.data.sinks import Sink, bytes_of, put_all
from ampstore.parallel import Failure, Job

GROUP_SECONDS = 0.5
GROUP_RESULTS = 1000
GROUP_BYTES = 1 << 20
COST = 20
"""From one group to the next it takes this many times as long as the last one took to store."""

WINDOW = 1024
FIRST_POLL, LAST_POLL = 0.05, 1.0
TICK = 0.5  # seconds; longest time between two looks at the clock


class Task:
    """A `parallel.Work`: some keys of some images, for one sink.

    Parameters
    ----------
    images : mapping of str to image
    keys : sequence of str
        What is missing.
    sink : Sink
    progress : Progress
    interrupts : Interrupts
        Its shield is held while something is stored or claimed.
    clock : callable
        Monotonic time, seconds.
    """

    def __init__(
        self,
        images: Mapping[str, object],
        keys: Sequence[str],
        sink: Sink,
        progress: Progress,
        interrupts: Interrupts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures: list[Failure] = []
        self.calculated = 0
        self._images = images
        self._sink = sink
        self._progress = progress
        self._interrupts = interrupts
        self._clock = clock
        self._pending = deque(keys)
        self._others: list[str] = []
        self._poll_at, self._poll_wait = 0.0, FIRST_POLL
        self._group: list[tuple[str, object]] = []
        self._group_bytes = 0
        self._flushed_at = clock()
        self._cost = 0.0

    # -- handing out ---------------------------------------------------------------------------

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing to hand out, now or later."""
        return not self._pending and not self._others

    @property
    def remaining(self) -> int:
        """Jobs that could be handed out now."""
        return len(self._pending)

    def take(self, most: int) -> list[Job]:
        """Next jobs; none while others do all that is left."""
        mine: list[str] = []
        if not self._pending and self._others and self._clock() >= self._poll_at:
            self._pending.extend(self._others)
            self._others.clear()
            self._poll_at = self._clock() + self._poll_wait
            self._poll_wait = min(2 * self._poll_wait, LAST_POLL)
        with self._interrupts.shielded():
            while self._pending and len(mine) < most:
                mine += self._take_some(most - len(mine))
        if mine:
            self._poll_wait = FIRST_POLL
        return list(self._read(mine))

    def _read(self, keys: Sequence[str]) -> Iterator[Job]:
        for key in keys:
            try:
                image = self._images[key]
            except Exception as err:  # noqa: BLE001 - a file that cannot be read is the failure of its image
                self.failure(Failure.of(key, err))
            else:
                yield key, image

    def _take_some(self, most: int) -> list[str]:
        taken = self._sink.take(list(islice(self._pending, WINDOW)), most)
        for _ in range(taken.seen):
            self._pending.popleft()
        self._others += taken.others
        self._progress.done += len(taken.stored)
        return taken.mine

    def still(self, key: str) -> bool:
        """Whether a key is still ours to calculate; another program may have it after a long stop."""
        with self._interrupts.shielded():
            if self._sink.holds(key):
                return True
        self._others.append(key)
        return False

    def again(self, keys: Sequence[str], *, last: bool = False) -> None:
        """Take keys back that nobody calculated."""
        if last:
            self._pending.extend(keys)
        else:
            self._pending.extendleft(reversed(keys))

    # -- taking in -----------------------------------------------------------------------------

    def result(self, key: str, value: object) -> None:
        """Take a result; it is stored now or soon."""
        self._group.append((key, value))
        self._group_bytes += bytes_of(value)
        if self._seconds_to_flush() <= 0:
            self.flush()

    def failure(self, failure: Failure) -> None:
        """Take a failure; another program may try the key."""
        self._fail(failure)
        with self._interrupts.shielded():
            self._sink.release([failure.key])

    def _fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._progress.failed += 1

    def tick(self) -> float:
        """Store a group that is due, show the progress; seconds until there is something to do again."""
        if self._group and self._seconds_to_flush() <= 0:
            self.flush()
        self._progress.tick()
        with self._interrupts.shielded():
            self._sink.tell(self._progress, self.failures)
        waits = [TICK]
        if self._group:
            waits.append(self._seconds_to_flush())
        if self._others and not self._pending:
            waits.append(self._poll_at - self._clock())
        return max(0.001, min(waits))

    def _seconds_to_flush(self) -> float:
        if len(self._group) >= GROUP_RESULTS or self._group_bytes >= GROUP_BYTES:
            return 0.0
        return self._flushed_at + min(COST * self._cost, GROUP_SECONDS) - self._clock()

    def flush(self) -> None:
        """Store what was taken in."""
        if not self._group:
            return
        start = self._clock()
        with self._interrupts.shielded():
            failures = put_all(self._sink, self._group)
            stored = len(self._group) - len(failures)
            self._group, self._group_bytes = [], 0
        self.calculated += stored
        self._progress.done += stored
        for failure in failures:
            self._fail(failure)
        self._flushed_at = self._clock()
        self._cost = self._flushed_at - start

    def finish(self) -> None:
        """Store what is finished and give back what is not."""
        with self._interrupts.shielded():
            try:
                self.flush()
            finally:
                self._progress.close()
                self._sink.tell(self._progress, self.failures, ended=True)
                self._sink.release()
