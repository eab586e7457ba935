"""Compares a store with what was acknowledged.

Plain sqlite3 looks first, so that nothing of ampstore can hide what is in the file; then the store
is opened as any program would, verified, and every key of the logs is read.

    lost   acknowledged and absent
    wrong  a value that nobody wrote, or one that was replaced before; half a batch; damage that was not injected
    hung   counted by who waits: see `faults.processes`
"""

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import ampstore
from ampstore.errors import AmpstoreError
from ampstore.legacy.names import is_ours
from faults.acknowledged import DELETED, Expected, digest, expected


@dataclass
class Verdict:
    """What became of the entries after faults."""

    lost: int = 0
    wrong: int = 0
    hung: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def survived(self) -> bool:
        """Nothing lost, wrong or hung."""
        return not (self.lost or self.wrong or self.hung)

    def add(self, kind: str, note: str) -> None:
        """Count one entry as "lost", "wrong" or "hung"."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.notes) < 50:
            self.notes.append(f"{kind}: {note}")

    def __iadd__(self, other: Self) -> Self:
        self.lost, self.wrong, self.hung = self.lost + other.lost, self.wrong + other.wrong, self.hung + other.hung
        self.notes = (self.notes + other.notes)[:50]
        return self


def judge(
    path: Path,
    logs: Iterable[Path],
    *,
    damaged: Collection[str] = (),
    together: Callable[[str], str | None] | None = None,
) -> Verdict:
    """Look at a store, or at a container, after a fault.

    Parameters
    ----------
    path : Path
        A store's file, or a container if it ends with ".ampdb".
    logs : iterable of Path
        The logs of all workers.
    damaged : collection of str
        Keys that were damaged on purpose: they may be gone or give a named error, never another value,
        and `verify` has to name them and no others.
    together : callable, optional
        Key -> the key that was written in the same transaction: both are there, or none of them.
    """
    verdict, wanted = Verdict(), expected(*logs)
    file = path / "store.sqlite3" if path.suffix == ".ampdb" else path
    if file.exists() and not damaged:
        _look_with_sqlite3(file, verdict)
    try:
        opened = ampstore.FileDatabase(path) if path.suffix == ".ampdb" else ampstore.Store(path, "c")
        with opened:
            compare(opened, wanted, verdict, damaged)
            if together:
                _compare_pairs(opened, wanted, together, verdict)
            _compare_damage(opened, damaged, verdict)
    except (AmpstoreError, OSError) as err:
        verdict.add("wrong", f"cannot be opened or read: {err!r}")
    return verdict


def _look_with_sqlite3(file: Path, verdict: Verdict) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=30)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        try:
            found = connection.execute("PRAGMA integrity_check").fetchall()
        except sqlite3.Error as err:
            found = [(repr(err),)]
    if found != [("ok",)]:
        verdict.add("wrong", f"integrity_check: {found[:3]}")


def compare(
    opened: Mapping[str, object], wanted: Mapping[str, Expected], verdict: Verdict, damaged: Collection[str] = ()
) -> None:
    """Read every key that the logs know, and look for keys that they do not know."""
    for key, may in wanted.items():
        try:
            found = digest(opened[key])
        except KeyError:
            found = DELETED
        except AmpstoreError as err:
            if key not in damaged:
                verdict.add("lost", f"{key!r}: {err!r}")
            continue
        if found in may.possible or (found == DELETED and key in damaged):
            continue
        if found == DELETED:
            verdict.add("lost", f"{key!r} was acknowledged as {may.acknowledged} and is gone")
        else:
            verdict.add("wrong", f"{key!r} is {found}, may be {sorted(may.possible)}")
    for key in opened:
        if key not in wanted and key not in damaged:
            verdict.add("wrong", f"{key!r} was never written")


def _compare_pairs(
    opened: Mapping[str, object],
    wanted: Mapping[str, Expected],
    together: Callable[[str], str | None],
    verdict: Verdict,
) -> None:
    for key in wanted:
        other = together(key)
        if other is not None and (key in opened) != (other in opened):
            verdict.add("wrong", f"half of a transaction: {key!r} without {other!r}, or the other way round")


def _compare_damage(
    opened: "ampstore.Store | ampstore.FileDatabase", damaged: Collection[str], verdict: Verdict
) -> None:
    # What a killed process left behind is named too, and harms nobody.
    named = {damage.key: damage.reason for damage in opened.verify() if not is_ours(damage.key)}
    for key in named.keys() - set(damaged) - ({""} if damaged else set()):
        verdict.add("wrong", f"verify: {key!r}: {named[key]}")
    if damaged and not named:
        silent = [key for key in damaged if key not in opened]
        if silent:
            verdict.add("wrong", f"verify does not say that {silent} are gone")
