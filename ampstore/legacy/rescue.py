"""Members of a damaged `archive.tar.gz`: those before the damage, and where possible those behind it.

    gzip   ends too early      what stands before the end is taken; with a doubt if it looks as if it was not cut
           wrong checksum      taken with a doubt: one wrong bit can change a digit and nothing else
           no deflate stream   what stands before is taken with that doubt; on at the next gzip member
    tar    damaged header      on at the next header whose own checksum fits

Behind a damage inside one gzip member nothing can be had: deflate names text that went before. The next
block can be found, and of 217 pieces of 512 bytes that it gave of an archive of text pickles, all 217
depended on what was lost (told by decoding twice, over two different pasts).

What is inflated goes to an unnamed temporary file, at most `MOST_TIMES` the bytes of the archive.
"""

import contextlib
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Self

from ampstore.errors import AccessError, MissingStoreError, StorageError
from ampstore.legacy.archive import MOST_TIMES, ends_in_a_length, member_record, reason_against_member
from ampstore.legacy.loose import LARGEST
from ampstore.legacy.names import reason_against

_LEAST = 64 << 20
_CHUNK = 64 << 10
_BLOCK = 512
_MAGIC = b"\x1f\x8b\x08"


class Rescued(NamedTuple):
    """One member: where its bytes are, or the reason why it is lost; `doubt` says why the bytes may be wrong."""

    name: str
    offset: int
    size: int
    mtime: float
    reason: str
    doubt: str


class _Inflated:
    """What came out of the gzip file, and which of it cannot be trusted."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.file, self.most, self.size = file, most, 0
        self.doubtful: list[tuple[int, int, str]] = []
        self.damage: list[str] = []

    def add(self, data: bytes) -> bool:
        """Keep bytes; whether there is room for more."""
        self.file.write(data)
        self.size += len(data)
        if self.size > self.most:
            self.damage.append(f"it inflates to more than {self.most:,} bytes; what follows was not read")
        return self.size <= self.most

    def doubt(self, start: int, end: int) -> str:
        return next((reason for begin, stop, reason in self.doubtful if start < stop and begin < end), "")

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.file.fileno(), size, offset)


class Rescue:
    """An archive that may be damaged, inflated into an unnamed temporary file until the end of a block.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    members : list of Rescued
        In the order of the archive.
    damage : list of str
        What is wrong with the archive as a whole.

    Raises
    ------
    AccessError, StorageError
        If it cannot be read, or there is no room for what is inflated.
    """

    def __init__(self, path: Path) -> None:
        with contextlib.ExitStack() as stack, _translated(path):
            unpacked = stack.enter_context(tempfile.TemporaryFile(prefix="ampstore-"))
            with open(path, "rb") as file:
                packed = os.fstat(file.fileno()).st_size
                self._found = _Inflated(unpacked, MOST_TIMES * packed + _LEAST)
                _inflate(file, packed, self._found)
            unpacked.flush()
            self.members = list(_members(self._found))
            self.damage = self._found.damage
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def read(self, member: Rescued) -> bytes:
        """Bytes of a member."""
        return self._found.read(member.offset, member.size)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as err:
        raise MissingStoreError(str(path), "there is no such archive") from err
    except PermissionError as err:
        raise AccessError(str(path)) from err
    except OSError as err:
        raise StorageError(str(path), f"cannot be unpacked to {tempfile.gettempdir()}: {err.strerror}") from err


def _inflate(file: IO[bytes], packed: int, found: _Inflated) -> None:
    """Every gzip member of the file, one behind the other; behind a damage from the next block on."""
    offset: int | None = 0
    while offset is not None and offset < packed:
        start = found.size
        offset, damage = _one_stream(file, offset, found)
        if damage:
            found.damage.append(damage)
            found.doubtful.append(
                (start, found.size, "the archive's checksum is wrong, and it has none for one member")
            )
            offset = _next_stream(file, offset + 1) if found.size <= found.most else None


def _one_stream(file: IO[bytes], offset: int, found: _Inflated) -> tuple[int, str]:
    """Inflate one gzip member; where it ended, and what was wrong."""
    inflate = zlib.decompressobj(wbits=31)
    while not inflate.eof:
        data = os.pread(file.fileno(), _CHUNK, offset)
        if not data:
            if ends_in_a_length(file, offset):
                return offset, "its end was read as data"
            found.damage.append("it ends too early")
            return offset, ""
        before = inflate.copy()
        try:
            out = inflate.decompress(data)
        except zlib.error as err:
            return offset + _up_to(before, data, found), f"damaged: {err}"
        if not found.add(out):
            return offset, ""
        offset += len(data)
    rest = inflate.unused_data
    offset -= len(rest)
    if rest and not rest.startswith(_MAGIC):
        return offset + len(rest), ""  # padding, as tapes have it
    return offset, ""


def _up_to(inflate: "zlib._Decompress", data: bytes, found: _Inflated) -> int:
    """Bytes of a piece that were taken in before the error: zlib gives nothing of such a piece."""
    with contextlib.suppress(zlib.error):
        for at in range(len(data)):
            found.add(inflate.decompress(data[at : at + 1]))
    return at


def _next_stream(file: IO[bytes], offset: int) -> int | None:
    """Where the next gzip member may begin: archives can be joined end to end."""
    while data := os.pread(file.fileno(), _CHUNK, offset):
        if (place := data.find(_MAGIC)) >= 0:
            return offset + place
        offset += max(len(data) - len(_MAGIC) + 1, 1) if len(data) == _CHUNK else len(data)
    return None


def _members(found: _Inflated) -> Iterator[Rescued]:
    """Members by their headers; where one is damaged, from the next one that is not."""
    at, record = 0, None
    while at + _BLOCK <= found.size:
        header = found.read(at, _BLOCK)
        member = _member(header)
        if member is None:
            at = _next_header(found, at + (_BLOCK if not header.strip(b"\0") else 1))
            record = None
            continue
        padded = -(-member.size // _BLOCK) * _BLOCK
        start, end = at + _BLOCK, at + _BLOCK + member.size
        at = start + padded
        if member.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
            record = member_record(member, found.read(start, member.size) if end <= found.size else b"")
            continue
        name = ((record.name if record else "") or member.name).removeprefix("./")
        mtime, record = (record.mtime if record else 0.0) or float(member.mtime), None
        if reason := reason_against_member(member) or reason_against(name):
            yield Rescued(name, start, 0, mtime, reason, "")
        elif end > found.size:
            yield Rescued(name, start, 0, mtime, "cut off by the damage of the archive", "")
            at = start  # the next header may stand within what this one claims
        else:
            yield Rescued(name, start, member.size, mtime, "", found.doubt(start, end))


def _member(header: bytes) -> tarfile.TarInfo | None:
    if not header.strip(b"\0"):
        return None
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return member if 0 <= member.size <= LARGEST else None


def _next_header(found: _Inflated, start: int) -> int:
    """Where the next header with a fitting checksum may begin: "ustar" stands 257 bytes behind it."""
    while start < found.size:
        data = found.read(start + 257, 1 << 20)
        place = data.find(b"ustar")
        if place >= 0:
            return start + place
        start += max(len(data) - 4, _BLOCK)
    return found.size
