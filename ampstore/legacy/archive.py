"""`archive.tar.gz`: read once, with everything hostile left where it is, then by name.

A gzip file can only be read from its start, and the legacy does so for every look: 83 ms for one of
1000 fingerprints. Here the members that can be entries are unpacked once into an unnamed temporary
file, and found by an index until the archive changes.

The tar is parsed header by header. `tarfile` stops without a word at a damaged header, and reads
extended headers of any size into memory.

A tar has no checksum of its data, gzip has one of everything, at its end: where it does not fit, one
digit of any member may be another. So such members are no entries, and reading one is an error.
"""

import contextlib
import hashlib
import io
import os
import tarfile
import tempfile
import weakref
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ampstore.codec.safe import Rule
from ampstore.durable import sync
from ampstore.errors import DamagedArchiveError, StorageError
from ampstore.legacy.loose import LARGEST, file_error, file_errors, holds_value, remove_if
from ampstore.legacy.names import Problem, reason_against, temporary_name

_BLOCK = 512
_CHUNK = 1 << 20
_LONGEST_NAME_RECORD = 64 << 10
_PADDING_AT_THE_END = 64 << 20
_EDGE = 64 << 10
MOST_TIMES = 200  # text pickles shrink to a tenth; deflate can claim a thousandth
_LATEST = 253402300800.0  # the year 10000; NaN and infinity are no times either


class Member(NamedTuple):
    """Where one member lies in the unpacked file, and when it was written (seconds since 1970)."""

    offset: int
    size: int
    mtime: float


class _Content:
    """What one version of an archive holds. Its file lives as long as a thread reads from it."""

    def __init__(self, stamp: tuple[int, ...] | None, descriptor: int | None = None) -> None:
        self.stamp = stamp
        self.members: dict[str, Member] = {}
        self.problems: list[Problem] = []
        self.whole: dict[str, bool] = {}
        self.doubt = ""
        self.certain_below: float = float("inf")  # members from this offset on have no checksum that fits
        self._descriptor = descriptor
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)

    def read(self, name: str) -> bytes | None:
        member = self.members.get(name)
        if member is None or self._descriptor is None:
            return None
        self.check(name)
        return os.pread(self._descriptor, member.size, member.offset)

    def check(self, name: str) -> None:
        member = self.members.get(name)
        if member is not None and member.offset >= self.certain_below:
            raise DamagedArchiveError(name, self.doubt)

    def holds_value(self, name: str, rule: Rule) -> bool:
        member = self.members[name]
        if member.offset >= self.certain_below:
            return False
        if name not in self.whole:
            descriptor = self._descriptor or 0
            self.whole[name] = holds_value(
                name, member.size, lambda size, offset: os.pread(descriptor, size, member.offset + offset), rule
            )
        return self.whole[name]


