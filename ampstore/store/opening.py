"""From a path and a flag to a backend at HEAD: create, refuse, upgrade."""

from pathlib import Path
from typing import Literal

from ampstore import schema
from ampstore.backend import Durability, SQLite
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


def _upgrade(backend: SQLite) -> None:
    if backend.readonly:
        if backend.revision() in schema.READABLE:
            return
        raise OutdatedStoreError(str(backend.path))
    schema.upgrade(backend.path, backend.timeout)


def _at_head(backend: SQLite) -> bool:
    revision = backend.revision()
    if revision == schema.KNOWN[-1]:
        return True
    needs = backend.info_get("needs") if revision else None
    return schema.check(str(backend.path), revision, needs)
