"""SQLite's errors turned into ours; the only place that knows SQLite's codes."""

import sqlite3
from pathlib import Path

from ampstore.errors import (
    AccessError,
    BusyError,
    DamagedStoreError,
    EntryTooLargeError,
    MissingStoreError,
    NotAStoreError,
    StorageError,
    StoreError,
)

LARGEST = 1_000_000_000
"""Bytes that one row may have in SQLite as it is built nearly everywhere."""

_ERRORS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_PERM: AccessError,
    sqlite3.SQLITE_AUTH: AccessError,
    sqlite3.SQLITE_READONLY: AccessError,
    sqlite3.SQLITE_IOERR: StorageError,
    sqlite3.SQLITE_FULL: StorageError,
    sqlite3.SQLITE_CORRUPT: DamagedStoreError,
}


def translate(err: sqlite3.Error, path: Path, timeout: float) -> Exception:
    """Our error for one of SQLite's."""
    location, code = str(path), getattr(err, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if is_busy(err):
        return busy(path, timeout)
    if primary == sqlite3.SQLITE_NOTADB:
        return NotAStoreError(location)
    if primary == sqlite3.SQLITE_TOOBIG:
        return EntryTooLargeError(LARGEST, LARGEST)
    if primary == sqlite3.SQLITE_CANTOPEN:
        return AccessError(location, _CANNOT_OPEN) if path.exists() else MissingStoreError(location)
    cls = _ERRORS.get(primary or 0, StoreError)
    return cls(location, str(err) if cls is StoreError else f"{cls.sentence} (SQLite: {err})")


_CANNOT_OPEN = (
    "cannot be opened; this user needs permission to read the file, and to write to it and its directory unless it "
    "is opened with 'r' (after a crash a writer must open it once); or too many files are open"
)


def busy(path: Path, timeout: float) -> BusyError:
    """The error of a wait for another writer."""
    return BusyError(
        str(path), f"another process held the store for {timeout:g} s; try again or open it with a larger timeout="
    )


def is_busy(err: sqlite3.Error) -> bool:
    """Whether another connection holds a lock."""
    return getattr(err, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_bad_text(err: sqlite3.Error) -> bool:
    """Whether a text column was no UTF-8: the one error of the module that has no code of SQLite."""
    return type(err) is sqlite3.OperationalError and getattr(err, "sqlite_errorcode", None) is None
