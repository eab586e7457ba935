"""Pages of a SQLite file and its WAL, read without SQLite, from a file that may be damaged anywhere.

SQLite refuses a whole file whose header is gone, and a whole subtree below a broken page. Here every
page is a piece of bytes by its number; whether it makes sense is for `ampstore.backend.cells`.

    view 0   the newest: every frame of the WAL up to the last commit, damaged ones too
    view 1   what SQLite would see: frames up to the first damaged one
    view 2   the main file alone

A frame's checksum goes on from the one before it. So a damaged frame is found alone: those behind it
are checked from the sum that is written in it. Nothing is locked and nothing is written; a file that
somebody writes to meanwhile is read as nonsense, and rows of it fail their checksums.
"""

import contextlib
import os
import stat
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from ampstore.errors import AccessError, MissingStoreError, NotAStoreError, StorageError

MAGIC = b"SQLite format 3\0"
USUAL_SIZE = 4096  # of the pages of every store that ampstore made
SIZES = tuple(1 << n for n in range(9, 17))
TREE_PAGES = frozenset((2, 5, 10, 13))

_WAL_HEADER = 32
_FRAME_HEADER = 24
_WAL_MAGIC = (0x377F0682, 0x377F0683)  # sums of little-endian and of big-endian numbers
_SAMPLE = 4096


