"""Connections to one PostgreSQL server: one for every thread of every process.

A statement that runs alone is sent again once the server is back, within the time-out: each of ours
may run twice, and says whether it did. A transaction that breaks is never taken up again, since the
program has acted on what it read in it.

libpq leaves a connection alone that was inherited through fork; here it is kept and never touched.
"""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from ampstore.backend.connections import Durability
from ampstore.backend.postgresql.failures import AGAIN, refused, translate
from ampstore.backend.postgresql.silence import FrozenServerError, WatchedConnection
from ampstore.backend.server import Server
from ampstore.errors import BusyError, ClosedError, ConnectionLostError, LocationError, StoreError

Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.Cursor[tuple[Any, ...]]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two attempts to connect
_CONNECT = 10  # seconds for one attempt, at most
_GLANCE = 3  # seconds in which a server that is alive takes a connection
_LONGEST = 60.0  # seconds for one statement, at least, and then four times the time-out


class PerThread(threading.local):
    """State of one thread.

    `depth` transactions are open; `lost` says that the outermost one broke; `staged` that this
    connection has the staging table, None that it may not have one; `unhurried` that its statements
    may take as long as they want.
    """

    connection: Connection | None = None
    cursor: Cursor | None = None
    depth = 0
    lost = False
    staged: bool | None = False
    unhurried = False


class Done(NamedTuple):
    """What a statement did.

    Attributes
    ----------
    rows : list of tuple
    changed : int
        Number of rows.
    repeated : bool
        Whether it may have run twice, the first time unnoticed.
    """

    rows: list[tuple[Any, ...]]
    changed: int
    repeated: bool


