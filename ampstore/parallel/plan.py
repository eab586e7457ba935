"""The argument `parallel` of Amp, read: where to work, and on how many cores."""

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import NamedTuple

from ampstore.errors import ParallelError, WorkerError
from ampstore.parallel import worker


class Plan(NamedTuple):
    """Where to work.

    Attributes
    ----------
    width : int
        How many jobs are done at the same time.
    serial : bool
        In this process.
    executor : Executor or None
    """

    width: int
    serial: bool
    executor: Executor | None = None


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_plan(parallel: Mapping[str, object] | None) -> Plan:
    """Plan of an argument `parallel`.

    Parameters
    ----------
    parallel : mapping or None
        {'cores': n} or {'cores': {'localhost': n}}: n local processes, where cores=1 means this one
        and None all cores; {'executor': e}: any concurrent.futures.Executor, with 'cores' jobs at a
        time if that is given. 'envcommand' is for other hosts and ignored here. None is serial.

    Raises
    ------
    ParallelError
        If it says nothing of this.
    WorkerError
        If this process is a worker that only wanted to import the main script.
    """
    if worker.is_importing_main():
        raise WorkerError(
            "the main script starts calculations when a worker imports it; put them under "
            'if __name__ == "__main__": or define the calculator in a module of its own'
        )
    if parallel is None:
        return Plan(1, serial=True)
    if not isinstance(parallel, Mapping):
        raise ParallelError(repr(parallel), "it is not a mapping")
    executor = parallel.get("executor")
    if executor is not None:
        if not callable(getattr(executor, "submit", None)):
            raise ParallelError(repr(parallel), "'executor' is no concurrent.futures.Executor")
        return Plan(_width_of(executor, parallel), serial=False, executor=executor)  # type: ignore[arg-type]
    if "cores" not in parallel:
        raise ParallelError(repr(dict(parallel)))
    cores = parallel["cores"]
    if cores is None:
        return Plan(usable_cores(), serial=False)
    if isinstance(cores, Mapping):
        if set(cores) != {"localhost"}:
            raise ParallelError(repr(dict(parallel)), "workers on other hosts than 'localhost' cannot be started here")
        return Plan(_count(cores["localhost"], parallel), serial=False)
    return Plan(_count(cores, parallel), serial=cores == 1)


def _width_of(executor: object, parallel: Mapping[str, object]) -> int:
    if (cores := parallel.get("cores")) is not None:
        return _count(cores, parallel)
    width = getattr(executor, "_max_workers", None)
    return width if isinstance(width, int) and width > 0 else usable_cores()


def _count(cores: object, parallel: Mapping[str, object]) -> int:
    if isinstance(cores, bool) or not hasattr(cores, "__index__") or int(cores) < 1:
        raise ParallelError(repr(dict(parallel)), "'cores' must be a positive number or {'localhost': number}")
    return int(cores)
