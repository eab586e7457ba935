"""One side of a copy, a merge or a comparison: heads of its entries, and their rows as they are stored.

    StoreSide      a store: rows are taken as they are, and nothing is unpickled
    TieredSide     a container, or the legacy layout alone: what lies in its store, and its legacy files encoded

The rule of the tiers is that of `FileDatabase`: loose files over the store, the store over the archive.

Heads come in chunks of at most `CHUNK_ROWS` rows and `CHUNK_BYTES` bytes of payload, so that a chunk can be
held as a whole. Those of legacy files are known only once the file has been read and encoded, which
`settled` can spare: it is asked for the keys that need not be read.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from ampstore.backend import Head, Row, Trained
from ampstore.codec import Codec, intact
from ampstore.legacy import Container, Problem
from ampstore.legacy.names import reason_against
from ampstore.store import Store
from ampstore.transfer.encoding import Encoded, Source, encoded
from ampstore.transfer.folding import WORTH_PROCESSES, left_in_archive

CHUNK_ROWS = 1000
CHUNK_BYTES = 32 << 20

Settled = Callable[[Sequence[tuple[str, float]]], set[str]]
"""Keys and times of writing -> those that need not be read."""


class Side(Protocol):
    """What is read of one side.

    Attributes
    ----------
    location : str
        For people.
    codec : Codec
        Decodes its rows.
    exact : bool
        Whether its entries are as they were stored: one value always has one checksum, unless the codecs differ.
    problems : list of Problem
        What could not be read so far.
    """

    location: str
    codec: Codec
    exact: bool
    problems: list[Problem]

    def count(self) -> int:
        """Number of entries, for the progress."""

    def heads(self, settled: Settled | None = None) -> Iterator[list[Head]]:
        """Heads in the order of insertion, in chunks."""

    def sorted_heads(self) -> Iterator[Head]:
        """Heads by key."""

    def heads_of(self, keys: Sequence[str]) -> dict[str, Head]:
        """Heads of those of the keys that are there."""

    def rows(self, heads: Sequence[Head]) -> list[Row]:
        """Rows of those heads that are still there, in their order."""

    def dictionaries(self, numbers: Iterable[int]) -> list[Trained]:
        """Those of the dictionaries that are there."""

    def facts(self) -> dict[str, str]:
        """What the store says about itself."""


class NoSide:
    """A place where there is nothing yet."""

    exact = True

    def __init__(self, location: str) -> None:
        self.location, self.codec, self.problems = location, Codec(), list[Problem]()

    def count(self) -> int:
        """Zero."""
        return 0

    def heads(self, settled: Settled | None = None) -> Iterator[list[Head]]:  # noqa: ARG002
        """None."""
        return iter(())

    def sorted_heads(self) -> Iterator[Head]:
        """None."""
        return iter(())

    def heads_of(self, keys: Sequence[str]) -> dict[str, Head]:  # noqa: ARG002
        """None."""
        return {}

    def rows(self, heads: Sequence[Head]) -> list[Row]:  # noqa: ARG002
        """None."""
        return []

    def dictionaries(self, numbers: Iterable[int]) -> list[Trained]:  # noqa: ARG002
        """None."""
        return []

    def facts(self) -> dict[str, str]:
        """None."""
        return {}


class StoreSide:
    """A store; the parameter is opened and closed by the caller. See `Side`."""

    exact = True

    def __init__(self, store: Store, location: str) -> None:
        self.store, self.location, self.codec = store, location, store.codec
        self.problems: list[Problem] = []

    def count(self) -> int:
        """Number of entries."""
        return len(self.store)

    def heads(self, settled: Settled | None = None) -> Iterator[list[Head]]:  # noqa: ARG002 - no payload is read here
        """Heads up to the last entry that is there now, in chunks."""
        backend = self.store.backend
        last, after = backend.last_id(), 0
        while found := backend.heads(after, last):
            after = found[-1][0]
            yield from bounded(head for _, head in found)

    def sorted_heads(self) -> Iterator[Head]:
        """Heads by key."""
        return self.store.backend.heads_from("")

    def heads_of(self, keys: Sequence[str]) -> dict[str, Head]:
        """Heads of those of the keys that are there."""
        return self.store.backend.heads_of(keys)

    def rows(self, heads: Sequence[Head]) -> list[Row]:
        """Rows as they are stored; those whose bytes are damaged become problems."""
        known = {head.key: head for head in heads}
        found = {row[0]: row for row in self.store.backend.fetch_many(list(known))}
        changed = [key for key, row in found.items() if (row[1], row[3]) != (known[key].codec, known[key].checksum)]
        known |= self.heads_of(changed)
        rows = list[Row]()
        for key in known:
            if key not in found:
                continue
            _, codec, size, checksum, payload = found[key]
            head = known[key]
            if (codec, checksum) != (head.codec, head.checksum):
                self.problems.append(Problem(key, "store", "another program changes it again and again; run again"))
            elif not intact(checksum, payload):
                self.problems.append(Problem(key, "store", "its bytes do not have the checksum stored with them"))
            else:
                rows.append(Row(key, codec, head.kind, size, checksum, head.written_at, payload))
        return rows

    def dictionaries(self, numbers: Iterable[int]) -> list[Trained]:
        """Those of the dictionaries that are there."""
        backend, wanted = self.store.backend, set(numbers)
        found = [one for one in (backend.dictionaries() if wanted else ()) if one[0] in wanted]
        return [
            Trained(number, kind, at, data)
            for number, kind, at, _ in found
            if (data := backend.dictionary(number)) is not None
        ]

    def facts(self) -> dict[str, str]:
        """What the store says about itself."""
        return self.store.backend.info()


class TieredSide:
    """A container, or the legacy layout alone. See `Side`.

    Parameters
    ----------
    container : Container
    store : StoreSide or NoSide
        That of the container.
    codec : Codec
        What legacy files may name.
    jobs : int
        Processes that decode and encode legacy files, if there is enough to do.
    """

    exact = False

    def __init__(self, container: Container, store: StoreSide | NoSide, codec: Codec, jobs: int = 1) -> None:
        self.container, self.store, self.jobs = container, store, jobs
        self.location = str(container.directory)
        self._encoder = codec
        self.codec = store.codec if isinstance(store, StoreSide) else codec
        self.problems = store.problems
        self._ready: dict[str, Row] = {}

    def count(self) -> int:
        """Number of entries, a key in two tiers counted twice."""
        return self.store.count() + sum(1 for _ in self._sources())

    def heads(self, settled: Settled | None = None) -> Iterator[list[Head]]:
        """Those of the store, then those of the archive, then those of loose files."""
        for chunk in self.store.heads():
            kept = [head for head in chunk if not self._is_loose(head.key)]
            if kept:
                yield kept
        self.problems += self.container.problems()
        sources = self._sources() if settled is None else _unsettled(self._sources(), settled)
        yield from self._encoded(sources, self._processes())

    def sorted_heads(self) -> Iterator[Head]:
        """Heads by key; the names of legacy files are sorted in memory."""
        stored = (head for head in self.store.sorted_heads() if not self._is_loose(head.key))
        files = self._encoded(iter(sorted(self._sources())), self._processes())
        return heapq.merge(stored, (head for chunk in files for head in chunk), key=lambda head: head.key)

    def heads_of(self, keys: Sequence[str]) -> dict[str, Head]:
        """Heads of those of the keys that are there; of legacy files one after the other."""
        found = self.store.heads_of(keys)
        for key in keys:
            if source := self._source(key, stored=key in found):
                for chunk in self._encoded(iter([source])):
                    found[key] = chunk[0]
        return found

    def rows(self, heads: Sequence[Head]) -> list[Row]:
        """Rows, those of legacy files as they were encoded."""
        lacking = [head.key for head in heads if head.key not in self._ready]
        stored = {row.key: row for row in self.store.rows([head for head in heads if head.key in set(lacking)])}
        found = list[Row]()
        for head in heads:
            row = self._ready.get(head.key) or (None if self._is_loose(head.key) else stored.get(head.key))
            if row is None:
                self.heads_of([head.key])
                row = self._ready.get(head.key)
            if row is not None:
                found.append(row)
        return found

    def dictionaries(self, numbers: Iterable[int]) -> list[Trained]:
        """Those of the dictionaries that are there."""
        return self.store.dictionaries(numbers)

    def facts(self) -> dict[str, str]:
        """What the container's store says about itself."""
        return self.store.facts()

    def _is_loose(self, name: str) -> bool:
        return name != "" and self.container.loose.holds_entry(name, self._encoder.rule)

    def _sources(self) -> Iterator[Source]:
        """Legacy files that count: of the archive what neither the store nor a loose file has, and the loose files."""
        archive, left = self.container.archive, self._left_in_archive()
        names = [name for name in archive.names(self._encoder.rule) if left is None or name in left]
        for start in range(0, len(names), CHUNK_ROWS):
            group = names[start : start + CHUNK_ROWS]
            stored = self.store.heads_of(group)
            yield from (found for name in group if name not in stored and (found := self._archived(name)))
        for name in self.container.loose.names():
            if found := self._loose(name):
                yield found

    def _source(self, name: str, *, stored: bool) -> Source | None:
        if reason_against(name):
            return None
        if (found := self._loose(name)) and self._is_loose(name):
            return found
        left = self._left_in_archive()
        return self._archived(name) if not stored and (left is None or name in left) else None

    def _left_in_archive(self) -> set[str] | None:
        if not isinstance(self.store, StoreSide) or not self.container.archive.size():
            return None
        return left_in_archive(self.store.store, self.container.archive.signature())

    def _archived(self, name: str) -> Source | None:
        member = self.container.archive.members().get(name)
        if member is None or self._is_loose(name):
            return None
        return Source(name, "archive", member.size, member.mtime, None)

    def _loose(self, name: str) -> Source | None:
        stamp = self.container.loose.stamp(name)
        return Source(name, "loose", stamp.size, stamp.mtime_ns / 1e9, None) if stamp else None

    def _processes(self) -> int:
        return self.jobs if self.jobs > 1 and self.container.size() > WORTH_PROCESSES else 1

    def _encoded(self, sources: Iterator[Source], jobs: int = 1) -> Iterator[list[Head]]:
        for chunk in encoded(self.container, sources, self._encoder, jobs):
            self.problems += [Problem(entry.name, entry.where, entry.reason) for entry in chunk if entry.reason]
            self._ready = {entry.name: _row(entry) for entry in chunk if entry.blob}
            if self._ready:
                yield [_head(row) for row in self._ready.values()]


