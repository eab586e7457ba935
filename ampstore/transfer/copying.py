"""Entries of one store into another, and of several into one: verified, resumable, in constant memory.

    heads of a chunk --> which are at the destination?  same checksum       nothing is read
                                                        absent              copied
                                                        another value       a conflict: refused, kept or replaced
    rows of what is wanted --CRC--> written, one transaction --> read back and compared

Killed anywhere, the same call goes on: what arrived is known by its checksum. Payloads go as they are stored, so
nothing is unpickled, with the dictionaries that they need. Facts go along, such as the scheme of the keys; the id of
the store, claims, notes of runs and traces stay.

Between stores these are three steps, each in a thread of its own if there are `jobs`: the next chunk is read while one
is written and the last one is read back. One thread writes, so the order of insertion stays that of the source.

Legacy files have no checksum, so they are read and encoded, in several processes where it pays; a file whose time is
that of the entry at the destination was copied before.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ampstore.backend import GAPS, Head, Row
from ampstore.codec import Allowed
from ampstore.errors import MixedSchemesError, StoreError
from ampstore.images.schemes import NOTE, schemes_in
from ampstore.legacy import Problem
from ampstore.transfer.ahead import ahead
from ampstore.transfer.comparing import equal
from ampstore.transfer.folding import FOLDED
from ampstore.transfer.places import Layout, opened_side, opened_target, place_of, same_place
from ampstore.transfer.report import Conflict, Copied, Progress, Version
from ampstore.transfer.sides import CHUNK_BYTES, Side, StoreSide, bounded
from ampstore.transfer.targets import StoreTarget, Target

Policy = Literal["refuse", "keep", "overwrite"]
Preference = Literal["newest", "first", "last"]

_Choice = Callable[[Head, Head], bool | None]
"""Head of the destination, head of the source -> replace it; None for nobody knows."""

_POLICIES: dict[str, _Choice] = {
    "refuse": lambda old, new: None,  # noqa: ARG005
    "keep": lambda old, new: False,  # noqa: ARG005
    "overwrite": lambda old, new: True,  # noqa: ARG005
}
_PREFERENCES: dict[str | None, _Choice] = {
    None: _POLICIES["refuse"],
    "first": _POLICIES["keep"],
    "last": _POLICIES["overwrite"],
    "newest": lambda old, new: None if old.written_at == new.written_at else new.written_at > old.written_at,
}
_OWN_FACTS = ("store", "created_by", "created_at", "needs", GAPS, "compacted", FOLDED, NOTE)
_RUN = "run "

WORTH_THREADS = 16 << 10
"""Bytes of a payload, on the average of the first entries, from which on threads pay between two files."""

_CHUNK_BYTES = 8 << 20
"""Payload of a chunk where several are in memory at once: being read, waiting, being written, being read back."""


def copy(
    source: object,
    destination: object,
    *,
    conflicts: Policy = "refuse",
    layout: Layout = "store",
    allow: Allowed = (),
    jobs: int = 1,
    dry_run: bool = False,
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> Copied:
    """Copy the entries of one store into another, and verify every one.

    Parameters
    ----------
    source, destination : path, URL, or an open Store, FileDatabase or LegacyDatabase
        A store's file, a container with its tiers, or a database on a server. The destination is made if it is
        not there.
    conflicts : {"refuse", "keep", "overwrite"}
        What is done where the destination has another value: nothing, and the report is not complete; nothing;
        or it is replaced.
    layout : {"store", "loose", "archive"}
        The last two write the legacy layout, which real Amp reads.
    allow : iterable of str or "*"
        As in `Store`; needed only for values that have to be decoded, from and to the legacy layout.
    jobs : int
        Between two stores: with more than 1, chunks are read, written and read back at the same time, in that
        many threads or a few more, unless small values go from file to file, where one thread is faster. From the
        legacy layout: processes that read and encode files; a script then needs `if __name__ == "__main__"`.
    dry_run : bool
        Read everything that would be copied, write nothing.
    progress : callable(done, total), optional
    timeout : float, seconds
        Longest wait for other writers.

    Returns
    -------
    Copied
        `left` has what could not be copied, `conflicts` the keys with two values.

    Raises
    ------
    MissingStoreError
        If there is no source.
    MixedSchemesError
        If the keys of the two are of different hash schemes.
    StoreError
        If both are the same place.
    """
    if conflicts not in _POLICIES:
        raise ValueError(f"conflicts must be 'refuse', 'keep' or 'overwrite', not {conflicts!r}")
    _refuse_same(source, destination)
    with (
        opened_side(source, allow=allow, jobs=jobs, timeout=timeout) as side,
        opened_target(destination, layout=layout, allow=allow, dry_run=dry_run, timeout=timeout) as target,
    ):
        _check_schemes([side, target.side])
        report = Copied(side.location, target.side.location, dry_run=dry_run)
        return _Copy(side, target, report, _POLICIES[conflicts], jobs).run(progress)


@dataclass
class Merged:
    """What a merge did.

    Attributes
    ----------
    destination : str
    copies : list of Copied
        One for each source, in their order.
    """

    destination: str
    copies: list[Copied] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing was left behind, and nothing is undecided."""
        return all(report.complete for report in self.copies)

    @property
    def conflicts(self) -> list[Conflict]:
        """Keys with several values."""
        return [conflict for report in self.copies for conflict in report.conflicts]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"destination": self.destination, "copies": [report.as_dict() for report in self.copies]}


