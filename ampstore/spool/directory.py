"""The spool of one container: which entries all segments hold together, and a segment to append to."""

import contextlib
import errno
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from zlib import crc32

from ampstore.durable import make_directory
from ampstore.errors import CorruptEntryError, StorageError, StoreError
from ampstore.owner import has_ended, new_owner
from ampstore.spool.segment import Appender, Entry, Record, commits

DIRECTORY = "spool"
SUFFIX = ".seg"
SEAL = ".sealed"
SEALED = 1 << 62
"""Offset that is noted of a segment that is folded as a whole, and may be gone."""

ATTEMPTS = 4
"""Calls on files of the spool that may fail one after the other with an error of network file systems."""

FLEETING = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EREMOTEIO)
OLD = 600.0
"""Seconds after which a segment that nobody closed counts as left behind, by the clock of the server."""

Result = TypeVar("Result")


class Snapshot(NamedTuple):
    """What a maintainer folds.

    Attributes
    ----------
    entries : list of Entry
        For each key the newest one.
    ends : dict of str to int
        Up to where each segment is in it.
    sealed : list of str
        Those of the segments that can be removed afterwards.
    """

    entries: list[Entry]
    ends: dict[str, int]
    sealed: list[str]


class Torn(NamedTuple):
    """Bytes at the end of a segment that are no whole commit."""

    segment: str
    offset: int
    length: int


class _Known:
    """What is known of one segment: read up to `end`; `ended` if its writer said so."""

    def __init__(self) -> None:
        self.end = 0
        self.size = 0
        self.ended = False
        self.since = time.monotonic()
        self.entries: dict[str, Entry] = {}


class Spool:
    """The segments of one directory. Safe for threads and for many hosts.

    Parameters
    ----------
    directory : Path
        Need not exist: it reads as empty, and is made by the first write.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[str, _Known] = {}
        self._folded: Mapping[str, int] = {}
        self._newest: dict[str, Entry] | None = {}
        self._clock = 0
        self._lock = threading.RLock()
        self._appender = Appender(directory, _new_name)

    # -- reading -------------------------------------------------------------------------------

    def look(self) -> bool:
        """Read what came since the last look; whether there is any segment."""
        with self._lock:
            names = patiently(self.directory, self._names)
            for name in self._known.keys() - names:
                del self._known[name]
                self._newest = None
            for name in names:
                self._read_on(name)
            return bool(names)

    def newest(self, folded: Mapping[str, int]) -> dict[str, Entry]:
        """For each key the newest entry that is not in the store yet.

        Parameters
        ----------
        folded : mapping of str to int
            Up to where each segment is in the store, as noted there *after* the last `look`.
        """
        with self._lock:
            if self._newest is None or folded != self._folded:
                self._folded, self._newest = dict(folded), {}
                for known in self._known.values():
                    self._merge(known.entries.values())
            return self._newest

    def payload(self, entry: Entry) -> bytes | None:
        """Payload of an entry, None if its segment is gone: the store has it by now.

        Raises
        ------
        CorruptEntryError
            If it is not what was written.
        """

        def read() -> bytes | None:
            try:
                with _opened(self._path(entry.segment)) as descriptor:
                    return os.pread(descriptor, entry.length, entry.offset)
            except FileNotFoundError:
                return None

        found = patiently(self.directory, read)
        if found is not None and (len(found) != entry.length or crc32(found).to_bytes(4) != entry.checksum[-4:]):
            raise CorruptEntryError(entry.key, f"its bytes in {entry.segment} are not those that were written")
        return found

    def __contains__(self, segment: object) -> bool:
        return segment in self._known

    def __len__(self) -> int:
        """Number of segments as of the last look."""
        return len(self._known)

    def changed(self, segment: str) -> float:
        """When a segment was last written to, seconds since 1970; 0 if it is gone."""
        try:
            return os.stat(self._path(segment)).st_mtime
        except FileNotFoundError:
            return 0.0

    def torn(self) -> Iterator[Torn]:
        """Half commits: of writers that were killed, or are writing just now."""
        self.look()
        for name, known in sorted(self._known.items()):
            if known.size > known.end:
                yield Torn(name, known.end, known.size - known.end)

    def _read_on(self, name: str) -> None:
        known = self._known.setdefault(name, _Known())
        if known.ended:
            return

        def read() -> None:
            with _opened(self._path(name)) as descriptor:
                size = os.fstat(descriptor).st_size
                if size != known.size:
                    known.size, known.since = size, time.monotonic()
                for end, clock, entries in commits(descriptor, name, known.end) if size > known.end else ():
                    self._clock = max(self._clock, clock)
                    known.end, known.ended = end, not entries
                    known.entries |= {entry.key: entry for entry in entries}
                    if self._newest is not None:
                        self._merge(entries)

        with contextlib.suppress(FileNotFoundError):  # folded just now
            patiently(self.directory, read)

    def _merge(self, entries: Iterable[Entry]) -> None:
        newest = self._newest
        if newest is None:
            return
        for entry in entries:
            if entry.end <= self._folded.get(entry.segment, 0):
                continue
            other = newest.get(entry.key)
            if other is None or entry[:2] >= other[:2]:
                newest[entry.key] = entry

    def _names(self) -> set[str]:
        try:
            found = os.listdir(self.directory)
        except FileNotFoundError:
            return set()
        sealed = {name.removesuffix(SEAL) + SUFFIX for name in found if name.endswith(SEAL)}
        return {name for name in found if name.endswith(SUFFIX)} | sealed

    def _path(self, segment: str) -> Path:
        """Of a segment, or of its seal if only that is left."""
        path = self.directory / segment
        return path if os.path.exists(path) else path.with_suffix(SEAL)

    # -- writing -------------------------------------------------------------------------------

    def append(self, records: Sequence[Record]) -> int:
        """Make one commit, later than all that is in the spool by now; bytes in this process's segment.

        Raises
        ------
        RemovedSegmentError
        StorageError
        """
        make_directory(self.directory)
        return self._appender.append(self._next, records)

    def close(self) -> None:
        """End the segment of this process. Closing twice is fine."""
        self._appender.close()

    def _next(self) -> int:
        self.look()
        self._clock += 1
        return self._clock

    # -- for the maintainer --------------------------------------------------------------------

    def snapshot(self, folded: Mapping[str, int], idle: float) -> Snapshot:
        """Seal the segments that are left behind, and say what is to be folded.

        Left behind are those whose writer closed them, has ended on this machine, or was silent for longer than
        `idle` seconds by this process's own clock, or for ten minutes by the server's.
        """
        with self._lock:
            self.look()
            now = self._server_time()
            sealed = [name for name, known in sorted(self._known.items()) if self._seal(name, known, now, idle)]
            ends = {name: known.end for name, known in self._known.items()}
            return Snapshot(list(self.newest(folded).values()), ends, sealed)

    def _seal(self, name: str, known: _Known, now: float, idle: float) -> bool:
        path = self.directory / name
        seal = path.with_suffix(SEAL)
        quiet = time.monotonic() - known.since > idle
        if not (known.ended or quiet or seal.exists() or _is_left(path, now)):
            return False
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(path, seal, follow_symlinks=False)
        known.ended = False
        self._read_on(name)  # what was committed before the seal
        return True

    def remove(self, segments: Sequence[str]) -> int:
        """Remove sealed segments, which the store has and says so; how many."""
        for name in segments:
            for path in (self.directory / name, (self.directory / name).with_suffix(SEAL)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        return len(segments)

    def set_aside(self, segments: Sequence[str]) -> None:
        """Keep sealed segments that are damaged under a name that nobody reads."""
        for name in segments:
            path = self.directory / name
            with contextlib.suppress(FileNotFoundError):
                os.replace(path.with_suffix(SEAL), path.with_suffix(".damaged"))

    def _server_time(self) -> float:
        """Now, by the clock that stamps files: that of a maintainer's lease, which was just renewed."""
        stamps = [os.stat(path).st_mtime for path in self.directory.glob("maintainer.*")]
        return max(stamps, default=0.0)


