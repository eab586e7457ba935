"""F3: writers beside maintenance that checkpoints all the time."""

import contextlib
import json
import sqlite3

import pytest

from ampstore import Store
from faults.judge import judge
from faults.processes import finish, python, start


def race(fault, path, elsewhere, writer, checkpointer, seconds):
    """Two writers and two checkpointers at once; the logs of the writers. One that finds plain SQLite's damage ends."""
    logs = [elsewhere / f"log{n}" for n in range(4)]
    roles = [(writer, logs[0]), (writer, logs[1]), (checkpointer, logs[2]), (checkpointer, logs[3])]
    processes = [
        start(python("racer", role, path, log, f"w{number}", seconds)) for number, (role, log) in enumerate(roles)
    ]
    for process in processes:
        ended = finish(process, seconds + 60)
        if ended.hung:
            fault.hung(f"{process.args} did not end in time")
        elif ended.code and not (role_of_plain(process) and MALFORMED in ended.errors):
            fault.wrong(f"{process.args}: {ended.errors[-800:]}")
    return logs[:2]


MALFORMED = "database disk image is malformed"


def role_of_plain(process):
    """Whether a process of a race uses sqlite3 alone."""
    return any(str(argument).startswith("plain-") for argument in process.args)


def read_plain(path):
    """Keys that are left, as far as they can be read, and what SQLite says about its file."""
    found = set()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            found.update(key for (key,) in connection.execute("SELECT key FROM entry NOT INDEXED"))
            return found, connection.execute("PRAGMA integrity_check").fetchone()[0]
        except sqlite3.DatabaseError as err:
            return found, str(err)


@pytest.mark.fault("F3", "two writers beside two processes that checkpoint all the time (injections: commits)")
def test_no_commit_is_lost_beside_checkpoints(fault, elsewhere):
    """Checkpoints hold the write lock, so that no commit resets the WAL beside them."""
    Store(elsewhere / "a.db").close()
    logs = race(fault, elsewhere / "a.db", elsewhere, "writer", "maintainer", fault.times(2, 60))
    fault.injected(sum(line.startswith("!") for log in logs for line in log.read_text().splitlines()))
    fault.fact(sqlite=sqlite3.sqlite_version)
    fault.judged(judge(elsewhere / "a.db", logs))


@pytest.mark.fault("F3", "plain sqlite3 with PASSIVE checkpoints, for comparison: what it loses is not counted as ours")
def test_what_plain_sqlite3_loses_with_passive_checkpoints(fault, elsewhere):
    """Told in the table; nothing may be lost where SQLite is mended."""
    path = elsewhere / "plain.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE entry (key TEXT PRIMARY KEY, value INT)")
    logs = race(fault, path, elsewhere, "plain-writer", "plain-checkpointer", fault.times(2, 20))
    found, integrity = read_plain(path)
    written = [json.loads(line.split(" ", 2)[2]) for log in logs for line in log.read_text().splitlines()]
    lost = sum(key not in found for key in written)
    fault.injected(len(written))
    fault.fact(sqlite=sqlite3.sqlite_version, lost_by_plain_sqlite3=lost, integrity_check=integrity[:40])
    if sqlite3.sqlite_version_info >= (3, 51, 3):
        assert not lost
