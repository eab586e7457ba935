"""Engines on a hash file or a tree of their own: the dbm modules under shelve, LMDB, RocksDB."""

from collections.abc import Iterator
from importlib import import_module

from benchmarks.engines.engine import FSYNC, NONE, Engine, Pairs, Pickled

_MAP_SIZE = 16 << 30


class Shelve(Engine):
    """The standard library on one of its dbm modules."""

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


class Lmdb(Pickled):
    """LMDB by hand, a transaction for each access."""

    name, distribution, module = "LMDB", "lmdb", "lmdb"
    durability = FSYNC
    differs = "size limit fixed at opening; pickle 5, no compression, no checksum; keys up to 511 bytes"
    sync = True

    def open(self, path: str) -> None:
        self.db = import_module("lmdb").open(path, map_size=_MAP_SIZE, sync=self.sync)

    def get(self, key: str) -> object:
        with self.db.begin() as transaction:
            return self.loads(transaction.get(key.encode()))

    def put(self, key: str, value: object) -> None:
        self.put_many([(key, value)])

    def put_many(self, pairs: Pairs) -> None:
        with self.db.begin(write=True) as transaction:
            for key, value in pairs:
                transaction.put(key.encode(), self.dumps(value))

    def contains(self, key: str) -> bool:
        with self.db.begin() as transaction:
            return transaction.get(key.encode()) is not None

    def count(self) -> int:
        return int(self.db.stat()["entries"])

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


class Rocks(Engine):
    """RocksDB as rocksdict wraps it, with its own pickling."""

    name = distribution = module = "rocksdict"
    differs = "one process at a time; compresses blocks on its own; keeps what was written in memory; len is a scan"

    def open(self, path: str) -> None:
        self.db = import_module("rocksdict").Rdict(path)

    def put_many(self, pairs: Pairs) -> None:
        batch = import_module("rocksdict").WriteBatch()
        for key, value in pairs:
            batch.put(key, value)
        self.db.write(batch)

    def count(self) -> int:
        return len(self.keys())

    def keys(self) -> list[str]:
        return list(self.db.keys())
