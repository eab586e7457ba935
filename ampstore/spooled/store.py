"""A container's store where several hosts share the file system: reads see the spool, writes go there.

    get     spool, newest first > store
    set     one commit of the spool, durable, no lock
    del     likewise: a commit that says "deleted", which hides the store's entry
    fold    under the lease: newest entries --> store, and in its last transaction how far each segment is in it
            --> then the segments go

The store's file is only read here; `maintained` opens it for writing, for one maintainer among all hosts. In what
order a reader looks is what makes it right beside a maintainer: segments first, then the notes in the store of
what it has of them, then the entry. What went from the spool after the first look is in the store by the last.
"""

import contextlib
import heapq
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TypeVar

from ampstore.codec import Allowed, Blob, Codec
from ampstore.durable import make_directory
from ampstore.errors import (
    BusyError,
    CodecError,
    CorruptEntryError,
    EntryTooLargeError,
    InvalidKeyError,
    KeyTypeError,
    ReadOnlyError,
)
from ampstore.late import late_logger
from ampstore.lease import Lease
from ampstore.legacy.loose import file_errors
from ampstore.spool import DIRECTORY, SEALED, Entry, Record, RemovedSegmentError, Spool
from ampstore.store import Damage, Store

log = late_logger(__name__)

NOTE = "spool "
RECOVERED = "recovered "
FORGOTTEN = 7 * 86400.0
"""Seconds after which the note on a segment that is gone is forgotten; a writer that sleeps longer gets an error."""

GROUP_ROWS = 1000
GROUP_BYTES = 16 << 20
ROUNDS = 20
"""Segments that may be folded under a reader, one after the other, before it gives up."""

FOLDED_ABOVE = 32 << 20
"""Bytes in the segment of one writer after which it folds the spool itself, if nobody else is at it."""

Result = TypeVar("Result")
Listed = tuple[str, str, int, int, str, float]
"""key, kind, bytes, stored bytes, codec and time of writing."""


