"""FileDatabase of a URL: the interface that Amp programs know, on a store that is on a server.

There are no tiers: no legacy program writes into a server. Everything else is as in a container, also
that the store is made when something is first written, and that a database that was closed opens itself
again when it is used.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, cast

from ampstore.backend import parse
from ampstore.codec import Allowed
from ampstore.database.container import FileDatabase
from ampstore.errors import MissingStoreError, ReadOnlyError
from ampstore.store import Damage, Store
from ampstore.store.claims import LEASE, Claims
from ampstore.store.orphans import LeftOver
from ampstore.transfer import Progress, Report


class ServerDatabase(FileDatabase):
    """What FileDatabase(url) makes; parameters are those of FileDatabase.

    Notes
    -----
    `keys` and `values` are lists, as in Amp.
    """

    def __init__(self, filename: str | os.PathLike[str], flag: str | None = None, **options: Any) -> None:
        super().__init__(".", flag, **options)  # a path that nothing is asked of
        self._file = self.location = parse(os.fspath(filename)).location

    def __repr__(self) -> str:
        return f"FileDatabase({self.location!r})"

    def _existing(self) -> Store | None:
        if self._store is None:
            with contextlib.suppress(MissingStoreError):
                self._store = self._open("r" if self.readonly else "w")
        return cast("Store | None", self._store)

    def _writable(self) -> Store:
        if self.readonly:
            raise ReadOnlyError(self.location)
        store = self._existing()
        if store is None:
            store = self._store = self._open("c")
        return store

    def _open(self, flag: str) -> Store:
        return Store(self._file, flag, allow=self._allow, **self._options)  # type: ignore[arg-type]

    # -- entries -------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> object:
        store = self._existing()
        if store is None:
            raise KeyError(key)
        return store[key]

    def __setitem__(self, key: str, value: object) -> None:
        self._writable()[key] = value

    def __delitem__(self, key: str) -> None:
        if self.readonly:
            raise ReadOnlyError(self.location)
        store = self._existing()
        if store is None:
            raise KeyError(key)
        del store[key]

    def __contains__(self, key: object) -> bool:
        store = self._existing()
        return store is not None and key in store

    def __len__(self) -> int:
        store = self._existing()
        return len(store) if store is not None else 0

    def keys(self) -> list[str]:  # type: ignore[override]
        """List of all keys in order of insertion."""
        return list(self._existing() or ())

    def values(self) -> list[object]:  # type: ignore[override]
        """List of all values, in the order of `keys`."""
        store = self._existing()
        return list(store.values()) if store is not None else []

    def get_many(self, keys: Iterable[str]) -> dict[str, object]:
        """Values of those keys that are there, in the order of the keys; one query per 256."""
        store = self._existing()
        return store.get_many(keys) if store is not None else {}

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that are not there, in their order; one query per 256."""
        store = self._existing()
        return store.missing(keys) if store is not None else list(dict.fromkeys(keys))

    def update(self, other: object = (), /, **more: object) -> None:
        """As dict.update; many entries to a transaction."""
        if pairs := dict(other, **more) if other or more else {}:  # type: ignore[call-overload]
            self._writable().put_many(pairs)

    def claims(self, lease: float = LEASE) -> Claims:
        """Claims on keys that are being computed: see `ampstore.store.claims`."""
        return Claims(self._writable, lease, existing=self._existing)

    def clear(self) -> None:
        """Delete all entries."""
        if self.readonly:
            raise ReadOnlyError(self.location)
        if (store := self._existing()) is not None:
            store.clear()

    # -- care ----------------------------------------------------------------------------------

    def archive(self, progress: Progress | None = None, *, level: int | None = None) -> Report:
        """Compact the store; see `Store.compact`. There is nothing to fold."""
        report = Report(self.location, self.location)
        if (store := self._existing()) is not None:
            report.compaction = store.compact(level, progress=progress)
            report.bytes_before, report.bytes_after = report.compaction.before, report.compaction.after
        return report

    def left_overs(self) -> Iterator[LeftOver]:
        """What belongs to nothing any more."""
        if (store := self._existing()) is not None:
            yield from store.left_overs()

    def globals(self) -> Counter[str]:
        """How many values refer to each function or class, told without importing any."""
        store = self._existing()
        return store.globals() if store is not None else Counter[str]()

    def unfolded(self) -> list[str]:
        """No keys: nothing is outside of the store."""
        return []

    def tiers(self) -> dict[str, int]:
        """Entries in the one tier."""
        return {"store": len(self)}

    def verify(self) -> Iterator[Damage]:
        """Everything that is damaged, found by reading all of it."""
        if (store := self._existing()) is not None:
            yield from store.verify()

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self.location, "r" if self.readonly else None, self._allow, self._options)

    @classmethod
    def open(cls, filename: str | os.PathLike[str], flag: str | None = None) -> Self:
        """Open a database; of the flags only "r" makes a difference."""
        return cls(filename, flag)


def _reopen(url: str, flag: str | None, allow: Allowed, options: Mapping[str, object]) -> ServerDatabase:
    return ServerDatabase(url, flag, allow=allow, **options)