class Pages:
    """Pages of one file and of the WAL beside it. For one thread; closes its descriptors at the end of a block.

    Parameters
    ----------
    path : Path
        The main file, which may be missing or empty where a WAL is there.

    Attributes
    ----------
    size : int
        Bytes of a page.
    usable : int
        Bytes of a page that SQLite uses.
    count : int
        Number of pages in the newest view.
    torn : bool
        Whether frames of the WAL are damaged, or missing before its end.

    Raises
    ------
    MissingStoreError, NotAStoreError, AccessError, StorageError
        If there is nothing, something that is no regular file, or something that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = False
        with contextlib.ExitStack() as stack:
            self._main = _open(path, stack)
            self._log = _open(Path(f"{path}-wal"), stack)
            if self._main is None and self._log is None:
                raise MissingStoreError(str(path), "there is neither a file nor a WAL here")
            self._main_bytes = os.fstat(self._main).st_size if self._main is not None else 0
            self._log_bytes = os.fstat(self._log).st_size if self._log is not None else 0
            head = self._at(self._main, 100, 0)
            self.header_is_whole = head.startswith(MAGIC) and _stated_size(head) is not None
            self.size = self._page_size(head)
            self.usable = self.size - (head[20] if self.header_is_whole and self.size - head[20] >= 480 else 0)
            self.views = self._views()
            self.count = max(self._main_bytes // self.size, *(max(view, default=0) for view in self.views))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def read(self, number: int, view: int = 0) -> bytes:
        """A page, b"" if there is none of that number."""
        if (offset := self.views[view].get(number)) is not None:
            return self._at(self._log, self.size, offset)
        if not 0 < number <= self.count:
            return b""
        data = self._at(self._main, self.size, (number - 1) * self.size)
        return data if len(data) == self.size else b""

    def superseded(self) -> Iterator[tuple[int, int]]:
        """View and number of every page of an older view whose image in the newest is another."""
        seen = {(number, offset) for number, offset in self.views[0].items()}
        for view in range(1, len(self.views)):
            for number in self.views[0]:
                image = (number, self.views[view].get(number, -1))
                if image not in seen:
                    seen.add(image)
                    yield view, number

    def free(self) -> set[int]:
        """Pages that the header says are free; empty if it or the list is damaged."""
        head = self.read(1)
        if not head.startswith(MAGIC):
            return set()
        trunk, expected = struct.unpack(">II", head[32:40])
        found = set[int]()
        while trunk and trunk not in found:
            data = self.read(trunk)
            if not data:
                return set()
            found.add(trunk)
            after, leaves = struct.unpack(">II", data[:8])
            if leaves > self.usable // 4 - 2:
                return set()
            found.update(struct.unpack(f">{leaves}I", data[8 : 8 + 4 * leaves]))
            trunk = after
        return found if len(found) == expected else set()

    @staticmethod
    def _at(descriptor: int | None, size: int, offset: int) -> bytes:
        return b"" if descriptor is None else os.pread(descriptor, size, offset)

    # -- what a page is ------------------------------------------------------------------------

    def _page_size(self, head: bytes) -> int:
        if head.startswith(MAGIC) and (stated := _stated_size(head)):
            return stated
        log = self._at(self._log, _WAL_HEADER, 0)
        if len(log) == _WAL_HEADER and _log_is_whole(log):
            return int(struct.unpack(">I", log[8:12])[0])
        return self._guessed_size()

    def _guessed_size(self) -> int:
        """Size at whose multiples most pages begin like one of a tree; the usual one if none stands out."""
        step, votes = SIZES[0], Counter[int]()
        number = min(self._main_bytes // step, _SAMPLE * USUAL_SIZE // step)
        for offset in range(0, number * step, step):
            if self._at(self._main, 1, offset)[:1] in (b"\x02", b"\x05", b"\x0a", b"\x0d"):
                start = self._at(self._main, 8, offset)
                if len(start) == 8 and start[7] < 60 and 0 < int.from_bytes(start[3:5]) < 8192:
                    votes.update(size for size in SIZES if offset % size == 0)
        # Every page of size 8192 also begins at a multiple of 4096: the largest size that keeps nearly all.
        best = [size for size in SIZES if votes[size] >= 0.8 * max(votes.values(), default=1)]
        return max(best) if best and votes[USUAL_SIZE] < 0.8 * votes[SIZES[0]] else USUAL_SIZE

    # -- the WAL -------------------------------------------------------------------------------

    def _views(self) -> list[dict[int, int]]:
        newest, committed = self._frames()
        views = [newest, committed, {}]
        return [view for n, view in enumerate(views) if view not in views[:n]]

    def _frames(self) -> tuple[dict[int, int], dict[int, int]]:
        """Place of the newest image of every page: in all frames, and in those up to the first damage."""
        step = _FRAME_HEADER + self.size
        head = self._at(self._log, _WAL_HEADER, 0)
        first = self._at(self._log, _FRAME_HEADER, _WAL_HEADER)
        if len(first) < _FRAME_HEADER:
            return {}, {}
        whole = _log_is_whole(head)
        salt = head[16:24] if whole else first[8:16]
        order = ">" if head[:4] == _WAL_MAGIC[1].to_bytes(4) else "<"
        last = head[24:32]
        newest, pending, committed = dict[int, int](), dict[int, int](), dict[int, int]()
        sound, damaged, damage_before_end = whole, not whole, not whole
        for offset in range(_WAL_HEADER, self._log_bytes - step + 1, step):
            frame = self._at(self._log, step, offset)
            fits = _sum(frame[:8] + frame[_FRAME_HEADER:], last, order) == frame[16:24]
            if not fits and frame[8:16] != salt:
                break  # left from before the WAL was begun anew
            last = frame[16:24]
            number, commit = struct.unpack(">II", frame[:8])
            if not fits:
                sound, damaged = False, True
            if not 0 < number <= (1 << 32) - 2:
                continue
            pending[number] = offset + _FRAME_HEADER
            if commit and (fits or frame[8:16] == salt):
                newest |= pending
                committed |= pending if sound else {}
                pending, damage_before_end = {}, damaged
        self.torn = damage_before_end
        limit = (self._main_bytes + self._log_bytes) // self.size + 1
        return {n: at for n, at in newest.items() if n <= limit}, {n: at for n, at in committed.items() if n <= limit}


def _open(path: Path, stack: contextlib.ExitStack) -> int | None:
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as err:
        raise AccessError(str(path)) from err
    except OSError as err:
        raise StorageError(str(path), f"cannot be read: {err.strerror}") from err
    stack.callback(os.close, descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise NotAStoreError(str(path), "this is no regular file; name the store's file")
    return descriptor


def _stated_size(head: bytes) -> int | None:
    size = int.from_bytes(head[16:18])
    size = 65536 if size == 1 else size
    return size if size in SIZES else None


def _log_is_whole(head: bytes) -> bool:
    if len(head) < _WAL_HEADER or int.from_bytes(head[:4]) not in _WAL_MAGIC:
        return False
    order = ">" if head[:4] == _WAL_MAGIC[1].to_bytes(4) else "<"
    return int.from_bytes(head[8:12]) in SIZES and _sum(head[:24], bytes(8), order) == head[24:32]


def _sum(data: bytes, before: bytes, order: str) -> bytes:
    """Checksum of the WAL: two sums that feed each other, of numbers in the order of the machine that wrote it."""
    first, second = struct.unpack(">II", before)
    numbers = struct.unpack(f"{order}{len(data) // 4}I", data)
    for n in range(0, len(numbers), 2):
        first = (first + numbers[n] + second) & 0xFFFFFFFF
        second = (second + numbers[n + 1] + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second)
