"""The shelve surface over a Store: flags, writeback, sync, and the errors that shelve users expect.

A `Shelf` is a `shelve.Shelf`, so `isinstance` in programs that were written for shelve holds. Its
`dict` is the Store; keys go to it as text, values as objects.
"""

import os
import shelve
import weakref
from collections.abc import ItemsView, Iterator, ValuesView
from pickle import DEFAULT_PROTOCOL, HIGHEST_PROTOCOL

from ampstore.backend import Durability
from ampstore.codec import Allowed
from ampstore.late import late_logger
from ampstore.store import Flag, Store

log = late_logger(__name__)

_OTHER_SHELVES = (".dat", ".dir", ".pag", ".db")  # what dbm.dumb and dbm.ndbm append to the name

Filename = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class Shelf(shelve.Shelf[object]):
    """A persistent dictionary of text keys to Python values.

    Parameters
    ----------
    store : Store
        Where the entries are; the shelf closes it.
    protocol : int, optional
        Accepted and checked for the sake of shelve; streams are always pickle protocol 5.
    writeback : bool, default False
        Keep what was read or set in memory and store it again at `sync` and `close`, so that
        changes inside values are kept. Entries that did not change are not written.

    Raises
    ------
    ValueError
        From every operation after `close`.
    """

    dict: Store

    def __init__(self, store: Store, protocol: int | None = None, writeback: bool = False) -> None:
        if protocol is not None and not 0 <= protocol <= HIGHEST_PROTOCOL:
            raise ValueError(f"protocol must be 0 to {HIGHEST_PROTOCOL}, not {protocol}")
        self.dict = store
        self.writeback = writeback
        self.cache: dict[str, object] = {}
        self.keyencoding = "utf-8"
        self._protocol = DEFAULT_PROTOCOL if protocol is None else protocol
        # Runs once: at close, when the shelf is collected, or at exit, before the store is closed.
        self._finish = weakref.finalize(self, _store_and_close, store, self.cache)

    def __repr__(self) -> str:
        return f"<ampstore shelf {self.dict.location!r}>"

    def __iter__(self) -> Iterator[str]:
        return iter(self.dict)

    def __len__(self) -> int:
        return len(self.dict)

    def __contains__(self, key: object) -> bool:
        return key in self.dict

    def get(self, key: str, default: object = None) -> object:
        """Value of a key, or `default`."""
        try:
            return self[key]
        except KeyError:
            return default

    def __getitem__(self, key: str) -> object:
        if not self.writeback:
            return self.dict[key]
        if key not in self.cache:
            self.cache[key] = self.dict[key]
        return self.cache[key]

    def __setitem__(self, key: str, value: object) -> None:
        self.dict[key] = value
        if self.writeback:
            self.cache[key] = value

    def __delitem__(self, key: str) -> None:
        del self.dict[key]
        self.cache.pop(key, None)

    def items(self) -> ItemsView[str, object]:
        """View of the pairs in order of insertion."""
        return super().items() if self.writeback else self.dict.items()

    def values(self) -> ValuesView[object]:
        """View of the values in order of insertion."""
        return super().values() if self.writeback else self.dict.values()

    def update(self, other: object = (), /, **more: object) -> None:
        """As dict.update; many entries to a transaction."""
        if self.writeback:
            super().update(other, **more)  # type: ignore[call-overload]
        else:
            self.dict.update(other, **more)

    def pop(self, key: str, *default: object) -> object:
        """Remove an entry and return its value; no other process can change it in between."""
        if key in self.cache:
            self.dict[key] = self.cache.pop(key)
        return self.dict.pop(key, *default)

    def popitem(self) -> tuple[str, object]:
        """Remove and return the last entry, as dict does."""
        self.sync()
        return self.dict.popitem()

    def clear(self) -> None:
        """Delete all entries."""
        self.cache.clear()
        self.dict.clear()

    def sync(self) -> None:
        """Store what writeback kept, and put everything on the disk."""
        _store_cached(self.dict, self.cache)
        self.dict.sync()

    def close(self) -> None:
        """Store what writeback kept and close. Closing twice is fine."""
        self._finish()


def _store_cached(store: Store, cache: dict[str, object]) -> None:
    if cache and not store.readonly:
        store.put_many(cache)
    cache.clear()


def _store_and_close(store: Store, cache: dict[str, object]) -> None:
    if store.closed:
        return
    try:
        _store_cached(store, cache)
        store.sync()
    finally:
        store.close()


def open(  # noqa: A001 - the name that shelve has
    filename: Filename,
    flag: Flag = "c",
    protocol: int | None = None,
    writeback: bool = False,
    *,
    allow: Allowed = (),
    timeout: float = 30.0,
    durability: Durability = "normal",
    level: int = 3,
) -> Shelf:
    """Open a persistent dictionary, as `shelve.open` does, safe by default.

    Parameters
    ----------
    filename : str, bytes or path-like
        The SQLite file, exactly this name; or the URL of a database, as `Store` takes it.
    flag : {"c", "w", "r", "n"}
        Create if missing; must exist; must exist and is only read; always start empty.
    protocol, writeback
        As in shelve.
    allow : iterable of str or "*", default ()
        Packages or "module.Class" that values may name besides builtins, numpy, ase and the like.
    timeout : float, seconds
        Longest wait for other writers; then BusyError (a TimeoutError).
    durability : {"normal", "full"}
        See `Store`.
    level : int
        zstd level.

    Returns
    -------
    Shelf
    """
    path = os.fsdecode(filename)
    if flag == "c" and not os.path.exists(path):
        _warn_of_other_shelves(path)
    return Shelf(
        Store(path, flag, allow=allow, timeout=timeout, durability=durability, level=level), protocol, writeback
    )


def _warn_of_other_shelves(path: str) -> None:
    """Who changes the one line and forgets the old file should not take the empty store for a loss."""
    if found := [path + suffix for suffix in _OTHER_SHELVES if os.path.exists(path + suffix)]:
        log.warning(
            "%s is new and empty; %s may be a shelf that the standard library made under this name: "
            "new.update(shelve.open(%r, 'r')) copies it over",
            path,
            ", ".join(found),
            path,
        )
