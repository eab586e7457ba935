"""One pickle file per entry in `loose/`, written so that a crash leaves the old or the new file.

The legacy opens, truncates and writes in place: readers see halves, kills leave them behind. Here
a file is written under a temporary name, synced, renamed, and the directory is synced.
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ampstore.codec import Rule, ends_whole, load_legacy
from ampstore.errors import AccessError, CodecError, LegacyPickleError, StorageError
from ampstore.legacy.names import Problem, is_left_over, reason_against, temporary_name

LARGEST = 1 << 30
"""Bytes of the largest file that is read: SQLite takes no more in one row either."""

SETTLING = 0.5
_TAIL = 512
_LEFT_OVER_AFTER = 3600.0


class Stamp(NamedTuple):
    """What changes when somebody writes a file."""

    inode: int
    size: int
    mtime_ns: int


class Loose:
    """The files of one `loose/` directory. Safe for many threads and processes.

    Parameters
    ----------
    directory : Path
        Need not exist: it reads as empty then.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> Iterator[str]:
        """Names of the files that may hold an entry, in the order of the directory."""
        for item in self._scan():
            if not is_left_over(item.name) and item.is_file(follow_symlinks=False) and not _empty(item):
                if not reason_against(item.name):
                    yield item.name

    def problems(self) -> Iterator[Problem]:
        """What lies in the directory and is no entry."""
        for item in self._scan():
            if is_left_over(item.name):
                yield Problem(item.name, "loose", "left behind by a process that was killed")
            elif item.is_symlink():
                yield Problem(item.name, "loose", "a symbolic link, not followed")
            elif not item.is_file(follow_symlinks=False):
                yield Problem(item.name, "loose", "not a regular file")
            elif _empty(item):
                yield Problem(item.name, "loose", "the file is empty")
            elif reason := reason_against(item.name):
                yield Problem(item.name, "loose", reason)

    def _scan(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.directory) as items:
                yield from items
        except (FileNotFoundError, NotADirectoryError):
            return

    def stamp(self, name: str) -> Stamp | None:
        """Stamp of a regular file, None if there is none of that name."""
        try:
            found = os.lstat(f"{self.directory}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _stamp(found) if stat.S_ISREG(found.st_mode) else None

    def read(self, name: str) -> tuple[bytes, Stamp] | None:
        """Bytes and stamp of a file; None if there is no regular file of that name.

        Raises
        ------
        AccessError, StorageError
            If it cannot be read, or is larger than `LARGEST`.
        """
        path = f"{self.directory}/{name}"
        try:
            # O_NONBLOCK: opening a FIFO would wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as err:
            raise AccessError(path) from err
        except OSError:
            return None  # a symbolic link, a socket
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return None
            if found.st_size > LARGEST:
                raise StorageError(path, f"{found.st_size:,} bytes; files over {LARGEST:,} bytes are not read")
            return file.read(LARGEST), _stamp(found)

    def holds_entry(self, name: str, rule: Rule) -> bool:
        """Whether there is a file that holds a value; the end of the file tells for nearly all."""
        try:
            descriptor = os.open(f"{self.directory}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        with open(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= LARGEST:
                return False
            if ends_whole(os.pread(descriptor, _TAIL, max(0, found.st_size - _TAIL))):
                return True
            try:
                load_legacy(name, file.read(), rule)
            except CodecError:
                return False
            return True

    def load(self, name: str, rule: Rule) -> tuple[object, Stamp] | None:
        """Value and stamp of a file; None if there is none.

        A legacy program writes in place, so a file that is no whole pickle and was changed a moment
        ago is looked at again for up to `SETTLING` seconds.

        Raises
        ------
        LegacyPickleError, ForbiddenGlobalError
            If it holds no value that may be read.
        """
        deadline = time.monotonic() + SETTLING
        while found := self.read(name):
            data, stamp = found
            try:
                return load_legacy(name, data, rule), stamp
            except LegacyPickleError:
                if time.time() - stamp.mtime_ns / 1e9 > SETTLING or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)
        return None

    def write(self, name: str, data: bytes) -> None:
        """Put a whole file in place, durably.

        Raises
        ------
        AccessError, StorageError
            The old file is as it was then.
        """
        try:
            os.makedirs(self.directory, exist_ok=True)
            write_atomically(self.directory / name, data)
        except PermissionError as err:
            raise AccessError(str(self.directory / name)) from err
        except OSError as err:
            raise StorageError(str(self.directory / name), f"cannot be written: {err.strerror}") from err

    def remove(self, name: str) -> bool:
        """Delete a file; False if there is none."""
        try:
            os.unlink(self.directory / name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def remove_unchanged(self, name: str, stamp: Stamp) -> bool:
        """Delete a file unless somebody wrote it since `stamp`; False if it stays.

        It is moved aside before the last look: a legacy writer that comes later makes a new file.
        """
        path, aside = self.directory / name, self.directory / temporary_name()
        try:
            os.rename(path, aside)
        except (FileNotFoundError, NotADirectoryError):
            return False
        unchanged = _stamp(os.lstat(aside)) == stamp
        if not unchanged:
            with contextlib.suppress(FileExistsError):  # written once more meanwhile, and that one wins
                os.link(aside, path)
        os.unlink(aside)
        return unchanged

    def remove_left_overs(self) -> int:
        """Delete temporary files of processes that are long gone; how many."""
        count = 0
        for item in self._scan():
            with contextlib.suppress(OSError):
                if item.name.startswith(".ampstore-") and item.stat().st_mtime < time.time() - _LEFT_OVER_AFTER:
                    os.unlink(item.path)
                    count += 1
        return count


def write_atomically(path: Path, data: bytes) -> None:
    """Temporary file, fsync, rename, fsync of the directory."""
    partial = path.parent / temporary_name()
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def _empty(item: os.DirEntry[str]) -> bool:
    try:
        return item.stat(follow_symlinks=False).st_size == 0
    except FileNotFoundError:
        return True