def _row(entry: Encoded) -> Row:
    if entry.blob is None:
        raise ValueError(entry.reason)
    codec, kind, size, checksum, payload = entry.blob
    return Row(entry.name, codec, kind, size, checksum, entry.mtime, payload)


def _head(row: Row) -> Head:
    return Head(row.key, row.codec, row.kind, row.size, len(row.payload), row.checksum, row.written_at)


def _unsettled(sources: Iterator[Source], settled: Settled) -> Iterator[Source]:
    """Sources without those that were copied before. An archive of whole seconds tells too little of a time."""
    group = list[Source]()
    for source in sources:
        group.append(source)
        if len(group) == CHUNK_ROWS:
            yield from _left_of(group, settled)
            group = []
    yield from _left_of(group, settled)


def _left_of(group: Sequence[Source], settled: Settled) -> Iterator[Source]:
    done = settled([(source.name, source.mtime) for source in group if source.mtime % 1])
    return (source for source in group if source.name not in done)


def bounded(heads: Iterable[Head], most: int | None = None) -> Iterator[list[Head]]:
    """Chunks of at most `CHUNK_ROWS` rows, and of `most` or `CHUNK_BYTES` bytes unless one entry alone is larger."""
    most = most or CHUNK_BYTES
    chunk, size = list[Head](), 0
    for head in heads:
        if chunk and (len(chunk) >= CHUNK_ROWS or size + head.stored > most):
            yield chunk
            chunk, size = [], 0
        chunk.append(head)
        size += head.stored
    if chunk:
        yield chunk
