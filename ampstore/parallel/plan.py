"""The argument `parallel` of Amp, read: where to work, and on how many cores."""

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import NamedTuple

from ampstore.cores import usable_cores
from ampstore.errors import ParallelError, WorkerError
from ampstore.launch.command import LOCAL, Options, check_host
from ampstore.parallel import worker


class Plan(NamedTuple):
    """Where to work.

    Attributes
    ----------
    width : int
        How many jobs are done at the same time; 0 for as many as a Dask cluster has threads.
    serial : bool
        In this process.
    executor : Executor or None
    dask : distributed.Client, str or None
    hosts : mapping of str to int, or None
        Processes by host, if there are others than this one.
    options : ampstore.launch.Options or None
        How these are reached.
    """

    width: int
    serial: bool
    executor: Executor | None = None
    dask: object | None = None
    hosts: Mapping[str, int] | None = None
    options: Options | None = None


def read_plan(parallel: Mapping[str, object] | None) -> Plan:
    """Plan of an argument `parallel`.

    Parameters
    ----------
    parallel : mapping or None
        {'cores': n} or {'cores': {'localhost': n}}: n local processes, where cores=1 means this one
        and None all that this process may use; {'dask': c}: a distributed.Client or the address of a
        scheduler; {'executor': e}: any concurrent.futures.Executor. With these two, 'cores' is the
        number of jobs at a time if it is given. {'cores': {'node7': n, 'node8': n}}: n processes on
        each of these hosts, reached as 'envcommand' and the rest of `ampstore.launch.Options` say.
        None is serial.

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
    dask = parallel.get("dask")
    if dask is not None:
        return Plan(_given(parallel) or 0, serial=False, dask=dask)
    if parallel.get("executor") is not None:
        return _by_executor(parallel["executor"], parallel)
    if "cores" not in parallel:
        raise ParallelError(repr(dict(parallel)))
    return _by_processes(parallel["cores"], parallel)


def _by_executor(executor: object, parallel: Mapping[str, object]) -> Plan:
    if not callable(getattr(executor, "submit", None)):
        raise ParallelError(repr(parallel), "'executor' is no concurrent.futures.Executor")
    return Plan(_width_of(executor, parallel), serial=False, executor=executor)  # type: ignore[arg-type]


def _by_processes(cores: object, parallel: Mapping[str, object]) -> Plan:
    if cores is None:
        return Plan(usable_cores(), serial=False)
    if isinstance(cores, Mapping):
        if set(cores) != {LOCAL}:
            return _by_hosts(cores, parallel)
        return Plan(_count(cores[LOCAL], parallel), serial=False)
    return Plan(_count(cores, parallel), serial=cores == 1)


def _by_hosts(cores: Mapping[str, object], parallel: Mapping[str, object]) -> Plan:
    hosts = {check_host(host): _count(count, parallel) for host, count in cores.items()}
    if not hosts:
        raise ParallelError(repr(dict(parallel)), "'cores' names no host, not even 'localhost'")
    return Plan(sum(hosts.values()), serial=False, hosts=hosts, options=Options.read(parallel))


def _width_of(executor: object, parallel: Mapping[str, object]) -> int:
    width = _given(parallel) or getattr(executor, "_max_workers", None)
    return width if isinstance(width, int) and width > 0 else usable_cores()


def _given(parallel: Mapping[str, object]) -> int | None:
    cores = parallel.get("cores")
    return None if cores is None else _count(cores, parallel)


def _count(cores: object, parallel: Mapping[str, object]) -> int:
    if isinstance(cores, bool) or not hasattr(cores, "__index__") or int(cores) < 1:
        raise ParallelError(repr(dict(parallel)), "'cores' must be a positive number or {'localhost': number}")
    return int(cores)
