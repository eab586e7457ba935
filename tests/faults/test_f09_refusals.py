"""F9: media that are read-only, files without permission, too few descriptors, a quota."""

import errno
import os
import subprocess
import sys

import pytest

import ampstore
from ampstore.errors import AccessError, ReadOnlyError, StorageError
from faults.acknowledged import Acknowledged
from faults.judge import judge
from faults.processes import absent, run
from faults.sessions import Action, Call


@pytest.fixture
def database(tmp_path, elsewhere):
    """A container with entries in store, loose and archive, and the log of them."""
    log = Acknowledged(elsewhere / "log")
    path = tmp_path / "media" / "a.ampdb"
    path.parent.mkdir()
    legacy = ampstore.LegacyDatabase(path)
    for number in range(6):
        with log.writing({f"legacy{number}": [number] * 50}):
            legacy[f"legacy{number}"] = [number] * 50
        if number == 3:
            legacy.archive()
    legacy.close()
    with ampstore.FileDatabase(path) as opened:
        for number in range(6):
            with log.writing({f"k{number}": [number] * 50}):
                opened[f"k{number}"] = [number] * 50
    log.close()
    return path


@pytest.fixture
def read_only(database):
    """The container on a read-only mount."""
    media = database.parent
    for options in (["--bind", media, media], ["-o", "remount,ro,bind", media]):
        done = subprocess.run(["mount", *options], check=False, capture_output=True, text=True)
        if done.returncode:
            absent(f"a read-only bind mount needs root: {done.stderr}")
    yield database
    subprocess.run(["umount", media], check=True)


@pytest.mark.fault("F9", "read-only bind mount: every way to read, every way to write")
def test_read_only_media_can_be_read_and_writes_say_why_not(fault, read_only, elsewhere):
    """By handle and by command; a copy elsewhere can be made."""
    with ampstore.FileDatabase(read_only, "r") as opened:
        if len(opened) != 12 or opened["k3"] != [3] * 50 or opened["legacy5"] != [5] * 50:
            fault.wrong(f"reads on read-only media: {sorted(opened)}")
        if damage := list(opened.verify()):
            fault.wrong(f"verify on read-only media: {damage}")
        with pytest.raises(ReadOnlyError):
            opened["x"] = 1
    for command, code in (
        (["ls", read_only], 0),
        (["get", read_only, "k1"], 0),
        (["verify", read_only], 0),
        (["info", read_only], 0),
        (["export", read_only, elsewhere / "out"], 0),
        (["put", read_only, "x", "1"], 3),
        (["archive", read_only], 3),
        (["rm", read_only, "k1"], 3),
        (["migrate", read_only], 3),
    ):
        ended = run([sys.executable, "-m", "ampstore", *command])
        fault.injected()
        if ended.hung:
            fault.hung(f"ampstore {command[0]}")
        elif ended.code != code or "Traceback" in ended.errors:
            fault.wrong(f"ampstore {command[0]} exits with {ended.code}: {ended.errors[-600:]}")
    for write in (
        lambda opened: opened.__setitem__("x", 1),
        lambda opened: opened.__delitem__("k1"),
        lambda opened: opened.archive(),
        lambda opened: opened.update(x=1),
    ):
        fault.injected()
        with ampstore.FileDatabase(read_only) as opened, pytest.raises((AccessError, StorageError)):
            write(opened)
    fault.judged(judge_reading(read_only, elsewhere))


def judge_reading(path, elsewhere):
    """The judge needs a directory that can be written: a copy."""
    subprocess.run(["cp", "-r", path, elsewhere / "copy.ampdb"], check=True)
    return judge(elsewhere / "copy.ampdb", [elsewhere / "log"])


REFUSED = """
import os, sys, tempfile, ampstore
from ampstore.errors import AmpstoreError
path = sys.argv[1]
with tempfile.TemporaryDirectory() as directory:  # imports all that the other user may not read
    with ampstore.FileDatabase(directory + "/a") as database:
        database["a"] = 1
        database.archive()
os.setgid(65534); os.setuid(65534)
for flag in (None, "r"):
    try:
        database = ampstore.FileDatabase(path, flag)
    except AmpstoreError as err:
        print(flag, "open", "refused" if isinstance(err, PermissionError) else repr(err))
        continue
    for name, use in {
        "get": lambda: database["k1"], "set": lambda: database.__setitem__("k1", 1), "keys": database.keys,
        "in": lambda: "k1" in database, "del": lambda: database.__delitem__("k1"), "archive": database.archive,
    }.items():
        try:
            use()
            print(flag, name, "works")
        except PermissionError as err:
            print(flag, name, "refused" if isinstance(err, AmpstoreError) else repr(err))
        except BaseException as err:
            print(flag, name, repr(err))
"""


