"""From a path and a flag to a backend at HEAD: create, refuse, upgrade."""

import contextlib
from pathlib import Path
from typing import Literal

from ampstore import schema
from ampstore.backend import Durability, SQLite
from ampstore.backend.objects import VERSION_TABLE, holds
from ampstore.backend.objects import check as check_objects
from ampstore.errors import MissingStoreError, NotAStoreError, OutdatedStoreError

Flag = Literal["r", "w", "c", "n"]


def open_backend(path: Path, flag: Flag, timeout: float, durability: Durability) -> SQLite:
    """Backend of an existing or new store at HEAD."""
    if flag in ("c", "n"):
        schema.create(path, timeout)
    elif not path.is_file():
        if path.exists():
            raise NotAStoreError(str(path), schema.not_a_file(path))
        raise MissingStoreError(str(path), f"there is no store here, and flag {flag!r} does not create one; 'c' does")
    backend = SQLite(path, readonly=flag == "r", timeout=timeout, durability=durability)
    try:
        if not _at_head(backend):
            _upgrade(backend)
    except BaseException:
        backend.close()
        raise
    return backend


def upgrade(path: Path, timeout: float) -> Path | None:
    """Bring an older store to HEAD, as `ampstore.schema.upgrade`, once its schema was found to be ours."""
    with contextlib.closing(SQLite(path, readonly=True, timeout=timeout, durability="normal")) as backend:
        if _at_head(backend):
            return None
    return schema.upgrade(path, timeout)


def _upgrade(backend: SQLite) -> None:
    if backend.readonly:
        if backend.revision() in schema.READABLE:
            return
        raise OutdatedStoreError(str(backend.path))
    schema.upgrade(backend.path, backend.timeout)


def _at_head(backend: SQLite) -> bool:
    """Whether the store needs no upgrade. Nothing is asked of a table before the schema says that it is ours."""
    found, location = backend.objects(), str(backend.path)
    revision = backend.revision() if holds(found, VERSION_TABLE) else None
    if revision in schema.KNOWN or (revision is None and any(thing.name == VERSION_TABLE for thing in found)):
        check_objects(location, found)
    if revision == schema.KNOWN[-1]:
        return True
    return schema.check(location, revision, backend.info_get("needs") if holds(found, "info") else None)
