"""From a path or URL and a flag to a backend at HEAD: create, refuse, upgrade."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ampstore import schema
from ampstore.backend import Durability, Server, SQLite, is_url, parse
from ampstore.backend.objects import VERSION_TABLE, holds
from ampstore.backend.objects import check as check_objects
from ampstore.errors import DriverMissingError, MissingStoreError, NotAStoreError, OutdatedStoreError
from ampstore.network import may_be_spooled, spools

if TYPE_CHECKING:
    from ampstore.backend import Backend
    from ampstore.backend.postgresql import PostgreSQL

Flag = Literal["r", "w", "c", "n"]

_ONE_WRITER = "it is kept in a rollback journal, for writers that take turns by the locks of the file system"


def locate(name: str | os.PathLike[str]) -> Path | Server:
    """What a name is: the absolute path of a file, or a place on a server."""
    return parse(name) if isinstance(name, str) and is_url(name) else Path(os.path.abspath(name))


def open_backend(place: Path | Server, flag: Flag, timeout: float, durability: Durability) -> "Backend":
    """Backend of an existing or new store at HEAD."""
    if isinstance(place, Server):
        return _open_on_server(place, flag, timeout, durability)
    return open_file(place, flag, timeout, durability)


def _open_on_server(server: Server, flag: Flag, timeout: float, durability: Durability) -> "PostgreSQL":
    try:
        from ampstore.backend.postgresql import PostgreSQL
        from ampstore.schema import postgresql
    except ImportError as err:  # psycopg without libpq raises this too
        raise DriverMissingError("psycopg", "postgres") from err

    backend = PostgreSQL(server, readonly=flag == "r", timeout=timeout, durability=durability)
    try:
        revision = backend.revision()
        if revision is not None and _is_head(backend, revision):
            pass
        elif revision is not None and backend.readonly:
            _check_readable(backend)
        else:
            _check_may_create(server, revision, flag)
            with contextlib.closing(backend.open_connection()) as connection:
                postgresql.bring_to_head(connection, str(server), server.schema, timeout)
    except BaseException:
        backend.close()
        raise
    return backend


def _check_may_create(server: Server, revision: str | None, flag: Flag) -> None:
    if revision is None and flag not in ("c", "n"):
        missing = f"the schema {server.schema!r} has no store, and flag {flag!r} does not create one; 'c' does"
        raise MissingStoreError(str(server), missing)


def open_file(path: Path, flag: Flag, timeout: float, durability: Durability) -> SQLite:
    """Backend of an existing or new store at HEAD in one file."""
    shared = may_be_spooled(path) if flag == "r" else spools(path, _ONE_WRITER)
    if flag in ("c", "n"):
        schema.create(path, timeout, shared=shared)
    elif not path.is_file():
        if path.exists():
            raise NotAStoreError(str(path), schema.not_a_file(path))
        raise MissingStoreError(str(path), f"there is no store here, and flag {flag!r} does not create one; 'c' does")
    backend = SQLite(path, readonly=flag == "r", timeout=timeout, durability=durability, shared=shared)
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
        _check_readable(backend)
    else:
        schema.upgrade(backend.path, backend.timeout)


def _check_readable(backend: "Backend") -> None:
    if backend.revision() not in schema.READABLE:
        raise OutdatedStoreError(backend.location)


def _at_head(backend: SQLite) -> bool:
    """Whether the store needs no upgrade. Nothing is asked of a table before the schema says that it is ours."""
    found, location = backend.objects(), str(backend.path)
    revision = backend.revision() if holds(found, VERSION_TABLE) else None
    if revision in schema.KNOWN or (revision is None and any(thing.name == VERSION_TABLE for thing in found)):
        check_objects(location, found)
    if revision == schema.KNOWN[-1]:
        return True
    return schema.check(location, revision, backend.info_get("needs") if holds(found, "info") else None)


def _is_head(backend: "Backend", revision: str | None) -> bool:
    if revision == schema.KNOWN[-1]:
        return True
    needs = backend.info_get("needs") if revision else None
    return schema.check(backend.location, revision, needs)