def merge(
    destination: object,
    sources: Iterable[object],
    *,
    prefer: Preference | None = None,
    allow: Allowed = (),
    jobs: int = 1,
    dry_run: bool = False,
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> Merged:
    """Copy the entries of several stores into one.

    Parameters
    ----------
    destination, sources : as in `copy`
        What the destination has already takes part, as the first.
    prefer : {"newest", "first", "last"}, optional
        Which of several values of one key is taken: that written last by the clocks of the writers, that of the
        first source that has the key, or that of the last. By default the destination keeps what it has, and the
        key is reported as undecided.
    allow, jobs, dry_run, progress, timeout
        As in `copy`.

    Returns
    -------
    Merged

    Raises
    ------
    MissingStoreError
        If one of the sources does not exist.
    MixedSchemesError
        If keys are of different hash schemes; found before anything is written.
    StoreError
        If a source is the destination.
    """
    if prefer not in _PREFERENCES:
        raise ValueError(f"prefer must be 'newest', 'first', 'last' or None, not {prefer!r}")
    names = list(sources)
    for name in names:
        _refuse_same(name, destination)
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(opened_side(name, allow=allow, jobs=jobs, timeout=timeout)) for name in names]
        _check_schemes(sides)
        target = stack.enter_context(opened_target(destination, allow=allow, dry_run=dry_run, timeout=timeout))
        _check_schemes([target.side, *sides])
        merged = Merged(target.side.location)
        for side in sides:
            report = Copied(side.location, merged.destination, dry_run=dry_run)
            merged.copies.append(_Copy(side, target, report, _PREFERENCES[prefer], jobs).run(progress))
    return merged


def _refuse_same(source: object, destination: object) -> None:
    if same_place(source, destination):
        raise StoreError(str(place_of(source)), "it is both source and destination")


def _check_schemes(sides: Sequence[Side]) -> None:
    """Keys of different schemes in one store would hide each other."""
    found: tuple[str, str] | None = None
    for side in sides:
        scheme, _ = schemes_in(side.facts().get(NOTE))
        if scheme and found and scheme != found[1]:
            raise MixedSchemesError(side.location, scheme, found[1])
        if scheme and not found:
            found = side.location, scheme


class _Chunk(NamedTuple):
    """Some entries on their way: heads, checksums of what they replace, rows, those that were refused or got lost."""

    heads: list[Head]
    seen: dict[str, bytes]
    entries: int
    rows: list[Row] = []
    problems: list[Problem] = []


