"""Work on other hosts: an agent on each, jobs on request, results at once, what is lost given to others.

    master ==ssh, srun or a pipe== node program --stdin: keys--> agent --> processes of the node
       ^------------------- CURVE, through the same session ---------'

A host gets as many jobs as it has processes, and some more, so that it never waits for the next. A host
that ends, or gives no sign of life for half a minute, is started again; its jobs go to others meanwhile.
A job that was on `DEATHS` hosts when they were lost is reported, not tried again. A host that is lost
several times in a row is given up, and when all are, the run ends with an error.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from ampstore.errors import CalculatorError, CodecError, LaunchError, WorkerError
from ampstore.late import late_logger
from ampstore.launch import LOCAL, Options, Pump, Session
from ampstore.messages import Server
from ampstore.parallel.agent import PROTOCOL
from ampstore.parallel.work import LARGEST_CHUNK, Failure, Function, Work
from ampstore.parallel.worker import dumps, kind_of, main_of_this_process, pickled, safe_rule

log = late_logger(__name__)

SILENCE = 30.0
"""Seconds without a sign of life after which a host is taken for lost; agents give one every two."""

DEATHS = 3
"""Hosts that may be lost with a job."""

LOSSES = 3
"""Times in a row that a host may be lost before it has done anything."""

AHEAD = 0.2  # seconds of work that a host has in store: long beside the way there and back
LOOK = 0.25
PATIENCE = 5.0

_PARTS = {b"beat": 0, b"hello": 1, b"unusable": 2, b"result": 3, b"failure": 3}
"""Parts of each message besides its subject."""


def run_on_hosts(function: Function, work: Work, hosts: Mapping[str, int], options: Options) -> None:
    """Do all work on some hosts.

    Parameters
    ----------
    function : callable
        Image and key -> result. Pickled once; what it needs must be importable on the hosts.
    work : Work
    hosts : mapping of str to int
        Processes by host.
    options : Options
        How hosts are reached.

    Raises
    ------
    CalculatorError
        If the function cannot be pickled, or not unpickled on a host.
    WorkerError
        LaunchError if no host can be used.
    """
    master = _Master(function, work, hosts, options)
    try:
        master.run()
    finally:
        master.close()


class _Host:
    """One host and what it has to do."""

    def __init__(self, name: str, cores: int) -> None:
        self.name = name
        self.cores = cores
        self.seconds: float | None = None  # that a job takes there
        self.session: Session | None = None
        self.agent = ""  # the name of its agent, other each time
        self.ready = False
        self.heard = 0.0
        self.jobs: dict[str, None] = {}
        self.losses = 0
        self.given_up: LaunchError | None = None

    def most(self) -> int:
        """Jobs that it should have."""
        if self.seconds is None:
            return self.cores
        return self.cores * (1 + min(int(AHEAD / max(self.seconds, 1e-6)), LARGEST_CHUNK))


class _Master:
    """Gives work to hosts."""

    def __init__(self, function: Function, work: Work, hosts: Mapping[str, int], options: Options) -> None:
        self.work = work
        self.options = options
        self.kind = kind_of(function)
        self.setup = dumps((pickled(function), main_of_this_process(), True))
        self.hosts = [_Host(name, cores) for name, cores in hosts.items()]
        self.cores = sum(host.cores for host in self.hosts)
        self.deaths: Counter[str] = Counter()
        self.started = 0
        self.listened = 0.0
        self.pump = Pump()
        self.directory = tempfile.mkdtemp(prefix="ampstore-")  # only this user may enter it
        self.path = os.path.join(self.directory, "master")
        self.server = Server(self.path)

    def run(self) -> None:
        while not self.work.exhausted or any(host.jobs for host in self.hosts):
            self._start_hosts()
            for host in self.hosts:
                self._hand_out(host)
            self.listened = time.monotonic()
            for agent, message in self.server.receive(min(self.work.tick(), LOOK)):
                self._receive(agent, message)
            self._look()

    def close(self) -> None:
        """End all agents; results that have arrived are taken first."""
        with contextlib.suppress(Exception):
            for agent, message in self.server.receive(0):
                self._receive(agent, message)
        sessions = [host.session for host in self.hosts if host.session is not None]
        for session in sessions:
            session.close()
        self.pump.join(PATIENCE + 1)
        self.server.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- hosts ---------------------------------------------------------------------------------

    def _start_hosts(self) -> None:
        wanted = self.work.remaining + sum(len(host.jobs) for host in self.hosts)
        for host in self.hosts:
            if wanted <= 0:
                return
            if host.given_up is None:
                wanted -= host.cores
                if host.session is None:
                    self._open(host)
                elif not host.agent and host.session.usable:
                    self._start_agent(host, host.session)
        if all(host.given_up for host in self.hosts):
            raise next(host.given_up for host in self.hosts if host.given_up)

    def _open(self, host: _Host) -> None:
        try:
            host.session = Session(host.name, host.cores, self.options, self.pump, [self.path])
        except LaunchError as err:
            host.given_up = err
        host.heard = time.monotonic()

    def _start_agent(self, host: _Host, session: Session) -> None:
        self.started += 1
        host.agent = f"{host.name} {self.started}"
        ports = session.ports or []
        given = {"address": f"127.0.0.1:{ports[0]}", "keys": self.server.admit(host.agent)}
        python = sys.executable if host.name == LOCAL else self.options.python
        session.start(0, [python, "-m", "ampstore.worker"], text=json.dumps(given) + "\n")
        host.heard = time.monotonic()

    def _look(self) -> None:
        """Notice hosts that are lost."""
        now = self.listened  # storing results may take long, and what came meanwhile has not been heard yet
        for host in self.hosts:
            session = host.session
            if session is None:
                continue
            if session.lost is not None:
                self._bury(host, session, session.lost, session.last_lines())
            elif 0 in session.exits:
                reason = f"the worker program ended with exit code {session.exits[0]}"
                self._bury(host, session, reason, session.last_lines(0))
            elif host.agent and now - host.heard > (SILENCE if host.ready else self.options.timeout):
                self._bury(host, session, f"no sign of life for {now - host.heard:.0f} s", session.last_lines(0))

    def _bury(self, host: _Host, session: Session, reason: str, lines: str) -> None:
        """Give the jobs of a host that is lost to others."""
        log.warning("%s is lost: %s; %d jobs go to others", host.name, reason, len(host.jobs))
        session.close()
        self.server.forget(host.agent)
        host.losses += 1
        if host.losses >= LOSSES or not host.agent:
            host.given_up = LaunchError(host.name, reason, lines)
        jobs, host.jobs = list(host.jobs), {}
        host.session, host.agent, host.ready = None, "", False
        self.deaths.update(jobs)
        self.work.again([key for key in jobs if self.deaths[key] < DEATHS], last=True)
        for key in jobs:
            if self.deaths[key] >= DEATHS:
                cause = f"poisonous: {DEATHS} hosts were lost with it, the last one, {host.name}: {reason}"
                self.work.failure(Failure(key, cause, ""))

    # -- jobs ----------------------------------------------------------------------------------

    def _hand_out(self, host: _Host) -> None:
        if not host.ready or self.work.exhausted:
            return
        fair = -(-self.work.remaining * host.cores // (2 * self.cores))
        most = min(host.most() - len(host.jobs), max(fair, host.cores - len(host.jobs)))
        if most <= 0:
            return
        parts: list[bytes] = []
        for key, image in self.work.take(most):
            try:
                parts += key.encode(), dumps(image)
            except Exception as err:  # noqa: BLE001 - an image that cannot travel is its own failure
                self.work.failure(Failure.of(key, err))
            else:
                host.jobs[key] = None
        if parts:
            self.server.send(host.agent, b"jobs", *parts)

    def _receive(self, agent: str, message: Sequence[bytes]) -> None:
        """Take a message."""
        host = next((host for host in self.hosts if host.agent == agent), None)
        if host is None:
            return
        host.heard = time.monotonic()
        subject, *parts = message
        if len(parts) != _PARTS.get(subject):
            raise WorkerError(f"{host.name} sends what ampstore does not send: {subject[:20]!r}")
        if subject == b"result":
            self._result(host, *parts)
        elif subject == b"hello":
            self._welcome(host, *parts)
        elif subject == b"unusable":
            self._refuse(host, *(part.decode(errors="replace") for part in parts))
        elif subject == b"failure":
            self._failure(host, *(part.decode(errors="replace") for part in parts))

    def _welcome(self, host: _Host, protocol: bytes) -> None:
        if protocol != PROTOCOL:
            raise LaunchError(host.name, "the ampstore there is another version; install the same one on all hosts")
        path = [os.path.abspath(entry) for entry in sys.path]
        options = {"kind": self.kind, "cores": host.cores, "path": path, "directory": os.getcwd()}
        self.server.send(host.agent, b"setup", json.dumps(options).encode(), self.setup)
        host.ready = True

    def _refuse(self, host: _Host, error: str, reason: str) -> None:
        if error == CalculatorError.__name__:
            raise CalculatorError(self.kind, f"{host.name}: {reason}")
        host.losses = LOSSES  # its processes do not live; starting them again will not help
        if host.session is not None:
            self._bury(host, host.session, reason, "")

    def _result(self, host: _Host, key: bytes, data: bytes, seconds: bytes) -> None:
        name = key.decode()
        if name not in host.jobs:
            return
        del host.jobs[name]
        host.losses, host.seconds = 0, float(seconds)
        try:
            value = safe_rule().loads(name, data)
        except (CodecError, ImportError) as err:
            self.work.failure(Failure.of(name, err))
        else:
            self.work.result(name, value)

    def _failure(self, host: _Host, key: str, cause: str, traceback: str) -> None:
        if key in host.jobs:
            del host.jobs[key]
            self.work.failure(Failure(key, cause, traceback))
