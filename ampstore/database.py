"""Tiers of one `.ampdb` container.

A loose file is a legacy program's write that is not folded in yet, so it wins. Another process may
fold it between our looks, so a miss looks in the store once more.

    get  k --> loose > store > archive > store
    set  k --> fold a loose file of k (commit, then unlink), then store
    del  k --> fold the archive if it has k, then store and loose

The container can be removed at any time by a program that starts afresh under the same name. So
every operation looks whether the store's file is still the one that is open, and never brings
anything back.
"""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Self

from ampstore.backend import Durability
from ampstore.codec import Allowed, Codec
from ampstore.errors import CodecError, LegacyPickleError, MissingStoreError, ReadOnlyError
from ampstore.legacy import Container, container_path
from ampstore.legacy.names import reason_against
from ampstore.store import Damage, Store
from ampstore.transfer import FOLDED, STORE_NAME, Progress, Report, fold, maintenance_lock

log = logging.getLogger(__name__)

CACHE = 64 << 20


class FileDatabase(MutableMapping[str, object]):
    """The database of Amp: a directory `<name>.ampdb`, with the interface of a dictionary.

    Adopts a legacy container in place: what is in `loose/` and `archive.tar.gz` is there at once.
    New values go to the container's store. Any number of threads and processes may use it. A
    database that was closed opens itself again when it is used, as Amp programs expect.

    Parameters
    ----------
    filename : str or path-like
        With or without ".ampdb". The parent directory must exist when something is written.
    flag : {None, "c", "w", "r", "n"}
        Only "r" makes a difference: nothing is written, created or locked. Amp ignores the flag.
    allow, timeout, durability
        As in `Store`.
    cache : int
        Bytes of decompressed values kept in memory; writes of other processes are noticed.

    Notes
    -----
    `keys` and `values` are lists, as in Amp; `in` costs the same however many entries there are.
    """

    def __init__(
        self,
        filename: str | os.PathLike[str],
        flag: str | None = None,
        *,
        allow: Allowed = (),
        timeout: float = 30.0,
        durability: Durability = "normal",
        cache: int = CACHE,
    ) -> None:
        self.path = container_path(filename)
        self.readonly = flag == "r"
        self._allow = allow if isinstance(allow, str) else tuple(allow)
        self._options = {"timeout": timeout, "durability": durability, "cache": cache}
        self._codec = Codec(self._allow)
        self._tiers = Container(self.path)
        self._file = str(self.path / STORE_NAME)
        self._store: Store | None = None
        self._identity: tuple[int, int] | None = None

    @classmethod
    def open(cls, filename: str | os.PathLike[str], flag: str | None = None) -> Self:
        """Open a database; of the flags only "r" makes a difference."""
        return cls(filename, flag)

    def __repr__(self) -> str:
        return f"FileDatabase({str(self.path)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        flag = "r" if self.readonly else None
        return _reopen, (str(self.path), flag, self._allow, self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; the next use opens it again."""
        store, self._store, self._identity = self._store, None, None
        if store:
            store.close()

    # -- the store tier ------------------------------------------------------------------------

    def _existing(self) -> Store | None:
        """The store, None if the container has none (any more)."""
        try:
            found = os.stat(self._file)
        except (FileNotFoundError, NotADirectoryError):
            self.close()
            return None
        identity = (found.st_dev, found.st_ino)
        if self._store is None or identity != self._identity:
            self.close()
            self._store = self._open("r" if self.readonly else "w")
            self._identity = identity
        return self._store

    def _writable(self) -> Store:
        """The store, made if there is none."""
        if self.readonly:
            raise ReadOnlyError(str(self.path))
        store = self._existing()
        if store is None:
            if not self.path.parent.is_dir():
                raise MissingStoreError(str(self.path), f"there is no directory {self.path.parent}; create it first")
            (self.path / "loose").mkdir(parents=True, exist_ok=True)
            store = self._store = self._open("c")
            found = os.stat(self._file)
            self._identity = (found.st_dev, found.st_ino)
        return store

    def _open(self, flag: str) -> Store:
        return Store(self._file, flag, allow=self._allow, **self._options)  # type: ignore[arg-type]

    def _archive_counts(self, store: Store | None) -> bool:
        """Whether the archive holds anything that the store has not taken over."""
        if not self._tiers.archive.size():
            return False
        return store is None or store.noted(FOLDED) != self._tiers.archive.signature()

    # -- one entry -----------------------------------------------------------------------------

    def __getitem__(self, key: str) -> object:
        problem: CodecError | None = None
        if isinstance(key, str) and not reason_against(key):
            try:
                if found := self._tiers.loose.load(key, self._codec.rule):
                    return found[0]
            except LegacyPickleError as err:
                problem = err
        try:
            value = self._from_below(key)
        except KeyError:
            if problem:
                raise problem from None
            raise
        if problem:
            log.warning("%s: %s; returning the older value from the tier below", self.path, problem)
        return value

    def _from_below(self, key: str) -> object:
        """Value from the store, the archive, or the store once more."""
        store = self._existing()
        if store:
            with contextlib.suppress(KeyError):
                return store[key]
        if self._archive_counts(store) and isinstance(key, str):
            data = self._tiers.archive.read(key)
            if data is not None:
                return self._codec.load_legacy(key, data)
        store = self._existing()
        if store is None:
            raise KeyError(key)
        return store[key]

    def __setitem__(self, key: str, value: object) -> None:
        store = self._writable()
        torn = self._fold_loose(store, key)
        store[key] = value
        if torn:
            self._tiers.loose.remove(key)

    def _fold_loose(self, store: Store, key: str) -> bool:
        """Bring a loose file of this key into the store; True if it holds no value and may go."""
        if not isinstance(key, str) or reason_against(key) or self._tiers.loose.stamp(key) is None:
            return False
        try:
            found = self._tiers.loose.load(key, self._codec.rule)
        except CodecError as err:
            log.warning("%s: replacing a loose file that holds no value: %s", self.path, err)
            return True
        if found:
            store[key] = found[0]
            self._tiers.loose.remove_unchanged(key, found[1])
        return False

    def __delitem__(self, key: str) -> None:
        if self.readonly:
            raise ReadOnlyError(str(self.path))
        if key not in self:
            raise KeyError(key)
        store = self._writable()
        # Archive first, loose last: any other order could show an older value again.
        if self._archive_counts(store) and key in self._tiers.archive:
            self._fold(loose=False, remove=False)
        with contextlib.suppress(KeyError):
            del store[key]
        if not reason_against(key):
            self._tiers.loose.remove(key)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        if not reason_against(key) and self._tiers.loose.holds_entry(key, self._codec.rule):
            return True
        store = self._existing()
        if store and key in store:
            return True
        if self._archive_counts(store) and key in self._tiers.archive:
            return True
        store = self._existing()
        return store is not None and key in store

    # -- many entries --------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        store = self._existing()
        if next(self._tiers.loose.names(), None) is None and not self._archive_counts(store):
            return len(store) if store else 0
        return len(self.keys())

    def keys(self) -> list[str]:  # type: ignore[override]
        """List of all keys: those of the store in order of insertion, then loose and archived ones."""
        store = self._existing()
        found = dict.fromkeys(store or ())
        loose, rule = self._tiers.loose, self._codec.rule
        found |= dict.fromkeys(name for name in loose.names() if loose.holds_entry(name, rule))
        if self._archive_counts(store):
            found |= dict.fromkeys(self._tiers.archive.members())
        return list(found)

    def values(self) -> list[object]:  # type: ignore[override]
        """List of all values, in the order of `keys`."""
        return [self[key] for key in self.keys()]

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that are not there, in their order; one query per 256."""
        wanted = list(dict.fromkeys(keys))
        store = self._existing()
        absent = store.missing(wanted) if store else wanted
        return [key for key in absent if key not in self]

    def update(self, other: object = (), /, **more: object) -> None:  # type: ignore[override]
        """As dict.update; many entries to a transaction."""
        pairs = dict(other, **more) if other or more else {}  # type: ignore[call-overload]
        if not pairs:
            return
        store = self._writable()
        loose = [key for key in self._tiers.loose.names() if key in pairs]
        torn = [key for key in loose if self._fold_loose(store, key)]
        store.put_many(pairs)
        for key in torn:
            self._tiers.loose.remove(key)

    def clear(self) -> None:
        """Delete all entries of all tiers."""
        if self.readonly:
            raise ReadOnlyError(str(self.path))
        self._tiers.archive.remove()
        for name in list(self._tiers.loose.names()):
            self._tiers.loose.remove(name)
        if store := self._existing():
            store.clear()

    # -- care ----------------------------------------------------------------------------------

    def archive(self, progress: Progress | None = None) -> Report:
        """Fold loose files and archive into the store and give back the space: fewest files, least space.

        Returns
        -------
        Report
            Files that hold no value stay where they are and are listed in `left`.
        """
        if not self.path.is_dir():
            return Report(str(self.path), self._file)
        report = self._fold(loose=True, remove=True, progress=progress)
        self._tiers.loose.remove_left_overs()
        self._writable().compact()
        report.bytes_after = self._writable().stats().disk
        return report

    def _fold(self, *, loose: bool, remove: bool, progress: Progress | None = None) -> Report:
        store = self._writable()
        report = Report(str(self.path), self._file, bytes_before=self._tiers.size())
        with maintenance_lock(self.path, store.timeout):
            fold(self._tiers, store, report, self._codec, remove=remove, loose=loose, progress=progress)
        for problem in report.left:
            log.warning("%s: %s of %s stays: %s", self.path, problem.name, problem.where, problem.reason)
        return report

    def unfolded(self) -> list[str]:
        """Keys of loose files and of an archive that is not folded in yet."""
        found = dict.fromkeys(self._tiers.loose.names())
        if self._archive_counts(self._existing()):
            found |= dict.fromkeys(self._tiers.archive.members())
        return list(found)

    def tiers(self) -> dict[str, int]:
        """Entries in each tier; a key may be in several."""
        store = self._existing()
        loose = sum(1 for _ in self._tiers.loose.names())
        return {"store": len(store) if store else 0, "loose": loose, "archive": len(self._tiers.archive.members())}

    def verify(self) -> Iterator[Damage]:
        """Everything that is damaged, in every tier, found by reading all of it."""
        if store := self._existing():
            yield from store.verify()
        for problem in self._tiers.problems():
            yield Damage(problem.name, f"{problem.where}: {problem.reason}")
        for name in self._tiers.names():
            try:
                self._codec.load_legacy(name, self._tiers.read(name) or b"")
            except CodecError as err:
                yield Damage(name, f"legacy file: {getattr(err, 'reason', '') or err}")

    def sync(self) -> None:
        """Put every write so far on the disk."""
        if store := self._existing():
            store.sync()

    @property
    def store(self) -> Store | None:
        """The store of the container, None if it has none yet."""
        return self._existing()


def _reopen(path: str, flag: str | None, allow: Allowed, options: Mapping[str, object]) -> FileDatabase:
    return FileDatabase(path, flag, allow=allow, **options)  # type: ignore[arg-type]
