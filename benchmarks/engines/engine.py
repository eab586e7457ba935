"""What every engine can do, with defaults that suit anything like a dict.

Peers are imported when they are opened, so that the first get in a new process pays for its own
imports only, and so that a peer that is not installed is left out. `differs` says what an engine
gives or takes that the others do not: the numbers mean little without it.
"""

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

Pairs = Iterable[tuple[str, object]]

NORMAL = "normal"
FSYNC = "fsync per commit"
NONE = "none"


class Engine:
    """A mapping from text to values in the directory `path`.

    Attributes
    ----------
    name, distribution, durability, differs : str
        What to call it, the package that holds it, what survives a power cut, what is not equal.
    module : str
        Without this module it is not there.
    most : dict of str to int
        Operations of which only so many are timed, because each costs as much as a scan.
    cannot : frozenset of str
        Operations that it does not offer.
    readonly : bool
        It is filled once, untimed, and never written.
    is_peer : bool
        It is not ampstore in another form.
    group, threads : int
        Entries to a commit, and threads to a process, where many write.
    """

    name = ""
    distribution = ""
    module = "os"
    durability = NORMAL
    differs = ""
    most: ClassVar[dict[str, int]] = {}
    cannot: ClassVar[frozenset[str]] = frozenset()
    readonly = False
    is_peer = True
    group = 1
    threads = 1
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

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that are not there; a loop where an engine has nothing for many."""
        return [key for key in keys if not self.contains(key)]

    def count(self) -> int:
        return len(self.db)

    def keys(self) -> list[str]:
        return list(self.db)

    def items(self) -> Iterator[tuple[str, object]]:
        return iter(self.db.items())

    def delete(self, key: str) -> None:
        del self.db[key]

    def close(self) -> None:
        self.db.close()


class Pickled(Engine):
    """An engine that stores bytes, so that its users pickle: protocol 5, no compression, no checksum."""

    @staticmethod
    def dumps(value: object) -> bytes:
        return pickle.dumps(value, 5)

    loads = staticmethod(pickle.loads)


class Numbered(Pickled):
    """An engine that names an entry itself. Which key has which name is a dict here, a file while it is closed.

    What the dict answers is not timed, for it would be no merit of the engine. A get still finds its name there
    for nothing, which favours it: a program has to keep such an index as safe as the entries.
    """

    cannot: ClassVar[frozenset[str]] = frozenset({"contains", "missing", "len", "keys"})

    path: str
    names: dict[str, Any]

    def open(self, path: str) -> None:
        self.path = path
        try:
            with open(f"{path}/names.pickle", "rb") as file:
                self.names = pickle.load(file)
        except FileNotFoundError:
            self.names = {}

    def contains(self, key: str) -> bool:
        return key in self.names

    def count(self) -> int:
        return len(self.names)

    def keys(self) -> list[str]:
        return list(self.names)

    def items(self) -> Iterator[tuple[str, object]]:
        return ((key, self.get(key)) for key in self.names)

    def close(self) -> None:
        with open(f"{self.path}/names.pickle", "wb") as file:
            pickle.dump(self.names, file)


def files_of(path: str) -> list[str]:
    """Every file below a directory."""
    return [os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files]


def size_on_disk(path: str) -> int:
    """Bytes that a directory occupies: whole blocks, so that many small files cost what they cost."""
    return sum(os.stat(file).st_blocks for file in files_of(path)) * 512


def drop_from_page_cache(path: str) -> None:
    """Make the next read of the files come from the disk, as far as a program without privileges can.

    Directories, inodes and the cache of the disk itself stay as they are. Pages that a process has
    mapped stay too, so an engine is closed before.
    """
    for file in files_of(path):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # dirty pages are not dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
