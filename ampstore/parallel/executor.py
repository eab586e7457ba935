"""Work by any concurrent.futures.Executor: threads, processes, MPI, a batch system.

The results of a chunk arrive together. A chunk that takes longer than was thought ends early, so that they
are not kept waiting; what it leaves is handed out again.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)

from ampstore.errors import WorkerError
from ampstore.parallel.work import Failure, Function, Job, Pace, Work
from ampstore.parallel.worker import dumps, loads, pickled

Outcomes = list[tuple[str, object, Failure | None]]

LONGEST = 0.5  # seconds after which a chunk ends early


def run_in_executor(function: Function, work: Work, executor: Executor, width: int) -> None:
    """Do all work with an executor, which stays open.

    Twice `width` chunks are under way at a time, so that few results are in memory at once.

    Raises
    ------
    CalculatorError
        If the function cannot be pickled for an executor that is known to work in other processes.
    WorkerError
        If the executor breaks, is shut down or cancels what it was given; it cannot be mended here.
    """
    if isinstance(executor, ProcessPoolExecutor):
        pickled(function)
    master = _Master(function, work, executor, width)
    try:
        master.run()
    except (BrokenExecutor, CancelledError) as err:
        raise WorkerError(f"the executor broke: {_reason(err)}; the next run computes what is missing") from err
    finally:
        for future in master.under_way:
            future.cancel()


class _Master:
    """Keeps an executor busy."""

    def __init__(self, function: Function, work: Work, executor: Executor, width: int) -> None:
        self.shared = Shared(function)
        self.work = work
        self.executor = executor
        self.most = 2 * width
        self.pace = Pace(width)
        self.under_way: dict[Future[tuple[Outcomes, float]], Sequence[Job]] = {}

    def run(self) -> None:
        while self.under_way or not self.work.exhausted:
            self._hand_out()
            if not self.under_way:
                time.sleep(self.work.tick())
                continue
            for future in wait(self.under_way, self.work.tick(), FIRST_COMPLETED).done:
                self._take(future, self.under_way.pop(future))

    def _hand_out(self) -> None:
        while len(self.under_way) < self.most and (jobs := self.work.take(self.pace.chunk(self.work.remaining))):
            self._submit(jobs)

    def _submit(self, jobs: Sequence[Job]) -> None:
        try:
            future = self.executor.submit(calculate_chunk, self.shared, jobs)
        except BrokenExecutor:
            raise
        except RuntimeError as err:  # so say executors that were shut down
            raise WorkerError(f"the executor takes nothing: {_reason(err)}") from err
        self.under_way[future] = jobs

    def _take(self, future: "Future[tuple[Outcomes, float]]", jobs: Sequence[Job]) -> None:
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            raise error
        if error is None:
            outcomes, seconds = future.result()
            self.work.again([key for key, _ in jobs[len(outcomes) :]])
            self._hand_in(outcomes, seconds)
        elif len(jobs) > 1:  # one image or result of them cannot travel: which?
            for job in jobs:
                self._submit([job])
        else:
            self.work.failure(Failure.of(jobs[0][0], error))

    def _hand_in(self, outcomes: Outcomes, seconds: float) -> None:
        self.pace.note(seconds / max(len(outcomes), 1))
        for key, value, failure in outcomes:
            if failure is None:
                self.work.result(key, value)
            else:
                self.work.failure(failure)


def calculate_chunk(shared: "Shared", jobs: Sequence[Job]) -> tuple[Outcomes, float]:
    """Results or failures of the first jobs, and the seconds that they took; runs wherever the executor works."""
    start, outcomes = time.perf_counter(), Outcomes()
    for key, image in jobs:
        try:
            outcomes.append((key, shared.function(image, key), None))
        except Exception as err:  # noqa: BLE001 - any failure of one image is only its own
            outcomes.append((key, None, Failure.of(key, err)))
        if time.perf_counter() - start > LONGEST:
            break
    return outcomes, time.perf_counter() - start


def _reason(err: Exception) -> str:
    return str(err) or type(err).__name__


class Shared:
    """A function that is pickled once, however often it travels, and only if it does."""

    def __init__(self, function: Function, name: str | None = None) -> None:
        self.function = function
        self.name = name or uuid.uuid4().hex
        self._pickled: bytes | None = None

    def __reduce__(self) -> tuple[object, ...]:
        if self._pickled is None:
            self._pickled = dumps(self.function)
        return _load_shared, (self.name, self._pickled)


_loaded: "OrderedDict[str, Shared]" = OrderedDict()
_MOST_LOADED = 4


def _load_shared(name: str, data: bytes) -> Shared:
    if name not in _loaded:
        _loaded[name] = Shared(loads(data), name)
        while len(_loaded) > _MOST_LOADED:
            _loaded.popitem(last=False)
    return _loaded[name]
