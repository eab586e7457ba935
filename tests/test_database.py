"""FileDatabase: one container, three tiers, any number of processes."""

import contextlib
import io
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ampstore import FileDatabase, LegacyDatabase, Store
from ampstore import database as database_module
from ampstore.errors import KeyTypeError, MissingStoreError, ReadOnlyError


def write_loose(container, values):
    (container / "loose").mkdir(parents=True, exist_ok=True)
    for key, value in values.items():
        (container / "loose" / key).write_bytes(pickle.dumps(value, 0))


def write_archive(container, values):
    container.mkdir(parents=True, exist_ok=True)
    with tarfile.open(container / "archive.tar.gz", "w:gz") as tar:
        for key, value in values.items():
            data = value if isinstance(value, bytes) else pickle.dumps(value, 0)
            member = tarfile.TarInfo(key)
            member.size, member.mtime = len(data), 1500000000
            tar.addfile(member, io.BytesIO(data))


def elsewhere(code, *arguments):
    """Run a piece of a program in another process."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def container(tmp_path):
    """One key in every combination of tiers; the newest value is that of the first tier in the name."""
    directory = tmp_path / "x.ampdb"
    with Store(made(directory)) as store:
        store.update({"store": "store", "store-archive": "store", "loose-store": "old", "loose-store-archive": "old"})
    write_archive(
        directory, dict.fromkeys(("archive", "store-archive", "loose-archive", "loose-store-archive"), "older")
    )
    write_loose(directory, dict.fromkeys(("loose", "loose-archive", "loose-store", "loose-store-archive"), "loose"))
    return directory


def made(directory):
    directory.mkdir()
    return directory / "store.sqlite3"


CONTENTS = {
    "loose": "loose", "loose-archive": "loose", "loose-store": "loose", "loose-store-archive": "loose",
    "store": "store", "store-archive": "store", "archive": "older",
}  # fmt: skip


def everything(database):
    return {key: database[key] for key in database.keys()}


# -- tiers ---------------------------------------------------------------------------------------


def test_loose_beats_store_beats_archive(container):
    """Every key shows the value of its newest tier, once."""
    with FileDatabase(container) as database:
        assert everything(database) == CONTENTS
        assert len(database) == len(database.keys()) == len(CONTENTS)
        assert all(key in database for key in CONTENTS)
        assert database.missing([*CONTENTS, "absent"]) == ["absent"]
        assert dict(zip(database.keys(), database.values(), strict=True)) == CONTENTS
        assert database.tiers() == {"store": 4, "loose": 4, "archive": 4}


@pytest.mark.parametrize("key", list(CONTENTS))
def test_deleting_brings_no_older_value_back(container, key):
    """Whatever tiers hold a key, after its deletion none does: at once, reopened, archived, and in a copy."""
    rest = {name: value for name, value in CONTENTS.items() if name != key}
    with FileDatabase(container) as database:
        del database[key]
        assert everything(database) == rest
        with pytest.raises(KeyError):
            del database[key]
    copy = container.parent / "copy.ampdb"
    shutil.copytree(container, copy, copy_function=shutil.copyfile)
    for path in (container, copy):
        with FileDatabase(path) as database:
            assert everything(database) == rest
            database.archive()
            assert everything(database) == rest


def test_deleting_the_only_entry_of_an_archive_lasts(tmp_path):
    """A store without entries still knows which archive it has taken over."""
    directory = tmp_path / "x.ampdb"
    write_archive(directory, {"k": "archived"})
    with FileDatabase(directory) as database:
        del database["k"]
        assert "k" not in database
        assert everything(database) == {}
    with FileDatabase(directory) as database:
        assert (len(database), database.get("k")) == (0, None)
        database.archive()
        assert everything(database) == {}


@pytest.mark.parametrize("archived", [False, True])
def test_deleting_works_beside_a_damaged_archive(tmp_path, archived):
    """A cut archive stays where it is, and what is deleted stays deleted all the same."""
    directory = tmp_path / "x.ampdb"
    write_archive(directory, {f"k{n}": [n, [n / 7] * 40] for n in range(40)})
    path = directory / "archive.tar.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with FileDatabase(directory) as database:
        served = everything(database)
        assert served
        if archived:
            assert not database.archive().complete
        del database["k0"]
        assert everything(database) == {key: value for key, value in served.items() if key != "k0"}
        database.archive()
        assert "k0" not in database
    assert path.exists()


def test_deleting_works_beside_torn_files_and_bad_members(tmp_path):
    """A torn file over an archived value does not keep the archive from being taken over."""
    directory = tmp_path / "x.ampdb"
    write_archive(directory, {"torn": "older", "gone": 1, "stays": 2, "bad": b"(lp0\n", "evil": b"cos\nsystem\n."})
    write_loose(directory, {})
    (directory / "loose" / "torn").write_bytes(b"(lp0\nF1.")
    os.utime(directory / "loose" / "torn", (1, 1))
    with FileDatabase(directory) as database:
        del database["gone"]
        assert "gone" not in database
        assert database["torn"] == "older"
        del database["torn"]
        assert "torn" not in database
        assert database["stays"] == 2
        assert not os.listdir(directory / "loose")


def test_setting_folds_the_loose_file_first(container, raw):
    """A set on a key with a loose file leaves no loose file and the new value; the others stay."""
    with FileDatabase(container) as database:
        for key in CONTENTS:
            database[key] = ["new", key]
        assert everything(database) == {key: ["new", key] for key in CONTENTS}
        assert os.listdir(container / "loose") == []
    assert len(raw(container / "store.sqlite3", "SELECT key FROM entry")) == len(CONTENTS)


def test_the_loose_value_is_committed_before_its_file_goes(container, monkeypatch):
    """At the moment of the unlink the store has the loose value, on the disk."""
    seen = []
    unlink, sync = os.unlink, Store.sync

    def look(path, *rest, **options):
        if "/.ampstore-" in str(path):
            with contextlib.closing(sqlite3.connect(container / "store.sqlite3")) as connection:
                (kept,) = connection.execute("SELECT payload FROM entry WHERE key='loose'").fetchone()
            seen.append(b"loose" in kept)
        unlink(path, *rest, **options)

    monkeypatch.setattr(Store, "sync", lambda self: (seen.append("sync"), sync(self)))
    monkeypatch.setattr(os, "unlink", look)
    with FileDatabase(container) as database:
        database["loose"] = "new"
        assert database["loose"] == "new"
    assert seen == ["sync", True]


def test_archive_leaves_one_file_with_everything(container):
    """After archive(), loose/ is empty, the archive is gone, and every value is what it was."""
    with FileDatabase(container) as database:
        report = database.archive()
        assert report.complete
        assert everything(database) == CONTENTS
        assert database.tiers() == {"store": 7, "loose": 0, "archive": 0}
    assert os.listdir(container / "loose") == []
    assert not (container / "archive.tar.gz").exists()
    assert database.archive().written == 0
    database.close()


def test_clear_empties_every_tier(container):
    """Nothing is left, and nothing comes back."""
    with FileDatabase(container) as database:
        database.clear()
        assert everything(database) == {}
    assert FileDatabase(container, "r").keys() == []


def test_a_stale_fold_overwrites_no_acknowledged_set(tmp_path, monkeypatch):
    """A maintainer that read a loose file before another process replaced the entry does not bring it back."""
    directory = tmp_path / "x.ampdb"
    write_loose(directory, {"k": "loose", "gone": "loose"})
    write_archive(directory, {"a": "archived"})
    from ampstore.transfer import encoding

    encode = encoding._encode

    def encode_and_be_overtaken(container, source, codec):
        encoded = encode(container, source, codec)
        with FileDatabase(directory) as other:
            if source.name == "k":
                other["k"] = "acknowledged"
            elif source.name == "a":
                other["a"] = "acknowledged"
            elif "gone" in other:
                other._tiers.loose.remove("gone")
        return encoded

    monkeypatch.setattr(encoding, "_encode", encode_and_be_overtaken)
    with FileDatabase(directory) as database:
        database.archive()
        monkeypatch.undo()
        assert everything(database) == {"k": "acknowledged", "a": "acknowledged"}


ARCHIVER = """
import sys
from ampstore import FileDatabase
database = FileDatabase(sys.argv[1])
print("ready", flush=True)
while not sys.stdin.closed and FileDatabase(sys.argv[1]).get("stop") is None:
    database.archive()
