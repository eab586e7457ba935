"""Create and upgrade the tables of a store on a PostgreSQL server.

missing   the schema and its tables, in one transaction
older     every revision, in one transaction; no backup is made before, since a server has its own

Either happens under an advisory lock, in which the version is looked at again: of many processes one
does the work and all go on. DDL is transactional, so a failure changes nothing.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from ampstore import schema
from ampstore.errors import AccessError, BusyError, NotAStoreError, OutdatedStoreError, StoreError

Connection = psycopg.Connection[tuple[Any, ...]]

_ENCODING = "create the database with `createdb --encoding=UTF8 --template=template0`"


def bring_to_head(connection: Connection, location: str, name: str, timeout: float) -> None:
    """Make the tables of a store, or upgrade them, unless somebody else does first.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit, of nobody else; its search path begins with the schema.
    location : str
        For the errors.
    name : str
        The schema.
    timeout : float
        Longest wait for another process that does the same, seconds.

    Raises
    ------
    AccessError
        If the user may not create a schema, or tables in it.
    NotAStoreError
        If the schema has a table of this name of another program, or the database cannot hold all text.
    NewerStoreError
        If a newer ampstore made it.
    OutdatedStoreError
        If a revision failed.
    BusyError
        If somebody else took too long.
    """
    revision: str | None = None
    try:
        _check_encoding(connection, location)
        with _alone(connection, name):
            if not _exists(connection, name):
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
            revision = _revision(connection)
            if revision is None or not schema.check(location, revision, _needs(connection)):
                _run_revisions(connection, revision)
    except psycopg.errors.InsufficientPrivilege as err:
        raise AccessError(
            location, f"this user may not create the schema {name!r} or tables in it ({_said(err)})"
        ) from err
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as err:
        waited = f"others kept the store for {timeout:g} s; upgrade when they are done"
        raise BusyError(location, f"{waited} ({_said(err)})") from err
    except psycopg.errors.DuplicateTable as err:
        raise NotAStoreError(
            location, f"the schema {name!r} has a table of another program ({_said(err)}); choose another with ?schema="
        ) from err
    except StoreError:
        raise
    except Exception as err:
        if revision is None:
            raise
        raise OutdatedStoreError(
            location, f"the upgrade from format {revision} failed and changed nothing ({err})"
        ) from err


def _said(err: psycopg.Error) -> str:
    return err.diag.message_primary or str(err)


def _check_encoding(connection: Connection, location: str) -> None:
    found = connection.execute("SHOW server_encoding").fetchone()
    if found != ("UTF8",):
        raise NotAStoreError(location, f"the database has the encoding {found and found[0]}, not UTF8; {_ENCODING}")


@contextlib.contextmanager
def _alone(connection: Connection, name: str) -> Iterator[None]:
    digest = hashlib.blake2b(f"ampstore schema {name}".encode(), digest_size=8).digest()
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(digest, signed=True),))
        yield


def _exists(connection: Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)).fetchone() is not None


def _revision(connection: Connection) -> str | None:
    if connection.execute("SELECT to_regclass('ampstore_version')").fetchone() == (None,):
        return None
    found = connection.execute("SELECT version_num FROM ampstore_version").fetchone()
    return str(found[0]) if found else None


def _needs(connection: Connection) -> str | None:
    found = connection.execute("SELECT value FROM info WHERE name = 'needs'").fetchone()
    return str(found[0]) if found else None


def _run_revisions(connection: Connection, revision: str | None) -> None:
    """Run Alembic up to HEAD inside the transaction of the caller."""
    from alembic import command
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import StaticPool

    engine = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool)
    engine.dialect.do_commit = lambda _: None  # type: ignore[assignment, method-assign]
    engine.dialect.do_rollback = lambda _: None  # type: ignore[assignment, method-assign]
    with schema.alembic_lock, engine.connect() as alembic_connection:
        settings = schema.config()
        settings.attributes["connection"] = alembic_connection
        try:
            command.upgrade(settings, schema.KNOWN[-1])
        except DBAPIError as err:
            raise err.orig or err from err
    facts = schema.new_facts() if revision is None else {"needs": schema.version()}
    put = "INSERT INTO info (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    for fact in facts.items():
        connection.execute(put, fact)
