"""Frames on a socket between the master and one worker.

A frame is its length (8 bytes) and its bytes. The master never waits for a worker that does not
read, because it is stopped or busy in C code: what the socket does not take stays in a buffer.
"""

import socket
import struct
from collections import deque

_HEAD = struct.Struct(">Q")
_PIECE = 1 << 18
LARGEST_FRAME = 1 << 40


class Channel:
    """The master's end, which never blocks.

    Parameters
    ----------
    end : socket
        One end of a pair of stream sockets.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._outgoing: deque[memoryview] = deque()
        self._incoming = bytearray()
        self._lost = False

    def fileno(self) -> int:
        """Descriptor, for selectors."""
        return self._socket.fileno()

    @property
    def sending(self) -> bool:
        """Whether something is left to send."""
        return bool(self._outgoing) and not self._lost

    def send(self, frame: bytes) -> None:
        """Send a frame, now or by later calls of `flush`."""
        self._outgoing += (memoryview(_HEAD.pack(len(frame))), memoryview(frame))
        self.flush()

    def flush(self) -> None:
        """Send as much as the socket takes."""
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # the worker is gone; `receive` says so
                self._lost = True
                return
            if sent == len(self._outgoing[0]):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = self._outgoing[0][sent:]

    def receive(self) -> tuple[list[bytes], bool]:
        """Whole frames that are there, and whether the worker may send more."""
        going = True
        while True:
            try:
                piece = self._socket.recv(_PIECE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                piece = b""
            if not piece:
                going = False
                break
            self._incoming += piece
            if len(piece) < _PIECE:
                break
        return self._frames(), going

    def _frames(self) -> list[bytes]:
        frames, start = list[bytes](), 0
        while len(self._incoming) - start >= _HEAD.size:
            (length,) = _HEAD.unpack_from(self._incoming, start)
            end = start + _HEAD.size + length
            if end > len(self._incoming):
                break
            frames.append(bytes(memoryview(self._incoming)[start + _HEAD.size : end]))
            start = end
        del self._incoming[:start]
        return frames

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def send_frame(end: socket.socket, frame: bytes) -> None:
    """Send one frame and wait until it is gone; the worker's way."""
    end.sendall(_HEAD.pack(len(frame)))
    end.sendall(frame)


def receive_frame(end: socket.socket) -> bytes | None:
    """Wait for one frame; None if the master is gone."""
    head = _receive(end, _HEAD.size)
    return None if head is None else _receive(end, _HEAD.unpack(head)[0])


def _receive(end: socket.socket, length: int) -> bytes | None:
    found = bytearray(length)
    view = memoryview(found)
    while view:
        try:
            count = end.recv_into(view, min(len(view), _PIECE))
        except OSError:
            return None
        if not count:
            return None
        view = view[count:]
    return bytes(found)
