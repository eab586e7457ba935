"""PostgreSQL's errors turned into ours; the only place that knows SQLSTATEs."""

import psycopg

from ampstore.backend.server import Server
from ampstore.errors import (
    AccessError,
    BusyError,
    ConnectionLostError,
    DamagedStoreError,
    EntryTooLargeError,
    LocationError,
    MissingStoreError,
    ReadOnlyError,
    StorageError,
    StoreError,
)

LARGEST = 1_000_000_000
"""Bytes of one payload: a row, and a message of the protocol, must stay under 1 GiB (2**30 - 1)."""

LONGEST_KEY = 2_600
"""Bytes of a key: an index entry must fit in a third of a page of 8 kB (2,704 bytes)."""

_ERRORS: dict[str, type[StoreError]] = {  # SQLSTATE, or its class
    "55P03": BusyError,  # lock_timeout
    "57014": BusyError,  # statement_timeout
    "40": BusyError,  # deadlock, serialization
    "53300": BusyError,  # too many connections
    "25006": ReadOnlyError,  # also a standby
    "53": StorageError,  # disk full, out of memory
    "58": StorageError,  # I/O
    "XX001": DamagedStoreError,
    "XX002": DamagedStoreError,
    "28": AccessError,
    "42501": AccessError,
    "3D000": MissingStoreError,  # no such database
    "3F000": MissingStoreError,  # no such schema
    "42P01": MissingStoreError,  # no such table
    "08": ConnectionLostError,
    "57P": ConnectionLostError,  # shut down, crashed, starting
}

AGAIN = ("40001", "40P01")
"""A transaction that clashed with another one and would go through if it ran again."""


def translate(err: psycopg.Error, server: Server, timeout: float) -> Exception:
    """Our error for one of the driver's."""
    state, location = err.sqlstate or "", server.location
    said = server.without_secrets(str(err).strip()) or type(err).__name__
    cls = next((_ERRORS[state[:n]] for n in (5, 3, 2) if state[:n] in _ERRORS), StoreError)
    if state == "54000":
        return EntryTooLargeError(LARGEST, LARGEST)
    if cls is BusyError:
        waited = f"others held the store for {timeout:g} s ({said})"
        return BusyError(location, f"{waited}; try again or open it with a larger timeout=")
    if cls is ReadOnlyError:
        return ReadOnlyError(location, f"the server takes no writes here ({said}); a standby, or opened with 'r'")
    return cls(location, said if cls is StoreError else f"{cls.sentence} (PostgreSQL: {said})")


def refused(err: psycopg.Error, server: Server) -> StoreError:
    """Our error for a connection that was not made. Such an error has no SQLSTATE, so its text has to do."""
    said = server.without_secrets(str(err).strip())
    if "connection option" in said:
        return LocationError(server.location, said)
    if "password" in said or "authentication" in said or "pg_hba.conf" in said or "permission denied" in said:
        way_out = "a password comes from the URL, ~/.pgpass, PGPASSFILE or PGPASSWORD"
        return AccessError(server.location, f"the server refused this user ({said}); {way_out}")
    if "FATAL" in said and "does not exist" in said:
        return MissingStoreError(server.location, f"{said}; create it first, with createdb or createuser")
    if "too many" in said or "remaining connection slots" in said:
        return BusyError(server.location, f"the server has no connection left ({said}); raise max_connections")
    return ConnectionLostError(server.location, f"{ConnectionLostError.sentence} ({said})")
