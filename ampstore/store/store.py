"""A store: text keys to Python values, durable, compressed, safe, for many processes at once.

set     value --codec--> blob            outside the lock
              --backend-> row            one transaction, skipped where nothing would change
get     key --backend-> row --codec--> value, a fresh object every time
iterate ids up to the last one at the start, a chunk of rows per read
"""

import contextlib
import os
import time
from collections import Counter
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, Sequence, ValuesView
from pathlib import Path
from typing import Self

from ampstore.backend import Backend, Durability, Row, SQLite
from ampstore.codec import Allowed, Blob, Codec
from ampstore.errors import (
    EntryTooLargeError,
    InvalidKeyError,
    KeyTypeError,
    MissingDictionaryError,
)
from ampstore.store import care
from ampstore.store.care import Damage, Stats
from ampstore.store.claims import LEASE, Claims
from ampstore.store.compaction import Compaction, Progress, compact
from ampstore.store.opening import Flag, locate, open_backend
from ampstore.store.orphans import LeftOver, left_overs
from ampstore.store.streams import Streams

Stored = tuple[str, int, bytes, bytes]
"""codec, size, checksum and payload of an entry."""

BATCH_ROWS = 1000
BATCH_BYTES = 32 << 20


class Store(MutableMapping[str, object]):
    """A mapping of text keys to Python values in one SQLite file, or on a PostgreSQL server.

    Every set is durable when it returns (see `durability`), every get makes fresh objects. Any
    number of threads and processes may use one store at once; a Store pickles as its location, and
    works on after fork.

    Parameters
    ----------
    path : str or path-like
        The file, or a URL: postgresql+psycopg://user@host/database?schema=name (see docs/postgresql.md).
    flag : {"c", "w", "r", "n"}
        As in shelve: create if missing, must exist, read-only, start empty.
    allow : iterable of str or "*"
        Packages or "module.Class" that values may name besides the safe ones.
    timeout : float
        Longest wait for other writers, seconds; then BusyError.
    durability : {"normal", "full"}
        "normal" survives any crash of the process, and after a power cut is as it was at some
        moment of the last seconds; "full" loses nothing then either, for one fsync per commit.
    level : int
        zstd level.
    cache : int
        Bytes of decompressed values kept in memory. An entry is used from there only while the
        store still has its checksum, so writes of other processes are seen at once. 0 turns it off.
    codecs : iterable of str
        Codecs of other packages that are tried first when a value is stored; see `ampstore.codec.plugins`.

    Raises
    ------
    MissingStoreError, NotAStoreError, NewerStoreError, OutdatedStoreError, DamagedStoreError,
    AccessError, BusyError, LocationError, ConnectionLostError, DriverMissingError
        Each is also the builtin that shelve raises for it (OSError, PermissionError, TimeoutError).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        flag: Flag = "c",
        *,
        allow: Allowed = (),
        timeout: float = 30.0,
        durability: Durability = "normal",
        level: int = 3,
        cache: int = 0,
        codecs: Iterable[str] = (),
    ) -> None:
        if flag not in ("r", "w", "c", "n"):
            raise ValueError(f"flag must be 'r', 'w', 'c' or 'n', not {flag!r}")
        if durability not in ("normal", "full"):
            raise ValueError(f"durability must be 'normal' or 'full', not {durability!r}")
        place = locate(path)
        self.location = str(place)
        self.flag: Flag = flag
        codec = Codec(allow, level, codecs)
        self._options = {
            "timeout": timeout, "durability": durability, "level": level, "cache": cache, "codecs": codec.codecs
        }  # fmt: skip
        self._backend = open_backend(place, flag, timeout, durability)
        self.codec = codec.reading_from(self._backend.dictionary)
        self._cache = Streams(cache)
        if flag == "n":
            self.clear()

    @classmethod
    def open(cls, path: str | os.PathLike[str], flag: Flag = "c") -> Self:
        """Open a store, as shelve.open does."""
        return cls(path, flag)

    @property
    def path(self) -> Path | None:
        """The file; None if the store is on a server."""
        return self._backend.path if isinstance(self._backend, SQLite) else None

    @property
    def backend(self) -> Backend:
        """The rows of this store, for the other parts of ampstore.store."""
        return self._backend

    @property
    def readonly(self) -> bool:
        """Whether writes are refused."""
        return self._backend.readonly

    @property
    def timeout(self) -> float:
        """Longest wait for other writers, seconds."""
        return self._backend.timeout

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._backend.closed

    def __repr__(self) -> str:
        return f"Store({self.location!r}, {self.flag!r})"

    def __reduce__(self) -> tuple[object, ...]:
        flag = "c" if self.flag == "n" else self.flag
        return _reopen, (self.location, flag, self.codec.rule.allow, self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store for all threads; everything is stored already. Closing twice is fine."""
        self._backend.close()

    # -- one entry -----------------------------------------------------------------------------

    def __getitem__(self, key: str) -> object:
        if self._cache.most:
            return self._get_through_cache(key)
        row = self._fetch(key)
        try:
            return self.codec.decode(key, row[0], row[1], row[2], row[3])
        except MissingDictionaryError as err:
            return self._decode_again(err, key, row)

    def _decode(self, key: str, codec: str, size: int, checksum: bytes, payload: bytes) -> object:
        try:
            return self.codec.decode(key, codec, size, checksum, payload)
        except MissingDictionaryError as err:
            return self._decode_again(err, key, (codec, size, checksum, payload))

    def _decode_again(self, err: MissingDictionaryError, key: str, row: Stored) -> object:
        """Value of a row that another process compacted twice since it was read: its dictionary is gone by now."""
        again = self._backend.fetch(key)
        if again is None or again == row:
            raise err
        return self.codec.decode(key, *again)

    def _fetch(self, key: str) -> Stored:
        try:
            if isinstance(key, str) and (row := self._backend.fetch(key)):
                return row
        except UnicodeEncodeError:  # half a surrogate pair: no key that could have been stored
            pass
        raise KeyError(key)

    def _get_through_cache(self, key: str) -> object:
        if (kept := self._cache.get(key)) and (head := self._backend.head(key)) and kept[0] == head[0]:
            return self.codec.value(key, *kept[1:])
        row = self._fetch(key)
        try:
            stream = self.codec.unpack(key, *row)
        except MissingDictionaryError as err:
            return self._decode_again(err, key, row)
        self._cache.put(key, row[2], row[0], stream)
        return self.codec.value(key, row[0], stream)

    def __setitem__(self, key: str, value: object) -> None:
        self._backend.put(self._row(key, self.codec.encode(value)))

    def __delitem__(self, key: str) -> None:
        try:
            deleted = isinstance(key, str) and self._backend.delete(key)
        except UnicodeEncodeError:
            deleted = False
        if not deleted:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        try:
            return isinstance(key, str) and self._backend.contains(key)
        except UnicodeEncodeError:
            return False

    def __len__(self) -> int:
        return self._backend.count()

    def _check_key(self, key: str) -> None:
        if not isinstance(key, str):
            raise KeyTypeError(key)
        if not key.isascii():
            try:
                key.encode()
            except UnicodeEncodeError as err:
                raise InvalidKeyError(key, "it has half of a surrogate pair, which no text file can hold") from err
        if reason := self._backend.reason_against(key):
            raise InvalidKeyError(key, reason)

    def _row(self, key: str, blob: Blob) -> Row:
        self._check_key(key)
        codec, kind, size, checksum, payload = blob
        if len(payload) + len(key) > self._backend.largest:
            raise EntryTooLargeError(len(payload), self._backend.largest)
        return Row(key, codec, kind, size, checksum, time.time(), payload)

    # -- many entries --------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        last, after = self._backend.last_id(), 0
        while chunk := self._backend.keys(after, last):
            after = chunk[-1][0]
            for _, key in chunk:
                yield key

    def keys(self) -> KeysView[str]:
        """View of the keys in order of insertion; iterates in constant memory while others write."""
        return KeysView(self)

    def values(self) -> ValuesView[object]:
        """View of the values in order of insertion."""
        return _Values(self)

    def items(self) -> ItemsView[str, object]:
        """View of the pairs in order of insertion."""
        return _Items(self)

    def pairs(self) -> Iterator[tuple[str, object]]:
        """Keys and values in order of insertion; what `items` iterates over."""
        for row in self._backend.scan():
            yield row[1], self._decode(*row[1:])

    def get_many(self, keys: Iterable[str]) -> dict[str, object]:
        """Values of those keys that are there, in the order of the keys; one query per 256."""
        wanted = list(dict.fromkeys(keys))
        found = {row[0]: self._decode(*row) for row in self._backend.fetch_many(wanted)}
        return {key: found[key] for key in wanted if key in found}

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that are not there, in their order; reads no payload."""
        wanted = list(dict.fromkeys(keys))
        known = self._backend.known(wanted)
        return [key for key in wanted if key not in known]

    def put_many(self, items: "Mapping[str, object] | Iterable[tuple[str, object]]") -> int:
        """Store many values, at most 1000 or 32 MB to a transaction.

        Parameters
        ----------
        items : mapping or iterable of (key, value)
            Taken lazily: a generator is never held as a whole.

        Returns
        -------
        int
            Number of pairs. If a pair is refused, earlier transactions are stored, its own is not.
        """
        pairs = items.items() if isinstance(items, Mapping) else items
        return self.put_blobs((key, self.codec.encode(value)) for key, value in pairs)

    def put_blobs(self, blobs: Iterable[tuple[str, Blob]]) -> int:
        """`put_many` for values that are encoded already."""
        count, rows, size = 0, list[Row](), 0
        for key, blob in blobs:
            rows.append(self._row(key, blob))
            size += len(blob.payload)
            count += 1
            if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
                self._backend.put_rows(rows)
                rows, size = [], 0
        if rows:
            self._backend.put_rows(rows)
        return count

    def put_new(self, key: str, blob: Blob) -> bool:
        """Store a value that is encoded already unless the key is there; whether it was stored."""
        return self._backend.put_new(self._row(key, blob))

    def rename(self, key: str, new: str) -> bool:
        """Give an entry another key, its value untouched; False if there is none, or one of the new key."""
        self._check_key(new)
        return self._backend.rename(key, new)

    def claims(self, lease: float = LEASE) -> Claims:
        """Claims on keys that are being computed: see `ampstore.store.claims`."""
        return Claims(lambda: self, lease)

    def update(self, other: object = (), /, **more: object) -> None:
        """As dict.update, by `put_many`."""
        if not isinstance(other, Mapping) and hasattr(other, "keys"):
            other = [(key, other[key]) for key in other.keys()]  # type: ignore[index]  # noqa: SIM118
        self.put_many(other)  # type: ignore[arg-type]
        self.put_many(more)

    def clear(self) -> None:
        """Delete all entries."""
        self._backend.clear()

    def pop(self, key: str, *default: object) -> object:
        """Remove an entry and return its value; no other process can change it in between."""
        with self.batch():
            try:
                value = self[key]
            except KeyError:
                if default:
                    return default[0]
                raise
            del self[key]
        return value

    def popitem(self) -> tuple[str, object]:
        """Remove and return the last entry, as dict does."""
        with self.batch():
            rows = self._backend.rows(self._backend.last_id() - 1, self._backend.last_id())
            if not rows:
                raise KeyError("popitem(): the store is empty")
            key = rows[0][1]
            value = self._decode(*rows[0][1:])
            del self[key]
        return key, value

    def setdefault(self, key: str, default: object = None) -> object:
        """Value of a key, storing `default` first if there is none; atomic among processes."""
        with self.batch():
            if key not in self:
                self[key] = default
            return self[key]

    @contextlib.contextmanager
    def batch(self) -> Iterator[Self]:
        """One transaction: all of the block is stored, or nothing if it raises.

        Other writers wait meanwhile (readers do not), so compute first and store inside. Batches
        nest: an inner one that raises takes back only its own part.
        """
        with self._backend.transaction():
            yield self

    def put_trace(self, run: str, chain: int, points: Iterable[Sequence[float]], *, replace: bool = False) -> None:
        """Keep points of a search as rows of the table `trace`, which plain sqlite3 can read.

        Parameters
        ----------
        run : str
            Name of the search.
        chain : int
            Which of several at once.
        points : iterable of `ampstore.anneal.Point`
            A point of the same step is replaced.
        replace : bool
            Delete the points that this chain and those of higher numbers have before.
        """
        self._backend.put_trace(run, chain, points, replace)

    # -- care ----------------------------------------------------------------------------------

    def read_blob(self, key: str) -> tuple[str, int, bytes, bytes] | None:
        """codec, size, checksum and payload of an entry as they are stored, None if it is not there."""
        return self._backend.fetch(key)

    def head(self, key: str) -> tuple[bytes, float] | None:
        """Checksum and time of writing (seconds since 1970) of an entry, None if it is not there."""
        return self._backend.head(key)

    def listing(self, prefix: str = "") -> Iterator[tuple[str, str, int, int, str, float]]:
        """key, kind, bytes, stored bytes, codec and time of writing, sorted by key; reads no payload."""
        for row in self._backend.listing(prefix):
            if not row[0].startswith(prefix):
                return
            yield row

    def info(self) -> dict[str, str]:
        """Facts about the store: its id, who made it, its format."""
        facts = {name: value for name, value in self._backend.info().items() if " " not in name}
        return {**facts, "format": self._backend.revision() or ""}

    def notes(self, prefix: str) -> dict[str, str]:
        """Facts whose names begin with a prefix; one that ends in a blank keeps them out of `info`."""
        return {name: value for name, value in self._backend.info().items() if name.startswith(prefix)}

    def forget(self, name: str) -> bool:
        """Keep a fact no longer; False if it was not known."""
        return self._backend.info_delete(name)

    def claimants(self) -> list[tuple[str, int, float]]:
        """Who has claims: owner, how many, and seconds until the last one expires."""
        return self._backend.claimants()

    def note(self, name: str, value: str) -> None:
        """Keep a fact about the store."""
        self._backend.info_put(name, value)

    def renote(self, name: str, was: str | None, value: str) -> bool:
        """Keep a fact if what is noted still is `was`, None for nothing; atomic among processes."""
        with self.batch():
            if self.noted(name) != was:
                return False
            self.note(name, value)
        return True

    def noted(self, name: str) -> str | None:
        """A fact about the store, None if it was never noted."""
        return self._backend.info_get(name)

    def stats(self) -> Stats:
        """Number of entries and their sizes."""
        return care.stats(self.backend)

    def verify(self) -> Iterator[Damage]:
        """Everything that is damaged, found by reading all of it: pages, checksums, pickles."""
        return care.verify(self.backend, self.codec)

    def left_overs(self) -> Iterator[LeftOver]:
        """What belongs to nothing any more: unfinished copies, claims of the dead, dictionaries that nobody needs."""
        return left_overs(self.backend)

    def globals(self) -> Counter[str]:
        """How many values refer to each function or class ("module.name"), told without importing any."""
        return care.globals_in(self.backend, self.codec)

    def verify_payloads(self) -> Iterator[Damage]:
        """Damaged pages and payloads, without making the values."""
        return care.verify_payloads(self.backend, self.codec)

    def backup(self, destination: str | os.PathLike[str]) -> Path:
        """Copy the store as it is now into a new file, verified, while others go on writing.

        Parameters
        ----------
        destination : str or path-like
            A name that is free.

        Raises
        ------
        FileExistsError
            If it is not.
        """
        return care.backup(self.backend, self.codec, Path(os.path.abspath(destination)))

    def compact(self, level: int | None = None, *, progress: Progress | None = None) -> Compaction:
        """Store everything in less space, and give the free space back to the file system.

        The zstd level, a trained dictionary and the layout are chosen for each kind of values by
        measuring some of them; see `ampstore.store.compaction`. Others may read and write meanwhile.

        Parameters
        ----------
        level : int, optional
            zstd level for all kinds, 1 to 22.
        progress : callable, optional
            Called with the entries done and all there are.

        Returns
        -------
        Compaction
            Bytes on disk `before` and `after`, and what was gained for each of the `kinds`.

        Raises
        ------
        ValueError
            If there is no such level.
        StoreError
            Inside a batch.
        """
        return compact(self._backend, self.codec, level, progress)

    def sync(self) -> None:
        """Put every write so far on the disk, whatever the durability."""
        if not self.readonly:
            self._backend.sync()


class _Values(ValuesView[object]):
    _mapping: Store

    def __iter__(self) -> Iterator[object]:
        return (value for _, value in self._mapping.pairs())


class _Items(ItemsView[str, object]):
    _mapping: Store

    def __iter__(self) -> Iterator[tuple[str, object]]:
        return self._mapping.pairs()


def _reopen(path: str, flag: Flag, allow: Allowed, options: dict[str, object]) -> Store:
    return Store(path, flag, allow=allow, **options)  # type: ignore[arg-type]
