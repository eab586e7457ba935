"""Every SQL statement of a store, written once as SQLAlchemy Core and compiled once per dialect.

The compiled text runs on the DBAPI connection with positional parameters. That costs 0.98 of
hand-written sqlite3, where Core per call costs 2 to 5 times as much and the ORM 13 times.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, Protocol

from sqlalchemy import ColumnElement, and_, bindparam, delete, func, literal_column, or_, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import ClauseElement

from ampstore.tables import entry, info


class _Compile(Protocol):
    """Statement and the names of its parameters in order -> text."""

    def __call__(self, statement: ClauseElement, *order: str) -> str: ...


GROUP_SIZES = (16, 256)
"""Keys that one statement of `Statements.by_group` takes; shorter groups are filled up with NULL."""


class Statements(NamedTuple):
    """SQL text of one dialect. Parameters are positional, in the order that each comment gives."""

    fetch: str  # key -> codec, size, checksum, payload
    head: str  # key -> checksum, written_at
    contains: str  # key -> 1
    number: str  # -> number of entries
    last_id: str  # -> id or NULL
    keys: str  # after id, up to id -> id, key
    rows: str  # after id, up to id -> id, key, codec, size, checksum, payload
    put: str  # key, codec, kind, size, checksum, written_at, payload
    delete: str  # key
    clear: str
    kinds: str  # -> codec, entries, bytes of streams, bytes of payloads
    listing: str  # first key -> key, kind, size, stored, codec, written_at
    info_get: str  # name -> value
    info_put: str  # name, value
    info_all: str  # -> name, value
    fetch_groups: dict[int, str]  # n keys -> key, codec, size, checksum, payload
    known_groups: dict[int, str]  # n keys -> key


@cache
def for_sqlite() -> Statements:
    """Statements in the dialect of SQLite."""
    dialect = sqlite.dialect(paramstyle="qmark")

    def text(statement: ClauseElement, *order: str) -> str:
        compiled = statement.compile(dialect=dialect)
        positions = tuple(getattr(compiled, "positiontup", None) or ())
        if positions != order:
            raise AssertionError(f"parameters {positions}, expected {order}")
        return str(compiled)

    return _statements(text)


def _statements(text: _Compile) -> Statements:
    stored = func.length(entry.c.payload)
    key = entry.c.key == bindparam("key")
    row = (entry.c.key, entry.c.codec, entry.c.size, entry.c.checksum, entry.c.payload)
    span = and_(entry.c.id > bindparam("after"), entry.c.id <= bindparam("last"))
    return Statements(
        fetch=text(select(*row[1:]).where(key), "key"),
        head=text(select(entry.c.checksum, entry.c.written_at).where(key), "key"),
        contains=text(select(literal_column("1")).select_from(entry).where(key), "key"),
        number=text(select(func.count()).select_from(entry)),
        last_id=text(select(func.max(entry.c.id))),
        keys=text(select(entry.c.id, entry.c.key).where(span).order_by(entry.c.id), "after", "last"),
        rows=text(select(entry.c.id, *row).where(span).order_by(entry.c.id), "after", "last"),
        put=text(_upsert_entry(), "key", "codec", "kind", "size", "checksum", "written_at", "payload"),
        delete=text(delete(entry).where(key), "key"),
        clear=text(delete(entry)),
        kinds=text(
            select(entry.c.codec, func.count(), func.sum(entry.c.size), func.sum(stored)).group_by(entry.c.codec)
        ),
        listing=text(
            select(entry.c.key, entry.c.kind, entry.c.size, stored, entry.c.codec, entry.c.written_at)
            .where(entry.c.key >= bindparam("from"))
            .order_by(entry.c.key),
            "from",
        ),
        info_get=text(select(info.c.value).where(info.c.name == bindparam("name")), "name"),
        info_put=text(_upsert_info(), "name", "value"),
        info_all=text(select(info.c.name, info.c.value).order_by(info.c.name)),
        fetch_groups={n: text(select(*row).where(_any_of(n)), *_names(n)) for n in GROUP_SIZES},
        known_groups={n: text(select(entry.c.key).where(_any_of(n)), *_names(n)) for n in GROUP_SIZES},
    )


def _names(count: int) -> Sequence[str]:
    return [f"key{n}" for n in range(count)]


def _any_of(count: int) -> ColumnElement[bool]:
    return entry.c.key.in_([bindparam(name) for name in _names(count)])


def _upsert_entry() -> ClauseElement:
    """Insert, or replace in place where anything that is stored differs.

    The payload is compared too, though equal checksums mean equal values: otherwise setting a
    damaged entry again would leave the damage where it is.
    """
    names = ("codec", "kind", "size", "checksum", "written_at", "payload")
    insert = sqlite.insert(entry).values({"key": bindparam("key"), **{name: bindparam(name) for name in names}})
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=[entry.c.key],
        set_={name: new[name] for name in names},
        where=or_(*(entry.c[name] != new[name] for name in ("checksum", "codec", "size", "payload"))),
    )


def _upsert_info() -> ClauseElement:
    insert = sqlite.insert(info).values(name=bindparam("name"), value=bindparam("value"))
    return insert.on_conflict_do_update(index_elements=[info.c.name], set_={"value": insert.excluded.value})
