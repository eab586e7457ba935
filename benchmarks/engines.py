"""One adapter per engine, all with the same few methods, each used the way its own documentation shows.

Peers are imported when they are opened, so that the first get in a new process pays for its own
imports only, and so that a peer that is not installed is left out. `differs` says what an engine
gives or takes that the others do not: the numbers mean little without it.
"""

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, ClassVar

Pairs = Iterable[tuple[str, object]]

NORMAL = "normal"
FSYNC = "fsync per commit"
NONE = "none"

_MAP_SIZE = 16 << 30


class Engine:
    """A mapping from text to values in the directory `path`; the defaults suit anything like a dict.

    Attributes
    ----------
    name, distribution, durability, differs : str
        What to call it, the package that holds it, what survives a power cut, what is not equal.
    most : dict of str to int
        Operations of which only so many are timed, because each costs as much as a scan.
    readonly : bool
        It is filled once, untimed, and never written.
    is_peer : bool
        It is not ampstore in another form.
    """

    name = ""
    distribution = ""
    durability = NORMAL
    differs = ""
    most: ClassVar[dict[str, int]] = {}
    readonly = False
    is_peer = True
    db: Any

    def open(self, path: str) -> None:
        raise NotImplementedError

    def get(self, key: str) -> object:
        return self.db[key]

    def put(self, key: str, value: object) -> None:
        self.db[key] = value

    def put_many(self, pairs: Pairs) -> None:
        self.db.update(pairs)

    def contains(self, key: str) -> bool:
        return key in self.db

    def keys(self) -> list[str]:
        return list(self.db)

    def items(self) -> Iterator[tuple[str, object]]:
        return iter(self.db.items())

    def delete(self, key: str) -> None:
        del self.db[key]

    def close(self) -> None:
        self.db.close()


class Ampstore(Engine):
    """A store in one file, as `ampstore.store.Store` opens it."""

    name = "ampstore"
    distribution = "ampstore"
    is_peer = False
    differs = "zstd, checksum and allow-list at every read, an unchanged value is not written again"

    def open(self, path: str) -> None:
        self.db = import_module("ampstore.store").Store(f"{path}/store.db", durability="normal")

    def put_many(self, pairs: Pairs) -> None:
        self.db.put_many(pairs)


class AmpstoreFull(Ampstore):
    """The same with an fsync per commit. Its reads are those of ampstore, so they show the noise."""

    name = "ampstore, full"
    durability = FSYNC
    differs = "as ampstore; to be set beside the other engines that fsync"

    def open(self, path: str) -> None:
        self.db = import_module("ampstore.store").Store(f"{path}/store.db", durability="full")


class Container(Ampstore):
    """The database of Amp programs on a store."""

    name = "FileDatabase"
    differs = "as ampstore; looks for files of legacy programs at every access; 64 MB cache of decompressed values"

    def open(self, path: str) -> None:
        is_new = not os.listdir(path)
        self.db = import_module("ampstore.database").FileDatabase(f"{path}/values")
        if is_new:  # it makes its store at the first write, the others when they are opened
            self.db["first"] = None
            del self.db["first"]

    def put_many(self, pairs: Pairs) -> None:
        self.db.update(dict(pairs))


class Minimal(Engine):
    """The least that any store on SQLite has to do; what ampstore and others add is measured against it."""

    name = "sqlite3 loop"
    distribution = "python"
    differs = "hand-written: pickle 5, no compression, no checksum, runs any code in a pickle"
    _table = "CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, payload BLOB)"
    _upsert = (
        "INSERT INTO entry (key, payload) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET payload = excluded.payload"
    )

    def open(self, path: str) -> None:
        pickle = import_module("pickle")
        self.dumps, self.loads = pickle.dumps, pickle.loads
        self.db = import_module("sqlite3").connect(f"{path}/store.db", isolation_level=None)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", self._table):
            self.db.execute(statement)

    def get(self, key: str) -> object:
        row = self.db.execute("SELECT payload FROM entry WHERE key = ?", (key,)).fetchone()
        return self.loads(row[0])

    def put(self, key: str, value: object) -> None:
        self.db.execute(self._upsert, (key, self.dumps(value, 5)))

    def put_many(self, pairs: Pairs) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(self._upsert, ((key, self.dumps(value, 5)) for key, value in pairs))
        self.db.execute("COMMIT")

    def contains(self, key: str) -> bool:
        return self.db.execute("SELECT 1 FROM entry WHERE key = ?", (key,)).fetchone() is not None

    def keys(self) -> list[str]:
        return [key for (key,) in self.db.execute("SELECT key FROM entry")]

    def items(self) -> Iterator[tuple[str, object]]:
        return ((key, self.loads(payload)) for key, payload in self.db.execute("SELECT key, payload FROM entry"))

    def delete(self, key: str) -> None:
        self.db.execute("DELETE FROM entry WHERE key = ?", (key,))


