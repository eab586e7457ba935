"""Reading the rows of one store in PostgreSQL.

Iteration goes by id, a chunk to a statement, up to the largest id at its start. So it needs the memory
of one chunk, keeps no transaction open (which would keep the server from cleaning up), and sees every
entry once that was there at its start and stayed, though ids of transactions that run at the same time
are committed in any order: an entry keeps its id while it is overwritten, and ids are never used again.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from ampstore.backend.compiled import POSTGRESQL, SERVER
from ampstore.backend.connections import Durability
from ampstore.backend.postgresql.connections import Connection, Connections
from ampstore.backend.postgresql.failures import LARGEST, LONGEST_KEY
from ampstore.backend.server import Server
from ampstore.backend.statements import CHUNK_ROWS, GROUP_SIZES, Head, ServerStatements, Statements
from ampstore.errors import BusyError, MissingStoreError, StoreError


class Reader:
    """What can be asked of the rows; parameters and attributes are those of `PostgreSQL`."""

    def __init__(self, server: Server, *, readonly: bool, timeout: float, durability: Durability) -> None:
        self.server = server
        self.readonly = readonly
        self.timeout = timeout
        self.largest = LARGEST
        self.sql = Statements(**POSTGRESQL)
        self.server_sql = ServerStatements(**SERVER)
        self._connections = Connections(server, readonly=readonly, timeout=timeout, durability=durability)

    @property
    def location(self) -> str:
        """URL without a password."""
        return self.server.location

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._connections.closed

    def open_connection(self) -> Connection:
        """A connection of its own, which the caller closes."""
        return self._connections.open()

    def close(self) -> None:
        """Close the connections of all threads. Closing twice is fine."""
        self._connections.close()

    def reason_against(self, key: str) -> str | None:
        """Why a text cannot be a key in this database; None if it can."""
        if "\0" in key:
            return "it has the character U+0000, which PostgreSQL's text cannot hold"
        length = len(key) if key.isascii() else len(key.encode())
        if length > LONGEST_KEY:
            return f"it has {length:,} bytes, and an index of PostgreSQL takes {LONGEST_KEY:,}"
        return None

    def _read(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._connections.run(statement, parameters).rows

    def _read_key(self, statement: str, key: str) -> tuple[Any, ...] | None:
        if "\0" in key:
            return None
        rows = self._connections.run(statement, (key,)).rows
        return rows[0] if rows else None

    def fetch(self, key: str) -> tuple[str, int, bytes, bytes] | None:
        """codec, size, checksum and payload of an entry."""
        row = self._read_key(self.sql.fetch, key)
        return row[:4] if row else None

    def head(self, key: str) -> tuple[bytes, float] | None:
        """Checksum and time of writing of an entry, without its payload."""
        return self._read_key(self.sql.head, key)

    def contains(self, key: str) -> bool:
        """Whether there is an entry, without its payload."""
        return self._read_key(self.sql.contains, key) is not None

    def count(self) -> int:
        """Number of entries; the server counts them, which takes the longer the more there are."""
        return self._read_long(self.sql.number)[0][0]  # type: ignore[no-any-return]

    def last_id(self) -> int:
        """Largest id in use, 0 in an empty store."""
        return self._read(self.sql.last_id)[0][0] or 0

    def keys(self, after: int, last: int) -> list[tuple[int, str]]:
        """Some of the ids and keys with after < id <= last, in order of insertion; [] at the end."""
        return self._read(self.sql.keys, (after, last))

    def rows(self, after: int, last: int) -> list[tuple[int, str, str, int, bytes, bytes]]:
        """Some of the whole rows with after < id <= last, in order of insertion; [] at the end."""
        return self._read(self.sql.rows, (after, last))

    def entries(self, after: int, last: int) -> list[tuple[int, str, str, str, int, bytes, float, bytes]]:
        """As `rows`, with all that is stored: id and the columns of a Row."""
        return self._read(self.server_sql.entries, (after, last))

    def scan(self) -> Iterator[tuple[int, str, str, int, bytes, bytes]]:
        """All rows that are there now, in order of insertion, in constant memory."""
        last, after = self.last_id(), 0
        while chunk := self.rows(after, last):
            after = chunk[-1][0]
            yield from chunk

    def fetch_many(self, keys: Sequence[str]) -> Iterator[tuple[str, str, int, bytes, bytes]]:
        """key, codec, size, checksum and payload of those keys that are there, in any order."""
        return self._by_group(self.sql.fetch_groups, keys)

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that are there."""
        return {row[0] for row in self._by_group(self.sql.known_groups, keys)}

    def _by_group(self, statements: dict[int, str], keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        size = GROUP_SIZES[-1]
        possible = [key for key in keys if "\0" not in key]
        for start in range(0, len(possible), size):
            yield from self._read(statements[size], (possible[start : start + size],))

    def listing(self, prefix: str) -> Iterator[tuple[str, str, int, int, str, float]]:
        """key, kind, size, stored size, codec and time of writing, by key, from `prefix` on."""
        start, skip = prefix, False
        while "\0" not in start and (rows := self._read(self.sql.listing, (start,))):
            yield from rows[1:] if skip and rows[0][0] == start else rows
            if len(rows) < CHUNK_ROWS:
                return
            start, skip = rows[-1][0], True

    def heads(self, after: int, last: int) -> list[tuple[int, Head]]:
        """Some of the ids and heads with after < id <= last, in order of insertion; [] at the end. Reads no payload."""
        return [(row[0], Head(*row[1:])) for row in self._read(self.sql.heads, (after, last))]

    def heads_from(self, first: str) -> Iterator[Head]:
        """Heads by key, from a key on, a chunk at a time. Reads no payload."""
        start, skip = first, False
        while rows := self._read(self.sql.heads_from, (start,)):
            for row in rows[1:] if skip and rows[0][0] == start else rows:
                yield Head(*row)
            if len(rows) < CHUNK_ROWS:
                return
            start, skip = rows[-1][0], True

    def heads_of(self, keys: Sequence[str]) -> dict[str, Head]:
        """Heads of those of the keys that are there. Reads no payload."""
        return {row[0]: Head(*row) for row in self._by_group(self.sql.heads_groups, keys)}

    def kinds(self) -> list[tuple[str, int, int, int]]:
        """codec, entries, bytes of streams and bytes stored, for every codec in use."""
        return [(codec, *map(int, sums)) for codec, *sums in self._read_long(self.sql.kinds)]

    def survey(self, after: int, last: int) -> list[tuple[int, str, str, int, int, float]]:
        """id, codec, kind, size, stored bytes and time of writing of some rows with after < id <= last; no payloads."""
        return self._read(self.sql.survey, (after, last))

    def dictionary(self, number: int) -> bytes | None:
        """A dictionary that payloads were compressed with, None if it is not there."""
        rows = self._read(self.sql.dictionary_get, (number,))
        return rows[0][0] if rows else None

    def dictionaries(self) -> list[tuple[int, str, float, int]]:
        """id, kind, time of training and bytes of every dictionary, the oldest first."""
        return self._read(self.sql.dictionary_all)

    def info(self) -> dict[str, str]:
        """Facts about the store."""
        return dict(self._read(self.sql.info_all))

    def info_get(self, name: str) -> str | None:
        """One fact about the store."""
        row = self._read_key(self.sql.info_get, name)
        return row[0] if row else None

    def claims(self, keys: Sequence[str]) -> list[tuple[str, str, int, float, float]]:
        """key, owner, token, time of expiry and seconds left, for those of the keys that are claimed."""
        return list(self._by_group(self.sql.claims_groups, keys))

    def claims_left(self) -> list[tuple[str, str, float]]:
        """key, owner and seconds left of every claim."""
        return self._read(self.sql.claims_left)

    def claimants(self) -> list[tuple[str, int, float]]:
        """owner, number of its claims, and seconds until the last one of them expires."""
        return self._read(self.sql.claimants)

    def claims_of(self, owner: str) -> dict[str, int]:
        """Token by key of the claims of an owner."""
        return dict(self._read(self.sql.claims_owned, (owner,)))

    def revision(self) -> str | None:
        """Revision of the schema, "" if its table is empty, None if there is no store here."""
        try:
            rows = self._read(self.sql.revision)
        except MissingStoreError as err:
            if isinstance(err.__cause__, psycopg.errors.UndefinedTable):
                return None
            raise
        return str(rows[0][0]) if rows else ""

    def _read_long(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a statement that takes the longer the larger the store is."""
        try:
            return self._read(statement)
        except BusyError:
            if self._connections.local.depth:
                raise
        with self._patiently():
            return self._read(statement)

    @contextlib.contextmanager
    def _patiently(self) -> Iterator[None]:
        """Let statements of the block take as long as the store is large."""
        change = "SELECT set_config('statement_timeout', %s, false)"
        was = self._read("SELECT current_setting('statement_timeout')")[0][0]
        self._read(change, ("0",))
        local = self._connections.local
        local.unhurried = True
        try:
            yield
        finally:
            local.unhurried = False
            with contextlib.suppress(StoreError):  # what went wrong in the block says more
                self._read(change, (was,))
