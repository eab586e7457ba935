"""The layout of Amp: a pickle per entry, or all of them in one tar.gz."""

import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import ClassVar

from benchmarks.engines.engine import NONE, Engine, Pairs


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

    def missing(self, keys: Sequence[str]) -> list[str]:
        """What Amp does before it calculates: one listing."""
        there = set(self.keys())
        return [key for key in keys if key not in there]

    def count(self) -> int:
        return len(self.keys())

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
    most: ClassVar = {"get": 1, "contains": 1, "missing": 1, "len": 1, "keys": 1}
    cannot = frozenset({"items"})
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
