"""ampstore in its forms."""

import os
from collections.abc import Sequence
from importlib import import_module

from benchmarks.engines.engine import FSYNC, Engine, Pairs


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

    def missing(self, keys: Sequence[str]) -> list[str]:
        return list(self.db.missing(keys))


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
    module = "ampstore.database"
    differs = "as ampstore; looks for files of legacy programs at every access; 64 MB cache of decompressed values"

    def open(self, path: str) -> None:
        is_new = not os.listdir(path)
        self.db = import_module("ampstore.database").FileDatabase(f"{path}/values")
        if is_new:  # it makes its store at the first write, the others when they are opened
            self.db["first"] = None
            del self.db["first"]

    def put_many(self, pairs: Pairs) -> None:
        self.db.update(dict(pairs))
