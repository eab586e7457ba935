"""Work on a Dask cluster: chunks of jobs as tasks, never more of them than the cluster is busy with.

Dask runs a task again if its worker dies, and gives up after some deaths (`allowed-failures`, 3). Then it
blames every task that the dead worker had, so the jobs of such a chunk are only suspects: when all else is
done, each has the cluster for itself, and what kills its workers even then is poisonous.

    submit   function (pickled once), [(key, pickled image), ...]
    result   [(key, pickled value or None, Failure or None), ...], seconds

Function, images and values are pickled by cloudpickle, so that they may be defined in a script or a
notebook, and each for itself: one that cannot travel is no other's failure. A chunk ends early when it
takes long or gets large, so results become durable soon and no process has many of them in memory.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

from ampstore.errors import CalculatorError, ParallelError, WorkerError
from ampstore.late import late_logger
from ampstore.parallel.work import CHUNK_SECONDS, Failure, Function, Job, Pace, Work
from ampstore.parallel.worker import kind_of, loads

log = late_logger(__name__)

CONNECT = 10.0  # seconds for a scheduler to answer at its address
TAKE = 20.0  # seconds for a result that is there to come here; a worker that dies meanwhile has it computed again
LOOK = 2.0  # seconds between looks at the size of the cluster
OVERHEAD = 0.002  # seconds of work in a chunk for each thread: the scheduler does some 1,000 tasks a second
LONGEST = 0.5  # seconds after which a chunk ends early
LARGEST = 8 << 20  # bytes of results, the same

PackedJob = tuple[str, bytes]
PackedOutcomes = list[tuple[str, bytes | None, Failure | None]]


def run_in_dask(function: Function, work: Work, cluster: object, width: int) -> None:
    """Do all work on a Dask cluster.

    Parameters
    ----------
    function : callable
        Image and key -> result.
    work : Work
    cluster : distributed.Client or str
        A client, which stays open, or the address of a scheduler. The cluster may grow, shrink and
        have no workers at times.
    width : int
        Jobs at the same time; 0 for as many as the cluster has threads.

    Raises
    ------
    ParallelError
        If Dask is not installed, or this is no client that can be used.
    CalculatorError
        If the function cannot be pickled, or workers cannot load it.
    WorkerError
        If the scheduler cannot be reached, or is lost.
    """
    with _connected(cluster) as client:
        master = _Master(function, work, client, width)
        try:
            master.run()
        finally:
            master.cancel()


@contextlib.contextmanager
def _connected(cluster: object) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as err:
        raise ParallelError("{'dask': ...}", "Dask is not installed: pip install 'ampstore[dask]'") from err
    if isinstance(cluster, Client):
        if cluster.asynchronous or cluster.status != "running":
            state = "asynchronous" if cluster.asynchronous else cluster.status
            raise ParallelError("{'dask': client}", f"the client is {state}")
        yield cluster
        return
    if not isinstance(cluster, str):
        raise ParallelError(
            f"{{'dask': {type(cluster).__name__}}}", "it is neither a distributed.Client nor an address"
        )
    try:
        client = Client(cluster, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, AssertionError) as err:  # the last: a busy machine, and its own thread did not start
        raise WorkerError(f"there is no Dask scheduler at {cluster!r}: {_line(err)}") from err
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=CONNECT)


class _Master:
    """Keeps a cluster busy."""

    def __init__(self, function: Function, work: Work, client: Any, width: int) -> None:
        self.work = work
        self.client = client
        self.fixed = width
        self.kind = kind_of(function)
        self.function = (uuid.uuid4().hex, _packed_function(function, self.kind))
        self.pace = Pace(max(width, 1))
        self.under_way: dict[Any, Sequence[PackedJob]] = {}
        self.suspects: list[PackedJob] = []
        self.doubted: list[PackedJob] = []
        self.alone = False  # what is under way is one suspect
        self.looked = -LOOK

    def run(self) -> None:
        while self.under_way or self.suspects or not self.work.exhausted:
            self._look()
            self._hand_out()
            seconds = self.work.tick()
            if not self.under_way:
                time.sleep(seconds)
                continue
            for future in self._done(seconds):
                self._take(future)

    def cancel(self) -> None:
        """Let the cluster forget what it has not done."""
        if self.under_way:
            with contextlib.suppress(Exception):
                self.client.cancel(list(self.under_way), force=True)

    def _look(self) -> None:
        """Fit chunks to the size of the cluster, which may change."""
        now = time.monotonic()
        if now - self.looked < LOOK:
            return
        self.looked = now
        with contextlib.suppress(TimeoutError), _lost():
            found = self.client.sync(self.client.scheduler.ncores, callback_timeout=CONNECT)
            self._fit(sum(found.values()))

    def _fit(self, threads: int) -> None:
        if not threads:
            log.info("the Dask cluster has no workers yet")
        self.pace.width = self.fixed or max(threads, 1)
        self.pace.chunk_seconds = max(CHUNK_SECONDS, OVERHEAD * threads)

    def _hand_out(self) -> None:
        if self.alone:
            return
        while len(self.under_way) < 2 * self.pace.width:
            taken = self.work.take(self.pace.chunk(self.work.remaining))
            if not taken:
                break
            self._submit(list(self._packed(taken)))
        if self.suspects and not self.under_way and self.work.exhausted:
            suspect = self.suspects.pop()
            if self.work.still(suspect[0]):
                self._submit([suspect])
                self.alone = True

    def _packed(self, jobs: Sequence[Job]) -> Iterator[PackedJob]:
        for key, image in jobs:
            try:
                yield key, _dumps(image)
            except Exception as err:  # noqa: BLE001 - an image that cannot travel is its own failure
                self.work.failure(Failure.of(key, err))

    def _submit(self, jobs: Sequence[PackedJob]) -> None:
        if jobs:
            key = f"ampstore-calculate-{uuid.uuid4().hex}"
            with _lost():
                future = self.client.submit(calculate_packed, *self.function, jobs, key=key, pure=False)
            self.under_way[future] = jobs

    def _done(self, seconds: float) -> list[Any]:
        from distributed import wait

        try:
            with _lost(), self.client.as_current():
                return list(wait(list(self.under_way), timeout=seconds, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            return []

    def _take(self, future: Any) -> None:
        from distributed import KilledWorker

        if future.status == "error":
            self._fail(future, future.exception())
            return
        try:
            with _lost():
                outcomes, seconds = future.result(timeout=TAKE)
        except TimeoutError:
            return  # its worker died, and it is computed again elsewhere
        except KilledWorker as err:  # or was computed again, and its workers died at it
            self._fail(future, err)
            return
        jobs = self._forget(future)
        self.pace.note(seconds / max(len(outcomes), 1))
        self.work.again([key for key, _ in jobs[len(outcomes) :]])
        for key, value, failure in outcomes:
            if value is None:
                self.work.failure(failure)
            else:
                self._hand_in(key, value)

    def _hand_in(self, key: str, data: bytes) -> None:
        try:
            value = loads(data)
        except Exception as err:  # noqa: BLE001 - a result that cannot travel is its own failure
            self.work.failure(Failure.of(key, err))
        else:
            self.work.result(key, value)

    def _fail(self, future: Any, error: BaseException) -> None:
        from distributed import KilledWorker

        if not isinstance(error, KilledWorker):
            raise CalculatorError(self.kind, f"workers of Dask cannot load it: {_line(error)}") from error
        alone, deaths = self.alone, error.allowed_failures + 1
        jobs = self._forget(future)
        if alone and deaths == 1 and jobs[0] not in self.doubted:
            # One death is no proof: it may have been given to a worker that another had killed, and nobody knew yet.
            self.doubted += jobs
            self.suspects += jobs
        elif alone:
            cause = f"poisonous: {max(deaths, 2)} workers died at it, while nothing else was under way"
            self.work.failure(Failure(jobs[0][0], cause, ""))
        else:
            log.warning("workers of Dask died; %d jobs are done again, one at a time", len(jobs))
            self.suspects += jobs

    def _forget(self, future: Any) -> Sequence[PackedJob]:
        self.alone = False
        jobs = self.under_way.pop(future)
        future.release()
        return jobs


def calculate_packed(name: str, function: bytes, jobs: Sequence[PackedJob]) -> tuple[PackedOutcomes, float]:
    """Results or failures of the first jobs, at least one, and the seconds that they took; runs in a worker."""
    calculate = _loaded(name, function)
    start, size, outcomes = time.perf_counter(), 0, PackedOutcomes()
    for key, image in jobs:
        try:
            value = _dumps(calculate(loads(image), key))
            outcomes.append((key, value, None))
            size += len(value)
        except BaseException as err:  # noqa: BLE001 - SystemExit of one image is its failure too
            outcomes.append((key, None, Failure.of(key, err)))
        if size > LARGEST or time.perf_counter() - start > LONGEST:
            break
    return outcomes, time.perf_counter() - start


_of_this_thread = threading.local()


def _loaded(name: str, data: bytes) -> Function:
    """The function, one for each thread: few calculators can be used by two at the same time."""
    if getattr(_of_this_thread, "name", None) != name:
        _of_this_thread.function = loads(data)
        _of_this_thread.name = name
    return _of_this_thread.function  # type: ignore[no-any-return]


def _packed_function(function: Function, kind: str) -> bytes:
    try:
        return _dumps(function)
    except Exception as err:
        raise CalculatorError(
            kind, f"it cannot be pickled for Dask ({_line(err)}); use parallel={{'cores': 1}}"
        ) from err


def _dumps(value: object) -> bytes:
    import cloudpickle

    return bytes(cloudpickle.dumps(value))


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    """Names what calls of Dask raise when the scheduler has gone; a time-out goes through."""
    try:
        yield
    except TimeoutError:
        raise
    except (CancelledError, OSError, RuntimeError) as err:
        raise WorkerError(f"the Dask cluster is lost ({_line(err)}); the next run computes what is missing") from err


def _line(err: BaseException) -> str:
    first = next(iter(str(err).splitlines()), "")
    return f"{type(err).__name__}: {first}" if first else type(err).__name__
