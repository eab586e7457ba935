"""What a disk may hold after the power went: crash states from a record of writes and syncs.

The model is that of POSIX, not of a kind file system. What a file or a directory was asked to keep
by fsync or fdatasync is kept. Of every later write any subset may have reached the disk, in any
order, a write also in part, by sectors of 512 bytes; of the later names of a directory, the first few.
The name of a new file is not kept by syncing the file. After an fsync that failed, what was written
before it is gone from the cache: only a new write of it can bring it to the disk.

    record  --read--> operations --Disk.apply--> durable + pending --Disk.crash--> files, as after the reboot
"""

import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from faults.acknowledged import DELETED

WRITE, SYNC, FAILED_SYNC, TRUNCATE, CREATE, LINK, RENAME, UNLINK, MARK, MKDIR = range(1, 11)
SECTOR = 512
_HEAD = struct.Struct("=6Q")


class Operation(NamedTuple):
    """One call of the record."""

    kind: int
    inode: int
    offset: int
    path: str
    other: str
    data: bytes


def read(record: Path) -> Iterator[Operation]:
    """The operations of a record that the shim wrote."""
    with open(record, "rb") as file:
        while head := file.read(_HEAD.size):
            kind, inode, offset, size, other, data = _HEAD.unpack(head)
            yield Operation(kind, inode, offset, file.read(size).decode(), file.read(other).decode(), file.read(data))


Change = tuple[int, bytes | None]
"""Offset and bytes of a write, or a new size and None."""


@dataclass
class File:
    """What is on the disk for sure, and what may be."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        """All that was written is on the disk."""
        for change in self.pending:
            _change(self.durable, *change)
        self.pending = []

    def crash(self, chooser: random.Random) -> bytes:
        """Contents after a power cut."""
        contents = bytearray(self.durable)
        way = chooser.random()
        if way < 0.15:
            chosen = []
        elif way < 0.3:
            chosen = list(self.pending)
        elif way < 0.5:
            chosen = self.pending[: chooser.randrange(len(self.pending) + 1)]
        else:
            share = chooser.random()
            chosen = [change for change in self.pending if chooser.random() < share]
        tear = chooser.random() < 0.5
        for offset, data in chosen:
            _change(contents, offset, data)
            if tear and data and chooser.random() < 0.3:
                _tear(contents, self.durable, offset, len(data), chooser)
        return bytes(contents)


def _change(contents: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del contents[offset:]
        contents.extend(bytes(offset - len(contents)))
        return
    if len(contents) < offset:
        contents.extend(bytes(offset - len(contents)))
    contents[offset : offset + len(data)] = data


def _tear(contents: bytearray, before: bytearray, offset: int, size: int, chooser: random.Random) -> None:
    """Some sectors of a write did not come through: what was there before, or zeros, is there still."""
    for start in range(offset - offset % SECTOR, offset + size, SECTOR):
        if chooser.random() < 0.5:
            first, last = max(start, offset), min(start + SECTOR, offset + size)
            old = bytes(before[first:last])
            contents[first:last] = old + bytes(last - first - len(old))


Names = dict[str, File | None]
"""Path -> file, None for a directory."""


class Disk:
    """A directory tree at some moment of a record."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._by_inode: dict[int, File] = {}
        self._now: Names = {}
        self._durable: Names = {}
        self._pending: list[tuple[str, dict[str, File | None], tuple[str, ...]]] = []  # directory, added, removed

    def apply(self, operation: Operation) -> None:
        """Go on by one operation."""
        kind, inode, offset, path, other, data = operation
        if kind in (CREATE, MKDIR):
            made = File() if kind == CREATE else None
            if made:
                self._by_inode[inode] = made
            self._rename(path, {path: made}, ())
        elif kind == WRITE:
            self._by_inode[inode].pending.append((offset, data))
        elif kind == TRUNCATE:
            self._by_inode[inode].pending.append((offset, None))
        elif kind == FAILED_SYNC and inode in self._by_inode:
            self._by_inode[inode].pending = []
        elif kind == SYNC and inode in self._by_inode and path in self._now and self._now[path] is not None:
            self._by_inode[inode].sync()
        elif kind == SYNC:
            self._sync_names(path)
        elif kind == LINK:
            self._rename(other, {other: self._now[path]}, ())
        elif kind == RENAME:
            self._rename(other, {other: self._now[path]}, (path,))
        elif kind == UNLINK:
            self._rename(path, {}, (path,))

    def _rename(self, path: str, added: Names, removed: tuple[str, ...]) -> None:
        _alter(self._now, added, removed)
        self._pending.append((path.rpartition("/")[0], added, removed))

    def _sync_names(self, directory: str) -> None:
        for where, added, removed in self._pending:
            if where == directory:
                _alter(self._durable, added, removed)
        self._pending = [change for change in self._pending if change[0] != directory]

    def crash(self, chooser: random.Random) -> dict[str, bytes | None]:
        """Paths below the root, and their contents (None for a directory), after a power cut."""
        names = dict(self._durable)
        directories = {directory for directory, _, _ in self._pending}
        for directory in sorted(directories):
            changes = [change for change in self._pending if change[0] == directory]
            kept = chooser.choice((0, len(changes), chooser.randrange(len(changes) + 1)))
            for _, added, removed in changes[:kept]:
                _alter(names, added, removed)
        contents: dict[int, bytes] = {}  # two names of one file have the same contents
        found: dict[str, bytes | None] = {}
        for path, file in names.items():
            if not self._reachable(path, names):
                continue
            if file is None:
                found[path[len(self.root) + 1 :]] = None
                continue
            if id(file) not in contents:
                contents[id(file)] = file.crash(chooser)
            found[path[len(self.root) + 1 :]] = contents[id(file)]
        return found

    def _reachable(self, path: str, names: Names) -> bool:
        parent = path.rpartition("/")[0]
        return parent == self.root or (parent in names and self._reachable(parent, names))


def _alter(names: Names, added: Names, removed: tuple[str, ...]) -> None:
    for path in removed:
        names.pop(path, None)
    names.update(added)


class History:
    """The commits of a session, from its log: what the store held after each."""

    def __init__(self, log: Path) -> None:
        self.states: list[dict[str, str]] = [{}]
        self.begun: list[int] = [0]  # by number of lines: how many commits were begun, and acknowledged
        self.acknowledged: list[int] = [0]
        begun = acknowledged = 0
        previous = ""
        for line in log.read_text().splitlines():
            mark, value, text = line.split(" ", 2)
            key = json.loads(text)
            if mark == "?":
                if previous != "?":
                    begun += 1
                    self.states.append(dict(self.states[-1]))
                if value == DELETED:
                    self.states[-1].pop(key, None)
                else:
                    self.states[-1][key] = value
            else:
                acknowledged = begun
            previous = mark
            self.begun.append(begun)
            self.acknowledged.append(acknowledged)