@pytest.mark.parametrize("mode", [0o000, 0o700])
@pytest.mark.fault("F9", "EACCES: the container, its store, or both belong to another user")
def test_no_permission_is_an_access_error(fault, database, elsewhere, mode):
    """A PermissionError of ours at every use, never "not there"."""
    if os.getuid():
        absent("only root can become another user")
    for name in (database, database / "store.sqlite3", database / "loose"):
        for top in (database.parent.parent, *database.parent.parent.parents):
            os.chmod(top, os.stat(top).st_mode | 0o055)
        before = os.stat(name).st_mode
        os.chmod(name, mode)
        ended = run([sys.executable, "-c", REFUSED, database])
        os.chmod(name, before)
        fault.injected()
        if ended.code:
            fault.wrong(f"{name.name} with {mode:o}: {ended.errors[-500:]}")
        for line in ended.output.splitlines():
            if not line.endswith((" works", " refused")):
                fault.wrong(f"{name.name} with {mode:o}: {line}")
    fault.fact(mode=f"{mode:o}")
    fault.judged(judge(database, [elsewhere / "log"]))


@pytest.mark.parametrize("session", ["store", "container"])
@pytest.mark.fault("F9", "EMFILE, EDQUOT, EROFS, EACCES at the N-th open, write or rename of a session, and from N on")
def test_refusals_of_the_system_at_any_call_lose_nothing(fault, sessions, session):
    """Named at once, and the session goes on when they end."""
    kinds = {
        errno.EMFILE: Call.OPEN,
        errno.EDQUOT: Call.WRITE | Call.SIZE | Call.NAME,
        errno.EROFS: Call.OPEN | Call.NAME,
        errno.EACCES: Call.OPEN | Call.NAME,
    }
    for error, kind in kinds.items():
        whole = int(sessions.play(session, calls=kind)["calls"])
        for at in fault.some(range(1, whole + 1), 1, 30):
            for again in (False, True):
                answer = sessions.play(session, Action.FAIL, kind, at, error, again)
                case = f"{errno.errorcode[error]} at {at}{' and on' if again else ''}"
                if answer["code"] is None:
                    fault.hung(case)
                elif answer["code"]:
                    fault.wrong(f"{case}: {answer['errors'][-1][-1500:]}")
                fault.injected()
                verdict = sessions.judge(session)
                verdict.notes = [f"{case}: {note}" for note in verdict.notes]
                fault.judged(verdict)
    fault.fact(session=session)


DESCRIPTORS = """
import os, resource, sys, ampstore
from ampstore.errors import AmpstoreError
database, held = ampstore.FileDatabase(sys.argv[1]), []
assert database["k1"] == [1] * 50
lowest = os.open("/dev/null", os.O_RDONLY)
os.close(lowest)
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 4 + int(sys.argv[2]), before[1]))
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
uses = {
    "get": lambda: database["k2"], "legacy": lambda: database["legacy5"], "archived": lambda: database["legacy1"],
    "set": lambda: database.__setitem__("k1", [1] * 50), "loose": lambda: database.__setitem__("legacy5", [5] * 50),
    "keys": database.keys, "another": lambda: ampstore.FileDatabase(sys.argv[1])["k1"],
    "verify": lambda: list(database.verify()), "archive": database.archive,
}
for spare in range(4):  # with no, one, two, three descriptors that are free
    for name, use in uses.items():
        try:
            use()
        except AmpstoreError:
            print("told")
        except BaseException as err:
            print("foreign", spare, name, repr(err))
    os.close(held.pop()) if held else None
while held:
    os.close(held.pop())
resource.setrlimit(resource.RLIMIT_NOFILE, before)
assert database["k2"] == [2] * 50 and database["legacy1"] == [1] * 50
database["k1"] = [1] * 50
"""


@pytest.mark.fault("F9", "RLIMIT_NOFILE: an open container, and no descriptor or up to three that are free")
def test_too_few_descriptors_are_told_and_it_goes_on_when_there_are_some(fault, database, elsewhere):
    """By errors of ours; nothing is lost."""
    for more in range(fault.times(1, 8)):
        ended = run([sys.executable, "-c", DESCRIPTORS, database, more])
        fault.injected(4)
        if ended.hung:
            fault.hung("too few descriptors")
        elif ended.code or "foreign" in ended.output or "told" not in ended.output:
            fault.wrong(f"{more} more: {ended.code} {ended.output} {ended.errors[-800:]}")
    fault.judged(judge(database, [elsewhere / "log"]))


QUOTA = """
import os, resource, signal, sys, ampstore
from ampstore.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
with ampstore.FileDatabase(sys.argv[1]) as database:
    told = 0
    for n in range(60):
        try:
            database[f"big{n}"] = os.urandom(30_000)
        except StorageError:
            told += 1
    for use in (database.archive, lambda: database.store.compact()):
        try:
            use()
        except StorageError:
            told += 1
print(told)
"""


@pytest.mark.fault("F9", "RLIMIT_FSIZE, as batch systems set it")
def test_a_limit_of_the_size_of_files_is_told(fault, database, elsewhere):
    """StorageError, and what was there is there."""
    for _ in range(fault.times(3, 20)):
        ended = run([sys.executable, "-c", QUOTA, database, fault.random.randrange(100_000, 1_500_000)])
        fault.injected()
        if ended.hung:
            fault.hung("a limit of the size of files")
        elif ended.code or not int(ended.output):
            fault.wrong(f"a limit of the size of files: {ended.output} {ended.errors[-800:]}")
    with ampstore.FileDatabase(database) as opened:
        for key in [key for key in opened if key.startswith("big")]:
            del opened[key]
    fault.judged(judge(database, [elsewhere / "log"]))
