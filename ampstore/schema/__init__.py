"""Create, check and upgrade the schema. The only module that knows Alembic and where migrations/ is.

missing file    built beside its name, then linked to it: nobody ever sees half a store, and of
                many processes that create it at once one wins and all go on
at HEAD         one SELECT by the caller; alembic is not even imported
older           online backup, then every revision in one BEGIN IMMEDIATE, in which the version
                is looked at again: of many processes one upgrades, a failure changes nothing
newer           refused, naming the ampstore that it needs

This is for SQLite files; `postgresql` does the same on a server, with the same revisions.
"""

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ampstore import ddl
from ampstore.durable import sync
from ampstore.errors import (
    AccessError,
    BusyError,
    MissingStoreError,
    NewerStoreError,
    NotAStoreError,
    OutdatedStoreError,
    StorageError,
    StoreError,
)

if TYPE_CHECKING:
    from alembic.config import Config

KNOWN = ("0001", "0002")
"""Revisions that this ampstore can read, oldest first; the last one is HEAD."""

READABLE = ("0001",)
"""Older revisions whose entries are those of HEAD: reading only, they need no upgrade."""

APPLICATION_ID = 0x414D5053  # "AMPS", so that `file` can name a store
PAGE_SIZE = 4096  # with 8192 a bulk set takes 0.6 of the time, but a commit of one small entry 1.5

# The table as in ampstore.tables, which imports SQLAlchemy.
_REVISION = "SELECT version_num FROM ampstore_version"
_SET_REVISION = "INSERT INTO ampstore_version (version_num) VALUES (?)"

# Alembic's `op` and `context` are globals of their modules: one migration at a time in a process.
alembic_lock = threading.Lock()


def version() -> str:
    """Version of this ampstore."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("ampstore")
    except PackageNotFoundError:  # a source tree on sys.path
        return "0+unknown"


def migrations() -> Path:
    """Directory of the Alembic environment: in the wheel inside the package, in a checkout beside it."""
    package = Path(__file__).resolve().parent.parent
    for directory in (package / "migrations", package.parent / "migrations"):
        if (directory / "env.py").is_file():
            return directory
    raise FileNotFoundError(f"no migrations/ in or beside {package}; reinstall ampstore")


def create(path: Path, timeout: float, *, shared: bool = False) -> None:
    """Make a new, empty store at `path`, unless somebody else does first.

    Parameters
    ----------
    shared : bool
        Several hosts may have the file system: the store gets no WAL.

    Raises
    ------
    NotAStoreError
        If there is something that is neither a store nor an empty file.
    AccessError, StorageError, MissingStoreError
        If the directory forbids it, is full, or is not there.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = None
    except NotADirectoryError as err:
        raise MissingStoreError(str(path), f"its parent {path.parent} is no directory") from err
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise NotAStoreError(str(path), not_a_file(path))
    if found is not None and found.st_size:
        return
    try:
        with _new_store(path, shared) as made:
            _publish(made, path) if found is None else _replace_empty(made, path, timeout)
    except FileNotFoundError as err:
        raise MissingStoreError(str(path), f"there is no directory {path.parent}; create it first") from err
    except PermissionError as err:
        raise AccessError(str(path), f"cannot be created: {err.strerror}; check the mode of {path.parent}") from err
    except OSError as err:
        if isinstance(err, StoreError):
            raise
        raise StorageError(str(path), f"cannot be created: {err.strerror or err}") from err


def not_a_file(path: Path) -> str:
    """Sentence about something that is there and is no regular file."""
    if path.is_dir():
        return f"this is a directory; FileDatabase({str(path)!r}) opens a container, a store is one file"
    return "this is no regular file; choose another name"


@contextlib.contextmanager
def _new_store(path: Path, shared: bool) -> Iterator[Path]:
    """A complete store under a name that cannot be guessed, beside `path`; removed afterwards."""
    made = path.parent / f".{path.name[:200]}.{os.urandom(8).hex()}.new"
    try:
        os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))  # umask decides
        try:
            _fill(made, shared)
        except sqlite3.Error as err:
            raise StorageError(str(path), f"cannot be created (SQLite: {err})") from err
        yield made
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                os.unlink(f"{made}{suffix}")


def _fill(made: Path, shared: bool) -> None:
    with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        # WAL is a property of the file, set while nobody else can see it: per connection it ignores
        # busy_timeout, and 56 of 9624 simultaneous opens failed.
        if not shared:
            connection.execute("PRAGMA journal_mode=WAL")
        _make_tables(connection)
        # "gaps" is kept by `ampstore.backend`, which stands above: an empty table has none.
        connection.executemany("INSERT INTO info (name, value) VALUES (?, ?)", (new_facts() | {"gaps": "0"}).items())
        # Not left to close(): a checkpoint that fails there (full disk) is not told, and half of one got published.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sync(made)


def _make_tables(connection: sqlite3.Connection) -> None:
    """Bring an empty database to HEAD by the text that the revisions come to; importing Alembic takes 0.3 s."""
    if KNOWN[-1] != ddl.REVISION:  # in the middle of writing the next revision
        _run_revisions(connection, KNOWN[-1])
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in ddl.SQLITE:
        connection.execute(statement)
    connection.execute(_SET_REVISION, (ddl.REVISION,))
    connection.execute("COMMIT")


