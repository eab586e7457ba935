"""F3: writers beside maintenance that checkpoints all the time."""

import contextlib
import json
import sqlite3

import pytest

from ampstore import Store
from faults.judge import judge
from faults.processes import finish, python, start


def race(fault, path, elsewhere, writer, checkpointer, seconds):
    """Two writers and two checkpointers at once; the logs of the writers."""
    logs = [elsewhere / f"log{n}" for n in range(4)]
    roles = [(writer, logs[0]), (writer, logs[1]), (checkpointer, logs[2]), (checkpointer, logs[3])]
    processes = [
        start(python("racer", role, path, log, f"w{number}", seconds)) for number, (role, log) in enumerate(roles)
    ]
    for process in processes:
        ended = finish(process, seconds + 60)
        if ended.hung:
            fault.hung(f"{process.args} did not end in time")
        elif ended.code:
            fault.wrong(f"{process.args}: {ended.errors[-800:]}")
    return logs[:2]


@pytest.mark.fault("F3", "two writers beside two processes that checkpoint all the time (injections: commits)")
def test_no_commit_is_lost_beside_checkpoints(fault, elsewhere):
    """Checkpoints hold the write lock, so that no commit resets the WAL beside them."""
    Store(elsewhere / "a.db").close()
    logs = race(fault, elsewhere / "a.db", elsewhere, "writer", "maintainer", fault.times(2, 300))
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
    logs = race(fault, path, elsewhere, "plain-writer", "plain-checkpointer", fault.times(2, 300))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = {key for (key,) in connection.execute("SELECT key FROM entry NOT INDEXED")}
        integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
    written = [json.loads(line.split(" ", 2)[2]) for log in logs for line in log.read_text().splitlines()]
    lost = sum(key not in found for key in written)
    fault.injected(len(written))
    fault.fact(sqlite=sqlite3.sqlite_version, lost_by_plain_sqlite3=lost, integrity_check=integrity[:40])
    if sqlite3.sqlite_version_info >= (3, 51, 3):
        assert not lost
