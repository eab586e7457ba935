"""Legacy containers into a store and back: verified, resumable, idempotent.

    fold    loose/ ---┐ read --safe pickle--> value --codec--> blob --commit--> row --read back--> same?
            archive --┘                                                              └-> then, if asked,
                                                                                         the source goes
A loose file wins over the store, the store over the archive, unless the archived entry was written
after the stored one: then a legacy program archived a newer value meanwhile.

What cannot be read stays where it is and is named in the report. Killed anywhere, the same call
again finishes the work: what is stored already is compared, not written.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ampstore.codec import Allowed, Blob, Codec, Rule, dump_legacy, load_legacy, same
from ampstore.errors import AmpstoreError, CodecError, MissingStoreError, StoreError
from ampstore.legacy import (
    LOCK_NAME,
    Container,
    Problem,
    Stamp,
    check_name,
    container_path,
    maintenance_lock,
)
from ampstore.legacy.archive import write_archive
from ampstore.store import Store

__all__ = [
    "FOLDED",
    "LOCK_NAME",
    "STORE_NAME",
    "Progress",
    "Report",
    "export_legacy",
    "find_containers",
    "fold",
    "import_legacy",
    "left_in_archive",
    "maintenance_lock",
]

STORE_NAME = "store.sqlite3"
FOLDED = "folded archive"
"""Fact in a container's store: signature of the archive that was folded, and the names that could not be read."""

CHUNK_ENTRIES = 64
CHUNK_BYTES = 4 << 20
WORTH_PROCESSES = 16 << 20
"""Bytes of legacy files from which on starting more processes pays."""

Progress = Callable[[int, int], None]
"""Called with the entries done and all there are."""


