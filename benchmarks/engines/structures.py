"""Databases of atomic structures, used for the values: an empty structure that carries a pickle."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from benchmarks.engines.engine import FSYNC, NORMAL, Numbered, Pairs, Pickled


def _bytes(pickled: bytes) -> Any:
    return import_module("numpy").frombuffer(pickled, "u1")


class AseDb(Pickled):
    """ASE's database in its SQLite form."""

    name, distribution, module = "ase.db", "ase", "ase.db"
    durability = FSYNC
    differs = "rollback journal; a row holds an empty structure, the key as a key-value pair, the pickle as data"

    def open(self, path: str) -> None:
        self.db = import_module("ase.db").connect(f"{path}/store.db")
        self.empty = import_module("ase").Atoms()

    def _id(self, key: str) -> int | None:
        # A value that looks like a number would be refused: a letter goes before the key.
        return next((row.id for row in self.db.select(name=f"k{key}", include_data=False)), None)

    def _write(self, key: str, value: object) -> None:
        data = {"value": _bytes(self.dumps(value))}
        if (number := self._id(key)) is None:
            self.db.write(self.empty, name=f"k{key}", data=data)
        else:
            self.db.update(number, data=data)

    def get(self, key: str) -> object:
        return self.loads(self.db.get(name=f"k{key}").data["value"].tobytes())

    def put(self, key: str, value: object) -> None:
        self._write(key, value)

    def put_many(self, pairs: Pairs) -> None:
        with self.db:
            for key, value in pairs:
                self.db.write(self.empty, name=f"k{key}", data={"value": _bytes(self.dumps(value))})

    def contains(self, key: str) -> bool:
        return self._id(key) is not None

    def count(self) -> int:
        return int(self.db.count())

    def keys(self) -> list[str]:
        return [row.name[1:] for row in self.db.select(include_data=False)]

    def items(self) -> Iterator[tuple[str, object]]:
        return ((row.name[1:], self.loads(row.data["value"].tobytes())) for row in self.db.select())

    def delete(self, key: str) -> None:
        self.db.delete([self._id(key)])

    def close(self) -> None:
        """It connects for each access."""


class AseLmdb(Numbered):
    """ASE's database on LMDB, which large data sets of structures come in."""

    name, distribution, module = "aselmdb", "ase-db-backends", "ase_db_backends.aselmdb"
    durability = FSYNC
    differs = "rows by number: the adapter keeps key to number, since a selection by name is a scan; zlib and JSON"

    def open(self, path: str) -> None:
        super().open(path)
        # Through its class: with no entry point at hand ase.db does not know the suffix.
        self.db = import_module(self.module).LMDBDatabase(f"{path}/store.aselmdb")
        self.empty = import_module("ase").Atoms()

    def get(self, key: str) -> object:
        return self.loads(self.db.get(self.names[key]).data["value"].tobytes())

    def put(self, key: str, value: object) -> None:
        data = {"value": _bytes(self.dumps(value))}
        if key in self.names:
            self.db.update(self.names[key], data=data)
        else:
            self.names[key] = self.db.write(self.empty, data=data)

    def put_many(self, pairs: Pairs) -> None:
        with self.db:
            for key, value in pairs:
                self.put(key, value)

    def delete(self, key: str) -> None:
        self.db.delete([self.names.pop(key)])

    def close(self) -> None:
        super().close()
        self.db.close()


class Atompack(Numbered):
    """Atompack: molecules appended to a file and read by their number."""

    name, distribution, module = "Atompack", "atompack-db", "atompack"
    durability = NORMAL
    cannot = Numbered.cannot | {"overwrite", "delete"}
    differs = (
        "append only, molecules by number: the adapter keeps key to number; the pickle as a property of text, "
        "since an array must have one length in all molecules"
    )

    def open(self, path: str) -> None:
        super().open(path)
        self.atompack, self.file = import_module("atompack"), f"{path}/store.atp"
        if not self.names:
            self.db = self.atompack.Database(self.file, overwrite=True)
            self.db.flush()
        self.db = self.atompack.Database.open(self.file, mmap=False)

    def _molecule(self, value: object) -> Any:
        numpy = import_module("numpy")
        molecule = self.atompack.Molecule.from_arrays(numpy.zeros((1, 3), "f4"), numpy.ones(1, "u1"))
        molecule.set_property("value", self.dumps(value).decode("latin-1"))
        return molecule

    def get(self, key: str) -> object:
        return self.loads(self.db[self.names[key]].get_property("value").encode("latin-1"))

    def put(self, key: str, value: object) -> None:
        self.put_many([(key, value)])

    def put_many(self, pairs: Pairs) -> None:
        keys, molecules = zip(*((key, self._molecule(value)) for key, value in pairs), strict=True)
        first = len(self.db)
        self.db.add_molecules(list(molecules))
        self.db.flush()
        self.names.update((key, first + number) for number, key in enumerate(keys))

    def close(self) -> None:
        super().close()
        del self.db