class Connections:
    """Makes, keeps, mends and closes the connections.

    Parameters
    ----------
    server : Server
    readonly : bool
    timeout : float
        Longest wait for others, and for a server that restarts, seconds.
    durability : {"normal", "full"}
    """

    def __init__(self, server: Server, *, readonly: bool, timeout: float, durability: Durability) -> None:
        self.server = server
        self.timeout = timeout
        self.closed = False
        self.local = PerThread()
        self._parameters = self._connecting()
        self._settings = _settings(server, readonly, timeout, durability)
        self._reached = False
        self._lock = threading.Lock()
        self._made: dict[threading.Thread, Connection] = {}
        weakref.finalize(self, _close_all, self._made)
        _alive.add(self)

    def _connecting(self) -> dict[str, Any]:
        """Parameters of libpq: what the user says comes first."""
        try:
            given = conninfo_to_dict(self.server.conninfo)
        except psycopg.Error as err:
            raise LocationError(self.server.location, self.server.without_secrets(str(err).strip())) from None
        ours: dict[str, Any] = {"client_encoding": "utf8", "fallback_application_name": "ampstore"}
        if "PGCONNECT_TIMEOUT" not in os.environ:
            ours["connect_timeout"] = max(2, round(min(self.timeout, _CONNECT)))
        # A host that is gone answers nothing: without these the kernel waits for hours.
        ours |= {"tcp_user_timeout": round(1000 * max(1, self.timeout)), "keepalives_idle": 30}
        return {**ours, **given}

    def get(self) -> Connection:
        """The connection of this thread."""
        return self.local.connection or self.connect(None)

    def cursor(self, deadline: float | None = None) -> Cursor:
        """The cursor of this thread; its results are taken at once."""
        local = self.local
        if local.cursor is None:
            connection = local.connection or self.connect(deadline)
            local.cursor = connection.cursor(binary=True)
        return local.cursor

    def connect(self, deadline: float | None) -> Connection:
        """A new connection for this thread; those of threads that ended are closed.

        A server that was there before may be restarting: it is waited for until `deadline`.
        """
        pause = _FIRST_PAUSE
        while True:
            if self.closed:
                raise ClosedError(self.server.location)
            try:
                connection = self.open()
                break
            except (ConnectionLostError, BusyError) as err:
                deadline = deadline or time.monotonic() + self.timeout
                patient = self._reached or isinstance(err, BusyError) or "starting up" in str(err)
                if not patient or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._reached = True
        with self._lock:
            for thread in [thread for thread in self._made if not thread.is_alive()]:
                _close(self._made.pop(thread))
            self._made[threading.current_thread()] = connection
        self.local.connection, self.local.staged = connection, False
        return connection

    def open(self) -> Connection:
        """A connection that the caller closes."""
        try:
            connection = WatchedConnection.connect("", autocommit=True, **self._parameters, **self.server.secrets)  # type: ignore[arg-type]
        except psycopg.Error as err:
            raise refused(err, self.server) from None  # the driver's error has the parameters
        connection.patience, connection.is_frozen = self.timeout + 1, self._is_frozen
        try:
            calls = sql.SQL(", ").join(
                sql.SQL("set_config({}, {}, false)").format(name, value) for name, value in self._settings.items()
            )
            connection.execute(sql.SQL("SELECT ") + calls)
        except psycopg.Error as err:
            connection.close()
            raise self.translate(err) from err
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_frozen(self, silent: float) -> bool:
        """Whether a server that said nothing for so many seconds will not say anything."""
        if not self.local.unhurried and silent > _longest(self.timeout) + _GLANCE:
            return True  # its time-out for statements has not ended this one
        parameters = {**self._parameters, **self.server.secrets, "connect_timeout": _GLANCE}
        try:
            psycopg.connect("", **parameters).close()
        except psycopg.errors.ConnectionTimeout:
            return True
        except psycopg.Error:  # it refuses, so it is there
            return False
        return False

    def drop(self) -> None:
        """Give up the connection of this thread, which broke."""
        with self._lock:
            self._made.pop(threading.current_thread(), None)
        connection, self.local.connection, self.local.cursor = self.local.connection, None, None
        if connection is not None:
            _close(connection)

    # -- statements ----------------------------------------------------------------------------

    def run(self, statement: Any, parameters: Sequence[object] = (), *, prepare: bool = True) -> Done:
        """Run one statement, in the open transaction or alone."""
        if self.local.depth:
            with self.inside():
                return _done(
                    self.cursor().execute(statement, parameters or None, prepare=prepare, binary=prepare), False
                )
        deadline, repeated = None, False
        while True:
            cursor = self.cursor(deadline)
            if cursor.connection.pgconn.transaction_status:  # Ctrl-C came just after a BEGIN
                self.drop()
                continue
            try:
                return _done(cursor.execute(statement, parameters or None, prepare=prepare, binary=prepare), repeated)
            except psycopg.Error as err:
                lost = is_lost(cursor.connection)
                deadline = deadline or time.monotonic() + self.timeout
                frozen = isinstance(err, FrozenServerError)  # and was waited for already
                if self.closed or frozen or not (lost or err.sqlstate in AGAIN) or time.monotonic() > deadline:
                    if frozen:
                        self.drop()
                    raise self.translate(err) from err
                if lost:
                    repeated = True
                    self.drop()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """A step of a transaction: the driver's errors come out as ours, and a broken one stays broken."""
        local = self.local
        if local.lost:
            raise self.lost()
        try:
            yield
        except psycopg.Error as err:
            if not self.closed and is_lost(local.connection):
                local.lost = True
                raise self.lost() from err
            raise self.translate(err) from err

    def lost(self, when: str = "nothing of it was stored; run it again") -> ConnectionLostError:
        """Error of a transaction whose connection broke."""
        return ConnectionLostError(self.server.location, f"the server went away in the middle of a transaction; {when}")

    def translate(self, err: psycopg.Error) -> Exception:
        """Our error for one of the driver's."""
        return ClosedError(self.server.location) if self.closed else translate(err, self.server, self.timeout)

    # -- their lives ---------------------------------------------------------------------------

    def number(self) -> int:
        """How many connections are open."""
        return len(self._made)

    def close(self) -> None:
        """Close the connections of all threads. Closing twice is fine."""
        self.closed = True
        with self._lock:
            _close_all(self._made)
        self.local.connection = self.local.cursor = None

    def forget_parent(self) -> None:
        """In a forked child: keep what was inherited, use none of it."""
        _inherited.extend(self._made.values())
        self._made.clear()
        self.local = PerThread()
        self._lock = threading.Lock()

    def check_still_open(self, local: PerThread, connection: Connection) -> None:
        """Refuse to end a transaction in another process than began it, or after `close`."""
        if self.local is not local or self.closed:
            raise StoreError(self.server.location, "a transaction does not cross fork or close; begin it in the child")
        if local.lost or local.connection is not connection:
            raise self.lost()


def is_lost(connection: Connection | None) -> bool:
    """Whether a connection is gone, and not just a statement refused."""
    return connection is None or connection.closed


def _settings(server: Server, readonly: bool, timeout: float, durability: Durability) -> dict[str, str]:
    name = '"' + server.schema.replace('"', '""') + '"'
    wait = max(1, round(1000 * timeout))
    # "local": on the disk of this server; "on" waits for synchronous standbys too, where there are any.
    synchronous = {"normal": "local", "full": "on"}[durability] if server.sync else "off"
    return {
        "search_path": f"{name}, pg_temp",
        "lock_timeout": str(wait),
        "statement_timeout": str(round(1000 * _longest(timeout))),
        "synchronous_commit": synchronous,
        "default_transaction_read_only": "on" if readonly else "off",
        "default_transaction_isolation": "read committed",
    }


def _longest(timeout: float) -> float:
    return max(_LONGEST, 4 * timeout)


def _done(cursor: Cursor, repeated: bool) -> Done:
    return Done(cursor.fetchall() if cursor.description else [], cursor.rowcount, repeated)


_alive: "weakref.WeakSet[Connections]" = weakref.WeakSet()
_inherited: list[Connection] = []


def _close(connection: Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        connection.close()


def _close_all(connections: dict[threading.Thread, Connection]) -> None:
    while connections:
        _close(connections.popitem()[1])


def _after_fork() -> None:
    for connections in list(_alive):
        connections.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
