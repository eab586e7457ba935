"""The salvage itself: which places there are, which version counts, and the new store."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ampstore.backend import GAPS, Row
from ampstore.backend.pages import Pages
from ampstore.backend.rows import Survey
from ampstore.codec import Allowed, Codec
from ampstore.durable import sync
from ampstore.errors import MissingStoreError
from ampstore.legacy import Archive
from ampstore.legacy.rescue import Rescue
from ampstore.salvage.copies import ArchiveCopy, Copy, LooseCopy, StoreCopy, Version
from ampstore.salvage.report import Finding, Salvaged
from ampstore.store import Store
from ampstore.store.compaction import NOTE as COMPACTED
from ampstore.transfer import FOLDED, STORE_NAME

_ROWS, _BYTES = 1000, 32 << 20
_OWN_FACTS = ("store", "created_by", "created_at", "needs", GAPS, FOLDED, COMPACTED)


def salvage(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    second: Iterable[str | os.PathLike[str]] = (),
    allow: Allowed = (),
    certain: bool = False,
) -> Salvaged:
    """Get every undamaged entry out of a damaged store, archive or container into a new store.

    Nobody should write to the source meanwhile; it is not locked, only read.

    Parameters
    ----------
    source : path
        A store's file, a container, a directory of loose files, or an `archive.tar.gz`.
    destination : path
        File of the new store; must not exist.
    second : iterable of paths
        Copies of the same kinds, used for entries that the source has lost; earlier ones win.
    allow : iterable of str or "*"
        What the pickles of loose files and archives may name, as in `Store`. Entries of a store are
        taken as they are, whatever they name: nothing of them is unpickled.
    certain : bool
        Leave out what may be an older version or a deleted entry.

    Returns
    -------
    Salvaged

    Raises
    ------
    FileExistsError
        If the destination exists.
    MissingStoreError
        If there is no source, or no directory for the destination.
    """
    source, destination = Path(os.path.abspath(source)), Path(os.path.abspath(destination))
    if os.path.lexists(destination):
        raise FileExistsError(f"{destination} exists; a salvage never overwrites, choose another name")
    if not destination.parent.is_dir():
        raise MissingStoreError(str(destination), f"there is no directory {destination.parent}; create it first")
    report, codec = Salvaged(str(source), str(destination)), Codec(allow)
    with contextlib.ExitStack() as stack:
        own = _places(source, codec, stack)
        others = [place for path in second for place in _places(Path(os.path.abspath(path)), codec, stack)]
        report.damage += [damage for place in own for damage in place.damage]
        report.complete = all(place.complete for place in own)
        work = _Salvage(own, others, report, certain)
        with _new_store(destination) as store:
            _fill(store, work.rows())
            for place in own:
                if isinstance(place, StoreCopy):
                    _take_facts(store, place.survey)
    return report


def _places(path: Path, codec: Codec, stack: contextlib.ExitStack) -> list[Copy]:
    """What there is at a path, the tier that wins first."""
    if not path.exists() and (container := path.with_name(f"{path.name}.ampdb")).is_dir():
        path = container
    if not path.is_dir():
        return [_file(path, codec, stack)]
    tiers: list[Copy] = []
    file, archive = path / STORE_NAME, path / "archive.tar.gz"
    if _is_own_directory(path / "loose"):
        tiers.append(LooseCopy(path / "loose", codec))
    folded = None
    if _is_own_file(file) or _is_own_file(Path(f"{file}-wal")):
        tiers.append(store := StoreCopy(stack.enter_context(Pages(file)), codec))
        folded = store.survey.facts.get(FOLDED)
    if _is_own_file(archive) and not _was_folded(archive, folded):
        tiers.append(ArchiveCopy(stack.enter_context(Rescue(archive)), codec))
    return tiers or [LooseCopy(path, codec)]


def _file(path: Path, codec: Codec, stack: contextlib.ExitStack) -> Copy:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if path.name.endswith((".gz", ".tgz")) or file.read(3) == b"\x1f\x8b\x08":
            return ArchiveCopy(stack.enter_context(Rescue(path)), codec)
    return StoreCopy(stack.enter_context(Pages(path)), codec)


def _is_own_directory(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False


def _is_own_file(path: Path) -> bool:
    """Whether there is a regular file; a link could lead out of the container."""
    with contextlib.suppress(OSError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def _was_folded(archive: Path, folded: str | None) -> bool:
    """Whether the store took over all that this archive has: what it deleted since must not come back."""
    signature, _, left = (folded or "").partition(" ")
    return bool(signature) and left in ("", "[]") and signature == Archive(archive).signature()


class _Salvage:
    """Chooses a version for every key."""

    def __init__(self, own: Sequence[Copy], others: Sequence[Copy], report: Salvaged, certain: bool) -> None:
        self._own, self._others, self._report, self._certain = own, others, report, certain

    def rows(self) -> Iterator[Row]:
        """The rows to write; what cannot be is noted in the report."""
        for key in dict.fromkeys(key for place in self._own for key in place.keys()):  # noqa: SIM118 - no mapping
            if row := self._choose(key, known=True):
                yield row
        if not self._report.complete:  # a key that only a copy has may have been lost without a trace
            known = {key for place in self._own for key in place.keys()}  # noqa: SIM118
            for key in dict.fromkeys(key for place in self._others for key in place.keys()):  # noqa: SIM118
                if key not in known and (row := self._choose(key, known=False)):
                    yield row

    def _choose(self, key: str, *, known: bool) -> Row | None:
        reason, digest, candidate = "", None, None
        for place in (*self._own, *self._others) if known else self._others:
            version = place.version(key)
            if version is None:
                continue
            if version.row is None:
                reason, digest = reason or version.reason, digest or version.digest
                continue
            version = self._judged(version, reason, digest, known=known)
            if not version.doubt:
                return self._accept(key, version, restored=bool(reason) or version.restored)
            if candidate is None:
                candidate = version
                digest = digest or version.digest
                reason = reason or version.doubt
        if candidate is None:
            self._report.lost.append(Finding(key, reason))
            return None
        return self._accept(key, candidate, restored=candidate.restored or candidate.doubt != reason)

    @staticmethod
    def _judged(version: Version, reason: str, digest: bytes | None, *, known: bool) -> Version:
        """With a doubt, unless it is the very value that was lost."""
        row = version.row
        if row is not None and digest is not None and row.checksum[: len(digest)] == digest:
            return version._replace(doubt="")
        if reason:
            return version._replace(doubt=version.doubt or f"{reason}; this is another version of it, from below")
        if not known:
            return version._replace(doubt=version.doubt or "only a second copy has it; it may have been deleted since")
        return version

    def _accept(self, key: str, version: Version, *, restored: bool) -> Row | None:
        if version.doubt:
            self._report.unsure.append(Finding(key, version.doubt))
            if self._certain:
                return None
        self._report.written += 1
        self._report.restored += restored
        return version.row


@contextlib.contextmanager
def _new_store(destination: Path) -> Iterator[Store]:
    """A store under a name that cannot be guessed; gets its own name when it is complete."""
    made = destination.with_name(f".{destination.name[:200]}.{secrets.token_hex(8)}.new")
    try:
        with Store(made, "c") as store:
            yield store
            store.sync()
        os.link(made, destination)  # raises FileExistsError
        sync(destination.parent)
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{made}{suffix}")


def _fill(store: Store, rows: Iterable[Row]) -> None:
    group, size = list[Row](), 0
    for row in rows:
        group.append(row)
        size += len(row.payload)
        if len(group) >= _ROWS or size >= _BYTES:
            store.backend.put_rows(group)
            group, size = [], 0
    store.backend.put_rows(group)


def _take_facts(store: Store, survey: Survey) -> None:
    """Facts that belong to the entries, such as the scheme of their keys."""
    for name, value in survey.facts.items():
        if name not in _OWN_FACTS:
            store.note(name, value)
