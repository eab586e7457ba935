"""`setup_parallel`: a master and workers that talk as Amp's do."""

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ampstore import messages
from ampstore.errors import ParallelError
from ampstore.launch import LOCAL, Options, check_host
from ampstore.parallel.crew import Crew, Log

if TYPE_CHECKING:
    from ampstore.messages import Master

MASTER, PUBLISHER = 0, 1


class Setup(dict[str, Any]):
    """What Amp 1.x expects, a dict, and Amp 0.6.1 as well: it unpacks to socket, connections, number."""

    def __iter__(self) -> Iterator[Any]:
        return iter((self["master"], self["connections"], self["n_pids"]))


def setup_parallel(
    parallel: Mapping[str, object], workercommand: str, log: Log, setup_publisher: bool = False
) -> Setup:
    """Start workers on all hosts, and a socket that they talk to.

    Nothing listens on the network. On every node workers find the socket at a port of the loopback
    interface, which takes connections from them only; what they say travels through the session (ssh,
    srun, or a pipe) that started them.

    Parameters
    ----------
    parallel : mapping
        'cores': {host: number of workers}; 'envcommand': see `start_workers`; and the other options of
        `ampstore.launch.Options`.
    workercommand : str
        Command line without the number of a worker and the address of the master, which are appended.
    log : callable
        Gets lines of text; the keywords `tic` and `toc` are those of Amp's log.
    setup_publisher : bool
        Whether there is a PUB socket as well.

    Returns
    -------
    Setup
        dict with master (REP socket), mastersocket ("host:port"), connections, n_pids; and publisher,
        publisher_socket. It unpacks to master, connections, n_pids. The workers end when `connections`
        is dropped. While the master waits it looks after the workers, and raises WorkerLostError if one
        is gone before it has sent its result.

    Raises
    ------
    LaunchError
        If a node cannot be reached or a worker does not begin. Nothing is left running.
    ParallelError
        If `parallel` does not say where to work.
    """
    hosts = _numbers(parallel)
    count = sum(map(len, hosts.values()))
    directory = tempfile.mkdtemp(prefix="ampstore-")  # only this user may enter it
    try:
        paths = [os.path.join(directory, name) for name in ("master", "publisher")[: 1 + setup_publisher]]
        master = messages.plain_master(paths[MASTER], count)
        publisher = messages.plain_publisher(master, paths[PUBLISHER]) if setup_publisher else None
        with contextlib.ExitStack() as undo:
            undo.callback(_close, master, publisher)
            crew = Crew(hosts, Options.read(parallel), paths)
            undo.callback(crew.close)
            _start(crew, workercommand, log)
            undo.pop_all()
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    weakref.finalize(master, shutil.rmtree, directory, ignore_errors=True)
    found = Setup(master=master, mastersocket=crew.address(0, MASTER), connections=crew.connections(), n_pids=count)
    _look_after(master, crew)
    if publisher is not None:
        address = crew.address(0, PUBLISHER)
        master.translate = lambda number, text: crew.address(number, PUBLISHER) if text == address else text
        found.update(publisher=publisher, publisher_socket=address)
    return found


def _start(crew: Crew, command: str, log: Log) -> None:
    log(" Parallel processing: starting workers.")
    address = {host: crew.address(numbers[0], MASTER) for host, numbers in crew.hosts.items()}
    crew.start(lambda host: f"{command} %s {address[host]}", log)


def _look_after(master: "Master", crew: Crew) -> None:
    subjects, loops = master.subjects, master.loops

    def finished(number: int) -> bool:
        code = crew.sessions[crew.host_of[number]].exits[number]
        return subjects.get(number) == "<result>" and (code == 0 or number not in loops)

    master.watch = lambda: crew.watch(finished, lambda number: number not in subjects)


def _close(*sockets: Any) -> None:
    for socket in sockets:
        if socket is not None:
            socket.close(0)


def _numbers(parallel: Mapping[str, object]) -> dict[str, list[int]]:
    """Numbers of workers by host."""
    if not isinstance(parallel, Mapping) or "cores" not in parallel:
        raise ParallelError(repr(parallel))
    cores = parallel["cores"]
    counts = cores if isinstance(cores, Mapping) else {LOCAL: cores}
    found, first = {}, 0
    for host, count in counts.items():
        if isinstance(count, bool) or not hasattr(count, "__index__") or int(count) < 0:
            raise ParallelError(repr(dict(parallel)), f"{count!r} is no number of workers")
        if int(count):
            found[check_host(host)] = list(range(first, first + int(count)))
        first += int(count)
    if not found:
        raise ParallelError(repr(dict(parallel)), "there is nobody to work")
    return found
