"""Tiers of one `.ampdb` container as one mapping.

A loose file is a legacy program's write that is not folded in yet, so it wins. Another process may
fold it between our looks, so a miss looks in the store once more.

    get  k --> loose > store > archive > store
    set  k --> fold a loose file of k (commit, then unlink), then store
    del  k --> fold the archive if it has k, then store and loose

The container can be removed at any time by a program that starts afresh under the same name. So
every operation looks whether the store's file is still the one that is open, and never brings
anything back.

Where several hosts share the file system the store is an `ampstore.spooled.SpooledStore`.
"""

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TypeGuard, cast

from ampstore.codec import Allowed, Codec
from ampstore.durable import make_directory
from ampstore.errors import (
    CodecError,
    LegacyPickleError,
    MissingStoreError,
    ReadOnlyError,
)
from ampstore.late import late_logger
from ampstore.legacy import Container, Stamp, check_own, maintenance_lock
from ampstore.legacy.loose import file_error, file_errors
from ampstore.legacy.names import reason_against
from ampstore.network import may_be_spooled, spools
from ampstore.spool import has_segments
from ampstore.spooled import SpooledClaims, SpooledStore
from ampstore.store import Store
from ampstore.store.claims import LEASE, Claims
from ampstore.transfer import FOLDED, STORE_NAME, Progress, Report, fold, left_in_archive

log = late_logger(__name__)