class Shelve(Engine):
    """The standard library on one of its dbm modules."""

    module = ""
    distribution = "python"

    def open(self, path: str) -> None:
        file = import_module(self.module).open(f"{path}/shelf", "c")
        self.db = import_module("shelve").Shelf(file)


class ShelveGnu(Shelve):
    """A hash file of gdbm."""

    name, module, durability = "shelve, gnu", "dbm.gnu", NONE
    differs = "a crash while writing may damage the file; one writer at a time, readers shut out"


class ShelveNdbm(Shelve):
    """Whatever the system has as ndbm."""

    name, module, durability = "shelve, ndbm", "dbm.ndbm", NONE
    differs = "a crash while writing may damage the file; values of any size only where ndbm is gdbm or Berkeley DB"


class ShelveSqlite(Shelve):
    """SQLite as the standard library uses it, from Python 3.13 on."""

    name, module, durability = "shelve, sqlite3", "dbm.sqlite3", FSYNC
    differs = "bulk set commits every entry"


class ShelveDumb(Shelve):
    """The dbm module that is always there."""

    name, module, durability = "shelve, dumb", "dbm.dumb", NONE
    differs = "index in memory and on disk at close, so an overwrite may be lost at a crash; one process"


class Sqlitedict(Engine):
    """sqlitedict in WAL mode."""

    name = distribution = "sqlitedict"
    durability = NONE
    differs = "sets synchronous=OFF itself; autocommit, in bulk set too; all SQL through a thread"

    def open(self, path: str) -> None:
        connect = import_module("sqlitedict").SqliteDict
        self.db = connect(f"{path}/store.db", journal_mode="WAL", autocommit=True)


class Diskcache(Engine):
    """diskcache as a store that forgets nothing."""

    name = distribution = "diskcache"
    differs = "eviction off; values from 32 kB on are files of their own; keeps access statistics columns"

    def open(self, path: str) -> None:
        self.db = import_module("diskcache").Cache(path, eviction_policy="none", cull_limit=0)

    def put_many(self, pairs: Pairs) -> None:
        with self.db.transact():
            for key, value in pairs:
                self.db[key] = value

    def items(self) -> Iterator[tuple[str, object]]:
        return ((key, self.db[key]) for key in self.db)


class Lmdb(Engine):
    """LMDB by hand, a transaction for each access."""

    name, distribution = "LMDB", "lmdb"
    durability = FSYNC
    differs = "size limit fixed at opening; pickle 5, no compression, no checksum; keys up to 511 bytes"
    sync = True

    def open(self, path: str) -> None:
        pickle = import_module("pickle")
        self.dumps, self.loads = pickle.dumps, pickle.loads
        self.db = import_module("lmdb").open(path, map_size=_MAP_SIZE, sync=self.sync)

    def get(self, key: str) -> object:
        with self.db.begin() as transaction:
            return self.loads(transaction.get(key.encode()))

    def put(self, key: str, value: object) -> None:
        self.put_many([(key, value)])

    def put_many(self, pairs: Pairs) -> None:
        with self.db.begin(write=True) as transaction:
            for key, value in pairs:
                transaction.put(key.encode(), self.dumps(value, 5))

    def contains(self, key: str) -> bool:
        with self.db.begin() as transaction:
            return transaction.get(key.encode()) is not None

    def keys(self) -> list[str]:
        with self.db.begin() as transaction:
            return [key.decode() for key in transaction.cursor().iternext(values=False)]

    def items(self) -> Iterator[tuple[str, object]]:
        with self.db.begin() as transaction:
            for key, payload in transaction.cursor():
                yield key.decode(), self.loads(payload)

    def delete(self, key: str) -> None:
        with self.db.begin(write=True) as transaction:
            transaction.delete(key.encode())


