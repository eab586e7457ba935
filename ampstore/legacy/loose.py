"""One pickle file per entry in `loose/`, written so that a crash leaves the old or the new file.

The legacy opens, truncates and writes in place: readers see halves, kills leave them behind. Here
a file is written under a temporary name, synced, renamed, and the directory is synced.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ampstore.codec.legacy import ends_whole, load_legacy
from ampstore.codec.safe import Rule
from ampstore.durable import make_directory, sync
from ampstore.errors import (
    AccessError,
    AmpstoreError,
    CodecError,
    ForbiddenGlobalError,
    LegacyPickleError,
    StorageError,
    StoreError,
)
from ampstore.legacy.names import (
    Problem,
    Unfinished,
    aside_name,
    is_left_over,
    is_ours,
    reason_against,
    temporary_name,
    unfinished,
)

LARGEST = 1 << 30
"""Bytes of the largest file that is read: SQLite takes no more in one row either."""

SETTLING = 0.5
"""Seconds for which a file that is no whole pickle may be one that is being written."""

TICK = 0.02
"""Seconds within which two writes may leave the same mtime: file systems stamp with a coarse clock."""

_TAIL = 512
_NO_FILE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO))  # link loops, O_NOFOLLOW; sockets
_LEFT_OVER_AFTER = 3600.0


def file_error(path: str, err: OSError, action: str) -> StoreError:
    """Our error for one of the operating system's, about a file that cannot be read, written or removed."""
    if isinstance(err, PermissionError):
        return AccessError(path)
    return StorageError(path, f"cannot be {action}: {err.strerror or err}")


