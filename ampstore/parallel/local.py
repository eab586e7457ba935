"""Worker processes of this machine: chunks on request, every result at once, the dead replaced.

A worker asks by having little left to do; it gets a chunk of some 0.1 s of work, fewer jobs near the
end, so nobody waits long for the last one. When a worker dies, the job that it was at and those that
it had not begun go to others. A job at which `DEATHS` workers died is reported, not tried again.
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

from ampstore.errors import CalculatorError, WorkerError
from ampstore.late import late_logger
from ampstore.parallel.channel import Channel
from ampstore.parallel.work import Failure, Function, Pace, Work
from ampstore.parallel.worker import dumps, kind_of, loads, main_of_this_process, pickled

log = late_logger(__name__)

DEATHS = 2
"""Workers that may die at a job."""

STILLBORN = 3
"""Workers in a row that may die before they are ready."""

STOPPED = 30.0
"""Seconds that a worker may be stopped (SIGSTOP, a debugger) while the master is not."""

LOOK = 0.25  # seconds between looks at processes whose sockets are silent
PATIENCE = 2.0  # seconds for workers to end by themselves
AHEAD = 0.05  # seconds of work left at which a worker gets its next chunk

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

_PROGRAM = "import sys; sys.path[:] = {path!r}; from ampstore.parallel.worker import main; main({descriptor})"


def run_in_processes(function: Function, work: Work, width: int) -> None:
    """Do all work in at most `width` local processes.

    Parameters
    ----------
    function : callable
        Image and key -> result. Pickled once; a script that defines it is imported by the workers.

    Raises
    ------
    CalculatorError
        If the function cannot be pickled, or not unpickled in a worker.
    WorkerError
        If workers die before they begin.
    """
    setup = dumps((pickled(function), main_of_this_process(), False))
    _run(_Pool(kind_of(function), setup, work, width))


def run_for_another(kind: str, setup: bytes, work: Work, pace: Pace, wake: int) -> None:
    """Do work that came from another machine: its images are pickled, and results stay so.

    Parameters
    ----------
    kind : str
        What the function is called.
    setup : bytes
        For the workers.
    work : Work
    pace : Pace
        Its width says how many processes; it learns how long a job takes.
    wake : int
        Descriptor that is readable when `work.tick()` has something to take.

    Raises
    ------
    CalculatorError, WorkerError
        As `run_in_processes`.
    """
    pool = _Pool(kind, setup, work, pace.width)
    pool.pace = pace
    pool.pack = lambda image: image  # type: ignore[assignment, return-value]
    pool.selector.register(wake, selectors.EVENT_READ)
    _run(pool)


def _run(pool: "_Pool") -> None:
    try:
        pool.run()
    except BaseException:
        pool.kill()
        raise
    pool.close()


class _Worker:
    """One process and what it has to do."""

    def __init__(self, setup: bytes) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = _start(theirs.fileno())
            except BaseException:
                ours.close()
                raise
        self.channel = Channel(ours)
        self.channel.send(setup)
        self.ready = False
        self.jobs: list[str] = []  # keys, the one that it is at first
        self.stopped = 0.0  # since when, if it is

    def close(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()

    def end(self) -> str:
        """How a dead process ended."""
        code = self.process.returncode
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return f"{signal.Signals(-code).name}{' (out of memory?)' if code == -signal.SIGKILL else ''}"
        return f"signal {-code}"


def _start(descriptor: int) -> "subprocess.Popen[bytes]":
    if not sys.executable:
        raise WorkerError("this Python does not know its own program (sys.executable), so it cannot start workers")
    program = _PROGRAM.format(path=sys.path, descriptor=descriptor)
    environment = {**dict.fromkeys(_ONE_THREAD, "1"), **os.environ}
    # The worker inherits the mask and unblocks when it has its own handlers: a Ctrl-C meanwhile is not seen.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return subprocess.Popen(  # noqa: S603 - this Python, this package
            [sys.executable, "-c", program], stdin=subprocess.DEVNULL, pass_fds=[descriptor], env=environment
        )
    except OSError as err:
        raise WorkerError(f"a worker process cannot be started: {err}") from err
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_stopped(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:  # it has ended, or this is no Linux
        return False


class _Pool:
    """The master of some workers."""

    def __init__(self, kind: str, setup: bytes, work: Work, width: int) -> None:
        self.work = work
        self.width = width
        self.pace = Pace(width)
        self.kind = kind
        self.setup = setup
        self.pack: Callable[[object], bytes] = dumps
        self.workers: list[_Worker] = []
        self.selector = selectors.DefaultSelector()
        self.deaths: Counter[str] = Counter()
        self.stillborn = 0
        self.looked = time.monotonic()

    def run(self) -> None:
        while not self.work.exhausted or any(worker.jobs for worker in self.workers):
            self._start_workers()
            for worker in self.workers:
                self._hand_out(worker)
            wait = min(self.work.tick(), LOOK)
            for key, events in self.selector.select(wait):
                if key.data is None:  # there is something for `work.tick()`
                    continue
                if events & selectors.EVENT_WRITE:
                    key.data.channel.flush()
                if events & selectors.EVENT_READ:
                    self._receive(key.data)
                self._watch(key.data)
            self._look_for_the_dead()

    def _start_workers(self) -> None:
        busy = sum(1 for worker in self.workers if worker.jobs)
        wanted = min(self.width, max(1, busy + self.work.remaining))
        while len(self.workers) < wanted:
            worker = _Worker(self.setup)
            self.workers.append(worker)
            self.selector.register(worker.channel, selectors.EVENT_READ, worker)
            self._watch(worker)

    def _watch(self, worker: _Worker) -> None:
        if worker in self.workers:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.channel.sending else 0)
            if self.selector.get_key(worker.channel).events != events:
                self.selector.modify(worker.channel, events, worker)

    def _hand_out(self, worker: _Worker) -> None:
        if not worker.ready or self.work.exhausted:
            return
        if worker.jobs and len(worker.jobs) * (self.pace.seconds or 1.0) > AHEAD:
            return
        packed = list(self._packed(self.pace.chunk(self.work.remaining)))
        if packed:
            worker.jobs += [key for key, _ in packed]
            worker.channel.send(dumps(packed))
            self._watch(worker)

    def _packed(self, most: int) -> Iterator[tuple[str, bytes]]:
        for key, image in self.work.take(most):
            try:
                yield key, self.pack(image)
            except Exception as err:  # noqa: BLE001 - an image that cannot travel is its own failure
                self.work.failure(Failure.of(key, err))

    def _receive(self, worker: _Worker) -> bool:
        """Take what a worker has sent; whether it goes on."""
        frames, going = worker.channel.receive()
        for frame in frames:
            self._take(worker, frame)
        if not going:
            self._bury(worker)
        return going

    def _take(self, worker: _Worker, frame: bytes) -> None:
        subject, *content = loads(frame)
        if subject == "ready":
            worker.ready, self.stillborn = True, 0
        elif subject == "unusable":
            failure: Failure = content[0]
            raise CalculatorError(self.kind, f"workers cannot load it: {failure.cause}\n{failure.traceback.rstrip()}")
        elif subject == "result":
            key, value, seconds = content
            self._done(worker, key, seconds)
            self.work.result(key, value)
        else:
            failure, seconds = content
            self._done(worker, failure.key, seconds)
            self.work.failure(failure)

    def _done(self, worker: _Worker, key: str, seconds: float) -> None:
        worker.jobs.remove(key)
        self.pace.note(seconds)

    def _look_for_the_dead(self) -> None:
        # A grandchild may hold the socket of a worker that died, so its end alone is not enough.
        now = time.monotonic()
        if now - self.looked < LOOK:
            return
        self.looked = now
        for worker in list(self.workers):
            if _is_stopped(worker.process.pid):
                worker.stopped = worker.stopped or now
                if now - worker.stopped > STOPPED:
                    log.warning("a worker has been stopped for %.0f s and is killed", now - worker.stopped)
                    worker.process.kill()
            else:
                worker.stopped = 0.0
            if worker.process.poll() is not None and self._receive(worker):
                self._bury(worker)

    def _bury(self, worker: _Worker) -> None:
        """Give the jobs of a dead worker to others."""
        self.workers.remove(worker)
        self.selector.unregister(worker.channel)
        worker.close()
        if not worker.ready:
            self.stillborn += 1
            if self.stillborn >= STILLBORN:
                self._do_with_fewer(worker)
            return
        log.warning("a worker died by %s; %d jobs go to others", worker.end(), len(worker.jobs))
        if worker.jobs:
            at, *rest = worker.jobs
            self.work.again(rest)
            self.deaths[at] += 1
            if self.deaths[at] < DEATHS:
                self.work.again([at], last=True)
            else:
                cause = f"poisonous: {DEATHS} workers died at it, the last one by {worker.end()}"
                self.work.failure(Failure(at, cause, ""))

    def _do_with_fewer(self, dead: _Worker) -> None:
        """Go on with the workers that there are, if new ones do not live."""
        self.width = sum(worker.ready for worker in self.workers)
        if not self.width:
            raise WorkerError(f"{self.stillborn} workers died before they began, the last one by {dead.end()}")
        log.warning("new workers die before they begin, by %s; %d go on alone", dead.end(), self.width)
        self.stillborn = 0

    def close(self) -> None:
        """Let idle workers end."""
        for worker in self.workers:
            worker.channel.send(b"")
        deadline = time.monotonic() + PATIENCE
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End all workers now; results that they have sent are taken first."""
        for worker in self.workers:
            with contextlib.suppress(Exception):
                for frame in worker.channel.receive()[0]:
                    self._take(worker, frame)
            worker.close()
        self.workers.clear()
        self.selector.close()