class _Copy:
    """One copy at work. The report and the progress are of the caller's thread, whatever `jobs` is."""

    def __init__(self, source: Side, target: Target, report: Copied, choose: _Choice, jobs: int) -> None:
        self.source, self.target, self.report, self.choose = source, target, report, choose
        several = jobs > 1 and isinstance(target, StoreTarget) and _threads_pay(source, target)
        self.threads = 1 if several else 0
        self.readers = jobs - 1 if several and isinstance(source, StoreSide) else 0
        self.most = _CHUNK_BYTES if several else CHUNK_BYTES

    def run(self, progress: Progress | None) -> Copied:
        """Do it, and fill the report."""
        started, report = time.monotonic(), self.report
        total = self.source.count()
        if isinstance(self.target, StoreTarget):
            # First: a copy that is killed after its first entries could not tell any more that there were none.
            _carry_facts(self.source, self.target, total, was_empty=self.target.side.count() == 0)
        read = ahead(self._chunks(), self._read, self.readers)
        written = ahead(read, self._write, self.threads)
        for chunk in ahead(written, self._check, self.threads):
            self._note(chunk)
            if progress:
                progress(min(report.entries, total), total)
        report.left += self.source.problems
        self.source.problems.clear()
        report.entries += len(report.left)
        report.bytes_after = self.target.finish()
        report.seconds = time.monotonic() - started
        return report

    def _chunks(self) -> Iterator[_Chunk]:
        for heads in self.source.heads(self._settled):
            wanted, seen = self._wanted(heads)
            entries = len(heads)
            for part in bounded(wanted, self.most):
                yield _Chunk(part, seen, entries)
                entries = 0
            if not wanted:
                yield _Chunk([], {}, entries)

    def _read(self, chunk: _Chunk) -> _Chunk:
        return chunk._replace(rows=self.source.rows(chunk.heads)) if chunk.heads else chunk

    def _write(self, chunk: _Chunk) -> _Chunk:
        return chunk._replace(problems=self.target.put(chunk.rows, chunk.seen, self.source)) if chunk.rows else chunk

    def _check(self, chunk: _Chunk) -> _Chunk:
        """What was written, read back and compared."""
        refused = {problem.name for problem in chunk.problems}
        written = [row for row in chunk.rows if row.key not in refused]
        lost = self.target.differing(written) if written else []
        return chunk._replace(problems=[*chunk.problems, *lost])

    def _settled(self, files: Sequence[tuple[str, float]]) -> set[str]:
        """Legacy files that were copied before: the entry has the time of the file."""
        there = self.target.side.heads_of([key for key, _ in files]) if self.target.side.exact else {}
        done = {key for key, at in files if key in there and there[key].written_at == at}
        self.report.entries += len(done)
        self.report.unchanged += len(done)
        return done

    def _wanted(self, chunk: Sequence[Head]) -> tuple[list[Head], dict[str, bytes]]:
        """Heads of what has to be copied, and the checksums of what that replaces."""
        there = self.target.side.heads_of([head.key for head in chunk])
        wanted, seen = list[Head](), dict[str, bytes]()
        for head in chunk:
            old = there.get(head.key)
            if old is None:
                wanted.append(head)
            elif equal(head, self.source, old, self.target.side):
                self.report.unchanged += 1
            elif self._decide(head, old):
                wanted.append(head)
                seen[head.key] = old.checksum
        return wanted, seen

    def _decide(self, head: Head, old: Head) -> bool:
        """Whether another value is replaced; the conflict is noted in any case."""
        chosen = self.choose(old, head)
        taken = {None: "", True: "source", False: "destination"}[chosen]
        one, other = _version(head, self.source), _version(old, self.target.side)
        self.report.note(Conflict(head.key, one, other, taken))
        return bool(chosen)

    def _note(self, chunk: _Chunk) -> None:
        refused = {problem.name for problem in chunk.problems}
        written = [row for row in chunk.rows if row.key not in refused]
        self.report.left += chunk.problems
        unread = len(chunk.heads) - len(chunk.rows)  # damaged, or deleted meanwhile
        self.report.entries += chunk.entries - len(refused) - unread  # `run` counts what is left
        self.report.written += len(written)
        self.report.overwritten += sum(row.key in chunk.seen for row in written)
        self.report.bytes_before += sum(len(row.payload) for row in written)


def _threads_pay(source: Side, target: StoreTarget) -> bool:
    """Whether threads gain time: not where small values go from file to file, as Python's own work has one core."""
    if not isinstance(source, StoreSide) or source.store.path is None or target.store.path is None:
        return True
    backend = source.store.backend
    heads = backend.heads(0, backend.last_id())
    return sum(head.stored for _, head in heads) >= WORTH_THREADS * len(heads)


def _version(head: Head, side: Side) -> Version:
    return Version(side.location, head.kind, head.size, head.written_at)


def _carry_facts(source: Side, target: StoreTarget, entries: int, *, was_empty: bool) -> None:
    """Facts of the source that the destination does not have, and the scheme of the keys."""
    theirs, ours, store = source.facts(), target.side.facts(), target.store
    for name, value in theirs.items():
        if name not in _OWN_FACTS and name not in ours and not name.startswith(_RUN):
            store.note(name, value)
    together = _schemes(theirs.get(NOTE), ours.get(NOTE), was_empty=was_empty) if entries else None
    if together and together != ours.get(NOTE):
        store.note(NOTE, together)


def _schemes(theirs: str | None, ours: str | None, *, was_empty: bool) -> str | None:
    """What can be said of the keys of both together: keys of a store that notes nothing may be of any scheme."""
    if was_empty:
        return theirs
    scheme = schemes_in(ours)[0]
    if scheme is None:
        return None
    others = dict.fromkeys([*schemes_in(ours)[1], *schemes_in(theirs)[1]])
    return " ".join([scheme, *(other for other in others if other != scheme)])
