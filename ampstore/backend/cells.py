"""Cells of SQLite's b-tree pages: parsed with every number in doubt.

    leaf of a table       payload size, rowid, record, [first overflow page]
    interior of a table   child page, rowid
    leaf of an index      payload size, record, [first overflow page]
    interior of an index  child page, payload size, record, [first overflow page]

`carve` finds records in a page whose own table of cells is broken: the lengths in the head of a record
must add up to the size that is written before it, so it hardly ever takes other bytes for a record.
Whether a record is what was written is not decided here: that takes the checksum of the row.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ampstore.backend.pages import Pages

TABLE_LEAF, TABLE_INTERIOR, INDEX_LEAF, INDEX_INTERIOR = 13, 5, 10, 2

_LONGEST_HEADER = 1 << 10  # of a record: those of a store have at most 60 bytes


class BrokenError(ValueError):
    """Bytes that make no cell, record or page of a tree."""


class Cell(NamedTuple):
    """Where the payload of one cell is.

    Attributes
    ----------
    view, page, start : int
        Where it begins.
    rowid : int
        0 in an index.
    size : int
        Bytes of the whole payload.
    local : int
        Bytes of it in this page; the rest is in a chain of overflow pages.
    """

    view: int
    page: int
    start: int
    rowid: int
    size: int
    local: int


class Node(NamedTuple):
    """What one page of a tree holds: cells, children, and whether all of it made sense."""

    cells: Sequence[Cell]
    children: Sequence[int]
    whole: bool


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of SQLite's variable length, and where it ends."""
    value = 0
    for n in range(9):
        if at >= len(data):
            raise BrokenError("a number is cut off")
        byte = data[at]
        at += 1
        if n == 8:
            return value << 8 | byte, at
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value, at


def node(pages: Pages, number: int, view: int = 0) -> Node:
    """What a page holds, as far as it makes sense.

    Raises
    ------
    BrokenError
        If it is no page of a tree at all.
    """
    data = pages.read(number, view)
    head = 100 if number == 1 else 0
    if len(data) < head + 12 or (kind := data[head]) not in (2, 5, 10, 13):
        raise BrokenError("no page of a tree")
    interior = kind in (TABLE_INTERIOR, INDEX_INTERIOR)
    count, first = int.from_bytes(data[head + 3 : head + 5]), head + (12 if interior else 8)
    whole = first + 2 * count <= pages.usable
    cells, children = list[Cell](), list[int]()
    for n in range(min(count, (pages.usable - first) // 2)):
        at = int.from_bytes(data[first + 2 * n : first + 2 * n + 2])
        try:
            if not first + 2 * count <= at < pages.usable - 3:
                whole = False
                continue
            if interior:
                children.append(int.from_bytes(data[at : at + 4]))
                at += 4
            if kind != TABLE_INTERIOR:
                cells.append(_cell(pages, data, view, number, at, index=kind != TABLE_LEAF))
        except BrokenError:
            whole = False
    if interior:
        children.append(int.from_bytes(data[head + 8 : head + 12]))
    return Node(cells, children, whole)


def _cell(pages: Pages, data: bytes, view: int, number: int, at: int, *, index: bool) -> Cell:
    size, at = varint(data, at)
    rowid = 0
    if not index:
        rowid, at = varint(data, at)
        rowid = rowid - (1 << 64) if rowid >> 63 else rowid
    local = _local(pages.usable, size, index=index)
    if size > pages.count * pages.usable or at + local + (4 if local < size else 0) > pages.usable:
        raise BrokenError("a payload is larger than its page or the file")
    return Cell(view, number, at, rowid, size, local)


def _local(usable: int, size: int, *, index: bool) -> int:
    """Bytes of a payload that stay in the page of its cell, by SQLite's file format."""
    most = (usable - 12) * 64 // 255 - 23 if index else usable - 35
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    fitting = least + (size - least) % (usable - 4)
    return fitting if fitting <= most else least


def payload(pages: Pages, cell: Cell, most: int | None = None, used: list[int] | None = None) -> bytes:
    """First bytes of the payload of a cell, all of them by default.

    Parameters
    ----------
    used : list of int, optional
        Gets the numbers of the overflow pages.

    Raises
    ------
    BrokenError
        If the chain of overflow pages ends too early or leads out of the file.
    """
    size = cell.size if most is None else min(most, cell.size)
    data = pages.read(cell.page, cell.view)
    pieces, have = [data[cell.start : cell.start + min(size, cell.local)]], min(size, cell.local)
    after = data[cell.start + cell.local : cell.start + cell.local + 4]
    while have < size:
        number = int.from_bytes(after)
        data = pages.read(number, cell.view) if 1 < number <= pages.count else b""
        if not data:
            raise BrokenError("its overflow pages end too early")
        if used is not None:
            used.append(number)
        piece = data[4 : 4 + min(size - have, pages.usable - 4)]
        pieces.append(piece)
        have += len(piece)
        after = data[:4]
    return b"".join(pieces)


def types_of(record: bytes) -> tuple[list[int], int]:
    """Serial types of the columns of a record, and where the values begin."""
    length, at = varint(record, 0)
    if not at <= length <= min(len(record), _LONGEST_HEADER):
        raise BrokenError("the head of a record is longer than the record")
    types = []
    while at < length:
        kind, at = varint(record, at)
        types.append(kind)
    if at != length or any(kind in (10, 11) for kind in types):
        raise BrokenError("no head of a record")
    return types, length


def size_of(kind: int) -> int:
    """Bytes of a value of a serial type."""
    return (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind] if kind < 10 else (kind - 12) // 2


def value_of(kind: int, data: bytes) -> object:
    """Value of a serial type; None, int, float, bytes or str."""
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind == 7:
        return struct.unpack(">d", data)[0]
    if kind < 7:
        return int.from_bytes(data, signed=True)
    try:
        return data if kind % 2 == 0 else data.decode()
    except UnicodeDecodeError as err:
        raise BrokenError("a text is no UTF-8") from err


def values_of(record: bytes, most: int) -> tuple[list[object], list[int], int]:
    """First values of a record, the types of all, and where the values that were not read begin."""
    types, at = types_of(record)
    values = []
    for kind in types[:most]:
        size = size_of(kind)
        if at + size > len(record):
            raise BrokenError("a record is cut off")
        values.append(value_of(kind, record[at : at + size]))
        at += size
    return values, types, at


_RECORD = re.compile(rb"(?=[\x05-\x1e]\x00)")  # length of the head, then NULL for the rowid that is the key


def carve(pages: Pages, number: int, view: int) -> Iterator[Cell]:
    """Cells of a table's leaf that are found by their looks, none within another."""
    data, end = pages.read(number, view), 0
    for match in _RECORD.finditer(data):
        at = match.start()
        if at < end:
            continue
        try:
            types, length = types_of(data[at : at + _LONGEST_HEADER])
            size = length + sum(map(size_of, types))
            found = _before(pages, data, view, number, at, size)
        except BrokenError:
            continue
        if found and len(types) > 3:
            end = found.start + found.local
            yield found


def _before(pages: Pages, data: bytes, view: int, number: int, at: int, size: int) -> Cell | None:
    """The cell whose record begins at a place: before it stand its size and a rowid of 1 to 9 bytes."""
    for start in range(at - 2, max(at - 19, -1), -1):
        try:
            stated, behind = varint(data, start)
            if stated == size and varint(data, behind)[1] == at:
                return _cell(pages, data, view, number, start, index=False)
        except BrokenError:
            continue
    return None