"""

LEGACY = """
import os, pickle, sys
for n in range(60):
    with open(f"{sys.argv[1]}/loose/legacy{n}", "wb") as file:
        pickle.dump([n] * 30, file, 0)
"""


def test_one_process_archives_while_others_set_and_read(tmp_path):
    """Nothing is lost, and after an acknowledged set no older value shows."""
    directory = tmp_path / "x.ampdb"
    write_loose(directory, {f"k{n}": "loose" for n in range(60)})
    write_archive(directory, {f"k{n}": "archived" for n in range(30, 90)})
    archiver = subprocess.Popen(
        [sys.executable, "-c", ARCHIVER, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert archiver.stdout.readline() == b"ready\n"
        legacy = subprocess.Popen([sys.executable, "-c", LEGACY, directory])
        with FileDatabase(directory) as database:
            for n in range(90):
                key = f"k{n}"
                database[key] = n
                assert database[key] == n
                if n % 3 == 0:
                    database[key] = [n]
                    assert database[key] == [n]
            legacy.wait()
            found = everything(database)
            database["stop"] = True
    finally:
        error = archiver.communicate()[1]
    assert archiver.returncode == 0, error
    expected = {f"k{n}": [n] if n % 3 == 0 else n for n in range(90)} | {f"legacy{n}": [n] * 30 for n in range(60)}
    assert found == expected
    with FileDatabase(directory) as database:
        database.archive()
        assert everything(database) == expected | {"stop": True}


# -- a dictionary --------------------------------------------------------------------------------


def test_keys_and_values_are_lists_and_update_takes_everything(tmp_path):
    """As in Amp keys() and values() are lists; update takes mappings, pairs and keywords."""
    with FileDatabase.open(tmp_path / "x", "c") as database:
        database.update({"a": 1})
        database.update([("b", 2), ("c", 3)], d=4)
        database.update(e=5)
        database.update((key, value) for key, value in {"f": 6}.items())
        database.update({})
        database.update()
        assert database.keys() == ["a", "b", "c", "d", "e", "f"]
        assert database.values() == [1, 2, 3, 4, 5, 6]
        assert type(database.keys()) is type(database.values()) is list
        assert list(database) == database.keys()
        assert dict(database.items()) == dict(zip("abcdef", range(1, 7), strict=True))
        assert database.pop("a") == 1
        assert database.get("a", "none") == "none"
        assert database.setdefault("b", 9) == 2


def test_keys_must_be_text(tmp_path):
    """Other keys are refused when written, and missing when read."""
    with FileDatabase(tmp_path / "x") as database:
        with pytest.raises(KeyTypeError):
            database[7] = 1
        with pytest.raises(KeyError):
            database[7]
        assert 7 not in database
        for key in ("a/b", "", "..", "\u00fc" * 300):
            database[key] = key
            assert database[key] == key


def test_values_are_fresh_mutable_objects_of_the_same_types(tmp_path):
    """What comes back has the types of Amp's values and can be changed without effect on the next read."""
    values = {
        "nl": [(np.arange(3), np.zeros((3, 3), int)), (np.arange(0), np.zeros((0, 3), int))],
        "fp": [("Cu", [0.5, -0.0, np.float64(0.25)]), ("Pt", [float("nan")])],
        "primes": {(0, "Cu", np.int64(3), np.str_("Pt"), 2): [0.0, 1.5], (1, "Pt", 0, "Cu", 0): []},
    }
    with FileDatabase(tmp_path / "x") as database:
        database.update(values)
        write_loose(tmp_path / "x.ampdb", {"loose": values["fp"]})
        for key, value in [*values.items(), ("loose", values["fp"])]:
            first, second = database[key], database[key]
            assert first is not second
            assert pickle.dumps(first, 5) == pickle.dumps(second, 5)
            assert repr(first) == repr(value)
            first.clear()
            assert repr(database[key]) == repr(value)
        array = database["nl"][0][0]
        array += 1
        assert array.flags.writeable
        assert [type(item) for item in list(database["primes"])[0]] == [int, str, np.int64, np.str_, int]


