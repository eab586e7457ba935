"""One segment: commits one after the other, each whole or not there.

    header   magic "ASC1", clock, number of records, bytes of heads, bytes of payloads, CRC-32 of header and heads
    heads    for each record: what it is, lengths, key, codec, kind, size, checksum
    payloads as they go into the store; each has a CRC-32 in its checksum

Heads come first, so that a reader skips the payloads: it knows all keys of a segment after a small part of it.
Nothing in a segment is trusted: lengths are compared with those of the file before anything is read.
"""

import contextlib
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from ampstore.codec import Blob
from ampstore.durable import sync
from ampstore.errors import StorageError

MAGIC = b"ASC1"
_HEADER = struct.Struct("<4sQIQQ")
_CRC = struct.Struct("<I")
_HEAD = struct.Struct("<BIHIQBQ")  # deleted, lengths of key, codec and kind, size, lengths of checksum and payload
_PREFIX = _HEADER.size + _CRC.size

LARGEST_HEADS = 256 << 20
IDLE = 10.0
"""Seconds after which a writer that was silent begins a new segment: the old one may be folded and removed."""

ROTATED_ABOVE = 64 << 20
"""Bytes after which a writer begins a new segment."""


class RemovedSegmentError(Exception):
    """The segment was sealed while a commit was made: the notes of the store say whether it counts.

    Attributes
    ----------
    segment : str
    end : int
        Where the commit ends.
    """

    def __init__(self, segment: str, end: int) -> None:
        super().__init__(segment, end)
        self.segment, self.end = segment, end


class Record(NamedTuple):
    """One change: a value for a key, or None if the key is deleted."""

    key: str
    blob: Blob | None


class Entry(NamedTuple):
    """A record as it was found in a segment, without its payload.

    Attributes
    ----------
    clock : int
        Number of its commit.
    segment : str
    end : int
        Where its commit ends, bytes.
    key : str
    deleted : bool
    codec, kind, size, checksum
        As in `Blob`.
    offset, length : int
        Where the payload is.
    """

    clock: int
    segment: str
    end: int
    key: str
    deleted: bool
    codec: str
    kind: str
    size: int
    checksum: bytes
    offset: int
    length: int


def packed(clock: int, records: Sequence[Record]) -> bytes:
    """Bytes of one commit."""
    heads, payloads = bytearray(), list[bytes]()
    for key, blob in records:
        codec, kind, size, checksum, payload = blob or ("", "", 0, b"", b"")
        texts = [text.encode() for text in (key, codec, kind)]
        lengths = [len(text) for text in texts]
        heads += _HEAD.pack(blob is None, *lengths, size, len(checksum), len(payload))
        heads += b"".join((*texts, checksum))
        payloads.append(payload)
    header = _HEADER.pack(MAGIC, clock, len(records), len(heads), sum(map(len, payloads)))
    return b"".join((header, _CRC.pack(crc32(heads, crc32(header))), heads, *payloads))


class Commit(NamedTuple):
    """One whole commit of a segment; one without entries is the last: the writer went."""

    end: int
    clock: int
    entries: list[Entry]


def commits(descriptor: int, segment: str, offset: int) -> Iterator[Commit]:
    """Whole commits from an offset on, up to the end of the file or a torn one."""
    size = os.fstat(descriptor).st_size
    while (found := _commit(descriptor, segment, offset, size)) is not None:
        yield found
        offset = found.end


def _commit(descriptor: int, segment: str, offset: int, size: int) -> Commit | None:
    prefix = os.pread(descriptor, _PREFIX, offset)
    if len(prefix) < _PREFIX:
        return None
    header = prefix[: _HEADER.size]
    magic, clock, count, heads_length, payloads_length = _HEADER.unpack(header)
    start = offset + _PREFIX + heads_length
    end = start + payloads_length
    if magic != MAGIC or heads_length > LARGEST_HEADS or end > size:
        return None
    heads = os.pread(descriptor, heads_length, offset + _PREFIX)
    if _CRC.unpack(prefix[_HEADER.size :])[0] != crc32(heads, crc32(header)):
        return None
    try:
        entries = list(_entries(heads, count, clock, segment, start, end))
    except (struct.error, UnicodeDecodeError):
        return None
    return Commit(end, clock, entries)


def _entries(heads: bytes, count: int, clock: int, segment: str, offset: int, end: int) -> Iterator[Entry]:
    at = 0
    for _ in range(count):
        deleted, key, codec, kind, size, checksum, length = _HEAD.unpack_from(heads, at)
        at += _HEAD.size
        parts = []
        for part in (key, codec, kind, checksum):
            parts.append(heads[at : at + part])
            at += part
        texts = [part.decode() for part in parts[:3]]
        yield Entry(clock, segment, end, texts[0], bool(deleted), texts[1], texts[2], size, parts[3], offset, length)
        offset += length


class Appender:
    """The segments of this process: one at a time, made when the first commit comes.

    Safe for threads; after a fork the child begins one of its own.

    Parameters
    ----------
    directory : Path
    name : callable
        Gives a name that nobody else has.
    clock : callable
        Monotonic time, seconds.
    """

    def __init__(self, directory: Path, name: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._descriptor = -1
        self._segment = ""
        self._end = 0
        self._used = 0.0

    def append(self, number: Callable[[], int], records: Sequence[Record]) -> int:
        """Make one commit, on the disk when this returns; bytes in the segment by then.

        Parameters
        ----------
        number : callable
            Gives the clock of the commit; called when nobody else of this process can commit.

        Raises
        ------
        RemovedSegmentError
            If a maintainer sealed the segment meanwhile.
        StorageError
        """
        if self._pid != os.getpid():
            self._lock, self._pid, self._descriptor = threading.Lock(), os.getpid(), -1
        with self._lock:
            try:
                self._begin()
                self._write(packed(number(), records))
            except OSError as err:
                self._abandon()
                if isinstance(err, StorageError):
                    raise
                raise StorageError(
                    str(self._directory), f"a commit could not be written: {err.strerror}; free space and try again"
                ) from err
            except BaseException:  # half a commit may be there
                self._abandon()
                raise
            return self._end

    def close(self) -> None:
        """Say that nothing more comes in this segment, so that a maintainer may remove it. Closing twice is fine."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.pwrite(self._descriptor, packed(0, ()), self._end)
                self._abandon()

    def _begin(self) -> None:
        now = self._clock()
        if self._descriptor >= 0 and (now - self._used > IDLE or self._end > ROTATED_ABOVE):
            os.pwrite(self._descriptor, packed(0, ()), self._end)
            self._abandon()
        if self._descriptor < 0:
            self._segment, self._end = self._name(), 0
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._directory / self._segment, flags, 0o666)
            sync(self._directory)
        self._used = now

    def _write(self, data: bytes) -> None:
        view, at = memoryview(data), self._end
        while view:
            done = os.pwrite(self._descriptor, view, at)
            view, at = view[done:], at + done
        os.fsync(self._descriptor)
        # The server tells the number of links with the answer to the sync. One: whoever seals it now will read
        # this commit. Two: who knows; the commit is looked up in the notes of the store.
        if os.fstat(self._descriptor).st_nlink != 1:
            raise RemovedSegmentError(self._segment, at)
        self._end = at

    def _abandon(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)