def source_of_ddl() -> str:
    """Text of the module `ampstore.ddl`: what the revisions make of an empty database."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _run_revisions(connection, KNOWN[-1])
        made = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    lines = [
        '"""The tables of a new store as text; `python -m ampstore.schema` writes this file from the revisions."""',
        "",
        f'REVISION = "{KNOWN[-1]}"',
        "",
        "SQLITE = (",
        *(f'    """{sql.expandtabs(4)}""",' for (sql,) in made),
        ")",
    ]
    return "\n".join(lines).replace(", \n", ",\n") + "\n"


def new_facts() -> dict[str, str]:
    """What a new store notes about itself."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    made = {"store": os.urandom(16).hex(), "created_by": f"ampstore {version()}", "created_at": now}
    return made | {"needs": version()}


def _publish(made: Path, path: Path) -> None:
    """Give the finished store its name, unless somebody was faster."""
    with contextlib.suppress(FileExistsError):
        os.link(made, path)
        sync(path.parent)


def _replace_empty(made: Path, path: Path, timeout: float) -> None:
    """Put the store in the place of an empty file, under a lock on that file."""
    import fcntl

    deadline = time.monotonic() + timeout
    with open(path, "r+b") as empty:
        while True:
            try:
                fcntl.flock(empty, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BusyError(str(path)) from None
                time.sleep(0.01)
        ours, there = os.fstat(empty.fileno()), os.stat(path)
        if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino) and not there.st_size:
            os.replace(made, path)
            sync(path.parent)


def check(location: str, revision: str | None, needs: str | None) -> bool:
    """Whether a store of this revision can be used as it is; False if it needs an upgrade.

    Parameters
    ----------
    location : str
        For the errors.
    revision : str or None
        What the store says; None if it has no `ampstore_version`.
    needs : str or None
        Version of ampstore that can read it, as its writer noted it.

    Raises
    ------
    NotAStoreError
        A database of somebody else.
    NewerStoreError
        A revision that this ampstore does not know.
    """
    if revision is None:
        raise NotAStoreError(location, "this is a database of another program; choose another name")
    if revision not in KNOWN:
        raise NewerStoreError(
            location,
            f"the store has format {revision}, this is ampstore {version()} and knows formats up to {KNOWN[-1]}; "
            f"install ampstore {needs or 'that is newer'}" + (" or newer" if needs else ""),
        )
    return revision == KNOWN[-1]


def upgrade(path: Path, timeout: float) -> Path | None:
    """Bring an older store to HEAD; the file is unchanged if anything fails.

    Parameters
    ----------
    path : Path
        The store.
    timeout : float
        Longest wait for other writers, seconds.

    Returns
    -------
    Path or None
        The backup that was made before, None if the store was at HEAD already.

    Raises
    ------
    BusyError
        If others kept writing.
    OutdatedStoreError
        If a revision failed; the cause is attached.
    """
    location = str(path)
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=timeout, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("PRAGMA wal_autocheckpoint=0")
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as err:
            if err.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise StorageError(location, f"cannot be upgraded (SQLite: {err})") from err
            raise BusyError(location, f"others kept writing for {timeout:g} s; upgrade when they are done") from err
        try:
            revision = str(connection.execute(_REVISION).fetchone()[0])
            if check(location, revision, None):
                connection.execute("ROLLBACK")
                return None
            backup = _back_up(path, revision)
            _run_revisions(connection, KNOWN[-1])
            connection.execute("INSERT OR REPLACE INTO info (name, value) VALUES ('needs', ?)", (version(),))
            connection.execute("COMMIT")
        except StoreError:
            _roll_back(connection)
            raise
        except Exception as err:
            _roll_back(connection)
            raise OutdatedStoreError(
                location, f"the upgrade from format {revision} failed and changed nothing ({err})"
            ) from err
        # The upgrade is committed; what cannot be moved into the main file now stays in the WAL.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return backup


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _back_up(path: Path, revision: str) -> Path:
    """Copy the store while the caller holds its write lock; nobody can commit meanwhile."""
    day = time.strftime("%Y%m%d-%H%M%S")
    backup = path.with_name(f"{path.name}.{revision}-{day}.backup")
    partial = path.with_name(f".{backup.name}.{os.urandom(4).hex()}.new")
    source = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o666))  # umask decides
        with contextlib.closing(source), contextlib.closing(sqlite3.connect(partial)) as target:
            source.backup(target)
            if target.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                raise StorageError(str(path), "the backup before the upgrade is damaged; nothing was changed")
        os.replace(partial, backup)
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{partial}{suffix}")
    sync(path.parent)
    return backup


def _run_revisions(connection: sqlite3.Connection, target: str) -> None:
    """Run Alembic up to `target` on this connection, inside its transaction or in one of its own."""
    from alembic import command
    from sqlalchemy import create_engine, event
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import StaticPool

    # Alembic wants an engine; it gets one that hands out this very connection and leaves the
    # transaction to us (sqlite3 would otherwise commit before DDL).
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    ours = not connection.in_transaction

    @event.listens_for(engine, "begin")
    def begin(_: object) -> None:
        if not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE")

    if not ours:  # the caller ends its own transaction
        engine.dialect.do_commit = lambda _: None  # type: ignore[assignment, method-assign]
        engine.dialect.do_rollback = lambda _: None  # type: ignore[assignment, method-assign]
    try:
        with alembic_lock, engine.connect() as alembic_connection:
            settings = config()
            settings.attributes["connection"] = alembic_connection
            command.upgrade(settings, target)
            if ours:
                alembic_connection.commit()
    except DBAPIError as err:
        raise (err.orig or err) from err


def config() -> "Config":
    """Alembic's settings: where the revisions are."""
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    return settings
