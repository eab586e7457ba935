"""Reading the rows of one SQLite file.

No read lasts longer than one chunk of rows, so nothing of ours keeps the WAL from being emptied.
Damaged text is read too: one row whose text is no UTF-8 must not hide the others.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from ampstore.backend.compiled import SQLITE
from ampstore.backend.connections import Connections, Durability
from ampstore.backend.failures import LARGEST, is_bad_text
from ampstore.backend.objects import SchemaObject
from ampstore.backend.statements import CHUNK_BYTES, CHUNK_ROWS, GAPS, GROUP_SIZES, Head, Statements
from ampstore.errors import DamagedStoreError

FEW = 1 << 14
"""Rows whose keys are read at once, from the index of keys: 2 MB. It has no payloads between them, but is in another
order, so that more rows are read from the table, a chunk at a time."""


class Reader:
    """What can be asked of the rows of one file; parameters and attributes are those of `SQLite`."""

    def __init__(
        self, path: Path, *, readonly: bool, timeout: float, durability: Durability, shared: bool = False
    ) -> None:
        self.path = path
        self.readonly = readonly
        self.timeout = timeout
        self.largest = LARGEST
        self.sql = Statements(**SQLITE)
        self._connections = Connections(path, readonly=readonly, timeout=timeout, durability=durability, shared=shared)

    @property
    def location(self) -> str:
        """The path, as text."""
        return str(self.path)

    def reason_against(self, key: str) -> str | None:  # noqa: ARG002 - other databases hold less
        """Why a text cannot be a key in this database; None if it can."""
        return None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._connections.closed

    def connection(self) -> sqlite3.Connection:
        """The DBAPI connection of this thread."""
        return self._connections.get()

    def close(self) -> None:
        """Close the connections of all threads. Closing twice is fine."""
        self._connections.close()

    def _read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        try:
            if self.readonly:
                return self._connections.read(lambda: self.connection().execute(sql, parameters).fetchall())
            connections = self._connections
            return (connections.local.connection or connections.connect()).execute(sql, parameters).fetchall()
        except sqlite3.Error as err:
            if self._may_decode(err):
                with self._any_text():
                    return self._read(sql, parameters)
            raise self._connections.translate(err) from err

    def _read_some(
        self, sql: str, parameters: Sequence[object], rows: int, size: int | None
    ) -> list[tuple[object, ...]]:
        """First rows of a result, at most `rows`, and at most `size` bytes of payload (the last column)."""

        def read() -> list[tuple[object, ...]]:
            with contextlib.closing(self.connection().execute(sql, parameters)) as cursor:
                return cursor.fetchmany(rows) if size is None else _up_to(cursor, rows, size)

        try:
            return self._connections.read(read) if self.readonly else read()
        except sqlite3.Error as err:
            if self._may_decode(err):
                with self._any_text():
                    return self._read_some(sql, parameters, rows, size)
            raise self._connections.translate(err) from err

    def _may_decode(self, err: sqlite3.Error) -> bool:
        return is_bad_text(err) and self.connection().text_factory is str

    @contextlib.contextmanager
    def _any_text(self) -> Iterator[None]:
        """Read damaged text too: one row whose text is no UTF-8 must not hide the others."""
        connection = self.connection()
        connection.text_factory = _decode_anything
        try:
            yield
        finally:
            connection.text_factory = str

    def fetch(self, key: str) -> tuple[str, int, bytes, bytes] | None:
        """codec, size, checksum and payload of an entry."""
        connection = self._connections.local.connection
        if connection is not None and not self.readonly:  # the hot path; whatever goes wrong is named below
            try:
                row = connection.execute(self.sql.fetch, (key,)).fetchone()
                if row is None or row[4] == key:
                    return row[:4] if row else None
            except sqlite3.Error:
                pass
        rows = self._read(self.sql.fetch, (key,))
        if rows and rows[0][4] != key:
            raise self._misled()
        return rows[0][:4] if rows else None  # type: ignore[return-value]

    def _misled(self) -> DamagedStoreError:
        return DamagedStoreError(
            self.location,
            "the index of keys leads to the entry of another key; `ampstore verify` lists all, `ampstore salvage` gets "
            "every entry out",
        )

    def head(self, key: str) -> tuple[bytes, float] | None:
        """Checksum and time of writing of an entry, without its payload."""
        rows = self._read(self.sql.head, (key,))
        return rows[0] if rows else None  # type: ignore[return-value]

    def contains(self, key: str) -> bool:
        """Whether there is an entry, without its payload."""
        return bool(self._read(self.sql.contains, (key,)))

    def count(self) -> int:
        """Number of entries: the last id, less the gaps below it, of which deletions keep a tally.

        To keep the number itself would cost every write a page of the WAL, a third more. Counting reads the whole index
        of keys, so a store without the tally, which an older ampstore made, is counted again only after somebody wrote.
        """
        if tally := self._read(self.sql.tally, (GAPS,)):
            return tally[0][0]  # type: ignore[return-value]
        (version,) = self._read("PRAGMA data_version")[0]  # goes up when another connection commits
        connection = self.connection()
        if connection.in_transaction:  # what it changed may be taken back
            return self._read(self.sql.number)[0][0]  # type: ignore[return-value]
        state = (connection, version, connection.total_changes)
        if (counted := self._connections.local.counted) and counted[0] == state:
            return counted[1]
        number: int = self._read(self.sql.number)[0][0]  # type: ignore[assignment]
        self._connections.local.counted = (state, number)
        return number

    def last_id(self) -> int:
        """Largest id in use, 0 in an empty store."""
        return self._read(self.sql.last_id)[0][0] or 0  # type: ignore[return-value]

    def keys(self, after: int, last: int) -> list[tuple[int, str]]:
        """Some of the ids and keys with after < id <= last, in order of insertion; [] at the end."""
        if not after and last <= FEW:
            return sorted(row for row in self._read(self.sql.all_keys) if row[0] <= last)  # type: ignore[operator, misc]
        return self._read_some(self.sql.keys, (after, last), CHUNK_ROWS, None)  # type: ignore[return-value]

    def rows(self, after: int, last: int) -> list[tuple[int, str, str, int, bytes, bytes]]:
        """Some of the whole rows with after < id <= last, in order of insertion; [] at the end."""
        return self._read_some(self.sql.rows, (after, last), CHUNK_ROWS, CHUNK_BYTES)  # type: ignore[return-value]

    def scan(self) -> Iterator[tuple[int, str, str, int, bytes, bytes]]:
        """All rows that are there now, in order of insertion, in constant memory."""
        last, after = self.last_id(), 0
        while after < last and (chunk := self.rows(after, last)):
            after = chunk[-1][0]
            yield from chunk

    def fetch_many(self, keys: Sequence[str]) -> Iterator[tuple[str, str, int, bytes, bytes]]:
        """key, codec, size, checksum and payload of those keys that are there, in any order."""
        wanted = set(keys)
        for row in self._by_group(self.sql.fetch_groups, keys):
            if row[0] not in wanted:
                raise self._misled()
            yield row  # type: ignore[misc]

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that are there."""
        return {row[0] for row in self._by_group(self.sql.known_groups, keys)}  # type: ignore[misc]

    def _by_group(self, statements: dict[int, str], keys: Sequence[str]) -> Iterator[tuple[object, ...]]:
        large = GROUP_SIZES[-1]
        for start in range(0, len(keys), large):
            group = keys[start : start + large]
            size = next(size for size in GROUP_SIZES if len(group) <= size)
            yield from self._read(statements[size], [*group, *[None] * (size - len(group))])

    def listing(self, prefix: str) -> Iterator[tuple[str, str, int, int, str, float]]:
        """key, kind, size, stored size, codec and time of writing, by key, from `prefix` on."""
        start, skip = prefix, False
        while rows := self._read_some(self.sql.listing, (start,), CHUNK_ROWS, None):
            yield from rows[1:] if skip and rows[0][0] == start else rows  # type: ignore[misc]
            if len(rows) < CHUNK_ROWS:
                return
            start, skip = rows[-1][0], True  # type: ignore[assignment]

    def heads(self, after: int, last: int) -> list[tuple[int, Head]]:
        """Some of the ids and heads with after < id <= last, in order of insertion; [] at the end. Reads no payload."""
        rows = self._read_some(self.sql.heads, (after, last), CHUNK_ROWS, None)
        return [(row[0], Head(*row[1:])) for row in rows]  # type: ignore[arg-type, misc]

    def heads_from(self, first: str) -> Iterator[Head]:
        """Heads by key, from a key on, a chunk at a time. Reads no payload."""
        start, skip = first, False
        while rows := self._read_some(self.sql.heads_from, (start,), CHUNK_ROWS, None):
            for row in rows[1:] if skip and rows[0][0] == start else rows:
                yield Head(*row)  # type: ignore[arg-type]
            if len(rows) < CHUNK_ROWS:
                return
            start, skip = rows[-1][0], True  # type: ignore[assignment]

    def heads_of(self, keys: Sequence[str]) -> dict[str, Head]:
        """Heads of those of the keys that are there. Reads no payload."""
        return {row[0]: Head(*row) for row in self._by_group(self.sql.heads_groups, keys)}  # type: ignore[arg-type, misc]

    def kinds(self) -> list[tuple[str, int, int, int]]:
        """codec, entries, bytes of streams and bytes stored, for every codec in use."""
        return self._read(self.sql.kinds)  # type: ignore[return-value]

    def survey(self, after: int, last: int) -> list[tuple[int, str, str, int, int, float]]:
        """id, codec, kind, size, stored bytes and time of writing of some rows with after < id <= last; no payloads."""
        return self._read_some(self.sql.survey, (after, last), CHUNK_ROWS, None)  # type: ignore[return-value]

    def dictionary(self, number: int) -> bytes | None:
        """A dictionary that payloads were compressed with, None if it is not there."""
        rows = self._read(self.sql.dictionary_get, (number,))
        return rows[0][0] if rows else None  # type: ignore[return-value]

    def claims_left(self) -> list[tuple[str, str, float]]:
        """key, owner and seconds left of every claim."""
        return self._read(self.sql.claims_left)  # type: ignore[return-value]

    def dictionaries(self) -> list[tuple[int, str, float, int]]:
        """id, kind, time of training and bytes of every dictionary, the oldest first."""
        return self._read(self.sql.dictionary_all)  # type: ignore[return-value]

    def info(self) -> dict[str, str]:
        """Facts about the store."""
        return dict(self._read(self.sql.info_all))  # type: ignore[arg-type]

    def info_get(self, name: str) -> str | None:
        """One fact about the store."""
        rows = self._read(self.sql.info_get, (name,))
        return rows[0][0] if rows else None  # type: ignore[return-value]

    def claims(self, keys: Sequence[str]) -> list[tuple[str, str, int, float, float]]:
        """key, owner, token, time of expiry and seconds left, for those of the keys that are claimed."""
        return list(self._by_group(self.sql.claims_groups, keys))  # type: ignore[arg-type]

    def claimants(self) -> list[tuple[str, int, float]]:
        """owner, number of its claims, and seconds until the last one of them expires."""
        return self._read(self.sql.claimants)  # type: ignore[return-value]

    def claims_of(self, owner: str) -> dict[str, int]:
        """Token by key of the claims of an owner."""
        return dict(self._read(self.sql.claims_owned, (owner,)))  # type: ignore[arg-type]

    def objects(self) -> list[SchemaObject]:
        """What the schema has; asking for it runs none of it."""
        return [SchemaObject(*map(_text_or_none, row)) for row in self._read(self.sql.objects)]  # type: ignore[arg-type]

    def revision(self) -> str:
        """Revision of the schema, "" if its table is empty; only for a schema that has our table of versions."""
        rows = self._read(self.sql.revision)
        return str(rows[0][0]) if rows else ""


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def _up_to(cursor: sqlite3.Cursor, rows: int, room: int) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for row in cursor:
        found.append(row)
        payload = row[-1]
        room -= len(payload) if type(payload) is bytes else 0
        if room <= 0 or len(found) >= rows:
            break
    return found


def _decode_anything(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
