"""F7: the disk is full."""

import errno
import os
import subprocess

import pytest

import ampstore
from ampstore.errors import AmpstoreError, StorageError
from ampstore.transfer import export_legacy, import_legacy
from faults.acknowledged import Acknowledged
from faults.judge import judge
from faults.processes import mounted_tmpfs
from faults.sessions import Action, Call

ROOM = 12 << 20  # the WAL alone takes up to 5 MB of it


@pytest.fixture
def disk(tmp_path):
    """A file system of 12 MB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted_tmpfs(directory, str(ROOM))
    yield directory
    subprocess.run(["umount", directory], check=True)


def fill(disk, leave):
    """Take all the space but `leave` bytes."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    free = os.statvfs(disk)
    size = max(0, free.f_bavail * free.f_bsize - leave)
    with open(ballast, "wb") as file:
        file.write(bytes(size))
    return ballast


def import_here(database):
    database.close()
    import_legacy(database.path, remove_source=True, timeout=5)


def store_of(database):
    assert database.store is not None
    return database.store


OPERATIONS = {
    "set": lambda database, _: database.__setitem__("new", os.urandom(400_000)),
    "batch": lambda database, _: database.update({f"new{n}": os.urandom(60_000) for n in range(10)}),
    "checkpoint": lambda database, _: store_of(database).sync(),
    "migrate": lambda database, _: import_here(database),
    "archive": lambda database, _: database.archive(),
    "compact": lambda database, _: store_of(database).compact(),
    "export": lambda database, disk: export_legacy(database, disk / "out"),
    "backup": lambda database, disk: store_of(database).backup(disk / "copy.db"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.fault("F7", "a tmpfs of 12 MB with less and less room")
def test_a_full_disk_is_told_and_loses_nothing(fault, disk, elsewhere, operation):
    """The error is clear, everything can be read meanwhile, and it goes on when space returns."""
    logs, path, failures = [elsewhere / "log"], disk / "a.ampdb", 0
    with ampstore.FileDatabase(path) as database:
        log = Acknowledged(logs[0])
        for number in range(12):
            value = {f"k{number}": fault.random.randbytes(80_000)}
            with log.writing(value):
                database.update(value)
        for number in range(8, 16):
            value = {f"k{number}": fault.random.randbytes(30_000)}
            with log.writing(value):
                loose = ampstore.LegacyDatabase(path)
                loose.update(value)
                loose.close()
        for _ in range(fault.times(4, 25)):
            ballast = fill(disk, fault.random.choice((0, 4096, fault.random.randrange(1_500_000))))
            fault.injected()
            try:
                OPERATIONS[operation](database, disk)
            except AmpstoreError as err:
                failures += 1
                if not isinstance(err, StorageError):
                    fault.wrong(f"{operation}: {err!r}")
            except Exception as err:
                fault.wrong(f"{operation} raised {err!r}")
            known = [f"k{number}" for number in range(16)]
            if missing := [key for key in known if key not in database]:
                fault.lost(f"{missing} cannot be read on the full disk")
            ballast.unlink()
            for left in (disk / "out.ampdb", disk / "copy.db"):
                subprocess.run(["rm", "-rf", left], check=True)
            value = {"after": fault.random.randbytes(1000)}
            with log.writing(value):
                database.update(value)
            for key in [key for key in database if key.startswith("new")]:
                del database[key]
    fault.fact(operation=operation, told_by_an_error=failures)
    fault.judged(judge(path, logs))


@pytest.mark.parametrize("session", ["store", "container"])
@pytest.mark.fault("F7", "ENOSPC at the N-th write, truncate, rename or open of a session, once and from N on")
def test_no_space_at_any_call_loses_nothing(fault, sessions, session):
    """As a full disk, at every moment of a session."""
    kind = Call.WRITE | Call.SIZE | Call.NAME | Call.OPEN
    whole = sessions.play(session, calls=kind)
    every = range(1, int(whole["calls"]) + 1)
    for at in fault.some(every, 4, 80):
        for again in (False, True):
            answer = sessions.play(session, Action.FAIL, kind, at, errno.ENOSPC, again)
            case = f"ENOSPC at {at}{' and on' if again else ''}"
            if answer["code"] is None:
                fault.hung(case)
            elif answer["code"]:
                fault.wrong(f"{case}: {answer['errors'][-1][-1500:]}")
            fault.injected()
            verdict = sessions.judge(session)
            verdict.notes = [f"{case}: {note}" for note in verdict.notes]
            fault.judged(verdict)
    fault.fact(session=session)


@pytest.mark.fault("F7", "ENOSPC at the N-th write of the creation of a store, once")
def test_a_store_is_made_whole_or_not_at_all(fault, sessions):
    """Also when the disk is full only for the moment of the last checkpoint, which used to publish half a store."""
    whole = sessions.play("creation", calls=Call.WRITE)
    last = int(whole["calls"])
    for at in range(1, last + 1, 1 if fault.long else 8):
        answer = sessions.play("creation", Action.FAIL, Call.WRITE, at, errno.ENOSPC)
        fault.injected()
        if answer["code"] != 0:
            fault.wrong(f"ENOSPC at {at}: {answer}")
        fault.judged(sessions.judge("creation"))
        with ampstore.Store(sessions.directory / "a.db") as store:
            store["next"] = 1