class TieredEntries(MutableMapping[str, object]):
    """A mapping of text keys to values over three tiers: loose files, the store, the archive."""

    path: Path
    readonly: bool
    _allow: Allowed
    _codec: Codec
    _options: dict[str, object]
    _tiers: Container
    _file: str
    _store: Store | SpooledStore | None
    _identity: tuple[int, int] | None

    def close(self) -> None:
        """Close the store; the next use opens it again."""
        store, self._store, self._identity = self._store, None, None
        if store is not None:
            store.close()

    # -- the store tier ------------------------------------------------------------------------

    def _existing(self) -> Store | SpooledStore | None:
        """The store, None if the container has none (any more)."""
        try:
            found = os.lstat(self._file)
        except (FileNotFoundError, NotADirectoryError):
            self.close()
            return None
        except OSError as err:
            raise file_error(self._file, err, "read") from err
        if stat.S_ISLNK(found.st_mode):
            check_own(self.path / STORE_NAME)
        identity = (found.st_dev, found.st_ino)
        if self._store is None or identity != self._identity:
            self.close()
            self._store = self._open("r" if self.readonly else "w")
            self._identity = identity
        return self._store

    def _writable(self) -> Store | SpooledStore:
        """The store, made if there is none."""
        if self.readonly:
            raise ReadOnlyError(str(self.path))
        store = self._existing()
        if store is None:
            if not self.path.parent.is_dir():
                raise MissingStoreError(str(self.path), f"there is no directory {self.path.parent}; create it first")
            with file_errors(self.path, "made"):
                make_directory(self.path / "loose")
            store = self._store = self._open("c")
            found = os.stat(self._file)
            self._identity = (found.st_dev, found.st_ino)
        return store

    def _open(self, flag: str) -> Store | SpooledStore:
        spooled = spools(self.path) if flag != "r" else may_be_spooled(self.path)
        if not spooled and has_segments(self.path):  # it was on a shared file system before
            if flag == "r":
                spooled = True
            else:
                with contextlib.closing(self._spooled("w")) as store, store.maintained():
                    pass
        if not spooled:
            return Store(self._file, flag, allow=self._allow, **self._options)  # type: ignore[arg-type]
        if flag == "c":
            Store(self._file, "c", **self._options).close()  # type: ignore[arg-type]
        return self._spooled(flag)

    def _spooled(self, flag: str) -> SpooledStore:
        return SpooledStore(Path(self._file), readonly=flag == "r", allow=self._allow, options=self._options)

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[Store]:
        """The store for changes that need the database itself; where hosts share it, as its maintainer."""
        store = self._writable()
        if isinstance(store, Store):
            yield store
            return
        with store.maintained() as maintained:
            yield maintained

    @contextlib.contextmanager
    def _maintained(self) -> Iterator[Store]:
        """The store, for one maintainer at a time."""
        store = self._writable()
        if isinstance(store, Store):
            with maintenance_lock(self.path, store.timeout):
                yield store
            return
        with store.maintained() as maintained:
            yield maintained

    def _archived(self, store: Store | SpooledStore | None) -> list[str]:
        """Keys of the archive that hold a value and that the store has not taken over."""
        archive, left = self._tiers.archive, self._left_in_archive(store)
        return [name for name in archive.names(self._codec.rule) if left is None or name in left]

    def _is_archived(self, store: Store | SpooledStore | None, key: object) -> bool:
        return self._counts_in_archive(key, store) and self._tiers.archive.holds_entry(key, self._codec.rule)

    def _counts_in_archive(self, key: object, store: Store | SpooledStore | None) -> TypeGuard[str]:
        """Whether the store has not taken over a member of that name."""
        if not isinstance(key, str) or not self._tiers.archive.size():
            return False
        left = self._left_in_archive(store)
        return left is None or key in left

    def _left_in_archive(self, store: Store | SpooledStore | None) -> set[str] | None:
        """Names that count in the archive; None if all of them do."""
        if not self._tiers.archive.size():
            return set()
        return left_in_archive(store, self._tiers.archive.signature()) if store is not None else None

    # -- one entry -----------------------------------------------------------------------------

    def __getitem__(self, key: str) -> object:
        problem: CodecError | None = None
        if isinstance(key, str) and not reason_against(key):
            try:
                if found := self._tiers.loose.load(key, self._codec.rule):
                    return found[0]
            except LegacyPickleError as err:
                problem = err
        try:
            value = self._from_below(key)
        except KeyError:
            if problem:
                raise problem from None
            raise
        if problem:
            log.warning("%s: %s; returning the older value from the tier below", self.path, problem)
        return value

    def _from_below(self, key: str) -> object:
        """Value from the store, the archive, or the store once more."""
        store = self._existing()
        if store is not None:
            with contextlib.suppress(KeyError):
                return store[key]
        if self._is_archived(store, key) and (data := self._tiers.archive.read(key)) is not None:
            return self._codec.load_legacy(key, data)
        store = self._existing()
        if store is not None:
            with contextlib.suppress(KeyError):
                return store[key]
        if self._counts_in_archive(key, store):
            self._tiers.archive.check(key)
        raise KeyError(key)

    def __setitem__(self, key: str, value: object) -> None:
        store = self._writable()
        with self._over_loose(store, [key]):
            store[key] = value

    @contextlib.contextmanager
    def _over_loose(self, store: Store | SpooledStore, keys: Iterable[str]) -> Iterator[None]:
        """Loose files of these keys are in the store before the block, and hide nothing after it."""
        torn = self._fold_loose(store, keys)
        yield
        self._remove_torn(store, torn)

    def _fold_loose(self, store: Store | SpooledStore, keys: Iterable[str]) -> dict[str, Stamp]:
        """Bring the loose files of these keys into the store; stamps of those that hold no value."""
        folded, torn = dict[str, Stamp](), dict[str, Stamp]()
        loose = self._tiers.loose
        for key in keys:
            if not isinstance(key, str) or reason_against(key) or (before := loose.stamp(key)) is None:
                continue
            if not isinstance(store, Store):
                torn[key] = before  # no lock keeps others out: it goes when what is newer is there
                continue
            try:
                found = loose.load(key, self._codec.rule, settled=True)
            except CodecError as err:
                log.warning("%s: replacing a loose file that holds no value: %s", self.path, err)
                torn[key] = before
                continue
            if not found:
                continue
            with store.batch():
                # Inside the write lock: whoever folded it first has removed it before writing anything newer.
                if loose.stamp(key) == found[1]:
                    store[key] = found[0]
                    folded[key] = found[1]
        if folded and isinstance(store, Store):
            store.sync()  # the files go now; the WAL alone would not survive a power cut
            with store.batch():  # nobody writes anything newer before they are gone from the disk
                for key, stamp in folded.items():
                    loose.remove_unchanged(key, stamp)
                loose.sync()
        return torn

    def _remove_torn(self, store: Store | SpooledStore, torn: Mapping[str, Stamp]) -> None:
        if torn:
            store.sync()
        for key, stamp in torn.items():
            self._tiers.loose.remove_unchanged(key, stamp)
        if torn:
            self._tiers.loose.sync()

    def __delitem__(self, key: str) -> None:
        if self.readonly:
            raise ReadOnlyError(str(self.path))
        if key not in self:
            raise KeyError(key)
        store = self._writable()
        # Archive first, loose last: any other order could show an older value again.
        if key in self._tiers.archive:
            if self._left_in_archive(store) is None:
                self._fold(loose=False, remove=False)
            self._forget_archived(store, key)
        with contextlib.suppress(KeyError):
            del store[key]
        if not reason_against(key) and self._tiers.loose.remove(key):
            self._tiers.loose.sync()
            with contextlib.suppress(KeyError):  # another process folded the file just before it went
                del store[key]

    def _forget_archived(self, store: Store | SpooledStore, key: str) -> None:
        """Let a member that nobody could read count no longer."""
        signature = self._tiers.archive.signature()
        left = left_in_archive(store, signature)
        if left and key in left:
            with self._in_place() as database:
                database.note(FOLDED, f"{signature} {json.dumps(sorted(left - {key}))}")

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        if not reason_against(key) and self._tiers.loose.holds_entry(key, self._codec.rule):
            return True
        store = self._existing()
        if store is not None and key in store:
            return True
        if self._is_archived(store, key):
            return True
        store = self._existing()
        return store is not None and key in store

    # -- many entries --------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        store = self._existing()
        if next(self._tiers.loose.names(), None) is None and self._left_in_archive(store) == set():
            return len(store) if store is not None else 0
        return len(self.keys())

    def keys(self) -> list[str]:  # type: ignore[override]
        """List of all keys: those of the store in order of insertion, then loose and archived ones."""
        store = self._existing()
        found = dict.fromkeys(store or ())
        loose, rule = self._tiers.loose, self._codec.rule
        found |= dict.fromkeys(name for name in loose.names() if loose.holds_entry(name, rule))
        found |= dict.fromkeys(self._archived(store))
        return list(found)

    def values(self) -> list[object]:  # type: ignore[override]
        """List of all values, in the order of `keys`."""
        return [self[key] for key in self.keys()]

    def get_many(self, keys: Iterable[str]) -> dict[str, object]:
        """Values of those keys that are there, in the order of the keys; one query per 256 where there are no tiers."""
        wanted = list(dict.fromkeys(keys))
        store, loose = self._existing(), next(self._tiers.loose.names(), None) is not None
        found = store.get_many(wanted) if store is not None and not loose else {}
        for key in wanted:
            if key not in found:
                with contextlib.suppress(KeyError):
                    found[key] = self[key]
        return {key: found[key] for key in wanted if key in found}

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that are not there, in their order; one query per 256."""
        wanted = list(dict.fromkeys(keys))
        store = self._existing()
        absent = store.missing(wanted) if store is not None else wanted
        return [key for key in absent if key not in self]

    def update(self, other: object = (), /, **more: object) -> None:
        """As dict.update; many entries to a transaction."""
        pairs = dict(other, **more) if other or more else {}  # type: ignore[call-overload]
        if not pairs:
            return
        store = self._writable()
        with self._over_loose(store, [key for key in self._tiers.loose.names() if key in pairs]):
            store.put_many(pairs)

    @property
    def codec(self) -> Codec:
        """How values become what is stored."""
        return self._codec

    def claims(self, lease: float = LEASE) -> Claims:
        """Claims on keys that are being computed: see `ampstore.store.claims`."""

        def around(store: Store | SpooledStore, keys: Sequence[str]) -> contextlib.AbstractContextManager[None]:
            return self._over_loose(store, keys)

        if isinstance(self._writable(), SpooledStore):
            return SpooledClaims(lambda: cast("SpooledStore", self._writable()), lease, around)
        place = cast("Callable[[], Store]", self._writable)
        return Claims(place, lease, existing=cast("Callable[[], Store | None]", self._existing), around=around)

    def clear(self) -> None:
        """Delete all entries of all tiers."""
        if self.readonly:
            raise ReadOnlyError(str(self.path))
        store = self._existing()
        # From the oldest tier to the newest: no older value shows in between.
        self._tiers.archive.remove()
        if store is not None:
            store.clear()
        for name in list(self._tiers.loose.names()):
            self._tiers.loose.remove(name)
        self._tiers.loose.sync()
        if store is not None:
            store.clear()  # what another process folded meanwhile

    def _fold(self, *, loose: bool, remove: bool, progress: Progress | None = None) -> Report:
        report = Report(str(self.path), self._file, bytes_before=self._tiers.size())
        with self._maintained() as store:
            fold(self._tiers, store, report, self._codec, remove=remove, loose=loose, progress=progress)
        if isinstance(self._store, SpooledStore):
            report.entries, report.written = report.entries + self._store.folded, report.written + self._store.folded
        for problem in report.left:
            log.warning("%s: %s of %s stays: %s", self.path, problem.name, problem.where, problem.reason)
        return report
