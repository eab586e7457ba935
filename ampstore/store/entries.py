"""The entries of a store as a mapping: values through a codec to the rows of a backend, and back.

set     value --codec--> blob            outside the lock
              --backend-> row            one transaction, skipped where nothing would change
get     key --backend-> row --codec--> value, a fresh object every time
iterate ids up to the last one at the start, a chunk of rows per read

Opening, notes and care are the business of `Store`.
"""

import contextlib
import time
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Self

from ampstore.backend import Row
from ampstore.codec import Blob, Codec
from ampstore.errors import (
    EntryTooLargeError,
    InvalidKeyError,
    KeyTypeError,
    MissingDictionaryError,
)
from ampstore.store.streams import Streams

if TYPE_CHECKING:
    from ampstore.backend import Backend

Stored = tuple[str, int, bytes, bytes]
"""codec, size, checksum and payload of an entry."""

BATCH_ROWS = 1000
BATCH_BYTES = 32 << 20


class Entries(MutableMapping[str, object]):
    """A mapping of text keys to values; what is below it is opened by whoever makes one."""

    codec: Codec
    _backend: "Backend"
    _cache: Streams

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
        while after < last and (chunk := self._backend.keys(after, last)):
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

    # -- without the values ---------------------------------------------------------------------

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


class _Values(ValuesView[object]):
    _mapping: Entries

    def __iter__(self) -> Iterator[object]:
        return (value for _, value in self._mapping.pairs())


class _Items(ItemsView[str, object]):
    _mapping: Entries

    def __iter__(self) -> Iterator[tuple[str, object]]:
        return self._mapping.pairs()
