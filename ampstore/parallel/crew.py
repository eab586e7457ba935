"""Workers of a program that are not ours: started on nodes, heard until they are ready, watched.

They are started as Amp starts its own, by a command line with a number and the address of the
master, and say two lines on stdout when they are ready:

    <amp-connect>
    where the log goes<stderr>
"""

import re
import shlex
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence

from ampstore.errors import LaunchError, ParallelError, WorkerLostError
from ampstore.launch import LOCAL, Options, Pump, Session, check_host, open_sessions

Log = Callable[..., object]

HELLO, HEARD = "<amp-connect>", "<stderr>"

GRACE = 1.0
"""Seconds between the end of a worker and the error: its last message may still be under way."""

PATIENCE = 5.0
ALL = -1


class Connection:
    """Workers on one node; they end when this is dropped, or by `logout`."""

    def __init__(self, session: Session) -> None:
        self.host = session.host
        self._session = session
        self._end = weakref.finalize(self, session.close)

    def logout(self) -> None:
        """End the workers, and wait for them."""
        self._session.close(PATIENCE)
        self._end.detach()

    def __repr__(self) -> str:
        return f"<workers on {self.host}, {'ended' if self._session.lost else 'connected'}>"


class LocalWorker:
    """One worker on this machine. All of them end when the list of them is dropped."""

    def __init__(self, number: int, connection: Connection) -> None:
        self.number = number
        self._connection = connection

    def __repr__(self) -> str:
        return f"<worker {self.number} of {self._connection!r}>"


Connections = list[list[LocalWorker] | Connection]


class Crew:
    """Workers on some nodes.

    Parameters
    ----------
    hosts : mapping of str to sequence of int
        Numbers of the workers by host.
    options : Options
    channels : sequence of str
        Paths of the master's Unix sockets.

    Raises
    ------
    LaunchError
        If a node cannot be reached. Nothing is left running.
    """

    def __init__(self, hosts: Mapping[str, Sequence[int]], options: Options, channels: Sequence[str] = ()) -> None:
        self.hosts = hosts
        self.options = options
        self.host_of = {number: host for host, numbers in hosts.items() for number in numbers}
        self._pump = Pump()
        self._ended: dict[int, float] = {}
        self._first_look: float | None = None
        cores = {host: len(numbers) for host, numbers in hosts.items()}
        self.sessions = open_sessions(cores, options, self._pump, channels)

    def start(self, command: Callable[[str], str], log: Log) -> None:
        """Start all workers, with the command for each host, and wait until they are ready.

        Raises
        ------
        LaunchError
            If one ends or says nothing; then all are ended.
        """
        try:
            for number, host in self.host_of.items():
                python = sys.executable if host == LOCAL else self.options.python
                self.sessions[host].start(number, command_line(command(host), number, python))
            deadline = time.monotonic() + self.options.timeout
            for number, host in self.host_of.items():
                log(f"  Session {number} ({host}): log and error to {self._heard(number, deadline)}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all workers."""
        for session in self.sessions.values():
            session.close()

    def connections(self) -> Connections:
        """What keeps the workers: one object for every host."""
        found: Connections = []
        for host, numbers in self.hosts.items():
            connection = Connection(self.sessions[host])
            found.append([LocalWorker(number, connection) for number in numbers] if host == LOCAL else connection)
        return found

    def address(self, number: int, channel: int) -> str:
        """Where a worker finds a socket of the master."""
        ports = self.sessions[self.host_of[number]].ports or []
        return f"127.0.0.1:{ports[channel]}"

    def _heard(self, number: int, deadline: float) -> str:
        """What a worker says about itself when it is ready."""
        session = self.sessions[self.host_of[number]]
        while True:
            with self._pump.changed:
                _, hello, rest = session.output(number).partition(HELLO)
                where, heard, _ = rest.partition(HEARD)
                if heard:
                    return where.strip()
                session.check()
                code, left = session.exits.get(number), deadline - time.monotonic()
                if code is None and left > 0:
                    self._pump.changed.wait(left)
                    continue
            if code is not None:
                reason = f"worker {number} ended with {_how(code)} before it was ready"
            else:
                what = "the line after " + HELLO if hello else HELLO
                reason = f"worker {number} did not say {what} within {self.options.timeout:g} s"
            raise LaunchError(session.host, reason, session.last_lines(number))

    def watch(self, finished: Callable[[int], bool], silent: Callable[[int], bool]) -> None:
        """Look whether it makes sense to wait for workers; end all if it does not.

        Parameters
        ----------
        finished : callable
            Whether a worker (its number) that ended with exit code 0 or not had done all that it was there for.
        silent : callable
            Whether a worker has not said anything yet.

        Raises
        ------
        WorkerLostError
        """
        now = time.monotonic()
        self._first_look = self._first_look or now
        for number, host in self.host_of.items():
            session = self.sessions[host]
            reason = self._fault(number, session, finished, silent)
            if reason is None:
                continue
            if now - self._ended.setdefault(number, now) >= GRACE:
                lines = session.last_lines(number)
                self.close()
                raise WorkerLostError(number, host, reason, lines)
        gone = all(number in self.sessions[host].exits for number, host in self.host_of.items())
        if gone and now - self._ended.setdefault(ALL, now) >= GRACE:
            self.close()
            raise WorkerLostError(0, "any node", "all workers have ended, and nothing is left to wait for")

    def _fault(
        self, number: int, session: Session, finished: Callable[[int], bool], silent: Callable[[int], bool]
    ) -> str | None:
        code = session.exits.get(number)
        if code is not None:
            return None if finished(number) else f"it ended with {_how(code)}"
        if session.lost is not None:
            return session.lost
        if number in session.rejected:
            return "it sent what is no message, or a message over the limit (AMPSTORE_LARGEST_MESSAGE, bytes)"
        waited = time.monotonic() - (self._first_look or 0.0)
        if silent(number) and waited > self.options.timeout:
            return f"it has not asked for work within {waited:.0f} s"
        return None


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}{' (out of memory?)' if code == -9 else ''}"


