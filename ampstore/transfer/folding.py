"""The legacy tiers of a container folded into a store; see the package for the rules."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from ampstore.backend import Head
from ampstore.codec import Codec
from ampstore.errors import CodecError
from ampstore.legacy import Container, Problem
from ampstore.store import Store
from ampstore.transfer.encoding import Encoded, Source, encoded
from ampstore.transfer.report import Progress, Report

FOLDED = "folded archive"
"""Fact in a container's store: signature of the archive that was folded, and the names that could not be read."""

WORTH_PROCESSES = 16 << 20
"""Bytes of legacy files from which on starting more processes pays."""


def fold(
    container: Container,
    store: Store | None,
    report: Report,
    codec: Codec,
    *,
    jobs: int = 1,
    remove: bool = False,
    loose: bool = True,
    progress: Progress | None = None,
) -> None:
    """Bring the entries of the legacy tiers into the store and fill the report.

    Parameters
    ----------
    store : Store or None
        None for a dry run.
    jobs : int
        Processes that decode and encode, if there is enough to do.
    remove : bool
        Remove the sources of what the store has, verified and synced.
    loose : bool
        False leaves the loose files alone.
    """
    work = _Fold(container, store, report, codec, loose)
    for chunk in encoded(container, work.sources(), codec, jobs if report.bytes_before > WORTH_PROCESSES else 1):
        settled = work.store_chunk(chunk)
        if remove and settled:
            work.remove_loose(settled)
        if progress:
            progress(min(work.done, report.entries), report.entries)
    work.finish(remove)


class Noting(Protocol):
    """A store as far as it keeps facts."""

    def noted(self, name: str) -> str | None:
        """A fact about the store, None if it was never noted."""


def left_in_archive(store: Noting, signature: str) -> set[str] | None:
    """Names that this archive has and the store did not take over; None if it was never folded."""
    noted, _, names = (store.noted(FOLDED) or "").partition(" ")
    if not signature or noted != signature:
        return None
    return set(json.loads(names)) if names else set()


