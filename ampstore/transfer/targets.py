"""Where a copy is written to, a chunk at a time, and read back.

    look what is there (again, with the write lock) -> write what is still wanted -> commit -> read back, compare

A row that somebody else changed since the copy looked is not written, and is told. Rows keep their codecs, so the
dictionaries that they need are written in the same transaction: no compaction can drop one in between.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from ampstore.backend import Row, Trained
from ampstore.codec import same
from ampstore.codec.dictionaries import Dictionary
from ampstore.codec.naming import parse
from ampstore.errors import AmpstoreError
from ampstore.legacy import LegacyDatabase, Problem
from ampstore.store import Store
from ampstore.transfer.sides import NoSide, Side, StoreSide, TieredSide

DIGEST = 16
CHANGED = "another program changed it meanwhile; run again"

Seen = Mapping[str, bytes]
"""Checksums of those keys that the destination had when it was looked at."""


class Target(Protocol):
    """Where rows go.

    Attributes
    ----------
    side : Side
        What is there.
    """

    side: Side

    def put(self, rows: Sequence[Row], seen: Seen, source: Side) -> list[Problem]:
        """Write rows; those that were not written."""

    def differing(self, rows: Sequence[Row]) -> list[Problem]:
        """Read rows back; those that are not there as they were written."""

    def finish(self) -> int:
        """Put it on the disk; bytes that it has."""


class StoreTarget:
    """A store, opened and closed by the caller; `location` is for people."""

    def __init__(self, store: Store, location: str) -> None:
        self.store = store
        self.side: Side = StoreSide(store, location)

    def put(self, rows: Sequence[Row], seen: Seen, source: Side) -> list[Problem]:
        """See `Target`."""
        dictionaries, refused = _dictionaries(rows, source)
        lacking = {problem.name for problem in refused}
        refused += [Problem(row.key, "store", why) for row in rows if (why := self._reason_against(row))]
        without = {problem.name for problem in refused}
        wanted = [row for row in rows if row.key not in without]
        backend = self.store.backend
        with self.store.batch():
            now = self.side.heads_of([row.key for row in wanted])
            changed = {row.key for row in wanted if _digest(now, row.key) != seen.get(row.key, b"")[:DIGEST]}
            sound = [row for row in wanted if row.key not in changed]
            if dictionaries and len(lacking) < len(rows):
                backend.recode([], dictionaries)
            if sound:
                backend.put_rows(sound)
        refused += [Problem(key, "destination", CHANGED) for key in changed]
        return refused

    def _reason_against(self, row: Row) -> str:
        if len(row.payload) + len(row.key) > self.store.backend.largest:
            return f"its {len(row.payload):,} bytes are over the destination's limit"
        return self.store.backend.reason_against(row.key) or ""

    def differing(self, rows: Sequence[Row]) -> list[Problem]:
        """See `Target`."""
        return list(self._differing(rows))

    def _differing(self, rows: Sequence[Row]) -> Iterator[Problem]:
        found = {row[0]: row[1:] for row in self.store.backend.fetch_many([row.key for row in rows])}
        for row in rows:
            stored = found.get(row.key)
            if stored == (row.codec, row.size, row.checksum, row.payload):
                continue
            damaged = stored is not None and stored[2] == row.checksum
            reason = "the destination's copy of it is damaged" if damaged else CHANGED
            yield Problem(row.key, "destination", reason)

    def finish(self) -> int:
        """See `Target`."""
        self.store.sync()
        return self.store.backend.stored_bytes()  # `stats` sorts rows with their payloads, in memory


class LegacyTarget:
    """The legacy layout; values are decoded and pickled as Amp reads them.

    Parameters
    ----------
    database : LegacyDatabase
    side : TieredSide
        The same container.
    archive : bool
        Pack all of it into archive.tar.gz at the end.
    """

    def __init__(self, database: LegacyDatabase, side: TieredSide, archive: bool) -> None:
        self.database, self.archive, self.container = database, archive, side.container
        self.side: Side = side

    def put(self, rows: Sequence[Row], seen: Seen, source: Side) -> list[Problem]:  # noqa: ARG002 - no transactions here
        """See `Target`."""
        problems = list[Problem]()
        for row in rows:
            try:
                value = source.codec.decode(row.key, row.codec, row.size, row.checksum, row.payload)
                self.database[row.key] = value
                if not same(value, self.database[row.key]):
                    problems.append(Problem(row.key, "destination", CHANGED))
            except (AmpstoreError, KeyError) as err:
                problems.append(Problem(row.key, "store", getattr(err, "reason", "") or str(err)))
        return problems

    def differing(self, rows: Sequence[Row]) -> list[Problem]:  # noqa: ARG002 - compared one by one by `put`
        """See `Target`."""
        return []

    def finish(self) -> int:
        """See `Target`."""
        if self.archive:
            self.database.archive()
        return self.container.size()


class NoTarget:
    """A dry run: what is there is looked at, nothing is written."""

    def __init__(self, side: Side | NoSide) -> None:
        self.side: Side = side

    def put(self, rows: Sequence[Row], seen: Seen, source: Side) -> list[Problem]:  # noqa: ARG002
        """See `Target`."""
        return _dictionaries(rows, source)[1]

    def differing(self, rows: Sequence[Row]) -> list[Problem]:  # noqa: ARG002
        """See `Target`."""
        return []

    def finish(self) -> int:
        """See `Target`."""
        return 0


def _digest(heads: Mapping[str, object], key: str) -> bytes:
    head = heads.get(key)
    return getattr(head, "checksum", b"")[:DIGEST]


def _dictionaries(rows: Sequence[Row], source: Side) -> tuple[list[Trained], list[Problem]]:
    """Dictionaries that rows need, and the rows whose dictionary cannot be had."""
    needed = {row.key: number for row in rows if ":" in row.codec and (number := _number(row.codec))}
    found = [one for one in source.dictionaries(set(needed.values())) if _is_whole(one)]
    there = {one.id for one in found}
    reason = "its dictionary {} is missing or damaged in the source; `ampstore verify` lists all"
    lacking = [Problem(key, "store", reason.format(number)) for key, number in needed.items() if number not in there]
    return found, lacking


def _number(codec: str) -> int:
    try:
        return parse(codec).dictionary
    except ValueError:  # of a newer ampstore: carried as it is
        return 0


def _is_whole(one: Trained) -> bool:
    try:
        return Dictionary(one.data).number == one.id
    except ValueError:
        return False
