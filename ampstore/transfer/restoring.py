"""A backup in the place of a store.

backup --verified--> copied over the store in one transaction of SQLite: whoever has it open sees the old
                     content or the new
store that is there --> kept beside it as <name>.<time>.replaced
store that is too damaged to be written to --> its files are moved aside, -wal and -shm with it: a WAL that stayed
                     would be played into the new file
"""

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import NamedTuple

from ampstore.durable import sync
from ampstore.errors import DamagedStoreError, NotAStoreError, StoreError
from ampstore.store import Store
from ampstore.store.opening import open_file

TIMEOUT = 30.0  # seconds for other writers


class Restored(NamedTuple):
    """What was done.

    Attributes
    ----------
    entries : int
    replaced : Path or None
        Where the old store is now.
    """

    entries: int
    replaced: Path | None


def restore(source: Path, target: Path, *, dry_run: bool = False) -> Restored:
    """Put a backup in the place of a store, verified before anything is changed.

    Raises
    ------
    DamagedStoreError
        If the backup itself is damaged; nothing was changed.
    """
    with Store(source, "r", allow="*") as backup:
        damage = next(iter(backup.verify_payloads()), None)
        if damage is not None:
            raise DamagedStoreError(
                str(source), f"the backup is damaged ({damage.reason}); `ampstore salvage` gets out what is whole"
            )
        entries = len(backup)
        if dry_run:
            return Restored(entries, None)
        if not target.exists():
            backup.backup(target)
            _forget_commits(target)
            return Restored(entries, None)
        kept = target.with_name(f"{target.name}.{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}.replaced")
        copy = backup.backup(target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.new"))
    try:
        _replace(target, copy, kept)
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{copy}{suffix}")
    _forget_commits(target)
    sync(target.parent)
    return Restored(entries, kept)


def _forget_commits(target: Path) -> None:
    """An older copy is what was asked for here: the witness of later commits goes."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{target}-commits")


def _replace(target: Path, copy: Path, kept: Path) -> None:
    try:
        with contextlib.closing(open_file(target, "w", TIMEOUT, "normal")) as store:
            store.copy_to(kept)
            store.replace_by(copy)
    except (DamagedStoreError, NotAStoreError):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(kept)
        _move_aside(target, kept)
        os.link(copy, target)


def _move_aside(target: Path, kept: Path) -> None:
    """The main file last: as long as it is there, so is its WAL or a way to say that it is gone."""
    for suffix in ("-shm", "-wal", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{target}{suffix}", f"{kept}{suffix}")
    if target.exists():
        raise StoreError(str(target), f"could not be moved to {kept}; nothing was restored")