class SpooledStore(MutableMapping[str, object]):
    """The store of one container, and its spool, as one mapping. Safe for threads and hosts.

    Parameters
    ----------
    path : Path
        The store's file; it exists.
    readonly, allow, options
        As in `FileDatabase`.

    Attributes
    ----------
    folded : int
        Entries of the spool that the last use of `maintained` brought into the store.
    """

    in_place = False  # a value that is read and written again could overtake a newer one of another host

    def __init__(self, path: Path, *, readonly: bool, allow: Allowed, options: Mapping[str, object]) -> None:
        self.path = path
        self.readonly = readonly
        self.folded = 0
        self._allow = allow
        self._options = dict(options)
        self._timeout = float(self._options.get("timeout", 30.0))  # type: ignore[arg-type]
        self.spool = Spool(path.parent / DIRECTORY)
        self.lease = Lease(self.spool.directory)
        self._codec = Codec(allow)
        self.reader = self._read(lambda: self._store("r"))

    def _store(self, flag: str) -> Store:
        return Store(self.path, flag, allow=self._allow, **self._options)  # type: ignore[arg-type]

    @property
    def timeout(self) -> float:
        """Longest wait for others, seconds."""
        return self._timeout

    def close(self) -> None:
        """End this process's segment. Closing twice is fine."""
        self.spool.close()
        self.reader.close()

    # -- reading -------------------------------------------------------------------------------

    def _read(self, read: Callable[[], Result]) -> Result:
        """Result of a read of the store, whose last maintainer may have died in the middle of a commit."""
        if os.path.exists(f"{self.path}-journal") and not self.readonly:
            self._recover()
        return read()

    def _recover(self) -> None:
        """Wait until a commit is complete, or take over from a maintainer that died in it."""
        deadline = time.monotonic() + self.timeout
        while os.path.exists(f"{self.path}-journal"):
            if self.spool.directory.is_dir() and self.lease.try_acquire():
                try:
                    with contextlib.closing(self._store("w")) as store:
                        # SQLite rolls half a commit back when it reads, and reuses an empty journal when it writes.
                        store.note(RECOVERED, f"{time.time():.0f}")
                finally:
                    self.lease.release()
                return
            if time.monotonic() > deadline:
                return  # the read says what is wrong
            time.sleep(0.005)

    def fresh(self) -> dict[str, Entry]:
        """Newest entries of the spool that the store does not have."""
        if not self.spool.look():
            return {}
        return self.spool.newest({name: end for name, (end, _) in self._folded().items()})

    def _folded(self) -> dict[str, tuple[int, int]]:
        """For each segment up to where it counts as folded, and up to where it is."""
        notes = self._read(lambda: self.reader.notes(NOTE))
        return {name.removeprefix(NOTE): _parsed(text) for name, text in notes.items()}

    def _find(self, key: str) -> tuple[Entry, bytes] | None:
        """Entry and payload from the spool; None if the store has the word."""
        for _ in range(ROUNDS):
            entry = self.fresh().get(key)
            if entry is None:
                return None
            if entry.deleted:
                return entry, b""
            if (payload := self.spool.payload(entry)) is not None:
                return entry, payload
        raise BusyError(str(self.path), "maintainers kept folding what was to be read; try again")

    def __getitem__(self, key: str) -> object:
        try:
            found = self._find(key)
        except CorruptEntryError as err:
            # A power cut of the server in the middle of a commit that nobody heard of, or damage.
            log.warning("%s: %s; returning the value from the store", self.path, err)
            found = None
        if found is None:
            return self._read(lambda: self.reader[key])
        entry, payload = found
        if entry.deleted:
            raise KeyError(key)
        return self._codec.decode(key, entry.codec, entry.size, entry.checksum, payload)

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str) and (entry := self.fresh().get(key)) is not None:
            return not entry.deleted
        return self._read(lambda: key in self.reader)

    def __iter__(self) -> Iterator[str]:
        fresh = self.fresh()
        stored = self._read(lambda: list(self.reader))
        gone = {key for key, entry in fresh.items() if entry.deleted}
        yield from (key for key in dict.fromkeys([*stored, *fresh]) if key not in gone)

    def __len__(self) -> int:
        fresh = self.fresh()
        if not fresh:
            return self._read(lambda: len(self.reader))
        there = len(fresh) - len(self._read(lambda: self.reader.missing(fresh)))
        alive = sum(not entry.deleted for entry in fresh.values())
        return self._read(lambda: len(self.reader)) - there + alive

    def listing(self, prefix: str = "") -> Iterator[Listed]:
        """As `Store.listing`; of what waits in the spool only the last write to its segment is known."""
        fresh = self.fresh()
        stored = self._read(lambda: self.reader.listing(prefix))
        written = {name: self.spool.changed(name) for name in {entry.segment for entry in fresh.values()}}
        waiting = [
            (key, entry.kind, entry.size, entry.length, entry.codec, written[entry.segment])
            for key, entry in fresh.items()
            if key.startswith(prefix) and not entry.deleted
        ]
        return heapq.merge((row for row in stored if row[0] not in fresh), sorted(waiting))

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that are not there, in their order."""
        fresh = self.fresh()
        wanted = list(dict.fromkeys(keys))
        absent = set(self._read(lambda: self.reader.missing([key for key in wanted if key not in fresh])))
        return [key for key in wanted if key in absent or (key in fresh and fresh[key].deleted)]

    def get_many(self, keys: Iterable[str]) -> dict[str, object]:
        """Values of those keys that are there, in the order of the keys."""
        wanted = list(dict.fromkeys(keys))
        fresh = self.fresh()
        stored = self._read(lambda: self.reader.get_many([key for key in wanted if key not in fresh]))
        found = dict[str, object]()
        for key in wanted:
            if key in stored:
                found[key] = stored[key]
            elif key in fresh:
                with contextlib.suppress(KeyError):
                    found[key] = self[key]
        return found

    def noted(self, name: str) -> str | None:
        """A fact about the store, None if it was never noted."""
        return self._read(lambda: self.reader.noted(name))

    # -- writing -------------------------------------------------------------------------------

    def __setitem__(self, key: str, value: object) -> None:
        self._commit([self._record(key, self._codec.encode(value))])

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._commit([Record(key, None)])

    def put_many(self, items: "Mapping[str, object] | Iterable[tuple[str, object]]") -> int:
        """Store many values, at most 1000 or 16 MB to a commit; how many."""
        pairs = items.items() if isinstance(items, Mapping) else items
        return self.put_blobs((key, self._codec.encode(value)) for key, value in pairs)

    def put_blobs(self, blobs: Iterable[tuple[str, Blob]]) -> int:
        """`put_many` for values that are encoded already."""
        count, size, records = 0, 0, list[Record]()
        for key, blob in blobs:
            records.append(self._record(key, blob))
            count, size = count + 1, size + len(blob.payload)
            if len(records) >= GROUP_ROWS or size >= GROUP_BYTES:
                self._commit(records)
                size, records = 0, []
        if records:
            self._commit(records)
        return count

    def _record(self, key: str, blob: Blob) -> Record:
        if not isinstance(key, str):
            raise KeyTypeError(key)
        try:
            size = len(key.encode()) + len(blob.payload)
        except UnicodeEncodeError as err:
            raise InvalidKeyError(key, "it has half of a surrogate pair, which no text file can hold") from err
        if size > self.reader.backend.largest:
            raise EntryTooLargeError(len(blob.payload), self.reader.backend.largest)
        return Record(key, blob)

    def clear(self) -> None:
        """Delete all entries, of the spool and of the store."""
        records = [Record(key, None) for key in self]
        for start in range(0, len(records), GROUP_ROWS):
            self._commit(records[start : start + GROUP_ROWS])

    def sync(self) -> None:
        """Nothing to do: every commit is on the disk when it returns."""

    def _commit(self, records: list[Record]) -> None:
        if self.readonly:
            raise ReadOnlyError(str(self.path.parent))
        for _ in range(ROUNDS):
            try:
                size = self.spool.append(records)
            except RemovedSegmentError as sealed:
                if self._counts(sealed):
                    return
            else:
                if size > FOLDED_ABOVE:
                    self._fold_if_free()
                return
        raise BusyError(str(self.path), "maintainers kept sealing this writer's segments; try again")

    def _counts(self, sealed: RemovedSegmentError) -> bool:
        """Whether a commit was folded whose segment was sealed while it was made."""
        deadline = time.monotonic() + self.timeout
        while (noted := self._folded().get(sealed.segment)) is None or noted[0] != SEALED:
            if time.monotonic() > deadline:
                raise BusyError(
                    str(self.path),
                    f"this writer was silent for long, and a maintainer took its segment {sealed.segment} away; it is"
                    " not known whether the last commit counts: set its values again",
                )
            self._fold_if_free()
            time.sleep(0.01)
        return noted[1] >= sealed.end

    # -- maintaining ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def maintained(self) -> Iterator[Store]:
        """The store, open for writing, for one maintainer among all hosts; the spool is folded in before.

        Raises
        ------
        BusyError
            If another one is at it for longer than the time-out.
        """
        if self.readonly:
            raise ReadOnlyError(str(self.path.parent))
        self._make_spool()
        with self.lease.held(self.timeout), contextlib.closing(self._store("w")) as store:
            self.folded = self._fold(store)
            yield store

    def _fold_if_free(self) -> None:
        """Fold the spool unless somebody maintains the container."""
        if self.lease.try_acquire():
            try:
                with contextlib.closing(self._store("w")) as store:
                    self._fold(store)
            finally:
                self.lease.release()

    def _make_spool(self) -> None:
        with file_errors(self.spool.directory, "made"):
            make_directory(self.spool.directory)

    def _fold(self, store: Store) -> int:
        """Bring the spool into the store; how many entries."""
        self.spool.look()
        notes = {name.removeprefix(NOTE): _parsed(text) for name, text in store.notes(NOTE).items()}
        left = [name for name, (end, _) in notes.items() if end == SEALED and name in self.spool]
        self._remove(store, left)  # a maintainer died before it
        snapshot = self.spool.snapshot({name: end for name, (end, _) in notes.items()}, self.lease.lease)
        damaged = set[str]()
        for chunk in _chunks(snapshot.entries):
            blobs = list(self._blobs(chunk, damaged))
            with store.batch():
                store.put_blobs((key, blob) for key, blob in blobs if blob)
                for key, blob in blobs:
                    if blob is None:
                        store.backend.delete(key)
                self.lease.check()
        if not snapshot.sealed and all(notes.get(name, (0, 0))[1] == end for name, end in snapshot.ends.items()):
            return 0
        with store.batch():
            for name, end in snapshot.ends.items():
                store.note(NOTE + name, f"{end} {'sealed' if name in snapshot.sealed else 'open'} {time.time():.0f}")
            self._forget_old(store)
            self.lease.check()
        self._name_torn(snapshot.sealed)
        self.spool.set_aside([name for name in snapshot.sealed if name in damaged])
        self._remove(store, snapshot.sealed)
        if snapshot.entries:
            log.info("%s: %d entries of the spool are in the store", self.path.parent, len(snapshot.entries))
        return len(snapshot.entries)

    def _blobs(self, entries: Iterable[Entry], damaged: set[str]) -> Iterator[tuple[str, Blob | None]]:
        """Keys and what they become; segments with entries that are not what was written are `damaged`."""
        for entry in entries:
            if entry.deleted:
                yield entry.key, None
                continue
            try:
                payload = self.spool.payload(entry)
                if payload is not None:
                    self._codec.check(entry.key, entry.codec, entry.size, entry.checksum, payload)
                    yield entry.key, Blob(entry.codec, entry.kind, entry.size, entry.checksum, payload)
            except CodecError as err:
                log.warning("%s: left out, and %s is kept as .damaged: %s", self.path.parent, entry.segment, err)
                damaged.add(entry.segment)

    def _remove(self, store: Store, segments: list[str]) -> None:
        if segments:
            store.sync()
            self.lease.check()
            self.spool.remove(segments)

    def _forget_old(self, store: Store) -> None:
        for name, text in store.notes(NOTE).items():
            written = float(text.split(" ")[2])
            if time.time() - written > FORGOTTEN and not (self.spool.directory / name.removeprefix(NOTE)).exists():
                store.forget(name)

    def _name_torn(self, segments: list[str]) -> None:
        for torn in self.spool.torn():
            if torn.segment in segments:
                log.warning(
                    "%s: %d bytes at the end of %s are no whole commit and left out: its writer was killed",
                    self.path.parent, torn.length, torn.segment,
                )  # fmt: skip

    def verify(self) -> Iterator[Damage]:
        """Everything that is damaged, in the store and in the spool."""
        yield from self.reader.verify()
        for entry in list(self.fresh().values()):
            try:
                payload = self.spool.payload(entry) if not entry.deleted else None
                if payload is not None:
                    self._codec.check(entry.key, entry.codec, entry.size, entry.checksum, payload)
            except CodecError as err:
                yield Damage(entry.key, f"spool: {err}")


def _parsed(text: str) -> tuple[int, int]:
    """Up to where a segment counts as folded, and up to where it is, from its note."""
    end, state, _ = text.split(" ")
    return (SEALED if state == "sealed" else int(end)), int(end)


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    chunk, size = list[Entry](), 0
    for entry in entries:
        chunk.append(entry)
        size += entry.length
        if len(chunk) >= GROUP_ROWS or size >= GROUP_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
