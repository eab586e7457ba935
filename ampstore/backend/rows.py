"""Rows of a store's file that may be damaged: which images there are, and which of them count.

Three witnesses say which rows a store has: the tree of the table, the tree of the index on the keys,
and the list of free pages. Where both trees are whole and agree, they are believed. Where one is
broken, the other says which keys there are; pages that nothing leads to any more are looked at too,
since they may have hung below the broken one. Where both are broken, such a row may also have been
deleted before, and is returned with that doubt.

    reached   in a page that the tree of the table leads to
    strayed   in a page that nothing leads to, or found by its looks in a broken page
    older     in an image of a page that a later one in the WAL replaces

Needs some 500 bytes of memory for a row, however large the values are, and reads each page a few times.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ampstore.backend.cells import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_LEAF,
    BrokenError,
    Cell,
    Node,
    carve,
    node,
    payload,
    size_of,
    types_of,
    values_of,
)
from ampstore.backend.pages import Pages
from ampstore.backend.statements import Row

REACHED, STRAYED, OLDER = 0, 1, 2

USUAL_ROOTS = {"entry": 4, "sqlite_autoindex_entry_1": 5, "dictionary": 6, "info": 9}
"""Roots in every store that ampstore made, also after VACUUM: the tables are always created in one order."""

_COLUMNS = (type(None), str, str, str, int, bytes, float)  # of `entry`, before the payload
_DICTIONARY = (type(None), str, float, bytes)
_CHECKSUM = 20
_DEEPEST = 64
_TIMES = 8
_LEAST_ROOM = 64 << 20
_PREFIX = 512  # enough for the columns before the payload, unless the key is long


class Image(NamedTuple):
    """One image of one row: where it is, and what decides whether it counts."""

    rank: int
    written_at: float
    id: int
    cell: Cell


class Entry(NamedTuple):
    """A key and the images of its row, the one that counts first; `doubt` says why that is not certain."""

    key: str
    images: list[Image]
    doubt: str


class _Tree(NamedTuple):
    """Pages below one root in their order, those that are broken, and whether all of it made sense."""

    pages: list[int]
    broken: list[int]
    whole: bool


class Survey:
    """What is in a store's file.

    Parameters
    ----------
    pages : Pages

    Attributes
    ----------
    complete : bool
        Whether every key that the store has is among `entries`, and no other.
    facts : dict of str to str
        What can be read of the table `info`.
    dictionaries : dict of int to bytes
        What can be read of the table `dictionary`.
    damage : list of str
        What is wrong with the file as a whole.
    """

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.damage: list[str] = []
        # A hostile file can let a million cells name one long chain: no more is read than eight times what is there.
        self._room = _TIMES * (pages.count * pages.size + sum(map(len, pages.views)) * pages.size) + _LEAST_ROOM
        self._images: dict[str, list[Image]] = {}
        self._known: dict[str, int] = {}  # by the index
        self._perhaps: dict[str, int] = {}  # by pages that nothing leads to
        self._roots = self._find_roots()
        table = self._walk(self._roots["entry"], TABLE_LEAF)
        index = self._walk(self._roots["sqlite_autoindex_entry_1"], INDEX_LEAF)
        ordered = self._read_table(table)
        self._read_index(index.pages, self._known)
        self.table_whole = table.whole and ordered and not pages.torn
        self.index_whole = index.whole and not pages.torn
        agree = self._known.keys() == self._images.keys()
        if not (self.table_whole and self.index_whole and agree):
            self._note_damage(table, index, agree=agree)
            self._search(table, index)
        self.complete = self.table_whole or self.index_whole
        facts, dictionaries = self._small("info", (str, str)), self._small("dictionary", _DICTIONARY)
        self.facts: dict[str, str] = {values[0]: values[1] for _, values in facts}
        self.dictionaries: dict[int, bytes] = {rowid: values[3] for rowid, values in dictionaries}

    def entries(self) -> Iterator[Entry]:
        """Every key that the store has, or may have, by rowid."""
        names = {number: key for key, number in self._known.items()}
        images = {key: sorted(_own(key, found, names), key=_order) for key, found in self._images.items()}
        keys = dict.fromkeys([*images, *self._known, *(self._perhaps if not self.complete else ())])
        for key in sorted(keys, key=lambda key: images[key][0].id if key in images else self._known.get(key, 1 << 62)):
            found = images.get(key, [])
            doubt = _OTHER_NAME if found and _is_misnamed(key, found[0], names) else self._doubt(key, found)
            if doubt is not None:
                yield Entry(key, found, doubt or _rivals(found))

    def _doubt(self, key: str, found: list[Image]) -> str | None:
        """Why a key may not be one of the store, "" if it surely is, None if it surely is not."""
        if key in self._known:
            return ""
        reached = bool(found) and found[0].rank == REACHED
        if self.index_whole:
            # The index is whole and does not know it: deleted, unless the table still has it.
            return _OTHER_NAME if reached else None
        if reached:
            return ""
        if self.table_whole:
            return None
        if not found:
            return "it stands in a page of an index that nothing leads to: it may have been deleted, or claimed only"
        return "" if key in self._perhaps and found[0].rank == STRAYED else "it may have been deleted before"

    def read(self, image: Image) -> Row:
        """The row of an image; its checksum is not compared.

        Raises
        ------
        BrokenError
            If it cannot be read to its end.
        """
        record = self._payload(image.cell)
        values, types, at = values_of(record, len(_COLUMNS))
        size = size_of(types[len(_COLUMNS)])
        data = record[at : at + size]
        if len(data) != size:
            raise BrokenError("a payload is cut off")
        _, key, codec, kind, length, checksum, written_at = values
        return Row(key, codec, kind, length, checksum, float(written_at), data)  # type: ignore[arg-type]

    def _payload(self, cell: Cell, most: int | None = None) -> bytes:
        if self._room <= 0:
            raise BrokenError("its rows name more bytes than the file has")
        data = payload(self.pages, cell, most)
        self._room -= len(data)
        return data

    # -- trees ---------------------------------------------------------------------------------

    def _find_roots(self) -> dict[str, int]:
        """Roots by the table of the schema, as far as it can be read; otherwise where they usually are."""
        found = dict[str, int]()
        for cell in self._cells(self._walk(1, TABLE_LEAF).pages):
            try:
                values, _, _ = values_of(self._payload(cell), 5)
            except BrokenError:
                continue
            if len(values) == 5 and isinstance(values[1], str) and isinstance(values[3], int) and values[3] > 1:
                found[values[1]] = values[3]
        if not {"entry", "sqlite_autoindex_entry_1"} <= found.keys():
            self.damage.append("the first page, with header and schema, is damaged")
        elif not self.pages.header_is_whole:
            self.damage.append("the header is damaged")
        return {**USUAL_ROOTS, **found}

    def _walk(self, root: int, leaf: int) -> _Tree:
        interior = leaf - 8
        tree, seen, whole = _Tree([], [], True), set[int](), True
        todo = [(root, 0)]
        while todo:
            number, depth = todo.pop()
            found = self._node(number) if number not in seen and depth < _DEEPEST else None
            if found is None or found[0] not in (leaf, interior):
                whole = False
                if number not in seen and 0 < number <= self.pages.count:
                    tree.broken.append(number)
                seen.add(number)
                continue
            seen.add(number)
            tree.pages.append(number)
            if not found[1].whole:
                whole = False
                tree.broken.append(number)
            todo += [(child, depth + 1) for child in reversed(found[1].children)]
        return tree._replace(whole=whole)

    def _node(self, number: int, view: int = 0) -> tuple[int, Node] | None:
        try:
            found = node(self.pages, number, view)
        except BrokenError:
            return None
        return self.pages.read(number, view)[100 if number == 1 else 0], found

    def _cells(self, numbers: list[int], view: int = 0) -> Iterator[Cell]:
        for number in numbers:
            if found := self._node(number, view):
                yield from found[1].cells

    def _read_table(self, table: _Tree) -> bool:
        """Take the rows that the table leads to; whether all are rows of entries, and in order."""
        last, sound = -(1 << 63) - 1, True
        for cell in self._cells(table.pages):
            sound &= cell.rowid > last and self._take(REACHED, cell)
            last = cell.rowid
        for number in table.broken:
            for cell in carve(self.pages, number, 0):
                self._take(STRAYED, cell)
        return sound

    def _take(self, rank: int, cell: Cell) -> bool:
        """Note an image if it looks like a row of `entry`."""
        try:
            start = self._payload(cell, _PREFIX)
            kinds, at = types_of(start)
            needed = at + sum(map(size_of, kinds[: len(_COLUMNS)]))
            values, types, _ = values_of(self._payload(cell, needed) if needed > len(start) else start, len(_COLUMNS))
        except BrokenError:
            return False
        if len(types) <= len(_COLUMNS) or types[len(_COLUMNS)] < 12 or not all(map(_fits, values, _COLUMNS)):
            return False
        if len(values[5]) != _CHECKSUM:  # type: ignore[arg-type]
            return False
        image = Image(rank, float(values[6]), cell.rowid, cell)  # type: ignore[arg-type]
        found = self._images.setdefault(values[1], [])  # type: ignore[arg-type]
        if all(image.cell[:3] != other.cell[:3] for other in found):
            found.append(image)
        return True

    def _read_index(self, numbers: list[int], keys: dict[str, int]) -> None:
        for cell in self._cells(numbers):
            try:
                values, types, _ = values_of(self._payload(cell), 2)
            except BrokenError:
                continue
            if len(types) == 2 and isinstance(values[0], str) and isinstance(values[1], int):
                keys[values[0]] = values[1]

    # -- what is damaged -----------------------------------------------------------------------

    def _note_damage(self, table: _Tree, index: _Tree, *, agree: bool) -> None:
        pairs: list[tuple[str, list[int]]] = [("table", table.broken), ("index", index.broken)]
        self.damage += [f"page {number} of the {name} is broken" for name, broken in pairs for number in broken]
        if self.pages.torn:
            self.damage.append("frames of the WAL are damaged: commits may be missing")
        elif table.whole and index.whole and not agree:
            self.damage.append("the table and its index do not have the same keys")

    def _search(self, table: _Tree, index: _Tree) -> None:
        """Look at every page that is not free and that nothing whole leads to."""
        taken = {1, *table.pages, *table.broken, *index.pages, *self.pages.free()}
        for name, root in self._roots.items():
            if name not in ("entry", "sqlite_autoindex_entry_1") and root not in taken:
                kind = INDEX_LEAF if name.startswith("sqlite_autoindex") else TABLE_LEAF
                other = self._walk(root, kind)
                taken.update(other.pages if other.whole else ())
        for number in range(2, self.pages.count + 1):
            if number not in taken:
                self._look(number, 0, STRAYED)
        for view, number in self.pages.superseded():
            self._look(number, view, OLDER)

    def _look(self, number: int, view: int, rank: int) -> None:
        found = self._node(number, view)
        kind = found[0] if found else 0
        if found and kind in (INDEX_LEAF, INDEX_INTERIOR) and view == 0:
            self._read_index([number], self._perhaps)
        elif found and kind == TABLE_LEAF:
            for cell in found[1].cells:
                self._take(rank, cell)
        if not found or (kind == TABLE_LEAF and not found[1].whole):
            for cell in carve(self.pages, number, view):
                self._take(rank, cell)

    def _small(self, name: str, columns: tuple[type, ...]) -> Iterator[tuple[int, list[Any]]]:
        """Rowid and values of the rows of a small table, as far as they can be read."""
        for cell in self._cells(self._walk(self._roots[name], TABLE_LEAF).pages):
            try:
                values, types, _ = values_of(self._payload(cell), len(columns))
            except BrokenError:
                continue
            if len(types) >= len(columns) and all(map(_fits, values, columns)):
                yield cell.rowid, values


def _fits(value: object, cls: type) -> bool:
    return isinstance(value, cls) or (cls is float and isinstance(value, int))


_OTHER_NAME = "the index has another key for it: one of the two names is damaged"


def _is_misnamed(key: str, image: Image, names: dict[int, str]) -> bool:
    """Whether the index has another key for a row that the table leads to; no checksum covers either name."""
    return image.rank == REACHED and names.get(image.id, key) != key


def _own(key: str, found: list[Image], names: dict[int, str]) -> list[Image]:
    """Images without those of another row whose name became this one, if any is left."""
    return [image for image in found if not _is_misnamed(key, image, names)] or found


def _order(image: Image) -> tuple[int, int, float]:
    """The image that counts comes first: a later row of the same key has a larger id, a later version a later time."""
    return (image.rank, -image.id, -image.written_at)


def _rivals(found: list[Image]) -> str:
    """Why the first of several images may not be the newest."""
    if len(found) < 2 or found[0].rank != STRAYED or found[1].rank != STRAYED:
        return ""
    same = found[0].id == found[1].id and found[0].written_at == found[1].written_at
    return "" if not same else "two images of it have the same time"