def command_line(command: str, number: int, python: str = "") -> list[str]:
    """Words of a command with the number of a worker in place of its `%s`.

    The path of this Python may stand in front as it is, with blanks and `%`; all else is split as a
    shell splits it, and `%%` is one `%`.

    Parameters
    ----------
    command : str
    number : int
    python : str
        Takes the place of this Python in front of the command: its path on the node.

    Raises
    ------
    TypeError
        If there is not exactly one `%s`, as the operator `%` has it.
    ParallelError
        If quotes in it do not end.
    """
    program, rest = [], command
    if sys.executable and command.startswith(sys.executable + " "):
        program, rest = [python or sys.executable], command[len(sys.executable) :]
    try:
        words = shlex.split(rest)
    except ValueError as err:
        raise ParallelError(repr(command), f"the command for workers makes no sense: {err}") from err
    found = 0

    def insert(match: "re.Match[str]") -> str:
        nonlocal found
        found += match[0] == "%s"
        return str(number) if match[0] == "%s" else "%"

    words = [re.sub("%s|%%", insert, word) for word in words]
    if found != 1:
        raise TypeError(f"the command for workers needs one %s for the number of the worker, not {found}: {command!r}")
    return [*program, *words]


def start_workers(
    process_ids: Sequence[int], workerhostname: str, workercommand: str, log: Log, envcommand: str | None
) -> list[LocalWorker] | Connection:
    """Start workers on one host and wait until they are ready.

    Parameters
    ----------
    process_ids : sequence of int
        Their numbers.
    workerhostname : str
        "localhost", or whatever the user's ssh understands.
    workercommand : str
        Command line with one `%s` for the number.
    log : callable
        Gets a line for each worker.
    envcommand : str or None
        Shell command that prepares the environment on another host.

    Returns
    -------
    list or Connection
        A list of workers for "localhost", one connection for any other host. The workers end when it is
        dropped, or by its `logout()`.

    Raises
    ------
    LaunchError, ParallelError, TypeError
    """
    options = Options.read({"envcommand": envcommand})
    crew = Crew({check_host(workerhostname): list(process_ids)}, options)
    crew.start(lambda _: workercommand, log)
    return crew.connections()[0]
