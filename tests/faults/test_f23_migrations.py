"""F23: an upgrade of an old store is killed, fails, or meets a newer format."""

import contextlib
import errno
import shutil
import sqlite3

import pytest

import ampstore
from ampstore.errors import NewerStoreError
from faults.judge import Verdict
from faults.processes import TESTS
from faults.sessions import Action, Call

OLD = TESTS / "data" / "store-0001.sqlite3"


def contents(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT key, codec, size, checksum, payload FROM entry ORDER BY id").fetchall()


def upgrade(sessions, *inject):
    """Open a copy of an old store under a fault."""
    shutil.rmtree(sessions.directory, ignore_errors=True)
    sessions.directory.mkdir()
    sessions.log.unlink(missing_ok=True)
    shutil.copy(OLD, sessions.directory / "a.db")
    return sessions.play("creation", *inject, fresh=False)


def look(sessions, fault, case):
    """As it was, or upgraded; and the next open upgrades it."""
    verdict = Verdict()
    with contextlib.closing(sqlite3.connect(sessions.directory / "a.db")) as connection:
        (revision,) = connection.execute("SELECT version_num FROM ampstore_version").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if (revision == "0001") == ("trace" in tables):
        verdict.add("wrong", f"{case}: half of an upgrade: {revision} with {tables}")
    if [row for row in contents(sessions.directory / "a.db") if row[0] != "k"] != contents(OLD):
        verdict.add("lost", f"{case}: entries are not what they were")
    with ampstore.Store(sessions.directory / "a.db", "w") as store:
        if list(store.verify()):
            verdict.add("wrong", f"{case}: {list(store.verify())}")
    fault.judged(verdict)


@pytest.mark.fault("F23", "SIGKILL, EIO and ENOSPC at every call of an upgrade from format 0001")
def test_an_upgrade_that_is_killed_or_fails_leaves_the_old_store_or_the_new(fault, sessions):
    """The same open again finishes it."""
    whole = upgrade(sessions)
    assert (whole["code"], whole["errors"]) == (0, []), whole
    every = range(1, int(whole["calls"]) + 1)
    for at in fault.some(every, 8, 40):
        for action, error in ((Action.KILL, 0), (Action.FAIL, errno.EIO), (Action.FAIL, errno.ENOSPC)):
            answer = upgrade(sessions, action, Call.CHANGES, at, error)
            case = f"{action.name} {error} at {at}"
            if answer["code"] is None:
                fault.hung(case)
            elif answer["code"] not in (0, -9):
                fault.wrong(f"{case}: {answer['errors'][-1][-1500:]}")
            fault.injected()
            look(sessions, fault, case)


@pytest.mark.fault("F23", "a store of a newer format, by every flag")
def test_a_newer_format_is_refused_and_not_touched(fault, tmp_path):
    """By a sentence that says which ampstore it needs."""
    path = shutil.copy(OLD, tmp_path / "a.db")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE ampstore_version SET version_num = '0999'")
    with open(path, "rb") as file:
        before = file.read()
    for flag in "rwcn":
        fault.injected()
        with pytest.raises(NewerStoreError, match="0999"):
            ampstore.Store(path, flag)
    with open(path, "rb") as file:
        if file.read() != before:
            fault.wrong("a store of a newer format was written to")
