"""A container in the legacy layout: its two tiers, and `LegacyDatabase`, the mapping on them.

get  k --> loose > archive
set  k --> loose, atomically
archive()  loose + archive --> new archive, then the loose files that did not change go
"""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ampstore.codec import Allowed
from ampstore.codec.legacy import dump_legacy, load_legacy
from ampstore.codec.safe import Rule
from ampstore.durable import make_directory
from ampstore.errors import (
    AccessError,
    BusyError,
    CodecError,
    DamagedArchiveError,
    KeyTypeError,
    LegacyPickleError,
    MissingStoreError,
)
from ampstore.late import late_logger
from ampstore.legacy.archive import Archive, write_archive
from ampstore.legacy.loose import Loose, Stamp, file_errors, remove_left_overs
from ampstore.legacy.names import Problem, check_name, reason_against

if TYPE_CHECKING:
    from filelock import FileLock

log = late_logger(__name__)

_TIMEOUT = 30.0

SUFFIX = ".ampdb"
LOCK_NAME = "store.lock"


def container_path(filename: str | os.PathLike[str]) -> Path:
    """Directory of a container: the suffix .ampdb is added unless it is there, as Amp does."""
    path = Path(os.path.abspath(filename))
    return path if path.name.endswith(SUFFIX) else path.with_name(path.name + SUFFIX)


@contextlib.contextmanager
def maintenance_lock(directory: Path, timeout: float) -> Iterator[None]:
    """One maintainer at a time folds, archives or compacts a container.

    Raises
    ------
    BusyError
        If another one is at it for longer than `timeout` seconds.
    AccessError
        If this user may not write there.
    """
    from filelock import FileLock, Timeout

    path = os.path.abspath(directory / LOCK_NAME)
    try:
        # filelock would set mode 0644 whatever the umask says, and old ones follow a link and truncate what it names.
        place = path, _lock_file(path), os.getpid()
        lock = _idle.pop(place, None) or FileLock(path, mode=place[1])
        lock.acquire(timeout=timeout)
    except Timeout as err:
        raise BusyError(str(directory), f"another process maintained it for {timeout:g} s; try again later") from err
    except OSError as err:
        raise AccessError(str(directory), f"cannot be locked for maintenance: {err.strerror}") from err
    try:
        yield
    finally:
        try:
            lock.release()
        except OSError as err:
            gone = f"its maintenance lock cannot be given back ({err.strerror}); it goes with this process"
            raise AccessError(str(directory), gone) from err
        except BaseException:  # Ctrl-C, perhaps before anything was given back
            lock.release()
            raise
    if len(_idle) >= _MOST_IDLE:
        _idle.clear()
    _idle[place] = lock


_MOST_IDLE = 64
_idle: "dict[tuple[str, int, int], FileLock]" = {}
"""Locks to use again, by path, mode and process: a Ctrl-C that comes while one is finalized, which takes long, is lost.

One that a Ctrl-C interrupted is not kept, so that it is free when nobody knows it any more.
"""


def _lock_file(path: str) -> int:
    """Make the lock file with the mode of the umask, unless it is there; its mode. OSError: no locks can be had."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        # Where there is no flock, filelock takes a file that is there for a lock that is held.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def check_own(path: Path) -> None:
    """Refuse a part of a container that is a symbolic link: it would lead out of the container.

    Raises
    ------
    AccessError
    """
    with file_errors(path, "read"):
        linked = path.is_symlink()
    if linked:
        raise AccessError(
            str(path),
            "this is a symbolic link, and links inside a container are not followed; put the real file or directory in "
            "its place, or link the whole container",
        )


class Container:
    """The legacy tiers of one container directory.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        check_own(directory / "loose")
        check_own(directory / "archive.tar.gz")
        self.loose = Loose(directory / "loose")
        self.archive = Archive(directory / "archive.tar.gz")

    def names(self) -> list[str]:
        """Names of all entries, those of the archive first."""
        return list(dict.fromkeys([*self.archive.members(), *self.loose.names()]))

    def read(self, name: str) -> bytes | None:
        """Bytes of an entry, loose before archive."""
        if reason_against(name):
            return None
        found = self.loose.read(name)
        return found[0] if found else self.archive.read(name)

    def problems(self) -> list[Problem]:
        """What is in the container and holds no entry."""
        return [*self.loose.problems(), *self.archive.problems()]

    def size(self) -> int:
        """Bytes of all files of both tiers."""
        stamps = (self.loose.stamp(name) for name in self.loose.names())
        return self.archive.size() + sum(stamp.size for stamp in stamps if stamp)

    def remove_left_overs(self) -> int:
        """Delete temporary files of processes that have ended; how many."""
        return self.loose.remove_left_overs() + remove_left_overs(self.directory)


