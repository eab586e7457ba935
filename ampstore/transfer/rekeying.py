"""The keys of a store changed from one scheme of hashes to another; the values stay as they are.

    images --hash--> old key -> new key        the images must be had again: a hash cannot be turned back
    entry under the old key                    gets the new key, nothing else of its row changes
      and the new key has the same value       the old one goes
      and the new key has another value        both stay, listed
    any other entry                            stays, listed

A chunk of entries is one transaction. Killed anywhere, the same call again finishes the work; done
again, it changes nothing.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice

from ampstore.errors import CodecError, MixedSchemesError
from ampstore.images import read_images
from ampstore.images.reading import Images
from ampstore.images.schemes import NOTE, KeyChanges, key_changes, schemes_in
from ampstore.legacy import Problem
from ampstore.store import Store
from ampstore.transfer.report import Progress

CHUNK = 200
"""Entries of one transaction. SQLite writes the whole row anew, and values of some 100 kB are common."""


@dataclass
class Rekeyed:
    """What changing the keys did.

    Attributes
    ----------
    path : str
    old, new : str
        The schemes.
    entries : int
        Entries that were looked at.
    changed : int
        Entries that have their new key now.
    dropped : int
        Entries under an old key that went, since the new key had the same value already.
    unchanged : int
        Entries that had their new key already.
    left : list of Problem
        What stayed under its key: name, where, reason.
    seconds : float
    dry_run : bool
        Nothing was written.
    """

    path: str
    old: str
    new: str
    entries: int = 0
    changed: int = 0
    dropped: int = 0
    unchanged: int = 0
    left: list[Problem] = field(default_factory=list)
    seconds: float = 0.0
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing stayed under another key."""
        return not self.left

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "left": [problem._asdict() for problem in self.left]}


def rekey(
    store: Store,
    images: Images,
    old: str,
    new: str = "v2",
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Rekeyed:
    """Change the keys of a store from one scheme to another; `FileDatabase.rekey` does it for a container.

    Parameters
    ----------
    store : Store
    images : iterable of ase.Atoms, path, or dictionary
        The structures whose values are stored, as `hash_images` takes them.
    old, new : str
        Schemes as for `get_hash`.
    dry_run : bool
        Tell what would be done, write nothing.
    progress : callable, optional
        Called with the entries done and all there are.

    Returns
    -------
    Rekeyed
        `left` lists what keeps its key. The store notes that there may be keys of `old` until a call leaves
        nothing whose images were lacking.

    Raises
    ------
    MixedSchemesError
        (a ValueError) if the store notes that its keys are of a third scheme.
    """
    changes = key_changes(read_images(images), old, new)
    return change_keys(store, changes, Rekeyed(store.location, old, new, dry_run=dry_run), progress)


def change_keys(
    store: Store | None,
    changes: KeyChanges,
    report: Rekeyed,
    progress: Progress | None = None,
    unfolded: Sequence[str] = (),
) -> Rekeyed:
    """Do it with keys that are known already, and fill the report.

    Parameters
    ----------
    store : Store or None
        None for a dry run on a container that has none yet.
    unfolded : sequence of str
        Keys of legacy files beside the store: in a dry run what would come into the store first, else what cannot.
    """
    start = time.monotonic()
    work = _Rekeying(store, changes, report)
    total = len(unfolded) + (len(store) if store is not None else 0)
    for chunk in _chunks(store if store is not None else ()):
        work.do(chunk)
        report.entries += len(chunk)
        if progress:
            progress(report.entries, max(total, report.entries))
    work.count_unfolded(unfolded)
    work.finish()
    report.seconds += time.monotonic() - start
    return report


def _chunks(keys: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(keys)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


class _Rekeying:
    """One change of keys at work.

    `meanwhile` is what the store has to note from the first changed key on, None if it need not note anything new;
    `lacking` says whether there are entries whose keys may be old ones.
    """

    def __init__(self, store: Store | None, changes: KeyChanges, report: Rekeyed) -> None:
        self.store, self.changes, self.report = store, changes, report
        self.known = set(changes.new.values())
        self.lacking = False
        self.meanwhile: str | None = None
        scheme, left = schemes_in(store.noted(NOTE) if store is not None else None)
        if scheme not in (None, report.old, report.new):
            raise MixedSchemesError(report.path, str(scheme), report.old)
        if scheme == report.old != report.new:
            self.meanwhile = " ".join([report.new, scheme, *(other for other in left if other != report.new)])

    def do(self, chunk: Sequence[str]) -> None:
        """Give the entries of a chunk their new keys, or tell why not."""
        old = [key for key in chunk if self._is_old(key)]
        if old and self.store is not None:
            if self.report.dry_run:
                self._foresee(self.store, old)
            else:
                self._change(self.store, old)
        self._count([key for key in chunk if not self._is_old(key)], "store")

    def _is_old(self, key: str) -> bool:
        return self.changes.new.get(key, key) != key

    def _change(self, store: Store, keys: Sequence[str]) -> None:
        with store.batch():
            if self.meanwhile:
                store.note(NOTE, self.meanwhile)
                self.meanwhile = None
            for key in keys:
                if store.rename(key, self.changes.new[key]):
                    self.report.changed += 1
                elif self._same(store, key):
                    del store[key]
                    self.report.dropped += 1

    def _foresee(self, store: Store, keys: Sequence[str]) -> None:
        free = set(store.missing([self.changes.new[key] for key in keys]))
        for key in keys:
            if self.changes.new[key] in free:
                self.report.changed += 1
            elif self._same(store, key):
                self.report.dropped += 1

    def _same(self, store: Store, key: str) -> bool:
        """Whether the value under the new key is there, whole and the same; the entry is listed if it is not."""
        new = self.changes.new[key]
        ours, theirs = store.head(key), store.read_blob(new)
        if ours is None or theirs is None:
            reason = "another program changed it meanwhile; run again"
        elif ours[0][:16] != theirs[2][:16]:
            reason = f"the entry under its new key {new} has another value; remove one of them"
        else:
            try:
                store.codec.check(new, *theirs)
            except CodecError as err:
                reason = str(err)
            else:
                return True
        self.report.left.append(Problem(key, "store", reason))
        return False

    def _count(self, keys: Sequence[str], where: str) -> None:
        """Entries whose keys are not to be changed: they are new already, or nobody knows whose they are."""
        for key in keys:
            if key in self.known:
                self.report.unchanged += 1
                continue
            self.lacking = True
            shared = key in self.changes.shared
            reason = "several of the images have this key" if shared else "none of the images has this key"
            self.report.left.append(Problem(key, where, reason))

    def count_unfolded(self, keys: Sequence[str]) -> None:
        """Keys of legacy files: what would become of them, or that they stay."""
        self.report.entries += len(keys)
        if self.report.dry_run:
            self.report.changed += sum(map(self._is_old, keys))
            self._count([key for key in keys if not self._is_old(key)], "legacy file")
            return
        self.lacking = self.lacking or bool(keys)
        reason = "no value could be read; `ampstore verify` tells why"
        self.report.left += [Problem(key, "legacy file", reason) for key in keys]

    def finish(self) -> None:
        """Note the new scheme if no key can be of another one."""
        if self.store is None or self.report.dry_run or self.lacking:
            return
        if self.store.noted(NOTE) != self.report.new:
            self.store.note(NOTE, self.report.new)