class Archive:
    """The entries of one `archive.tar.gz`; an archive that is not there is empty. Safe for many threads.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = _Content(None)

    def __contains__(self, name: str) -> bool:
        return name in self.members()

    def members(self) -> dict[str, Member]:
        """Members that can be entries, by name; of two with one name the last counts."""
        return self._current().members

    def names(self, rule: Rule) -> list[str]:
        """Names of the members that hold a value: Amp's archive() packs torn files too."""
        content = self._current()
        return [name for name in content.members if content.holds_value(name, rule)]

    def holds_entry(self, name: str, rule: Rule) -> bool:
        """Whether there is a member of that name that holds a value."""
        content = self._current()
        return name in content.members and content.holds_value(name, rule)

    def problems(self) -> list[Problem]:
        """Members that were refused, and damage of the file."""
        return self._current().problems

    def read(self, name: str) -> bytes | None:
        """Bytes of a member, None if there is none of that name.

        Raises
        ------
        DamagedArchiveError
            If the archive's checksum does not fit, so that nobody knows whether these are the bytes.
        """
        return self._current().read(name)

    def check(self, name: str) -> None:
        """Raise DamagedArchiveError if there is a member of that name which may be wrong."""
        self._current().check(name)

    def size(self) -> int:
        """Bytes of the file, 0 if there is none."""
        stamp = self._look()
        return stamp[1] if stamp else 0

    def signature(self) -> str:
        """What tells this archive from another, also after a copy; "" if there is none."""
        try:
            return _signature(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as err:
            raise file_error(str(self.path), err, "read") from err

    def remove(self) -> None:
        """Delete the archive."""
        with file_errors(self.path, "removed"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.path.unlink()

    def remove_unchanged(self, signature: str) -> bool:
        """Delete the archive unless somebody wrote it since; False if it stays."""
        with file_errors(self.path, "removed"):
            try:
                before = os.stat(self.path).st_mtime_ns
                if _signature(self.path) != signature:
                    return False
            except (FileNotFoundError, NotADirectoryError):
                return False
            return remove_if(self.path, lambda aside: _signature(aside) == signature, before)

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            raise file_error(str(self.path), err, "read") from err
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _current(self) -> _Content:
        stamp = self._look()
        if stamp != self._content.stamp:
            self._content = self._unpack(stamp) if stamp else _Content(None)
        return self._content

    def _unpack(self, stamp: tuple[int, ...]) -> _Content:
        try:
            file = open(self.path, "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return _Content(None)
        except OSError as err:
            raise file_error(str(self.path), err, "read") from err
        try:
            # FileNotFoundError from here on says that no directory takes temporary files, not that there is no archive.
            with file, tempfile.TemporaryFile(prefix="ampstore-") as unpacked:
                content = _Content(stamp, os.dup(unpacked.fileno()))
                stream, ends, offsets = _Gzip(file), array("Q"), array("Q")
                for name, reason, data, mtime in _entries(stream):
                    if reason:
                        content.problems.append(Problem(name, "archive", reason))
                        continue
                    content.members[name] = Member(unpacked.tell(), len(data), mtime)
                    ends.append(stream.position)
                    offsets.append(unpacked.tell())
                    unpacked.write(data)
        except OSError as err:
            detail = f"cannot be unpacked to {tempfile.tempdir or 'a directory for temporary files'}: {err.strerror}"
            raise StorageError(str(self.path), detail) from err
        certain = bisect_right(ends, stream.sealed)
        if stream.doubt and certain < len(offsets):
            content.doubt = f"the archive's checksum does not fit: {stream.doubt}"
            content.certain_below = offsets[certain]
        return content


def _signature(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(_EDGE)
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _EDGE))
        return f"{size}-{hashlib.sha256(start + file.read(_EDGE)).hexdigest()[:32]}"


class _Gzip:
    """Bytes of a gzip file up to its end or its first damage.

    `position` bytes were given out; of what came out, the first `sealed` bytes have a checksum that
    fits, and `doubt` says why what is behind them may be wrong, "" if it only ends too early.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packed = os.fstat(file.fileno()).st_size
        self._inflate = zlib.decompressobj(wbits=31)
        self._ready = bytearray()
        self._ended = False
        self.position = self.sealed = 0
        self.damage = self.doubt = ""

    def read(self, size: int) -> bytes:
        while len(self._ready) < size and not self._ended:
            self._more(max(size - len(self._ready), 64 << 10))
        with memoryview(self._ready) as ready:
            data = bytes(ready[:size])
        del self._ready[:size]
        self.position += len(data)
        return data

    def peek(self) -> bytes:
        """The next byte, which stays; empty at the end."""
        while not (self._ready or self._ended):
            self._more(_BLOCK)
        return bytes(self._ready[:1])

    def skip(self, size: int) -> int:
        """Pass over bytes; how many there were."""
        passed = 0
        while passed < size and (data := self.read(min(_CHUNK, size - passed))):
            passed += len(data)
        return passed

    def finish(self) -> None:
        """On to the checksum at the end, however the tar within ended."""
        self.skip(_PADDING_AT_THE_END + MOST_TIMES * self._packed)
        if not self._ended:
            self._stop("it inflates to more than is read", "it inflates to more than is read")

    def _more(self, most: int) -> None:
        if self._inflate.eof:  # gzip files may be joined end to end
            rest = self._inflate.unused_data or self._file.read(_CHUNK)
            if not rest.strip(b"\0"):
                self._ended = True
                return
            self._inflate = zlib.decompressobj(wbits=31)
        else:
            rest = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            if not rest:
                doubt = "its end was read as data" if ends_in_a_length(self._file, self._packed) else ""
                self._stop("it ends too early", doubt)
                return
        before = self._inflate.copy()
        try:
            piece = self._inflate.decompress(rest, min(most, _CHUNK))
            try:
                self._ready += piece
            except MemoryError:  # passed over, so that what comes next is found
                passed, self._ready = len(self._ready) + len(piece), bytearray()
                self.position += passed
                raise
        except zlib.error as err:
            self._stop(str(err), str(err))
            self._salvage(before, rest)
        if self._inflate.eof:
            self.sealed = self.position + len(self._ready)

    def _salvage(self, inflate: "zlib._Decompress", rest: bytes) -> None:
        """What stands before the damage: zlib gives nothing of a piece that ends in an error."""
        with contextlib.suppress(zlib.error):
            for start in range(len(rest)):
                self._ready += inflate.decompress(rest[start : start + 1])

    def _stop(self, damage: str, doubt: str) -> None:
        self.damage, self.doubt, self._ended = damage, doubt, True


def ends_in_a_length(file: IO[bytes], packed: int) -> bool:
    """Whether the last four bytes of a gzip file that ended too early may be the length of a tar.

    A wrong bit can make a stream run over its own end, and everything before may be wrong too. The file
    was not cut then, and ends in a multiple of 512; of files that were cut, one in 512 does.
    """
    length = int.from_bytes(os.pread(file.fileno(), 4, max(0, packed - 4)), "little")
    return length > 0 and length % _BLOCK == 0


def _entries(stream: _Gzip) -> Iterator[tuple[str, str, bytes, float]]:
    """name, reason why it is refused ("" if it is not), bytes and mtime of every member."""
    yield from _up_to_the_end(stream)
    stream.finish()
    if stream.damage:
        yield "archive.tar.gz", f"damaged: {stream.damage}", b"", 0.0


def _up_to_the_end(stream: _Gzip) -> Iterator[tuple[str, str, bytes, float]]:
    """Members up to the end of the tar, or to a header that makes no sense."""
    record = _Record()
    while header := stream.read(_BLOCK):
        if not header.strip(b"\0"):
            return
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as err:
            yield "archive.tar.gz", f"damaged header ({err}); what follows is lost", b"", 0.0
            return
        if member.size < 0:
            yield "archive.tar.gz", "a member of negative size; what follows is lost", b"", 0.0
            return
        padded = -(-member.size // _BLOCK) * _BLOCK
        if member.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE) and member.size <= _LONGEST_NAME_RECORD:
            record = member_record(member, stream.read(padded)[: member.size])
            continue
        name = (record.name or member.name).removeprefix("./")
        mtime, record = record.mtime or float(member.mtime), _Record()
        reason = reason_against_member(member) or reason_against(name)
        if reason:
            stream.skip(padded)
            yield name, reason, b"", 0.0
            continue
        data, reason = _content(stream, member.size, padded)
        yield name, reason, data, mtime


class _Record(NamedTuple):
    """What an extended header says about the next member: Amp on Python 3.8 and later writes one for each."""

    name: str = ""
    mtime: float = 0.0


def member_record(member: tarfile.TarInfo, data: bytes) -> _Record:
    """What the content of an extended header says about the member that follows."""
    return _pax(data) if member.type == tarfile.XHDTYPE else _Record(name=_text(data.rstrip(b"\0")))


def _pax(data: bytes) -> _Record:
    found = _Record()
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or len(length) > 6 or not 0 < int(length) <= len(data):
            break
        name, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if name == b"path":
            found = found._replace(name=_text(value))
        elif name == b"mtime":
            with contextlib.suppress(ValueError):
                mtime = float(value)
                found = found._replace(mtime=mtime if 0 < mtime < _LATEST else 0.0)
        data = data[int(length) :]
    return found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


_KINDS = {
    tarfile.LNKTYPE: "a hard link, not followed",
    tarfile.SYMTYPE: "a symbolic link, not followed",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.DIRTYPE: "a directory",
}


def reason_against_member(member: tarfile.TarInfo) -> str:
    """Why a member cannot be an entry, "" if it can."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return _KINDS.get(member.type, "not a regular file")
    if member.size > LARGEST:
        return f"{member.size:,} bytes; members over {LARGEST:,} bytes are not read"
    return "" if member.size else "the file is empty"


def _content(stream: _Gzip, size: int, padded: int) -> tuple[bytes, str]:
    # No pickle starts with a zero byte; a bomb of zeros does, and is passed over unread.
    if stream.peek() == b"\0":
        stream.skip(padded)
        return b"", "no pickle: it starts with zeros"
    start = stream.position
    try:
        data = stream.read(size)
    except MemoryError:
        stream.skip(padded - (stream.position - start))
        return b"", f"not enough memory for {size:,} bytes"
    if len(data) < size:
        return b"", "cut off by the damage of the archive"
    stream.skip(padded - size)
    return data, ""


def write_archive(path: Path, entries: Iterable[tuple[str, bytes, float]]) -> None:
    """Write name, bytes and mtime of entries as a new archive in the place of the old one.

    The old one is replaced when the new one is complete and on the disk.

    Raises
    ------
    AccessError, StorageError
        The old archive is as it was then.
    """
    partial = path.parent / temporary_name()
    with file_errors(path, "written"):
        _write(partial, entries, path)


def _write(partial: Path, entries: Iterable[tuple[str, bytes, float]], path: Path) -> None:
    try:
        with open(partial, "xb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6, format=tarfile.GNU_FORMAT) as tar:
                for name, data, mtime in entries:
                    member = tarfile.TarInfo(name)
                    member.size, member.mtime = len(data), int(mtime)
                    tar.addfile(member, io.BytesIO(data))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error counts
            partial.unlink()
        raise
    sync(path.parent)
