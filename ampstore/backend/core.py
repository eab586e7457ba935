"""Every SQL statement of a store, written once as SQLAlchemy Core and compiled once per dialect.

The compiled text runs on the DBAPI connection with positional parameters. That costs 0.98 of
hand-written sqlite3, where Core per call costs 2 to 5 times as much and the ORM 13 times.

It is kept in `compiled`, which `python -m ampstore.backend.core` writes after a change here; a test
compares the two. `core_postgresql` has what only PostgreSQL has.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    Text,
    and_,
    bindparam,
    cast,
    column,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    table,
    true,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement, FunctionElement

from ampstore.backend.statements import GROUP_SIZES, Statements
from ampstore.tables import VERSION_TABLE, claim, dictionary, entry, info, trace


class _Compile(Protocol):
    """Statement and the names of its parameters in order -> text."""

    def __call__(self, statement: ClauseElement, *order: str) -> str: ...


class database_now(FunctionElement[float]):  # noqa: N801 - a function of SQL
    """Seconds since 1970 by the clock of the database, the only one that all claimants share."""

    type = Float()
    inherit_cache = True


@compiles(database_now)
def _now(*_: object, **__: object) -> str:
    return "CAST(EXTRACT(EPOCH FROM CLOCK_TIMESTAMP()) AS DOUBLE PRECISION)"


@compiles(database_now, "sqlite")
def _now_in_sqlite(*_: object, **__: object) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


class Dialect(NamedTuple):
    """Where the databases differ.

    Attributes
    ----------
    text
        Compiles a statement.
    insert
        INSERT with ON CONFLICT.
    writing
        Condition of every statement that writes, and the names of its parameters.
    groups
        For each size of a group of keys: its condition on a column, and the names of its parameters.
    chunk
        Bounds a selection to one chunk; SQLite's cursors stop by themselves.
    rows_of
        Selection of these columns of the rows that the index of keys leads to.
    """

    text: _Compile
    insert: Callable[..., Any]
    writing: tuple[ColumnElement[bool], tuple[str, ...]]
    groups: dict[int, tuple[Callable[[ColumnElement[str]], ColumnElement[bool]], Sequence[str]]]
    chunk: Callable[[Any], Any]
    rows_of: Callable[..., Any] = select


def for_sqlite() -> Statements:
    """Statements in the dialect of SQLite."""
    groups: Any = {n: (partial(_any_of, n), _names(n)) for n in GROUP_SIZES}
    text = compiler(sqlite.dialect(paramstyle="qmark"))
    ends_by_itself: Any = lambda statement: statement  # noqa: E731
    return statements_of(Dialect(text, sqlite.insert, (true(), ()), groups, ends_by_itself, _from_the_table))


def _from_the_table(*columns: Any) -> Any:
    """The row by its id, the id by the index.

    Where it can, SQLite takes the key from the index itself. So a damaged index that leads to another row would not
    be noticed, and its value be taken for that of the key. This costs 0.7 us of 14.
    """
    found = entry.alias("found")
    return select(*(found.c[one.name] for one in columns)).select_from(entry.join(found, found.c.id == entry.c.id))


def compiler(dialect: Any) -> _Compile:
    """Turns statements into text of a dialect, and checks the order of their parameters."""

    def text(statement: ClauseElement, *order: str) -> str:
        compiled = statement.compile(dialect=dialect)
        positions = tuple(getattr(compiled, "positiontup", None) or ())
        if positions != order:
            raise AssertionError(f"parameters {positions}, expected {order}")
        return str(compiled)

    return text


def statements_of(dialect: Dialect) -> Statements:
    """All statements in one dialect."""
    text, chunk, (may_write, gate) = dialect.text, dialect.chunk, dialect.writing
    stored = func.length(entry.c.payload)
    key = entry.c.key == bindparam("key")
    row = (entry.c.key, entry.c.codec, entry.c.size, entry.c.checksum, entry.c.payload)
    groups = dialect.groups.items()
    span = span_of_ids()
    tally = _last_id() - cast(info.c.value, BigInteger)
    counted = select(func.count()).select_from(entry).scalar_subquery()
    # Sizes first: to group the rows themselves, SQLite would sort them with their payloads, in memory.
    sizes = select(entry.c.codec, entry.c.size, stored.label("stored")).cte("sizes").prefix_with("MATERIALIZED")
    head = (*(entry.c[name] for name in ENTRY[:4]), stored, *(entry.c[name] for name in ENTRY[4:6]))
    return Statements(
        fetch=text(dialect.rows_of(*row[1:], row[0]).where(key), "key"),
        head=text(select(entry.c.checksum, entry.c.written_at).where(key), "key"),
        contains=text(select(literal_column("1")).select_from(entry).where(key), "key"),
        number=text(select(func.count()).select_from(entry)),
        tally=text(select(tally).where(info.c.name == bindparam("name")), "name"),
        miscount=text(select(tally - counted).where(info.c.name == bindparam("name")), "name"),
        id_of=text(select(entry.c.id).where(key), "key"),
        last_id=text(select(func.max(entry.c.id))),
        all_keys=text(select(entry.c.id, entry.c.key)),
        keys=text(chunk(select(entry.c.id, entry.c.key).where(span).order_by(entry.c.id)), "after", "last"),
        rows=text(chunk(select(entry.c.id, *row).where(span).order_by(entry.c.id)), "after", "last"),
        put=text(replacing(_insert_entry(dialect)), *ENTRY, *gate),
        delete=text(delete(entry).where(key, may_write), "key", *gate),
        rename=text(_rename_entry(may_write), "new", "was", "free", *gate),
        clear=text(delete(entry).where(may_write) if gate else delete(entry), *gate),
        objects="" if gate else text(_objects()),
        revision=text(select(column("version_num")).select_from(table(VERSION_TABLE))),
        kinds=text(
            select(sizes.c.codec, func.count(), func.sum(sizes.c.size), func.sum(sizes.c.stored)).group_by(
                sizes.c.codec
            )
        ),
        listing=text(
            chunk(
                select(entry.c.key, entry.c.kind, entry.c.size, stored, entry.c.codec, entry.c.written_at)
                .where(entry.c.key >= bindparam("from"))
                .order_by(entry.c.key)
            ),
            "from",
        ),
        info_get=text(select(info.c.value).where(info.c.name == bindparam("name")), "name"),
        info_put=text(_upsert_info(dialect), "name", "value"),
        info_add=text(_add_to_info(), "more", "of"),
        info_delete=text(delete(info).where(info.c.name == bindparam("of")), "of"),
        info_all=text(select(info.c.name, info.c.value).order_by(info.c.name)),
        fetch_groups={n: text(dialect.rows_of(*row).where(among(entry.c.key)), *names) for n, (among, names) in groups},
        known_groups={n: text(select(entry.c.key).where(among(entry.c.key)), *names) for n, (among, names) in groups},
        put_new=text(_insert_entry(dialect).on_conflict_do_nothing(), *ENTRY, *gate),
        claims_groups={n: text(_claims().where(among(claim.c.key)), *names) for n, (among, names) in groups},
        claims_left=text(select(claim.c.key, claim.c.owner, claim.c.expires_at - database_now())),
        claim_free=text(_insert_claim(dialect), "key", "owner", "lease"),
        claim_over=text(_take_claim_over(), "new", "lease", "of", "owner_was", "token_was", "expires_was"),
        claims_renew=text(
            update(claim).values(expires_at=lease_from_now()).where(claim.c.owner == bindparam("of")), "lease", "of"
        ),
        claims_owned=text(select(claim.c.key, claim.c.token).where(claim.c.owner == bindparam("of")), "of"),
        claim_release=text(
            delete(claim).where(
                claim.c.key == bindparam("of"),
                claim.c.owner == bindparam("owner_was"),
                claim.c.token == bindparam("token_was"),
            ),
            "of",
            "owner_was",
            "token_was",
        ),
        claimants=text(_claimants()),
        claims_release=text(delete(claim).where(claim.c.owner == bindparam("of")), "of"),
        trace_put=text(_upsert_trace(dialect), *trace.c.keys()),
        trace_delete=text(
            delete(trace).where(trace.c.run == bindparam("of"), trace.c.chain >= bindparam("number")), "of", "number"
        ),
        trace_clear=text(delete(trace)),
        survey=text(
            chunk(
                select(entry.c.id, entry.c.codec, entry.c.kind, entry.c.size, stored, entry.c.written_at)
                .where(span)
                .order_by(entry.c.id)
            ),
            "after",
            "last",
        ),
        recode=text(
            _recode_entry(may_write),
            "new_codec",
            "new_checksum",
            "new_payload",
            "of",
            "checksum_was",
            "codec_was",
            *gate,
        ),
        dictionary_get=text(select(dictionary.c.data).where(dictionary.c.id == bindparam("id")), "id"),
        dictionary_all=text(
            select(
                dictionary.c.id, dictionary.c.kind, dictionary.c.trained_at, func.length(dictionary.c.data)
            ).order_by(dictionary.c.trained_at, dictionary.c.id)
        ),
        dictionary_put=text(_insert_dictionary(dialect), *dictionary.c.keys()),
        dictionary_drop=text(_drop_dictionaries()),
        heads=text(chunk(select(entry.c.id, *head).where(span).order_by(entry.c.id)), "after", "last"),
        heads_from=text(chunk(select(*head).where(entry.c.key >= bindparam("from")).order_by(entry.c.key)), "from"),
        heads_groups={n: text(select(*head).where(among(entry.c.key)), *names) for n, (among, names) in groups},
    )


def _last_id() -> ColumnElement[int]:
    return func.coalesce(select(func.max(entry.c.id)).scalar_subquery(), literal_column("0"))


def _add_to_info() -> ClauseElement:
    sum_ = cast(info.c.value, BigInteger) + bindparam("more", type_=BigInteger)
    return update(info).values(value=cast(sum_, Text)).where(info.c.name == bindparam("of"))


def span_of_ids() -> ColumnElement[bool]:
    """Rows with after < id <= last."""
    return and_(entry.c.id > bindparam("after"), entry.c.id <= bindparam("last"))


ENTRY = ("key", "codec", "kind", "size", "checksum", "written_at", "payload")


def _names(count: int) -> Sequence[str]:
    return [f"key{n}" for n in range(count)]


def _any_of(count: int, key: ColumnElement[str]) -> ColumnElement[bool]:
    return key.in_([bindparam(name) for name in _names(count)])


def lease_from_now() -> ColumnElement[float]:
    """When a claim expires."""
    return database_now() + bindparam("lease", type_=Float())


def _claims() -> Any:
    row = (claim.c.key, claim.c.owner, claim.c.token, claim.c.expires_at)
    return select(*row, claim.c.expires_at - database_now())


def _claimants() -> ClauseElement:
    left = func.max(claim.c.expires_at) - database_now()
    return select(claim.c.owner, func.count(), left).group_by(claim.c.owner).order_by(claim.c.owner)


def _insert_claim(dialect: Dialect) -> ClauseElement:
    insert = dialect.insert(claim).values(
        key=bindparam("key"), owner=bindparam("owner"), token=literal_column("1"), expires_at=lease_from_now()
    )
    return insert.on_conflict_do_nothing()  # type: ignore[no-any-return]


def _take_claim_over() -> ClauseElement:
    """Only from the state that was read: a claim that was renewed or taken meanwhile stays."""
    return (
        update(claim)
        .values(owner=bindparam("new"), token=claim.c.token + literal_column("1"), expires_at=lease_from_now())
        .where(
            claim.c.key == bindparam("of"),
            claim.c.owner == bindparam("owner_was"),
            claim.c.token == bindparam("token_was"),
            claim.c.expires_at == bindparam("expires_was"),
        )
    )


def _insert_entry(dialect: Dialect) -> Any:
    may_write, gate = dialect.writing
    insert = dialect.insert(entry)
    if not gate:
        return insert.values({name: bindparam(name) for name in ENTRY})
    # Parameters of a SELECT have no type by themselves; those of VALUES have that of their column.
    values = [bindparam(name, type_=entry.c[name].type) for name in ENTRY]
    return insert.from_select(ENTRY, select(*values).where(may_write))


def replacing(insert: Any) -> ClauseElement:
    """Insert, or replace in place where anything that is stored differs.

    The payload is compared too, though equal checksums mean equal values: otherwise setting a
    damaged entry again would leave the damage where it is.
    """
    new = insert.excluded
    return insert.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=[entry.c.key],
        set_={name: new[name] for name in ENTRY[1:]},
        where=or_(*(entry.c[name] != new[name] for name in ("checksum", "codec", "size", "payload"))),
    )


def _objects() -> ClauseElement:
    return select(*map(column, ("type", "name", "tbl_name", "sql"))).select_from(table("sqlite_master"))


def _rename_entry(may_write: ColumnElement[bool]) -> ClauseElement:
    taken = entry.alias("taken")
    free = ~exists().where(taken.c.key == bindparam("free"))
    return update(entry).values(key=bindparam("new")).where(entry.c.key == bindparam("was"), free, may_write)


def _recode_entry(may_write: ColumnElement[bool]) -> ClauseElement:
    """Another payload for the same value, unless the row has another value by now."""
    return (
        update(entry)
        .values(codec=bindparam("new_codec"), checksum=bindparam("new_checksum"), payload=bindparam("new_payload"))
        .where(
            entry.c.id == bindparam("of"),
            entry.c.checksum == bindparam("checksum_was"),
            entry.c.codec == bindparam("codec_was"),
            may_write,
        )
    )


def _insert_dictionary(dialect: Dialect) -> ClauseElement:
    insert = dialect.insert(dictionary).values({name: bindparam(name) for name in dictionary.c.keys()})  # noqa: SIM118
    return insert.on_conflict_do_nothing()  # type: ignore[no-any-return]


def _drop_dictionaries() -> ClauseElement:
    """Only those whose id ends the codec of no row: "columns1+zstd:7"."""
    suffix: ColumnElement[str] = literal_column("'%:'") + cast(dictionary.c.id, Text)
    needed = exists(literal_column("1")).select_from(entry).where(entry.c.codec.like(suffix))
    return delete(dictionary).where(~needed)


def _upsert_trace(dialect: Dialect) -> ClauseElement:
    insert = dialect.insert(trace).values({name: bindparam(name) for name in trace.c.keys()})  # noqa: SIM118 - columns
    found = {name: insert.excluded[name] for name in trace.c.keys()[3:]}
    return insert.on_conflict_do_update(index_elements=[trace.c.run, trace.c.chain, trace.c.step], set_=found)  # type: ignore[no-any-return]


def _upsert_info(dialect: Dialect) -> ClauseElement:
    insert = dialect.insert(info).values(name=bindparam("name"), value=bindparam("value"))
    return insert.on_conflict_do_update(index_elements=[info.c.name], set_={"value": insert.excluded.value})  # type: ignore[no-any-return]


def source() -> str:
    """Text of the module `compiled`."""
    lines = [
        '"""The statements of `core` as text; `python -m ampstore.backend.core` writes this file."""',
        "",
        "from typing import Any",
    ]
    from ampstore.backend.core_postgresql import for_postgresql, for_server

    dialects: dict[str, Any] = {"SQLITE": for_sqlite(), "POSTGRESQL": for_postgresql(), "SERVER": for_server()}
    for name, statements in ((name, vars(dialect)) for name, dialect in dialects.items()):
        lines += ["", f"{name}: dict[str, Any] = {{"]
        lines += [f'    "{field}": {_literal(text)},' for field, text in statements.items()]
        lines += ["}"]
    return "\n".join(lines) + "\n"


def _literal(text: str | dict[int, str]) -> str:
    if isinstance(text, dict):
        return "{" + ", ".join(f"{count}: {_literal(one)}" for count, one in text.items()) + "}"
    flat = " ".join(text.split())
    for count in GROUP_SIZES:
        before, keys, after = flat.partition(f"({', '.join('?' * count)})")
        if keys:
            return f"""{before + "(?"!r} + {count - 1} * ", ?" + {")" + after!r}"""
    return repr(flat)


if __name__ == "__main__":
    Path(__file__).with_name("compiled.py").write_text(source())
