"""What runs on a node: starts workers, carries their connections to the master, ends with its stdin.

Its text is sent to whatever Python the node has (3.8 or newer), so it uses the standard library only
and knows nothing of ampstore. The master imports `Frames` and `Streams` from here: both ends of a
session are the same.

    worker --127.0.0.1:port--> node program ==stdin, stdout of ssh, srun or a pipe== master --unix socket--> ZMQ

A connection is taken from processes that were started here only: the kernel says to which process the
other end of a loopback connection belongs. Nothing listens on the network, on any node.

When stdin ends, because the master ended or was killed, all workers are ended. A worker has a pseudo
terminal, which makes Python programs flush every line they print, and hangs up if this program is
killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import tty

HEAD = struct.Struct(">BII")  # kind, number of a worker or connection, length of what follows

HELLO, START, OUTPUT, EXIT, KILL, OPEN, DATA, CREDIT, CLOSE, REFUSED, BEAT = range(1, 12)
"""Kinds of frames. HELLO, OUTPUT, EXIT, OPEN, REFUSED go to the master, START and KILL to the node."""

WINDOW = 1 << 20  # bytes of one connection that may be under way
PIECE = 1 << 16
LARGEST = 1 << 24  # no frame is longer
BACKLOG = 4 << 20  # bytes that wait for the master before workers have to wait with their output

BEAT_SECONDS = 5.0
SILENCE = 900.0  # seconds without a word from the master (which may have been stopped) until all ends
GRACE = 2.0  # seconds for workers to end by themselves
LOOK = 0.1


class Frames:
    """Frames over two descriptors, neither of which ever blocks.

    Parameters
    ----------
    reader, writer : int
        Descriptors.
    marker : bytes
        What comes before it is noise: greetings of the node, output of the user's commands.
    """

    def __init__(self, reader: int, writer: int, marker: bytes = b"") -> None:
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self.reader, self.writer = reader, writer
        self.outgoing = bytearray()
        self.noise = bytearray()
        self.ended = False
        self._incoming = bytearray()
        self._marker = marker

    def send(self, kind: int, number: int = 0, content: bytes = b"") -> None:
        """Send a frame, now or by later calls of `flush`."""
        self.outgoing += HEAD.pack(kind, number, len(content))
        self.outgoing += content
        self.flush()

    def flush(self) -> None:
        """Send as much as the descriptor takes."""
        while self.outgoing and not self.ended and self.writer >= 0:
            try:
                sent = os.write(self.writer, memoryview(self.outgoing)[:PIECE])
            except BlockingIOError:
                return
            except OSError:
                self.ended = True
                return
            del self.outgoing[:sent]

    def receive(self) -> list[tuple[int, int, bytes]]:
        """Whole frames that are there."""
        try:
            piece = os.read(self.reader, 4 * PIECE)
        except BlockingIOError:
            return []
        except OSError:
            piece = b""
        if not piece:
            self.ended = True
        self._incoming += piece
        if self._marker and not self._find_marker():
            return []
        return self._frames()

    def _find_marker(self) -> bool:
        noise, found, rest = self._incoming.partition(self._marker)
        self.noise += noise if found else self._incoming[: -len(self._marker)]
        del self.noise[:-PIECE]
        self._incoming = rest if found else self._incoming[-len(self._marker) :]
        if found:
            self._marker = b""
        return bool(found)

    def _frames(self) -> list[tuple[int, int, bytes]]:
        frames, start = [], 0
        while len(self._incoming) - start >= HEAD.size:
            kind, number, length = HEAD.unpack_from(self._incoming, start)
            end = start + HEAD.size + length
            if length > LARGEST:
                self.ended = True
            if length > LARGEST or end > len(self._incoming):
                break
            frames.append((kind, number, bytes(memoryview(self._incoming)[start + HEAD.size : end])))
            start = end
        del self._incoming[:start]
        return frames


class Stream:
    """One connection that travels as frames."""

    def __init__(self, end: socket.socket, worker: int) -> None:
        end.setblocking(False)
        self.end = end
        self.worker = worker
        self.outgoing = bytearray()
        self.credit = WINDOW
        self.closing = False


class Streams:
    """All connections of one session.

    A connection has at most `WINDOW` bytes under way, so one that nobody reads holds up no other.

    Parameters
    ----------
    frames : Frames
    selector : selectors.BaseSelector
        Its keys hold a function of the events that are there.
    on_end : callable, optional
        Called with the number of a worker whose connection was closed at this end.
    """

    def __init__(self, frames: Frames, selector: selectors.BaseSelector, on_end=None) -> None:  # type: ignore[no-untyped-def]
        self._frames = frames
        self._selector = selector
        self._on_end = on_end
        self._streams: dict[int, Stream] = {}

    def add(self, number: int, end: socket.socket, worker: int) -> None:
        """Carry a connection."""
        self._streams[number] = Stream(end, worker)
        self._watch(number)

    def data(self, number: int, content: bytes) -> None:
        """Bytes have arrived for a connection."""
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.outgoing += content
        if len(stream.outgoing) > WINDOW:  # the other end does not keep to the rules
            self._drop(number)
        else:
            self._push(number, stream)

    def grant(self, number: int, count: int) -> None:
        """The other end has passed on so many bytes."""
        if number in self._streams:
            self._streams[number].credit += count
            self._watch(number)

    def end(self, number: int) -> None:
        """The other end of a connection was closed; this one is when all has arrived."""
        if number in self._streams:
            self._streams[number].closing = True
            self._push(number, self._streams[number])

    def close(self) -> None:
        """Close all connections."""
        for number in list(self._streams):
            self._forget(number)

    def _push(self, number: int, stream: Stream) -> None:
        sent = 0
        with contextlib.suppress(BlockingIOError):
            try:
                while stream.outgoing:
                    count = stream.end.send(memoryview(stream.outgoing)[:PIECE])
                    del stream.outgoing[:count]
                    sent += count
            except BlockingIOError:
                raise
            except OSError:
                self._drop(number)
                return
        if sent:
            self._frames.send(CREDIT, number, str(sent).encode())
        if stream.closing and not stream.outgoing:
            self._forget(number)
        else:
            self._watch(number)

    def _pull(self, number: int, stream: Stream) -> None:
        try:
            piece = stream.end.recv(min(PIECE, stream.credit))
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._drop(number)
            return
        stream.credit -= len(piece)
        self._frames.send(DATA, number, piece)
        self._watch(number)

    def _watch(self, number: int) -> None:
        stream = self._streams[number]
        reading = selectors.EVENT_READ if stream.credit > 0 and not stream.closing else 0
        writing = selectors.EVENT_WRITE if stream.outgoing else 0
        watch(self._selector, stream.end, reading | writing, lambda events: self._serve(number, events))

    def _serve(self, number: int, events: int) -> None:
        stream = self._streams.get(number)
        if stream is not None and events & selectors.EVENT_WRITE:
            self._push(number, stream)
        if number in self._streams and stream is not None and events & selectors.EVENT_READ:
            self._pull(number, stream)

    def _drop(self, number: int) -> None:
        worker = self._streams[number].worker
        self._forget(number)
        self._frames.send(CLOSE, number)
        if self._on_end is not None:
            self._on_end(worker)

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number)
        watch(self._selector, stream.end, 0, None)
        stream.end.close()


def watch(selector, end, events, action) -> None:  # type: ignore[no-untyped-def]
    """Have a function called for these events of a descriptor; for none of them if `events` is 0."""
    try:
        known = selector.get_key(end)
    except KeyError:
        if events:
            selector.register(end, events, action)
        return
    if not events:
        selector.unregister(end)
    elif known.events != events:
        selector.modify(end, events, action)


class Child:
    """A worker: its process, and its terminal."""

    def __init__(self, request: dict[str, object]) -> None:
        self.terminal, theirs = os.openpty()
        try:
            tty.setraw(theirs)
            text = request.get("input")
            self.process = subprocess.Popen(  # noqa: S603 - no shell sees it
                request["argv"],  # type: ignore[call-overload]
                stdin=theirs if text is None else subprocess.PIPE,
                stdout=theirs,
                stderr=theirs,
                cwd=request.get("directory"),
                env=dict(os.environ, **request.get("environment", {})),  # type: ignore[arg-type]
                start_new_session=True,
                preexec_fn=_own_terminal,  # noqa: PLW1509 - this program has one thread
            )
        except BaseException:
            os.close(self.terminal)
            raise
        finally:
            os.close(theirs)
        if text is not None:  # the pipe stays open: its end tells the worker that this program is gone
            with contextlib.suppress(OSError):
                self.process.stdin.write(str(text).encode())
                self.process.stdin.flush()
        os.set_blocking(self.terminal, False)
        self.hung_up = False

    def read(self) -> bytes:
        """What the worker printed; empty if nothing is there."""
        try:
            return os.read(self.terminal, PIECE)
        except OSError:  # none there, or (EIO) nobody left to print
            return b""

    def signal(self, number: int) -> None:
        """Send a signal to the worker and all processes of its group."""
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        """Forget a worker that has ended, and end what it left behind."""
        self.signal(signal.SIGKILL)
        os.close(self.terminal)
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


def _own_terminal() -> None:
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)


class Node:
    """The program.

    Parameters
    ----------
    channels : int
        Sockets of the master that workers can reach, each through a port of its own.
    marker : str
        What to print when all noise is over.
    """

    def __init__(self, channels: int, marker: str) -> None:
        self.selector = selectors.DefaultSelector()
        self.frames = Frames(0, 1)
        self.streams = Streams(self.frames, self.selector)
        self.children: dict[int, Child] = {}
        self.connections = 0
        self.heard = self.beaten = self.looked = time.monotonic()
        self.listeners = [socket.create_server(("127.0.0.1", 0), backlog=128) for _ in range(channels)]
        for channel, listener in enumerate(self.listeners):
            listener.setblocking(False)
            watch(self.selector, listener, selectors.EVENT_READ, lambda _, c=channel: self.accept(c))
        self.frames.outgoing += marker.encode()
        hello = {"ports": [listener.getsockname()[1] for listener in self.listeners], "pid": os.getpid()}
        self.frames.send(HELLO, 0, json.dumps(dict(hello, python=sys.version.split()[0])).encode())

    def run(self) -> None:
        """Serve until the master is gone."""
        watch(self.selector, 0, selectors.EVENT_READ, lambda _: self.receive())
        while not self.frames.ended and time.monotonic() - self.heard < SILENCE:
            self.look()
            watch(self.selector, 1, selectors.EVENT_WRITE if self.frames.outgoing else 0, lambda _: self.frames.flush())
            for key, events in self.selector.select(LOOK):
                key.data(events)

    def receive(self) -> None:
        """Do what the master says."""
        for kind, number, content in self.frames.receive():
            if kind == START:
                self.start(number, json.loads(content))
            elif kind == KILL and number in self.children:
                self.children[number].signal(int(content))
            elif kind == DATA:
                self.streams.data(number, content)
            elif kind == CREDIT:
                self.streams.grant(number, int(content))
            elif kind == CLOSE:
                self.streams.end(number)
        self.heard = time.monotonic()

    def start(self, number: int, request: dict[str, object]) -> None:
        """Start a worker."""
        try:
            child = Child(request)
        except (OSError, subprocess.SubprocessError) as err:
            self.frames.send(OUTPUT, number, str(err).encode())
            self.frames.send(EXIT, number, b"127")
            return
        self.children[number] = child
        self.listen_to(number)

    def listen_to(self, number: int) -> None:
        """Take what a worker prints, as long as the master does."""
        child = self.children[number]
        reading = selectors.EVENT_READ if len(self.frames.outgoing) < BACKLOG and not child.hung_up else 0
        watch(self.selector, child.terminal, reading, lambda _: self.hear(number))

    def hear(self, number: int) -> None:
        """Pass on what a worker has printed."""
        piece = self.children[number].read()
        if piece:
            self.frames.send(OUTPUT, number, piece)
        else:  # nobody holds the terminal; `look` finds out how the worker ended
            self.children[number].hung_up = True
        self.listen_to(number)

    def look(self) -> None:
        """Notice workers that have ended, and say that this program is alive."""
        now = time.monotonic()
        if now - self.looked < LOOK:
            return
        self.looked = now
        for number, child in list(self.children.items()):
            if child.process.poll() is None:
                self.listen_to(number)
                continue
            while True:
                piece = child.read()
                if not piece:
                    break
                self.frames.send(OUTPUT, number, piece)
            watch(self.selector, child.terminal, 0, None)
            del self.children[number]
            child.close()
            self.frames.send(EXIT, number, str(child.process.returncode).encode())
        if now - self.beaten >= BEAT_SECONDS:
            self.beaten = now
            self.frames.send(BEAT)

    def accept(self, channel: int) -> None:
        """Carry a connection, if it comes from a worker."""
        try:
            end, peer = self.listeners[channel].accept()
        except OSError:
            return
        worker = owner(peer[1], end.getsockname()[1], {n: c.process.pid for n, c in self.children.items()})
        if worker is None:
            end.close()
            self.frames.send(REFUSED, channel)
            return
        self.connections += 1
        self.frames.send(OPEN, self.connections, json.dumps([channel, worker]).encode())
        self.streams.add(self.connections, end, worker)

    def end(self) -> None:
        """End all workers."""
        for listener in self.listeners:
            listener.close()
        self.streams.close()
        for child in self.children.values():
            if child.process.stdin is not None:
                with contextlib.suppress(OSError):
                    child.process.stdin.close()
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and any(child.process.poll() is None for child in self.children.values()):
            time.sleep(0.02)
        for child in self.children.values():
            child.signal(signal.SIGKILL)
            child.process.wait()


def owner(port: int, listening: int, workers: dict[int, int]) -> int | None:
    """Number of the worker that has this port, connected to that one; None if it is no worker of ours.

    A process belongs to a worker if it is in its session, which nobody can join from outside.
    """
    if not os.path.exists("/proc/net/tcp"):  # no Linux: nobody can tell
        return next(iter(workers), None)
    name = _socket_name(port, listening)
    if name is None:
        return None
    for number, pid in workers.items():
        if name in _open_files(pid):
            return number
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        with contextlib.suppress(OSError):
            session = os.getsid(pid)
            for number, leader in workers.items():
                if session == leader and name in _open_files(pid):
                    return number
    return None


def _socket_name(port: int, listening: int) -> str | None:
    ends = [f"0100007F:{end:04X}" for end in (port, listening)]
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table:
            words = line.split()
            if words[1:3] == ends:
                return "socket:[" + words[9] + "]"
    return None


def _open_files(pid: int) -> set[str]:
    found = set()
    directory = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for entry in os.listdir(directory):
            with contextlib.suppress(OSError):
                found.add(os.readlink(os.path.join(directory, entry)))
    return found


def main(channels: int, marker: str) -> None:
    """Run the program."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    node = Node(channels, marker)
    try:
        node.run()
    finally:
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        node.end()
