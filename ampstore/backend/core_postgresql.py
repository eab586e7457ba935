"""SQL that only PostgreSQL has, and where its statements differ from SQLite's; see `core`."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    MetaData,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.expression import ClauseElement

from ampstore.backend.core import ENTRY, Dialect, compiler, lease_from_now, replacing, span_of_ids, statements_of
from ampstore.backend.statements import CHUNK_BYTES, CHUNK_ROWS, GROUP_SIZES, ServerStatements, Statements
from ampstore.tables import claim, entry, info


def for_postgresql() -> Statements:
    """Statements in the dialect of PostgreSQL, for psycopg."""
    groups = {GROUP_SIZES[-1]: (lambda key: key == any_(_keys()), ["keys"])}
    return statements_of(Dialect(_compiler(), postgresql.insert, (_gate(), ("gate",)), groups, _chunk))  # type: ignore[arg-type]


def for_server() -> ServerStatements:
    """Statements that only PostgreSQL has."""
    text = _compiler()
    staged = staging.c
    columns = [staged[name] for name in ENTRY]
    insert = postgresql.insert(entry).from_select(ENTRY, select(*columns).order_by(staged.position))
    return ServerStatements(
        unstage=text(replacing(insert)),
        entries=text(_chunk(select(entry).where(span_of_ids()).order_by(entry.c.id)), "after", "last"),
        claims_free=text(_claim_all_free(), "owner", "lease", "keys"),
        claims_over=text(_take_all_over(), *_WANTED, "new", "lease"),
        touch=text(update(info).values(value=info.c.value).where(info.c.name == literal_column("'store'"))),
    )


def _compiler() -> Any:
    return compiler(postgresql.dialect(paramstyle="format"))  # type: ignore[no-untyped-call]


staging = Table(
    "ampstore_staging",  # a temporary table of one session: see ampstore.backend.postgresql
    MetaData(),
    Column("position", BigInteger),
    *(Column(name, entry.c[name].type) for name in ENTRY),
)


def _gate() -> ColumnElement[bool]:
    """Wait while a transaction of `Store.batch` has the store for itself, and keep the next one waiting."""
    return select(func.pg_advisory_xact_lock_shared(bindparam("gate"))).scalar_subquery().is_not(None)


def _chunk(statement: Any) -> Any:
    """The first rows of a selection: `CHUNK_ROWS` of them, or those that begin within `CHUNK_BYTES` of payload.

    The lengths come from the pointers to the payloads, which are not read for that.
    """
    some = statement.limit(literal_column(str(CHUNK_ROWS)))
    if "payload" not in some.selected_columns:
        return some
    some = some.subquery("some")
    length = func.octet_length(some.c.payload)
    total = func.sum(length).over(order_by=some.c.id, rows=(None, 0))
    counted = select(*some.c, (total - length).label("before")).subquery("counted")
    wanted = [column for column in counted.c if column.name != "before"]
    return select(*wanted).where(counted.c.before < literal_column(str(CHUNK_BYTES))).order_by(counted.c.id)


def _keys() -> Any:
    return bindparam("keys", type_=postgresql.ARRAY(Text))


def _claim_all_free() -> ClauseElement:
    """Claim those keys that nobody has claimed. In order of the keys, so that two who do it never wait in a ring."""
    wanted = func.unnest(cast(_keys(), postgresql.ARRAY(Text))).table_valued("key").render_derived(name="wanted")
    rows = select(wanted.c.key, bindparam("owner", type_=Text()), literal_column("1"), lease_from_now())
    insert = postgresql.insert(claim).from_select(
        ["key", "owner", "token", "expires_at"], rows.order_by(wanted.c.key.collate("C"))
    )
    return insert.on_conflict_do_nothing().returning(claim.c.key)


_WANTED = ("keys", "owners", "tokens", "expiries")


def _take_all_over() -> ClauseElement:
    """Take claims over that still are as they were read; those that somebody else is taking now are skipped."""
    kinds = (Text, Text, BigInteger, Float(53))
    arrays: list[Any] = [
        cast(bindparam(name, type_=postgresql.ARRAY(kind)), postgresql.ARRAY(kind))  # type: ignore[arg-type]
        for name, kind in zip(_WANTED, kinds, strict=True)
    ]
    was = func.unnest(*arrays).table_valued("key", "owner", "token", "expires_at").render_derived(name="was")
    same = and_(*(claim.c[name] == was.c[name] for name in ("key", "owner", "token", "expires_at")))
    free = (
        select(claim.c.key).select_from(claim).join(was, same).with_for_update(skip_locked=True, of=claim).cte("free")
    )
    return (
        update(claim)
        .values(owner=bindparam("new"), token=claim.c.token + literal_column("1"), expires_at=lease_from_now())
        .where(claim.c.key == free.c.key)
        .returning(claim.c.key, claim.c.token)
    )