def has_segments(container: Path) -> bool:
    """Whether entries of a container may wait in its spool."""
    try:
        return any(name.endswith((SUFFIX, SEAL)) for name in os.listdir(container / DIRECTORY))
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_folded(container: Path) -> None:
    """Refuse to pass over entries that wait in the spool of a container.

    Raises
    ------
    StoreError
    """
    if has_segments(container):
        raise StoreError(
            str(container),
            "entries that hosts wrote wait in its spool; run `ampstore archive` on it first (ten minutes after the last"
            " writer was killed on another host at the latest, that empties it)",
        )


def patiently(directory: Path, call: Callable[[], Result]) -> Result:
    """Result of a call that may fail a few times as network file systems do.

    Raises
    ------
    StorageError
        If it goes on to fail.
    """
    for attempt in range(ATTEMPTS):
        try:
            return call()
        except OSError as err:
            if err.errno not in FLEETING:
                raise
            last = err
            time.sleep(0.01 * 4**attempt)
    raise StorageError(
        str(directory), f"cannot be read, {ATTEMPTS} times in a row: {last.strerror}; check the mount"
    ) from last


def _new_name() -> str:
    """host-process-machine-start-random: the parts of the name of an owner."""
    host, pid, birth, random = new_owner().rsplit(":", 3)
    return f"{re.sub(r'[^A-Za-z0-9.]', '_', host)[:64]}-{pid}-{birth}-{random[:8]}{secrets.token_hex(4)}{SUFFIX}"


def _is_left(path: Path, now: float) -> bool:
    parts = path.stem.rsplit("-", 4)
    if len(parts) == 5 and has_ended(f"{parts[0]}:{parts[1]}:{parts[2]}-{parts[3]}:{parts[4]}"):
        return True
    with contextlib.suppress(FileNotFoundError):
        return now - os.stat(path).st_mtime > OLD
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