@contextlib.contextmanager
def file_errors(path: "str | os.PathLike[str]", action: str) -> Iterator[None]:
    """The operating system's errors in the block come out as ours; FileExistsError stays what it is."""
    try:
        yield
    except OSError as err:
        if isinstance(err, (AmpstoreError, FileExistsError)):
            raise
        raise file_error(str(path), err, action) from err


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
        self._whole: dict[str, Stamp] = {}

    def names(self) -> Iterator[str]:
        """Names of the files that may hold an entry, in the order of the directory."""
        for item in self._scan():
            if is_left_over(item.name) or reason_against(item.name):
                continue
            if item.is_file(follow_symlinks=False) and not _empty(item):
                yield item.name

    def problems(self) -> Iterator[Problem]:
        """What lies in the directory and is no entry."""
        for item in self._scan():
            if is_left_over(item.name):
                if (told := unfinished(item.name)) is None or told.ended:
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
        except OSError as err:
            if isinstance(err, AmpstoreError):
                raise
            raise file_error(str(self.directory), err, "read") from err

    def stamp(self, name: str) -> Stamp | None:
        """Stamp of a regular file, None if there is none of that name."""
        try:
            found = os.lstat(f"{self.directory}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as err:
            raise AccessError(f"{self.directory}/{name}") from err
        return _stamp(found) if stat.S_ISREG(found.st_mode) else None

    def read(self, name: str) -> tuple[bytes, Stamp] | None:
        """Bytes and stamp of a file; None if there is no regular file of that name.

        Raises
        ------
        AccessError, StorageError
            If it cannot be read, or is larger than `LARGEST`.
        """
        with self._opened(name) as opened:
            if opened is None:
                return None
            descriptor, stamp = opened
            if stamp.size > LARGEST:
                path = f"{self.directory}/{name}"
                raise StorageError(path, f"{stamp.size:,} bytes; files over {LARGEST:,} bytes are not read")
            data = os.read(descriptor, stamp.size + 1)
            if len(data) != stamp.size:  # another program is writing it, or the kernel gave a part
                with open(descriptor, "rb", closefd=False) as file:  # from here on
                    data += file.read(LARGEST)
            return data, stamp

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[tuple[int, Stamp] | None]:
        """Descriptor and stamp of a regular file, None if there is none of that name."""
        path = f"{self.directory}/{name}"
        try:
            # O_NONBLOCK: opening a FIFO would wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as err:
            if err.errno not in _NO_FILE:
                # "Not there" would bring up an older value, or have this one calculated again.
                raise file_error(path, err, "read") from err
            yield None
            return
        try:
            found = os.fstat(descriptor)
            yield (descriptor, _stamp(found)) if stat.S_ISREG(found.st_mode) else None
        except AmpstoreError:
            raise
        except OSError as err:
            raise file_error(path, err, "read") from err
        finally:
            os.close(descriptor)

    def holds_entry(self, name: str, rule: Rule) -> bool:
        """Whether there is a file that holds a value; files that were found whole are only looked at."""
        with self._opened(name) as opened:
            if opened is None:
                return False
            descriptor, stamp = opened
            if self._whole.get(name) == stamp:
                return True
            if not holds_value(name, stamp.size, lambda size, offset: os.pread(descriptor, size, offset), rule):
                return False
            self._whole[name] = stamp
            return True

    def load(self, name: str, rule: Rule, *, settled: bool = False) -> tuple[object, Stamp] | None:
        """Value and stamp of a file; None if there is none.

        A legacy program writes in place, so a file that is no whole pickle and was changed a moment
        ago is looked at again for up to `SETTLING` seconds.

        Parameters
        ----------
        settled : bool
            Wait until the stamp tells every later write, for a caller that removes the file.

        Raises
        ------
        LegacyPickleError, ForbiddenGlobalError
            If it holds no value that may be read.
        """
        deadline = time.monotonic() + SETTLING
        while found := self.read(name):
            data, stamp = found
            if settled and 0 <= time.time() - stamp.mtime_ns / 1e9 < TICK and time.monotonic() < deadline:
                time.sleep(TICK / 4)
                continue
            try:
                return _load(name, data, rule), stamp
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
        with file_errors(self.directory / name, "written"):
            make_directory(self.directory)
            write_atomically(self.directory / name, data)

    def remove(self, name: str) -> bool:
        """Delete a file; False if there is none."""
        try:
            os.unlink(self.directory / name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as err:
            raise file_error(str(self.directory / name), err, "removed") from err
        return True

    def remove_unchanged(self, name: str, stamp: Stamp) -> bool:
        """Delete a file unless somebody wrote it since `stamp`; False if it stays.

        It is moved aside before the last look: a legacy writer that comes later makes a new file.
        """
        if self.stamp(name) != stamp:
            return False
        with file_errors(self.directory / name, "removed"):
            return remove_if(self.directory / name, lambda aside: _stamp(os.lstat(aside)) == stamp, stamp.mtime_ns)

    def sync(self) -> None:
        """Put the removal of files on the disk: one that comes back after a power cut would win over newer values."""
        with file_errors(self.directory, "written"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            sync(self.directory)

    def remove_left_overs(self) -> int:
        """Delete temporary files of processes that have ended; how many."""
        return remove_left_overs(self.directory)


def remove_left_overs(directory: Path) -> int:
    """Delete our temporary files in a directory whose process has ended, or that are an hour old; how many.

    A file that was written to while it was moved aside stays: nobody else may have that value.
    """
    count = 0
    with (
        file_errors(directory, "read"),
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        os.scandir(directory) as items,
    ):
        for item in items:
            with contextlib.suppress(OSError):
                if is_ours(item.name) and _may_go(item.name, item.stat(follow_symlinks=False)):
                    os.unlink(item.path)
                    count += 1
    return count


def _may_go(name: str, found: os.stat_result) -> bool:
    told = unfinished(name)
    if told is None:
        return found.st_mtime < time.time() - _LEFT_OVER_AFTER
    ended = told.ended or found.st_mtime < time.time() - _LEFT_OVER_AFTER
    return ended and not _holds_more(told, found)


def _holds_more(told: Unfinished, found: os.stat_result) -> bool:
    """Whether a file was written to while it was moved aside, and has no other name."""
    return told.mtime_ns not in (None, found.st_mtime_ns) and found.st_nlink == 1


def left_overs(directory: Path) -> Iterator[tuple[str, bool]]:
    """Names of our temporary files in a directory, whatever their age, and whether one may hold what nobody has."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(filter(is_ours, os.listdir(directory))):
            with contextlib.suppress(FileNotFoundError):
                told = unfinished(name)
                yield name, told is not None and _holds_more(told, os.lstat(directory / name))


def remove_if(path: Path, condition: Callable[[Path], bool], mtime_ns: int) -> bool:
    """Delete a file for which a condition holds; False if it does not, or if there is none.

    The file is moved aside before the condition looks at it, so nobody changes it after that look
    but who has it open already, and such a change is seen. `mtime_ns` is what the file has if it may go:
    should this process be killed meanwhile, the next one sees by it whether the file holds anything new.
    """
    aside = path.parent / aside_name(path.name, mtime_ns)
    try:
        os.rename(path, aside)
    except (FileNotFoundError, NotADirectoryError):
        return False
    holds = condition(aside)
    if not holds:
        try:
            os.link(aside, path)
        except FileExistsError:  # written once more meanwhile, and that one wins
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                os.rename(aside, path)
                return False
    os.unlink(aside)
    return holds


def holds_value(name: str, size: int, read: Callable[[int, int], bytes], rule: Rule) -> bool:
    """Whether legacy bytes are a whole value; for text pickles, nearly all there are, the last line tells.

    Parameters
    ----------
    name : str
    size : int
        Number of bytes.
    read : callable(size, offset)
        Gives some of them.
    rule : Rule
    """
    if not 0 < size <= LARGEST:
        return False
    tail = read(_TAIL, max(0, size - _TAIL))
    if size > _TAIL:
        tail = tail[tail.find(b"\n") + 1 :] if b"\n" in tail else b""
        tail = b"\n" + tail
    # A full stop among the bytes of a binary pickle says nothing: one torn file in 256 ends with it.
    if tail.isascii() and ends_whole(tail):
        return True
    try:
        _load(name, read(size, 0), rule)
    except LegacyPickleError:
        return False
    except CodecError:  # whole, but names what the rule forbids: the reader is told so
        return True
    return True


def _load(name: str, data: bytes, rule: Rule) -> object:
    try:
        return load_legacy(name, data, rule)
    except ForbiddenGlobalError as err:
        if data.endswith(b"."):
            raise
        # Cut in the middle of a name that is allowed, most likely.
        raise LegacyPickleError(name, f"it is cut off after naming {err.module}.{err.name}") from err


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
    sync(path.parent)


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def _empty(item: os.DirEntry[str]) -> bool:
    try:
        return item.stat(follow_symlinks=False).st_size == 0
    except FileNotFoundError:
        return True