def statements(database):
    """List of the SQL statements that a handle runs from now on."""
    run = []
    database.store._backend.connection().set_trace_callback(run.append)
    return run


def test_read_values_are_kept_in_memory_within_bounds(tmp_path):
    """Reading again fetches no payload, unless the cache is off or another process wrote."""
    assert database_module.CACHE == 64 << 20
    value = [n / 7 for n in range(500)]
    for cache, fetches in ((database_module.CACHE, 1), (0, 5), (100, 5)):
        with FileDatabase(tmp_path / f"x{cache}", cache=cache) as database:
            database["k"] = value
            run = statements(database)
            for _ in range(5):
                assert database["k"] == value
            assert sum("payload" in statement for statement in run) == fetches
            elsewhere("import sys, ampstore; ampstore.FileDatabase(sys.argv[1])['k'] = 'other'", database.path)
            assert database["k"] == "other"
            with FileDatabase(database.path) as again:
                del again["k"]
            assert "k" not in database
            with pytest.raises(KeyError):
                database["k"]


@pytest.mark.parametrize("count", [10, 10_000])
def test_finding_one_key_costs_the_same_in_any_size(tmp_path, monkeypatch, count):
    """No listing of keys and a fixed number of queries, with 10 entries as with 10,000."""
    directory = tmp_path / "x.ampdb"
    write_loose(directory, {f"loose{n}": n for n in range(count // 10)})
    with FileDatabase(directory) as database:
        database.update({f"k{n}": n for n in range(count)})
        monkeypatch.setattr(os, "scandir", lambda *a: pytest.fail("listed a directory"))
        monkeypatch.setattr(os, "listdir", lambda *a: pytest.fail("listed a directory"))
        run = statements(database)
        for action, queries in (
            (lambda: database["k5"], 1),
            (lambda: database["loose0"], 0),
            (lambda: "k5" in database, 1),
            (lambda: "absent" in database, 2),
            (lambda: database.get("absent"), 2),
        ):
            run.clear()
            action()
            assert len(run) == queries


# -- the directory -------------------------------------------------------------------------------


def test_opening_to_read_creates_nothing(tmp_path):
    """A handle that only reads leaves no trace, and reads a container that is not there as empty."""
    for database in (
        FileDatabase(tmp_path / "x"),
        FileDatabase(tmp_path / "x", "r"),
        FileDatabase.open(tmp_path / "x", "r"),
    ):
        assert database.keys() == database.values() == []
        assert (len(database), "k" in database, database.get("k"), database.missing(["k"])) == (0, False, None, ["k"])
        assert (database.store, list(database.verify()), database.unfolded()) == (None, [], [])
        with pytest.raises(KeyError):
            database["k"]
        database.sync()
        database.close()
    assert os.listdir(tmp_path) == []


def test_read_only_writes_nothing(container):
    """A handle with "r" refuses every change and leaves every byte as it is."""
    before = {path: path.read_bytes() for path in container.rglob("*") if path.is_file()}
    with FileDatabase(container, "r") as database:
        assert everything(database) == CONTENTS
        for change in (
            lambda: database.__setitem__("k", 1),
            lambda: database.__delitem__("loose"),
            lambda: database.update(k=1),
            lambda: database.archive(),
            lambda: database.clear(),
        ):
            with pytest.raises(ReadOnlyError):
                change()
    assert {path: path.read_bytes() for path in container.rglob("*") if path.is_file()} == before


def test_data_lives_in_the_directory_of_the_name(tmp_path):
    """`<name>.ampdb` is the place, also when the name has the suffix already; a missing parent is an error."""
    FileDatabase(tmp_path / "label-fp")["k"] = 1
    FileDatabase(tmp_path / "label-fp.ampdb")["j"] = 2
    assert os.listdir(tmp_path) == ["label-fp.ampdb"]
    assert (tmp_path / "label-fp.ampdb" / "loose").is_dir()
    with pytest.raises(MissingStoreError):
        FileDatabase(tmp_path / "no" / "label")["k"] = 1
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("start", ["store", "loose", "archive"])
def test_a_removed_directory_stays_empty_for_open_handles(tmp_path, start):
    """After rmtree an open handle finds nothing, brings nothing back, and starts afresh when it writes."""
    directory = tmp_path / "x.ampdb"
    {"store": lambda d, v: FileDatabase(d).update(v), "loose": write_loose, "archive": write_archive}[start](
        directory, {"old": 1, "k": "old"}
    )
    database = FileDatabase(directory)
    assert database["k"] == "old"
    shutil.rmtree(directory)
    assert database.keys() == []
    assert "k" not in database
    with pytest.raises(KeyError):
        database["k"]
    database.close()
    assert not directory.exists()
    database["k"] = "new"
    assert everything(database) == {"k": "new"}
    assert everything(FileDatabase(directory, "r")) == {"k": "new"}
    database.close()


@pytest.mark.parametrize("first", ["read", "write", "close"])
def test_a_directory_made_again_by_another_process_is_seen_and_unharmed(tmp_path, first):
    """An open handle of the removed store sees the new one, and its end takes nothing from it."""
    directory = tmp_path / "x.ampdb"
    database = FileDatabase(directory)
    database.update({"old": 1, "k": "old"})
    shutil.rmtree(directory)
    elsewhere(
        "import os, sys, ampstore\n"
        "d = ampstore.FileDatabase(sys.argv[1]); d['k'] = 'new'; d['more'] = 2\n"
        "os._exit(0)",  # leaves its WAL behind
        directory,
    )
    expected = {"k": "new", "more": 2}
    if first == "close":
        database.close()
    elif first == "write":
        database["mine"] = expected["mine"] = 3
    assert everything(database) == expected
    database.close()
    with FileDatabase(directory, "r") as again:
        assert everything(again) == expected


def test_a_closed_database_opens_itself_again(tmp_path):
    """Amp reads after close(); closing twice is fine."""
    database = FileDatabase(tmp_path / "x")
    database["k"] = 1
    database.close()
    database.close()
    assert database["k"] == 1
    database.close()
    database["j"] = 2
    database.close()
    assert database.keys() == ["k", "j"]
    database.close()


def test_a_database_pickles_as_its_path(tmp_path):
    """A copy by pickle is a handle of its own on the same container, with the same options."""
    with FileDatabase(tmp_path / "x", allow=["argparse"], timeout=7.0, durability="full", cache=5) as database:
        database["k"] = 1
        data = pickle.dumps(database)
        assert len(data) < 500
        with pickle.loads(data) as copy:
            assert copy["k"] == 1
            assert (copy.path, copy._allow, copy._options) == (database.path, database._allow, database._options)
            assert copy.store.timeout == 7.0
        assert pickle.loads(pickle.dumps(FileDatabase(tmp_path / "x", "r"))).readonly
        assert str(database.path) in repr(database)


def test_verify_names_damage_in_every_tier(container):
    """A changed row, a torn file and a damaged archive are all in the list; nothing else is."""
    with FileDatabase(container) as database:
        assert list(database.verify()) == []
        database.store.sync()
    (container / "loose" / "torn").write_bytes(b"(lp0\n")
    os.utime(container / "loose" / "torn", (1, 1))
    with contextlib.closing(sqlite3.connect(container / "store.sqlite3")) as connection, connection:
        connection.execute("UPDATE entry SET payload = zeroblob(length(payload)) WHERE key = 'store'")
    archive = container / "archive.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-4])
    with FileDatabase(container) as database:
        assert {damage.key for damage in database.verify()} == {"store", "torn", "archive.tar.gz"}


def test_legacy_programs_and_ampstore_share_a_container(tmp_path):
    """What a legacy program writes at any time is there at once, and wins until it is folded."""
    with FileDatabase(tmp_path / "x") as database, LegacyDatabase(tmp_path / "x") as legacy:
        database["k"] = "store"
        legacy["k"] = "legacy"
        assert database["k"] == "legacy"
        database["k"] = "again"
        assert database["k"] == "again"
        legacy["j"] = 1
        legacy.archive()
        assert sorted(database.keys()) == ["j", "k"]
        assert Path(database.path / "archive.tar.gz").exists()
        database.archive()
        assert everything(database) == {"k": "again", "j": 1}


WRITER = """
import sys, ampstore
database = ampstore.FileDatabase(sys.argv[1])
for n in range(1000):
    database[f"{sys.argv[2]}-{n}"] = [sys.argv[2], n]
database.close()
"""


def test_eight_processes_write_a_thousand_entries_each_into_a_fresh_container(tmp_path):
    """None lost, no error, though the container does not exist when they start."""
    path = tmp_path / "label-fingerprints"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(n)], stderr=subprocess.PIPE) for n in range(8)]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert errors == [b""] * 8
    with FileDatabase(path, "r") as database:
        assert len(database) == 8000
        assert all(database[f"{worker}-{n}"] == [str(worker), n] for worker in range(8) for n in range(0, 1000, 9))
        assert list(database.verify()) == []