class LegacyDatabase(MutableMapping[str, object]):
    """The pure legacy layout, written so that nothing is torn and real Amp reads it.

    Every set is one atomic, synced file; `archive` replaces the archive by rename. Safe for many
    processes; `archive` and deleting an archived entry wait for each other. Values are pickled with
    protocol 2, which Amp on Python 2 and 3 reads, and NumPy's types under the names that NumPy 1 has.
    Torn files are no entries; setting their keys replaces them.

    Parameters
    ----------
    filename : str or path-like
        With or without ".ampdb".
    allow : iterable of str or "*"
        As in `Store`.
    """

    def __init__(self, filename: str | os.PathLike[str], *, allow: Allowed = ()) -> None:
        self.path = container_path(filename)
        self.rule = Rule(allow)
        self._tiers = Container(self.path)

    @classmethod
    def open(cls, filename: str | os.PathLike[str], flag: str | None = None) -> Self:  # noqa: ARG003
        """Open a database; the flag is ignored, as in Amp."""
        return cls(filename)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to do: every write is durable. Here for programs that call it."""

    def __getitem__(self, key: str) -> object:
        if not isinstance(key, str) or reason_against(key):
            raise KeyError(key)
        problem: LegacyPickleError | None = None
        try:
            if found := self._tiers.loose.load(key, self.rule):
                return found[0]
        except LegacyPickleError as err:
            problem = err
        data = self._tiers.archive.read(key)
        # Archived since the first look?
        if data is None and not problem and (found := self._tiers.loose.load(key, self.rule)):
            return found[0]
        if data is None:
            raise problem or KeyError(key)
        if problem:
            log.warning("%s: %s; returning the older value from the archive", self.path, problem)
        return load_legacy(key, data, self.rule)

    def __setitem__(self, key: str, value: object) -> None:
        if not isinstance(key, str):
            raise KeyTypeError(key)
        check_name(key)
        data = dump_legacy(value, self.rule)
        if not self.path.parent.is_dir():
            raise MissingStoreError(str(self.path), f"there is no directory {self.path.parent}; create it first")
        self._tiers.loose.write(key, data)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        # Archive first: the other order would show the archived value for a moment.
        if key in self._tiers.archive:
            with maintenance_lock(self.path, _TIMEOUT):
                self._rewrite_archive({}, without=key)
        if self._tiers.loose.remove(key):
            self._tiers.loose.sync()

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str) or reason_against(key):
            return False
        loose, archive = self._tiers.loose, self._tiers.archive
        return loose.holds_entry(key, self.rule) or archive.holds_entry(key, self.rule)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def keys(self) -> list[str]:  # type: ignore[override]
        """List of all keys, those of the archive first."""
        loose = self._tiers.loose
        return list(
            dict.fromkeys(
                [
                    *self._tiers.archive.names(self.rule),
                    *(name for name in loose.names() if loose.holds_entry(name, self.rule)),
                ]
            )
        )

    def values(self) -> list[object]:  # type: ignore[override]
        """List of all values, in the order of `keys`."""
        return [self[key] for key in self.keys()]

    def archive(self) -> int:
        """Pack everything into archive.tar.gz; how many loose files went.

        Files that hold no entry stay where they are.
        """
        if not self.path.is_dir():
            return 0
        with maintenance_lock(self.path, _TIMEOUT):
            self._tiers.remove_left_overs()
            packed = {name: stamp for name in self._tiers.loose.names() if (stamp := self._sound(name))}
            if packed:
                self._rewrite_archive(packed)
            removed = sum(self._tiers.loose.remove_unchanged(name, stamp) for name, stamp in packed.items())
            if removed:
                self._tiers.loose.sync()
            return removed

    def _sound(self, name: str) -> Stamp | None:
        """Stamp of a loose file that holds a value."""
        try:
            found = self._tiers.loose.load(name, self.rule, settled=True)
        except CodecError as err:
            log.warning("%s: left in loose/: %s", self.path, err)
            return None
        return found[1] if found else None

    def _rewrite_archive(self, packed: Mapping[str, Stamp], without: str | None = None) -> None:
        archive, loose = self._tiers.archive, self._tiers.loose

        def entries() -> Iterator[tuple[str, bytes, float]]:
            for name, member in archive.members().items():
                if name != without and name not in packed:
                    # What has no checksum that fits would have one in the new archive.
                    with contextlib.suppress(DamagedArchiveError):
                        yield name, archive.read(name) or b"", member.mtime
            for name, stamp in packed.items():
                found = loose.read(name)
                if found and found[1] == stamp:
                    yield name, found[0], stamp.mtime_ns / 1e9

        with file_errors(self.path, "written"):
            make_directory(self.path / "loose")
        if archive.problems():
            kept = self.path / f"archive-damaged-{time.time_ns()}.tar.gz"
            os.link(archive.path, kept)
            log.warning("%s: the archive has %s; it is kept as %s", self.path, archive.problems()[0].reason, kept.name)
        write_archive(archive.path, entries())
