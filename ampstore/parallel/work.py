"""What all ways of working share: jobs, failures, and the work that hands out the one and takes the other."""

import time
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, Self

Job = tuple[str, object]
"""Key and image."""

Function = Callable[[object, str], object]
"""Image and key -> result."""

CHUNK_SECONDS = 0.1
"""Work that is handed out at a time: long beside a round trip (0.2 ms), short beside a job."""

LARGEST_CHUNK = 1000


class Failure(NamedTuple):
    """Why there is no result for a key.

    Attributes
    ----------
    key : str
    cause : str
        One line.
    traceback : str
        "" if no exception was raised, as when the worker died.
    """

    key: str
    cause: str
    traceback: str

    @classmethod
    def of(cls, key: str, error: BaseException) -> Self:
        """The failure that an exception is."""
        first = next(iter(str(error).splitlines()), "")
        cause = f"{type(error).__name__}: {first}" if first else type(error).__name__
        return cls(key, cause, "".join(traceback.format_exception(error)))


class Work(Protocol):
    """Hands out jobs and takes results; used by one thread."""

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing to hand out, now or later, unless a job is given back."""

    @property
    def remaining(self) -> int:
        """At most so many jobs are left to hand out."""

    def take(self, most: int) -> Sequence[Job]:
        """Next jobs, none if there are none at the moment."""

    def still(self, key: str) -> bool:
        """Whether a job that was handed out is to be done; False takes it back."""

    def again(self, keys: Sequence[str], *, last: bool = False) -> None:
        """Take jobs back that were not done; they are handed out next, or after all others."""

    def result(self, key: str, value: object) -> None:
        """Take the result of a job."""

    def failure(self, failure: Failure) -> None:
        """Take the failure of a job."""

    def tick(self) -> float:
        """Do what is due; seconds until there is something to do again."""


class Pace:
    """How long a job takes, and so how many make a chunk."""

    def __init__(self, width: int, chunk_seconds: float = CHUNK_SECONDS) -> None:
        self.width = width
        self.chunk_seconds = chunk_seconds
        self.seconds: float | None = None

    def note(self, seconds: float) -> None:
        """Learn from one job; the last twenty count most."""
        self.seconds = seconds if self.seconds is None else self.seconds + (seconds - self.seconds) / 20

    def chunk(self, remaining: int) -> int:
        """Jobs to hand out at a time; fewer near the end, so that all workers end together."""
        if self.seconds is None:
            return 1
        fair = -(-remaining // (2 * self.width))
        return max(1, min(int(self.chunk_seconds / max(self.seconds, 1e-6)), fair, LARGEST_CHUNK))


def run_here(function: Function, work: Work) -> None:
    """Do all work in this thread."""
    pace = Pace(1)
    while not work.exhausted:
        jobs = work.take(pace.chunk(2 * work.remaining))
        if not jobs:
            time.sleep(work.tick())
        for key, image in jobs:
            if not work.still(key):
                continue
            start = time.perf_counter()
            try:
                value = function(image, key)
            except Exception as err:  # noqa: BLE001 - any failure of one image is only its own
                work.failure(Failure.of(key, err))
            else:
                work.result(key, value)
            pace.note(time.perf_counter() - start)
            work.tick()
