"""One side of the WAL-reset race: `python -m faults.racer ROLE FILE LOG NAME SECONDS`."""

import sqlite3
import sys
import time
from pathlib import Path

from ampstore import Store
from faults.acknowledged import Acknowledged


def plain(file: Path) -> sqlite3.Connection:
    """As most programs open a database in WAL mode."""
    connection = sqlite3.connect(file, timeout=30, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    return connection


def plain_writer(file: Path, log: Acknowledged, name: str, end: float) -> None:
    connection, number = plain(file), 0
    while time.monotonic() < end:
        values = {f"{name}-{number}": number}
        connection.execute("INSERT INTO entry (key, value) VALUES (?, ?)", (f"{name}-{number}", number))
        log.done(values)
        number += 1


def plain_checkpointer(file: Path, _: Acknowledged, __: str, end: float) -> None:
    connection = plain(file)
    while time.monotonic() < end:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def writer(file: Path, log: Acknowledged, name: str, end: float) -> None:
    with Store(file) as store:
        number = 0
        while time.monotonic() < end:
            values = {f"{name}-{number}": number}
            with log.writing(values):
                store.put_many(values)
            number += 1


def maintainer(file: Path, _: Acknowledged, __: str, end: float) -> None:
    with Store(file) as store:
        while time.monotonic() < end:
            store.sync()


ROLES = {
    "plain-writer": plain_writer,
    "plain-checkpointer": plain_checkpointer,
    "writer": writer,
    "maintainer": maintainer,
}

if __name__ == "__main__":
    role, file, log, name, seconds = sys.argv[1:]
    ROLES[role](Path(file), Acknowledged(log), name, time.monotonic() + float(seconds))