@dataclass
class Report:
    """What a transfer did.

    Attributes
    ----------
    source, destination : str
    entries : int
        Entries found in the source.
    written : int
        Entries that were written to the destination.
    unchanged : int
        Entries that the destination had already, the same or newer.
    left : list of Problem
        What was not transferred: name, where, reason.
    removed : int
        Source files that were removed after they were verified.
    bytes_before, bytes_after : int
        Size of the legacy files, and of the destination.
    seconds : float
    dry_run : bool
        Nothing was written.
    """

    source: str
    destination: str
    entries: int = 0
    written: int = 0
    unchanged: int = 0
    left: list[Problem] = field(default_factory=list)
    removed: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing was left behind."""
        return not self.left

    @property
    def ratio(self) -> float:
        """Bytes before over bytes after."""
        return self.bytes_before / self.bytes_after if self.bytes_after else 0.0

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "left": [problem._asdict() for problem in self.left], "ratio": round(self.ratio, 3)}


def find_containers(paths: Iterable[Path]) -> list[Path]:
    """Containers among the paths and in the directories below them; links are not followed.

    Raises
    ------
    MissingStoreError
        If one of the paths is neither a container nor a directory.
    """
    found: list[Path] = []
    for path in paths:
        named = container_path(path)
        if named.is_dir():
            found.append(named)
        elif path.is_dir():
            found.extend(_below(path))
        else:
            raise MissingStoreError(str(path), "there is no such container or directory")
    return list(dict.fromkeys(found))


def _below(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.is_symlink() or not path.is_dir():
            continue
        if path.name.endswith(".ampdb"):
            yield path
        else:
            yield from _below(path)


def import_legacy(
    source: Path | str,
    into: Path | str | None = None,
    *,
    allow: Allowed = (),
    jobs: int = 1,
    remove_source: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> Report:
    """Fold a legacy container into a store and verify every entry.

    Parameters
    ----------
    source : path
        The container, with or without ".ampdb".
    into : path, optional
        A store's file or another container; default is the container's own store.
    allow : iterable of str or "*"
        As in `Store`.
    jobs : int
        Processes that read and encode; with more than 1, a script needs `if __name__ == "__main__"`.
    remove_source : bool
        Remove what was verified, and only that.
    dry_run : bool
        Read everything, write nothing.
    progress : callable(done, total), optional
    timeout : float, seconds
        Longest wait for another maintainer or writer.

    Returns
    -------
    Report

    Raises
    ------
    MissingStoreError
        If there is no such container.
    BusyError
        If another process maintains it.
    """
    directory = container_path(source)
    if not directory.is_dir():
        raise MissingStoreError(str(directory), "there is no such container")
    target = _target(directory, into)
    container = Container(directory)
    report = Report(str(directory), str(target), dry_run=dry_run, bytes_before=container.size())
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        store = None
        if not dry_run:
            if into is None or remove_source:
                stack.enter_context(maintenance_lock(directory, timeout))
            target.parent.mkdir(parents=True, exist_ok=True)
            store = stack.enter_context(Store(target, "c", allow=allow, timeout=timeout))
        fold(container, store, report, Codec(allow), jobs=jobs, remove=remove_source, progress=progress)
        if store is not None:
            store.sync()
            report.bytes_after = store.stats().disk
    report.seconds = time.monotonic() - started
    return report


def _target(directory: Path, into: Path | str | None) -> Path:
    if into is None:
        return directory / STORE_NAME
    target = Path(into)
    return target / STORE_NAME if target.name.endswith(".ampdb") or target.is_dir() else target


class _Source(NamedTuple):
    """One legacy entry on its way; the bytes of a loose file are read where they are decoded."""

    name: str
    where: str
    size: int
    mtime: float
    data: bytes | None


class _Encoded(NamedTuple):
    """One legacy entry, decoded and encoded again, or the reason why not."""

    name: str
    where: str
    mtime: float
    blob: Blob | None
    stamp: Stamp | None
    reason: str


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
    """Bring the entries of the legacy tiers into the store and fill the report; see the module.

    Parameters
    ----------
    store : Store or None
        None for a dry run.
    loose : bool
        False leaves the loose files alone.
    """
    signature = container.archive.signature()
    own = store is not None and store.path.parent == container.directory
    left = left_in_archive(store, signature) if own and store is not None else None
    taken = container.archive.members().keys() - left if left is not None else frozenset[str]()
    report.left += container.problems()
    shadowed = {name for name in container.archive.members() if container.loose.stamp(name)}
    settled_archive = set[str]()
    if not loose:
        # A torn file shows the archived value, which the store must have if it is to be the one that counts.
        settled_archive = {name for name in shadowed if container.loose.holds_entry(name, codec.rule)}
        shadowed = settled_archive.copy()
    loose_files = sum(1 for _ in container.loose.names()) if loose else 0
    total = report.entries = loose_files + len(container.archive.members()) - len(shadowed)
    for chunk in _encoded(
        container, _sources(container, shadowed, loose), codec, jobs if report.bytes_before > WORTH_PROCESSES else 1
    ):
        settled = _store_chunk(store, container, chunk, codec, report, taken)
        settled_archive |= {entry.name for entry in settled if entry.where == "archive" or entry.name in shadowed}
        if remove and store is not None and settled:
            store.sync()  # the file goes now; the WAL alone would not survive a power cut
            stamps = ((entry.name, entry.stamp) for entry in settled if entry.stamp)
            report.removed += sum(container.loose.remove_unchanged(name, stamp) for name, stamp in stamps)
        if progress:
            done = report.written + report.unchanged + len(report.left)
            progress(min(done, total), total)
    if store is None or not signature or signature != container.archive.signature():
        return
    refused = {problem.name for problem in report.left if problem.where == "archive"}
    open_members = container.archive.members().keys() - settled_archive
    if own and open_members <= refused:
        store.note(FOLDED, f"{signature} {json.dumps(sorted(open_members))}")
    if remove and not open_members and not container.archive.problems():
        store.sync()
        report.removed += container.archive.remove_unchanged(signature)


def left_in_archive(store: Store, signature: str) -> set[str] | None:
    """Names that this archive has and the store did not take over; None if it was never folded."""
    noted, _, names = (store.noted(FOLDED) or "").partition(" ")
    if not signature or noted != signature:
        return None
    return set(json.loads(names)) if names else set()


def _sources(container: Container, shadowed: set[str], loose: bool) -> Iterator[_Source]:
    """Archived entries first, then loose ones."""
    for name, member in container.archive.members().items():
        if name not in shadowed:
            yield _Source(name, "archive", member.size, member.mtime, None)
    for name in container.loose.names() if loose else ():
        stamp = container.loose.stamp(name)
        if stamp:
            yield _Source(name, "loose", stamp.size, stamp.mtime_ns / 1e9, None)


def _chunks(sources: Iterator[_Source]) -> Iterator[list[_Source]]:
    chunk, size = list[_Source](), 0
    for source in sources:
        chunk.append(source)
        size += source.size
        if len(chunk) >= CHUNK_ENTRIES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _encoded(container: Container, sources: Iterator[_Source], codec: Codec, jobs: int) -> Iterator[Sequence[_Encoded]]:
    """Chunks of sources, decoded and encoded in this process or in `jobs` others, in order."""
    chunks = _chunks(sources)
    if jobs <= 1:
        for chunk in chunks:
            yield [_encode(container, source, codec) for source in _with_data(container, chunk)]
        return
    import multiprocessing

    allow = codec.rule.allow
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:

        def submit(chunk: list[_Source]) -> "Future[list[_Encoded]]":
            return pool.submit(
                _encode_chunk, str(container.directory), _with_data(container, chunk), allow, codec.level
            )

        waiting = [submit(chunk) for chunk in islice(chunks, 2 * jobs)]
        while waiting:
            try:
                yield waiting.pop(0).result()
                waiting += [submit(chunk) for chunk in islice(chunks, 1)]
            except BrokenProcessPool as err:
                detail = "one of the processes that read it was killed; run the same command again with --jobs 1"
                raise StoreError(str(container.directory), detail) from err


def _with_data(container: Container, chunk: list[_Source]) -> list[_Source]:
    """Archived bytes go along: the archive is unpacked here, once."""
    return [
        source._replace(data=container.archive.read(source.name)) if source.where == "archive" else source
        for source in chunk
    ]


def _encode_chunk(directory: str, chunk: list[_Source], allow: Allowed, level: int) -> list[_Encoded]:
    """In another process."""
    container, codec = Container(Path(directory)), Codec(allow, level)
    return [_encode(container, source, codec) for source in chunk]


def _encode(container: Container, source: _Source, codec: Codec) -> _Encoded:
    """Decode a legacy entry, encode it, and make sure that it comes back the same."""
    made = _Encoded(source.name, source.where, source.mtime, None, None, "")
    try:
        if source.where == "loose":
            found = container.loose.load(source.name, codec.rule, settled=True)
            if found is None:
                return made._replace(reason="it went away meanwhile; run the same command again")
            value, stamp = found
            made = made._replace(stamp=stamp)
        else:
            value = load_legacy(source.name, source.data or b"", codec.rule)
        blob = codec.encode(value)
        if not same(value, codec.decode(source.name, blob.codec, blob.size, blob.checksum, blob.payload)):
            return made._replace(reason="its value does not survive encoding")
        return made._replace(blob=blob)
    except AmpstoreError as err:
        return made._replace(reason=getattr(err, "reason", "") or str(err))


def _store_chunk(
    store: Store | None,
    container: Container,
    chunk: Sequence[_Encoded],
    codec: Codec,
    report: Report,
    taken: AbstractSet[str],
) -> list[_Encoded]:
    """Write what is new, read it back; the entries that the store need not take any more."""
    report.left += [Problem(entry.name, entry.where, entry.reason) for entry in chunk if entry.reason]
    sound = [entry for entry in chunk if entry.blob]
    if store is None:
        report.written += len(sound)
        return []
    with store.batch():
        # Inside the write lock: a set or a delete removes the loose file before its own last write, so
        # as long as the file is there nothing newer can be in the store.
        current = [entry for entry in sound if _is_there(container, entry)]
        new = {entry.name for entry in current if _is_new(store, entry, codec, taken)}
        store.put_blobs((entry.name, entry.blob) for entry in current if entry.name in new and entry.blob)
    changed = [(entry, "another program changed it meanwhile; run again") for entry in sound if entry not in current]
    damaged = [(entry, "the store's copy of it is damaged") for entry in current if not _is_sound(store, entry, codec)]
    report.left += [Problem(entry.name, entry.where, reason) for entry, reason in (*changed, *damaged)]
    unsound = {entry.name for entry, _ in damaged}
    settled = [entry for entry in current if entry.name not in unsound]
    report.written += sum(entry.name in new for entry in settled)
    report.unchanged += sum(entry.name not in new for entry in settled)
    return settled


def _is_there(container: Container, entry: _Encoded) -> bool:
    return entry.where == "archive" or container.loose.stamp(entry.name) == entry.stamp


def _is_new(store: Store, entry: _Encoded, codec: Codec, taken: AbstractSet[str]) -> bool:
    """Whether the store lacks this value, and it is not older than what the store has."""
    head = store.head(entry.name)
    if head is None:
        return entry.where == "loose" or entry.name not in taken  # taken and gone: it was deleted
    checksum, written_at = head
    if entry.blob is None:
        return False
    if checksum[:16] == entry.blob.checksum[:16]:
        return not _is_sound(store, entry, codec)
    return entry.where == "loose" or entry.mtime > written_at


def _is_sound(store: Store, entry: _Encoded, codec: Codec) -> bool:
    """Whether what the store has under this key is whole; another process may have deleted it."""
    row = store.read_blob(entry.name)
    try:
        if row:
            codec.check(entry.name, *row)
    except CodecError:
        return False
    return True


def export_legacy(
    source: Mapping[str, object],
    destination: Path | str,
    *,
    archive: bool = False,
    allow: Allowed = (),
    progress: Progress | None = None,
) -> Report:
    """Write the entries of a store or database in the legacy layout, and verify every one.

    Parameters
    ----------
    source : mapping
        A Store, Shelf or FileDatabase.
    destination : path
        A container that does not exist yet, with or without ".ampdb".
    archive : bool
        Write one archive.tar.gz; default is a file per entry.
    allow : iterable of str or "*"
        What values may name when they are read back.
    progress : callable(done, total), optional

    Returns
    -------
    Report
        Entries that the layout cannot hold (a slash in the key, say) are left.

    Raises
    ------
    FileExistsError
        If the destination exists.
    """
    directory, rule = container_path(destination), Rule(allow)
    report = Report(str(getattr(source, "path", "")), str(directory), entries=len(source))
    started = time.monotonic()
    directory.mkdir(parents=True)  # raises FileExistsError
    container = Container(directory)
    container.loose.directory.mkdir()
    entries = _pickled(source, rule, report, progress)
    if archive:
        write_archive(container.archive.path, ((name, data, time.time()) for name, data in entries))
    else:
        for name, data in entries:
            container.loose.write(name, data)
    for name in container.names():
        if same(load_legacy(name, container.read(name) or b"", rule), source[name]):
            report.written += 1
        else:
            report.left.append(Problem(name, "export", "it changed while it was exported; export again"))
    report.bytes_after = container.size()
    report.seconds = time.monotonic() - started
    return report


def _pickled(
    source: Mapping[str, object], rule: Rule, report: Report, progress: Progress | None
) -> Iterator[tuple[str, bytes]]:
    for done, key in enumerate(source, 1):
        try:
            check_name(key)
            data = dump_legacy(source[key], rule)
            report.bytes_before += len(data)
            yield key, data
        except (AmpstoreError, ValueError) as err:
            report.left.append(Problem(key, "store", getattr(err, "reason", "") or str(err)))
        if progress:
            progress(done, report.entries)
