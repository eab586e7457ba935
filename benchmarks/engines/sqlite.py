"""Engines on SQLite: by hand, by way of an object-relational mapper, and those that are packages."""

import operator
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from benchmarks.engines.engine import NONE, Engine, Pairs, Pickled


class Minimal(Pickled):
    """The least that any store on SQLite has to do; what ampstore and others add is measured against it."""

    name = "sqlite3 loop"
    distribution = "python"
    differs = "hand-written: pickle 5, no compression, no checksum, runs any code in a pickle"
    _table = "CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, payload BLOB)"
    _upsert = (
        "INSERT INTO entry (key, payload) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET payload = excluded.payload"
    )

    def open(self, path: str) -> None:
        self.db = import_module("sqlite3").connect(f"{path}/store.db", isolation_level=None)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", self._table):
            self.db.execute(statement)

    def get(self, key: str) -> object:
        row = self.db.execute("SELECT payload FROM entry WHERE key = ?", (key,)).fetchone()
        return self.loads(row[0])

    def put(self, key: str, value: object) -> None:
        self.db.execute(self._upsert, (key, self.dumps(value)))

    def put_many(self, pairs: Pairs) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(self._upsert, ((key, self.dumps(value)) for key, value in pairs))
        self.db.execute("COMMIT")

    def contains(self, key: str) -> bool:
        return self.db.execute("SELECT 1 FROM entry WHERE key = ?", (key,)).fetchone() is not None

    def count(self) -> int:
        return int(self.db.execute("SELECT count(*) FROM entry").fetchone()[0])

    def keys(self) -> list[str]:
        return [key for (key,) in self.db.execute("SELECT key FROM entry")]

    def items(self) -> Iterator[tuple[str, object]]:
        return ((key, self.loads(payload)) for key, payload in self.db.execute("SELECT key, payload FROM entry"))

    def delete(self, key: str) -> None:
        self.db.execute("DELETE FROM entry WHERE key = ?", (key,))


class Orm(Engine):
    """A mapped class, as the tutorial of SQLAlchemy shows it."""

    name, distribution, module = "SQLAlchemy ORM", "sqlalchemy", "sqlalchemy"
    differs = "as the tutorial shows: a mapped class with PickleType, a session per access"

    def open(self, path: str) -> None:
        sql, orm = import_module("sqlalchemy"), import_module("sqlalchemy.orm")
        base = orm.declarative_base()
        pickled = sql.PickleType(comparator=operator.is_)  # == of arrays is no bool
        columns = {"key": sql.Column(sql.String, primary_key=True), "value": sql.Column(pickled)}
        self.entry: Any = type("Entry", (base,), {"__tablename__": "entry", **columns})
        self.db, self.select = sql.create_engine(f"sqlite:///{path}/store.db"), sql.select
        sql.event.listen(self.db, "connect", _write_ahead)
        base.metadata.create_all(self.db)
        self.session = orm.sessionmaker(self.db)

    def get(self, key: str) -> object:
        with self.session() as session:
            return session.get(self.entry, key).value

    def put_many(self, pairs: Pairs) -> None:
        with self.session.begin() as session:
            for key, value in pairs:
                session.merge(self.entry(key=key, value=value))

    def put(self, key: str, value: object) -> None:
        self.put_many([(key, value)])

    def contains(self, key: str) -> bool:
        with self.session() as session:
            return session.get(self.entry, key) is not None

    def count(self) -> int:
        with self.session() as session:
            return int(session.query(self.entry).count())

    def keys(self) -> list[str]:
        with self.session() as session:
            return list(session.scalars(self.select(self.entry.key)))

    def items(self) -> Iterator[tuple[str, object]]:
        with self.session() as session:
            for entry in session.scalars(self.select(self.entry)):
                yield entry.key, entry.value

    def delete(self, key: str) -> None:
        with self.session.begin() as session:
            session.delete(session.get(self.entry, key))

    def close(self) -> None:
        self.db.dispose()


def _write_ahead(connection: Any, _record: object) -> None:
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL"):
        connection.execute(statement)


class Sqlitedict(Engine):
    """sqlitedict in WAL mode."""

    name = distribution = module = "sqlitedict"
    durability = NONE
    differs = "sets synchronous=OFF itself; autocommit, in bulk set too; all SQL through a thread"

    def open(self, path: str) -> None:
        connect = import_module("sqlitedict").SqliteDict
        self.db = connect(f"{path}/store.db", journal_mode="WAL", autocommit=True)


class Diskcache(Engine):
    """diskcache as a store that forgets nothing."""

    name = distribution = module = "diskcache"
    differs = "eviction off; values from 32 kB on are files of their own; keeps access statistics columns"

    def open(self, path: str) -> None:
        self.db = import_module("diskcache").Cache(path, eviction_policy="none", cull_limit=0)

    def put_many(self, pairs: Pairs) -> None:
        with self.db.transact():
            for key, value in pairs:
                self.db[key] = value

    def items(self) -> Iterator[tuple[str, object]]:
        return ((key, self.db[key]) for key in self.db)


class Fanout(Diskcache):
    """The same in eight files, which is what many writers are advised to use."""

    name = "diskcache, Fanout"
    differs = "as diskcache, in 8 shards, so that writers meet more seldom; len and keys ask all of them"

    def open(self, path: str) -> None:
        self.db = import_module("diskcache").FanoutCache(path, shards=8, eviction_policy="none", cull_limit=0)