class LmdbNoSync(Lmdb):
    """The same without fsync."""

    name = "LMDB, no sync"
    durability = NONE
    differs = "as LMDB, but a power cut may damage the whole file, not only lose the last entries"
    sync = False


class LegacyLoose(Engine):
    """`loose/` as Amp writes and reads it: no lock, no temporary file, the listing for a membership test."""

    name = "legacy loose"
    durability = NONE
    differs = "pickle 0; a crash tears the file; contains lists the directory, as Amp does"
    most: ClassVar = {"contains": 100}

    def open(self, path: str) -> None:
        self.pickle = import_module("pickle")
        self.directory = f"{path}/values.ampdb/loose"
        os.makedirs(self.directory, exist_ok=True)

    def get(self, key: str) -> object:
        with open(f"{self.directory}/{key}", "rb") as file:
            return self.pickle.load(file)

    def put(self, key: str, value: object) -> None:
        if os.path.exists(f"{self.directory}/{key}") and self._pickled(self.get(key)) == self._pickled(value):
            return
        with open(f"{self.directory}/{key}", "wb") as file:
            self.pickle.dump(value, file, protocol=0)

    def _pickled(self, value: object) -> bytes:
        return bytes(self.pickle.dumps(value, protocol=0))

    def put_many(self, pairs: Pairs) -> None:
        for key, value in pairs:
            self.put(key, value)

    def contains(self, key: str) -> bool:
        return key in self.keys()

    def keys(self) -> list[str]:
        return os.listdir(self.directory)

    def items(self) -> Iterator[tuple[str, object]]:
        return ((key, self.get(key)) for key in self.keys())

    def delete(self, key: str) -> None:
        os.unlink(f"{self.directory}/{key}")

    def close(self) -> None:
        """Nothing is open."""


class LegacyArchive(LegacyLoose):
    """`archive.tar.gz`: every read decompresses from the start, because gzip has no index."""

    name = "legacy archive"
    differs = "read only; every access scans the tar.gz from the start, so one is timed; items not at all"
    most: ClassVar = {"get": 1, "contains": 1, "keys": 1, "items": 0}
    readonly = True

    def open(self, path: str) -> None:
        self.pickle = import_module("pickle")
        self.tar = import_module("tarfile").open
        self.archive = f"{path}/values.ampdb/archive.tar.gz"

    def get(self, key: str) -> object:
        with self.tar(self.archive) as tar:
            return self.pickle.load(tar.extractfile(key))

    def keys(self) -> list[str]:
        with self.tar(self.archive) as tar:
            return list(tar.getnames())

    def put_many(self, pairs: Pairs) -> None:
        """Pack them, as archive() of Amp does; once, outside the timing."""
        tarfile, io = import_module("tarfile"), import_module("io")
        os.makedirs(os.path.dirname(self.archive), exist_ok=True)
        with self.tar(self.archive, "w:gz") as tar:
            for key, value in pairs:
                member, data = tarfile.TarInfo(key), self._pickled(value)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (
        Ampstore, Container, AmpstoreFull, Minimal, ShelveGnu, ShelveNdbm, ShelveSqlite, ShelveDumb,
        Sqlitedict, Diskcache, Lmdb, LmdbNoSync, LegacyLoose, LegacyArchive,
    )
}  # fmt: skip

_NEEDS = {"FileDatabase": "ampstore.database", "sqlitedict": "sqlitedict", "diskcache": "diskcache"}
_NEEDS |= {"LMDB": "lmdb", "LMDB, no sync": "lmdb"}


def present() -> dict[str, type[Engine]]:
    """Engines whose modules are installed."""
    return {name: engine for name, engine in ENGINES.items() if _is_there(_module(name, engine))}


def _module(name: str, engine: type[Engine]) -> str:
    return engine.module if issubclass(engine, Shelve) else _NEEDS.get(name, "os")


def _is_there(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def opened(name: str, path: str) -> Engine:
    """Open an engine, by its name, in a directory that exists."""
    engine = ENGINES[name]()
    engine.open(path)
    return engine


def size_on_disk(path: str) -> int:
    """Bytes that a directory occupies: whole blocks, so that many small files cost what they cost."""
    found = (os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files)
    return sum(os.stat(file).st_blocks for file in found) * 512
