"""The master's end of one session: a node, and the workers there.

    starting --HELLO--> up --close, or the node is lost--> over

Nothing here waits, but `open_sessions` and `close`; what has happened is noted by the pump's thread
and read by the program's.
"""

import json
import os
import secrets
import selectors
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ampstore.errors import LaunchError
from ampstore.late import late_logger
from ampstore.launch import node
from ampstore.launch.command import LOCAL, Options, commands
from ampstore.launch.node import Frames, Streams, watch
from ampstore.launch.pump import Pump

log = late_logger(__name__)

LINES = 20
"""Last lines of a node or a worker that are kept for errors."""

OUTPUT = 1 << 16
PATIENCE = 5.0  # seconds for a node to end its workers
SILENCE = 30.0
"""Seconds without a word from a node until it is taken for lost; it says something every five."""


class Session:
    """One node.

    Parameters
    ----------
    host : str
    cores : int
    options : Options
    pump : Pump
    channels : sequence of str
        Paths of Unix sockets of the master that workers can reach.

    Attributes
    ----------
    ports : list of int or None
        Where workers on the node find the channels, on 127.0.0.1; None until the node has answered.
    exits : dict of int to int
        Workers that have ended, and how: exit code, or signal as a negative number.
    rejected : set of int
        Workers whose connection the master's socket closed: what they sent was no message, or too large.
    refused : int
        Connections that did not come from workers.
    lost : str or None
        Why there is no session any more.
    """

    def __init__(self, host: str, cores: int, options: Options, pump: Pump, channels: Sequence[str] = ()) -> None:
        self.host = host
        self.ports: list[int] | None = None
        self.exits: dict[int, int] = {}
        self.rejected: set[int] = set()
        self.refused = 0
        self.lost: str | None = None
        self._pump = pump
        self._channels = tuple(channels)
        self._options = options
        self._commands = commands(host, cores, options)
        self._outputs: dict[int, bytearray] = {}
        self._errors = bytearray()
        self._started = self._heard = self._beaten = 0.0
        self._start()
        pump.add(self)

    # -- for the program -----------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the process of this session has ended and been forgotten."""
        return self._process is None

    @property
    def usable(self) -> bool:
        """Whether the node has answered and is there."""
        return self.ports is not None and self.lost is None

    def start(
        self,
        number: int,
        argv: Sequence[str],
        *,
        text: str | None = None,
        directory: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a worker on the node.

        Parameters
        ----------
        number : int
            What it is called here.
        argv : sequence of str
            Program and arguments, as they are; no shell sees them.
        text : str, optional
            First thing on its stdin, which ends with the session. Else stdin is its terminal.
        directory : str, optional
            Where it runs; by default where the session does.
        environment : mapping, optional
            Variables besides those of the node.
        """
        request = {"argv": list(argv), "input": text, "directory": directory, "environment": dict(environment or {})}
        content = json.dumps(request).encode()
        with self._pump.changed:
            self._outputs[number] = bytearray()
            self.exits.pop(number, None)
        self._pump.call(lambda: self._send(node.START, number, content))

    def signal(self, number: int, which: int) -> None:
        """Send a signal to a worker and its group of processes."""
        self._pump.call(lambda: self._send(node.KILL, number, str(which).encode()))

    def output(self, number: int) -> str:
        """What a worker has printed lately."""
        with self._pump.changed:
            return self._outputs.get(number, bytearray()).decode(errors="replace").replace("\r\n", "\n")

    def last_lines(self, number: int | None = None) -> str:
        """Last lines of a worker, or of what leads to the node."""
        if number is not None:
            return "\n".join(self.output(number).splitlines()[-LINES:])
        with self._pump.changed:
            noise = self._frames.noise if self.ports is None else b""
            lines = [line for text in (noise, self._errors) for line in text.splitlines()[-LINES:] if line.strip()]
            return b"\n".join(lines).decode(errors="replace")

    def check(self) -> None:
        """Say why a session is over that was wanted.

        Raises
        ------
        LaunchError
            With the last lines of what leads to the node.
        """
        if self.lost is not None:
            raise LaunchError(self.host, self.lost, self.last_lines())

    def close(self, wait: float = 0.0) -> None:
        """End all workers of the node, and the session. Closing twice is fine."""
        self._pump.call(lambda: self._close("it was closed"))
        if wait:
            with self._pump.changed:
                self._pump.changed.wait_for(lambda: self.over, wait)

    # -- for the pump --------------------------------------------------------------------------

    def look(self) -> None:
        """Notice what no descriptor tells."""
        now = time.monotonic()
        if self._process is None:
            return
        if self._frames.ended:
            self._gone(now)
            return
        self._watch()
        if self._closing_since is not None:
            if now - self._closing_since > PATIENCE:
                self._process.kill()
        elif self.ports is None and now - self._started > self._options.timeout:
            self._lose(f"it did not answer within {self._options.timeout:g} s")
        elif self.ports is not None and now - self._heard > SILENCE:
            self._lose(f"it has been silent for {SILENCE:g} s")
        elif now - self._beaten > node.BEAT_SECONDS:
            self._beaten = now
            self._frames.send(node.BEAT)

    def _start(self) -> None:
        self._argv, *self._commands = self._commands
        marker = f"\n<ampstore {secrets.token_hex(8)}>\n"
        try:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(  # noqa: S603 - no shell
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as err:
            raise LaunchError(self.host, f"{self._argv[0]} cannot be run ({err.strerror})") from err
        self._stdin, self._stdout, self._stderr = (
            pipe.fileno() for pipe in (self._process.stdin, self._process.stdout, self._process.stderr) if pipe
        )
        os.set_blocking(self._stderr, False)
        self._frames = Frames(self._stdout, self._stdin, marker.encode())
        program = Path(node.__file__).read_text("utf-8")
        self._frames.outgoing += f"{program}\nmain({len(self._channels)}, {marker!r})\n\0".encode()
        self._streams = Streams(self._frames, self._pump.selector, self._stream_ended)
        self._started = self._heard = self._beaten = time.monotonic()
        self._stderr_ended = False
        self._closing_since: float | None = None

    def _watch(self) -> None:
        selector, outgoing = self._pump.selector, bool(self._frames.outgoing) and self._closing_since is None
        watch(selector, self._stdout, selectors.EVENT_READ, lambda _: self._receive())
        watch(selector, self._stderr, 0 if self._stderr_ended else selectors.EVENT_READ, lambda _: self._hear())
        watch(selector, self._stdin, selectors.EVENT_WRITE if outgoing else 0, lambda _: self._frames.flush())

    def _receive(self) -> None:
        self._take_all(self._frames.receive())
        self._heard = time.monotonic()

    def _take_all(self, frames: Iterable[tuple[int, int, bytes]]) -> None:
        try:
            for kind, number, content in frames:
                self._take(kind, number, content)
        except (ValueError, KeyError, IndexError, TypeError) as err:
            self._lose(f"it sends what the program there does not send ({type(err).__name__}: {err})")

    def _take(self, kind: int, number: int, content: bytes) -> None:
        if kind == node.DATA:
            self._streams.data(number, content)
        elif kind == node.CREDIT:
            self._streams.grant(number, int(content))
        elif kind == node.OPEN:
            self._connect(number, *json.loads(content))
        elif kind == node.CLOSE:
            self._streams.end(number)
        elif kind == node.OUTPUT:
            output = self._outputs[number]
            output += content
            del output[:-OUTPUT]
        elif kind == node.EXIT:
            self.exits[number] = int(content)
        elif kind == node.HELLO:
            self.ports = [int(port) for port in json.loads(content)["ports"]]
        elif kind == node.REFUSED:
            self.refused += 1
            if self.refused == 1:
                log.warning("a process on %s that is no worker tried to connect to their port", self.host)

    def _connect(self, number: int, channel: int, worker: int) -> None:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end.settimeout(PATIENCE)
        try:
            end.connect(self._channels[channel])
        except OSError:  # the master has closed its socket
            end.close()
            self._frames.send(node.CLOSE, number)
            return
        self._streams.add(number, end, worker)

    def _stream_ended(self, worker: int) -> None:
        if self._closing_since is None:
            self.rejected.add(worker)

    def _hear(self) -> None:
        try:
            piece = os.read(self._stderr, node.PIECE)
        except BlockingIOError:
            return
        self._stderr_ended = not piece
        self._errors += piece
        del self._errors[:-OUTPUT]

    def _send(self, kind: int, number: int, content: bytes) -> None:
        if self._process is not None and self._closing_since is None:
            self._frames.send(kind, number, content)

    def _close(self, reason: str) -> None:
        self.lost = self.lost or reason
        self._finish()

    def _lose(self, reason: str) -> None:
        log.warning("%s is lost: %s", self.host, reason)
        self._close(reason)

    def _finish(self) -> None:
        """Close stdin, which ends all on the node."""
        if self._process is None or self._process.stdin is None or self._closing_since is not None:
            return
        self._closing_since = time.monotonic()
        self._streams.close()
        watch(self._pump.selector, self._stdin, 0, None)
        self._frames.writer = -1
        self._process.stdin.close()

    def _gone(self, now: float) -> None:
        """The pipe has ended, so the process has, or is about to."""
        self._finish()
        watch(self._pump.selector, self._stdout, 0, None)
        process = self._process
        if process is None or process.poll() is None:
            if process is not None and now - (self._closing_since or now) > PATIENCE:
                process.kill()
            return
        self._forget(process)
        if self.lost is None:
            self._explain(process.returncode)

    def _forget(self, process: "subprocess.Popen[bytes]") -> None:
        self._hear()
        watch(self._pump.selector, self._stderr, 0, None)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        self._process = None

    def _explain(self, code: int) -> None:
        """Say why the session ended, or try the next way to the node."""
        program = "its program" if self.host == LOCAL else os.path.basename(self._argv[0])
        reason = f"{program} ended with exit code {code}"
        if self.ports is None and code in (126, 127):
            reason += f"; is there a Python at {self._options.python} on it?"
        if self.ports is None and self._commands:
            log.warning("%s: %s; trying %s", self.host, reason, self._commands[0][0])
            try:
                self._start()
            except LaunchError as err:
                reason = err.reason
            else:
                return
        log.warning("%s is lost: %s", self.host, reason)
        self.lost = reason


def open_sessions(
    hosts: Mapping[str, int], options: Options, pump: Pump, channels: Sequence[str] = ()
) -> dict[str, Session]:
    """Sessions on all hosts at the same time; returns when every node has answered.

    Parameters
    ----------
    hosts : mapping of str to int
        Cores that will be used, by host.
    options : Options
    pump : Pump
    channels : sequence of str
        See `Session`.

    Raises
    ------
    LaunchError
        For the first host that is lost; no session stays open.
    """
    sessions: dict[str, Session] = {}
    try:
        for host, cores in hosts.items():
            sessions[host] = Session(host, cores, options, pump, channels)
        with pump.changed:
            pump.changed.wait_for(lambda: _settled(sessions.values()))
        for session in sessions.values():
            session.check()
    except BaseException:
        for session in sessions.values():
            session.close()
        raise
    return sessions


def _settled(sessions: Iterable[Session]) -> bool:
    return any(session.lost for session in sessions) or all(session.usable for session in sessions)
