"""Engines that make a file or a directory of every entry, or of some, and two that cache function calls so."""

from collections.abc import Iterator
from importlib import import_module

from benchmarks.engines.engine import FSYNC, NONE, Engine, Numbered, Pairs, Pickled


class Zict(Engine):
    """A file per value, pickled on the way."""

    name, distribution, module = "zict.File", "zict", "zict"
    durability = NONE
    differs = "pickle 5; index in memory, made at opening; a crash tears the file; one process"

    def open(self, path: str) -> None:
        zict = import_module("zict")
        self.db = zict.Func(Pickled.dumps, Pickled.loads, zict.File(f"{path}/values"))

    def close(self) -> None:
        """Nothing is open."""


class Klepto(Engine):
    """klepto's archive of a directory per entry."""

    name, distribution, module = "klepto", "klepto", "klepto.archives"
    durability = NONE
    differs = "dir_archive, uncached, serialized by dill; a directory per entry; a crash tears the file"

    def open(self, path: str) -> None:
        self.db = import_module(self.module).dir_archive(f"{path}/values", {}, serialized=True, cached=False)

    def delete(self, key: str) -> None:
        self.db.pop(key)

    def close(self) -> None:
        """Nothing is open."""


class Joblib(Engine):
    """A function from key to value, whose results joblib keeps."""

    name, distribution, module = "joblib.Memory", "joblib", "joblib"
    durability = NONE
    cannot = frozenset({"keys", "items", "len"})
    differs = "memory of function calls, not a mapping: a get hashes the argument; cannot list its keys"

    def open(self, path: str) -> None:
        self.given: dict[str, object] = {}

        # A new function for each directory: joblib notes the code of one only once in a process, and
        # a directory without that note counts as out of date.
        def value_of(key: str, given: dict[str, object]) -> object:
            return given[key]

        self.db = import_module("joblib").Memory(path, verbose=0).cache(value_of, ignore=["given"])

    def get(self, key: str) -> object:
        return self.db(key, self.given)

    def put(self, key: str, value: object) -> None:
        if self.contains(key):
            self.delete(key)
        self.db(key, {key: value})

    def put_many(self, pairs: Pairs) -> None:
        for key, value in pairs:
            self.db(key, {key: value})

    def contains(self, key: str) -> bool:
        return bool(self.db.check_call_in_cache(key, self.given))

    def delete(self, key: str) -> None:
        self.db.call_and_shelve(key, self.given).clear()

    def close(self) -> None:
        """Nothing is open."""


class ObjectStore(Numbered):
    """The object store of AiiDA: loose files first, packs for many."""

    name, distribution, module = "disk-objectstore", "disk-objectstore", "disk_objectstore"
    durability = FSYNC
    differs = (
        "names an object by its digest: the adapter keeps key to digest, unsynced; an overwritten object stays; "
        "a set is a file, a bulk set a pack without compression"
    )

    def open(self, path: str) -> None:
        super().open(path)
        self.db = import_module("disk_objectstore").Container(f"{path}/container")
        if not self.db.is_initialised:
            self.db.init_container()

    def get(self, key: str) -> object:
        return self.loads(self.db.get_object_content(self.names[key]))

    def put(self, key: str, value: object) -> None:
        self.names[key] = self.db.add_object(self.dumps(value))

    def put_many(self, pairs: Pairs) -> None:
        keys, contents = zip(*((key, self.dumps(value)) for key, value in pairs), strict=True)
        self.names.update(zip(keys, self.db.add_objects_to_pack(list(contents)), strict=True))

    def delete(self, key: str) -> None:
        self.db.delete_objects([self.names.pop(key)])

    def close(self) -> None:
        super().close()
        self.db.close()


class _Bytes(Pickled):
    """A library for arrays, used for pickles: an array of bytes per entry."""

    def get(self, key: str) -> object:
        return self.loads(self.db[key][:].tobytes())

    def put_many(self, pairs: Pairs) -> None:
        for key, value in pairs:
            self.put(key, value)

    def items(self) -> Iterator[tuple[str, object]]:
        return ((key, self.get(key)) for key in self.keys())

    def _array(self, value: object) -> object:
        return import_module("numpy").frombuffer(self.dumps(value), "u1")


class H5py(_Bytes):
    """A dataset per entry in one HDF5 file."""

    name = distribution = module = "h5py"
    durability = NONE
    differs = "pickles as datasets of bytes, uncompressed; flush per set; a crash may damage the file; one writer"

    def open(self, path: str) -> None:
        self.db = import_module("h5py").File(f"{path}/store.h5", "a")

    def put(self, key: str, value: object) -> None:
        if key in self.db:
            del self.db[key]
        self.db[key] = self._array(value)
        self.db.flush()

    def put_many(self, pairs: Pairs) -> None:
        for key, value in pairs:
            self.db[key] = self._array(value)
        self.db.flush()


class Zarr(_Bytes):
    """An array per entry in a zarr group."""

    name = distribution = module = "zarr"
    durability = NONE
    differs = "pickles as arrays of bytes, zstd by default; a directory per entry; every access runs an event loop"

    def open(self, path: str) -> None:
        self.db = import_module("zarr").open_group(f"{path}/store.zarr", mode="a")

    def put(self, key: str, value: object) -> None:
        self.db.create_array(key, data=self._array(value), overwrite=True)

    def keys(self) -> list[str]:
        return list(self.db.keys())

    def close(self) -> None:
        """Nothing is open."""