class _Fold:
    """One fold at work.

    `shadowed` are the archived names over which a loose file lies, `settled` the archived names that
    the store need not take any more, `taken` those that it took from this very archive before. `late`
    are the loose files over an archived value: they go after the archive, or not at all, since without
    them a legacy program would see the older value, and its own archive() bring it back as a loose file.
    """

    def __init__(self, container: Container, store: Store | None, report: Report, codec: Codec, loose: bool) -> None:
        self.container, self.store, self.report, self.codec, self.loose = container, store, report, codec, loose
        self.signature = container.archive.signature()
        self.late = list[Encoded]()
        self.own = store is not None and store.path is not None and store.path.parent == container.directory
        members = container.archive.members().keys()
        self.shadowed = {name for name in members if container.loose.stamp(name)}
        self.settled = set[str]()
        if not loose:
            # A torn file shows the archived value, which the store must have if it is to be the one that counts.
            self.settled = {name for name in self.shadowed if container.loose.holds_entry(name, codec.rule)}
            self.shadowed = self.settled.copy()
        left = left_in_archive(store, self.signature) if self.own and store is not None else None
        self.taken = set[str]() if left is None else members - left
        report.left += container.problems()
        report.entries = len(members) - len(self.shadowed)
        report.entries += sum(1 for _ in container.loose.names()) if loose else 0

    @property
    def done(self) -> int:
        return self.report.written + self.report.unchanged + len(self.report.left)

    def sources(self) -> Iterator[Source]:
        """Archived entries first, then loose ones."""
        for name, member in self.container.archive.members().items():
            if name not in self.shadowed:
                yield Source(name, "archive", member.size, member.mtime, None)
        for name in self.container.loose.names() if self.loose else ():
            stamp = self.container.loose.stamp(name)
            if stamp:
                yield Source(name, "loose", stamp.size, stamp.mtime_ns / 1e9, None)

    def store_chunk(self, chunk: Sequence[Encoded]) -> list[Encoded]:
        """Write what is new, read it back; the entries that the store need not take any more."""
        report, store = self.report, self.store
        report.left += [Problem(entry.name, entry.where, entry.reason) for entry in chunk if entry.reason]
        sound = [entry for entry in chunk if entry.blob]
        if store is None:
            report.written += len(sound)
            return []
        with store.batch():
            # Inside the write lock: a set or a delete removes the loose file before its own last write, so
            # as long as the file is there nothing newer can be in the store.
            current = [entry for entry in sound if self._is_there(entry)]
            heads = store.backend.heads_of([entry.name for entry in current])
            new = {entry.name for entry in current if self._is_new(store, entry, heads.get(entry.name))}
            store.put_blobs((entry.name, entry.blob) for entry in current if entry.name in new and entry.blob)
        changed = [
            (entry, "another program changed it meanwhile; run again") for entry in sound if entry not in current
        ]
        unsound = _damaged(store, [entry.name for entry in current])
        damaged = [(entry, "the store's copy of it is damaged") for entry in current if entry.name in unsound]
        report.left += [Problem(entry.name, entry.where, reason) for entry, reason in (*changed, *damaged)]
        settled = [entry for entry in current if entry.name not in unsound]
        report.written += sum(entry.name in new for entry in settled)
        report.unchanged += sum(entry.name not in new for entry in settled)
        self.settled |= {entry.name for entry in settled if entry.where == "archive" or entry.name in self.shadowed}
        return settled

    def remove_loose(self, settled: Sequence[Encoded]) -> None:
        """Remove loose files that the store has; synced first, as the WAL alone does not survive a power cut."""
        if self.store is None:
            return
        self.store.sync()
        over = {e.name for e in settled if e.name in self.shadowed or e.name in self.container.archive}
        self.late += [entry for entry in settled if entry.name in over]
        self._remove(entry for entry in settled if entry.name not in over)

    def _remove(self, entries: Iterable[Encoded]) -> None:
        stamps = [(entry.name, entry.stamp) for entry in entries if entry.stamp]
        if self.store is None or not stamps:
            return
        with self.store.batch():  # nobody writes anything newer before they are gone from the disk
            self.report.removed += sum(self.container.loose.remove_unchanged(name, stamp) for name, stamp in stamps)
            self.container.loose.sync()

    def finish(self, remove: bool) -> None:
        """Note that the archive was folded, and remove it if nothing of it is left."""
        archive, store = self.container.archive, self.store
        if store is None or not self.signature or self.signature != archive.signature():
            return
        refused = {problem.name for problem in self.report.left if problem.where == "archive"}
        left = archive.members().keys() - self.settled
        if self.own and left <= refused:
            store.note(FOLDED, f"{self.signature} {json.dumps(sorted(left))}")
        if remove and not left and not archive.problems():
            store.sync()
            if archive.remove_unchanged(self.signature):
                self.report.removed += 1
                self._remove(self.late)

    def _is_there(self, entry: Encoded) -> bool:
        return entry.where == "archive" or self.container.loose.stamp(entry.name) == entry.stamp

    def _is_new(self, store: Store, entry: Encoded, head: Head | None) -> bool:
        """Whether the store lacks this value, and it is not older than what the store has."""
        if head is None:
            return entry.where == "loose" or entry.name not in self.taken  # taken and gone: it was deleted
        if entry.blob is None:
            return False
        if head.checksum[:16] == entry.blob.checksum[:16]:
            return bool(_damaged(store, [entry.name]))
        return entry.where == "loose" or entry.mtime > head.written_at


def _damaged(store: Store, names: Sequence[str]) -> set[str]:
    """Those of the entries that are not whole in the store, read back; one that another process deleted is none."""
    found = set()
    for name, codec, size, checksum, payload in store.backend.fetch_many(names):
        try:
            store.codec.check(name, codec, size, checksum, payload)
        except CodecError:
            found.add(name)
    return found
