"""The legacy tiers: loose files and archives in every state, and LegacyDatabase on them."""

import contextlib
import errno
import fcntl
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest

from ampstore import FileDatabase, LegacyDatabase
from ampstore.codec.legacy import load_legacy
from ampstore.codec.safe import Rule
from ampstore.errors import (
    AccessError,
    DamagedArchiveError,
    InvalidKeyError,
    KeyTypeError,
    LegacyPickleError,
    MissingStoreError,
    StorageError,
)
from ampstore.legacy import Archive, Container, maintenance_lock
from ampstore.legacy.loose import remove_if
from ampstore.legacy.names import temporary_name

VALUE = [("Cu", [0.5, -0.0, 1e-300, 0.1]), (3, np.arange(5.0), "\u00fc", {"a": (1, None, True)})]


def write_tar(path, members, compress="w:gz", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, compress, **options) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1500000000
            tar.addfile(member, io.BytesIO(data))


def packed(values):
    return [(name, pickle.dumps(value, 0)) for name, value in values.items()]


@pytest.fixture(params=[FileDatabase, LegacyDatabase])
def database(request, tmp_path):
    """Either database on an empty container with a loose directory."""
    (tmp_path / "x.ampdb" / "loose").mkdir(parents=True)
    opened = request.param(tmp_path / "x.ampdb")
    yield opened
    opened.close()


@pytest.fixture
def loose(database):
    return database.path / "loose"


def age(path):
    """Let a file be old, so that nobody waits for its writer."""
    os.utime(path, (time.time() - 100, time.time() - 100), follow_symlinks=False)


# -- loose files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_files_truncated_at_every_byte_are_no_entries(database, loose, protocol):
    """Each prefix of a pickle is skipped and named, the whole ones are served, and each can be overwritten."""
    data = pickle.dumps(VALUE, protocol)
    for size in range(len(data) + 1):
        (loose / f"cut{size}").write_bytes(data[:size])
        age(loose / f"cut{size}")
    (loose / "good").write_bytes(pickle.dumps(1, protocol))
    whole = {"good", f"cut{len(data)}"}
    assert set(database.keys()) == whole
    assert {key for key in (f"cut{size}" for size in range(len(data) + 1)) if key in database} == whole - {"good"}
    assert len(database) == 2
    assert len(database.values()) == 2
    for size in range(len(data)):
        with pytest.raises((KeyError, LegacyPickleError)):
            database[f"cut{size}"]
    for size in range(0, len(data), 7):
        database[f"cut{size}"] = size
        assert database[f"cut{size}"] == size


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 5000, b"garbage", b"\xff" * 600, b"." * 600, b"\x80\x63."])
def test_rubbish_is_skipped_and_overwritten(database, loose, data):
    """Empty, zero-filled and random files are no entries, and a set puts a value in their place."""
    (loose / "bad").write_bytes(data)
    age(loose / "bad")
    (loose / "good").write_bytes(pickle.dumps("fine", 0))
    assert database.keys() == ["good"]
    assert "bad" not in database
    with pytest.raises((KeyError, LegacyPickleError)):
        database["bad"]
    database["bad"] = "mended"
    assert {key: database[key] for key in database} == {"good": "fine", "bad": "mended"}


def test_a_torn_file_shows_the_older_value_and_says_so(database, loose, caplog):
    """A torn file over an archived value gives that value, with a warning that names the key."""
    write_tar(database.path / "archive.tar.gz", packed({"k": "older"}))
    (loose / "k").write_bytes(b"(lp0\nF1.")
    age(loose / "k")
    assert "k" in database
    assert database["k"] == "older"
    assert "'k'" in caplog.text


def test_a_file_that_is_being_written_is_waited_for(database, loose):
    """Half a file that was written a moment ago becomes a value as soon as its writer is done."""
    data = pickle.dumps(list(range(100)), 0)
    (loose / "k").write_bytes(data[:50])
    writer = threading.Timer(0.1, (loose / "k").write_bytes, [data])
    writer.start()
    try:
        assert database["k"] == list(range(100))
    finally:
        writer.join()


def test_odd_things_in_loose_are_named_and_never_block(database, loose, tmp_path):
    """Left-overs, links, FIFOs, sockets and directories are no entries and no obstacle."""
    (tmp_path / "secret").write_bytes(pickle.dumps("secret", 0))
    (loose / "good").write_bytes(pickle.dumps(1, 0))
    (loose / "link").symlink_to(tmp_path / "secret")
    (loose / "dangling").symlink_to(tmp_path / "nowhere")
    (loose / "self").symlink_to("self")
    os.mkfifo(loose / "fifo")
    (loose / "directory").mkdir()
    (loose / ".ampstore-0123456789abcdef.tmp").write_bytes(pickle.dumps("torn", 0))
    (loose / ".nfs0001").write_bytes(pickle.dumps("torn", 0))
    (loose / "empty").touch()
    odd = ["link", "dangling", "self", "fifo", "directory", ".ampstore-0123456789abcdef.tmp", ".nfs0001", "empty"]
    before = len(os.listdir("/proc/self/fd"))
    assert database.keys() == ["good"]
    for name in odd:
        assert name not in database
        with pytest.raises((KeyError, LegacyPickleError)):
            database[name]
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    named = {problem.name for problem in Container(database.path).problems()}
    assert named == set(odd)


@pytest.mark.parametrize(
    "key", [" ", "-rf", "CON", "new\nline", "a b", "\u00fc", "\U0001f600", "x" * 255, ".hidden", "~"]
)
def test_every_possible_file_name_is_a_key(database, loose, key):
    """Blanks, line ends, dashes, umlauts and 255 bytes are fine."""
    (loose / key).write_bytes(pickle.dumps("loose", 0))
    assert database.keys() == [key]
    assert database[key] == "loose"
    database[key] = "set"
    assert database[key] == "set"
    del database[key]
    assert database.keys() == []


@pytest.mark.parametrize("name", [b"\xff", b"a\xe4b"])
def test_names_that_are_no_text_are_no_keys(database, loose, name):
    """A name that is not UTF-8 is named as a problem."""
    with open(os.fsencode(loose) + b"/" + name, "wb") as file:
        file.write(pickle.dumps(1, 0))
    assert database.keys() == []
    (problem,) = Container(database.path).problems()
    assert "UTF-8" in problem.reason


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ESTALE])
def test_a_failing_disk_is_not_a_missing_entry(database, loose, monkeypatch, number):
    """What cannot be opened now is an error: "not there" would have it calculated again."""
    (loose / "k").write_bytes(pickle.dumps(1, 0))
    real = os.open

    def failing(path, *rest, **options):
        if str(path).endswith("/loose/k"):
            raise OSError(number, os.strerror(number))
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(StorageError):
        database["k"]
    with pytest.raises(StorageError):
        "k" in database  # noqa: B015


def test_permission_denied_is_an_access_error(database, loose, monkeypatch):
    """A directory that may not be listed is no empty directory."""

    def refused(path):
        raise PermissionError(errno.EACCES, "denied", path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(AccessError):
        database.keys()


@pytest.mark.parametrize("kind", [FileDatabase, LegacyDatabase])
def test_missing_loose_directory_is_empty(tmp_path, kind):
    """An archive without loose/, as git and rsync leave it, reads and writes."""
    write_tar(tmp_path / "x.ampdb" / "archive.tar.gz", packed({"a": 1}))
    with kind(tmp_path / "x.ampdb") as database:
        assert database.keys() == ["a"]
        database["b"] = 2
        assert sorted(database.keys()) == ["a", "b"]
        database.archive()
        assert sorted(database.values()) == [1, 2]


def test_left_overs_go_after_an_hour(tmp_path):
    """Temporary files of killed processes are removed when nobody touched them for an hour, in loose/ and beside it."""
    container = Container(tmp_path / "x.ampdb")
    (tmp_path / "x.ampdb" / "loose").mkdir(parents=True)
    for directory in (container.directory, container.loose.directory):
        for name, old in ((".ampstore-old.tmp", 7200), (".ampstore-new.tmp", 60)):
            (directory / name).touch()
            os.utime(directory / name, (time.time() - old, time.time() - old))
    assert container.remove_left_overs() == 2
    assert sorted(path.name for path in (tmp_path / "x.ampdb").rglob(".amp*")) == [".ampstore-new.tmp"] * 2


@pytest.mark.parametrize("kind", [FileDatabase, LegacyDatabase])
def test_without_a_place_for_temporary_files_an_archived_entry_is_an_error_not_absent(tmp_path, monkeypatch, kind):
    """`tempfile` says so with a FileNotFoundError; "not there" would have the value calculated again."""
    write_tar(tmp_path / "x.ampdb" / "archive.tar.gz", packed({"a": 1}))

    def nowhere(**_):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    with kind(tmp_path / "x.ampdb") as database:
        with monkeypatch.context() as patched:
            patched.setattr("tempfile.TemporaryFile", nowhere)
            for look in (lambda: database["a"], lambda: "a" in database, database.keys):
                with pytest.raises(StorageError, match="No usable temporary directory"):
                    look()
        assert database["a"] == 1


def in_a_child(action):
    """Do something in a process that has ended then."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            action()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_left_overs_of_a_process_that_has_ended_go_at_once(tmp_path):
    """Those of one that is at work stay, and are no problem."""
    container = Container(tmp_path / "x.ampdb")
    (tmp_path / "x.ampdb" / "loose").mkdir(parents=True)
    loose, living = container.loose.directory, temporary_name()
    (loose / living).touch()
    in_a_child(lambda: [(directory / temporary_name()).touch() for directory in (loose, container.directory)])
    assert [problem.name == living for problem in container.problems()] == [False]
    assert container.remove_left_overs() == 2
    assert os.listdir(loose) == [living]


@pytest.mark.parametrize("key", ["k", "new\nline-1.tmp", "ü" * 127])
def test_a_value_that_came_while_its_file_was_moved_aside_by_a_process_that_was_killed_stays(tmp_path, key):
    """It is named with its key, if that is short enough, for somebody to decide; what did not change goes."""
    container = Container(tmp_path / "x.ampdb")
    for name in (key, "same"):
        container.loose.write(name, pickle.dumps(1))

    def killed(_):
        os._exit(0)

    def remove(name, changed):
        stamp = container.loose.stamp(name)
        if changed:
            (container.loose.directory / name).write_bytes(pickle.dumps("newer"))
            os.utime(container.loose.directory / name, ns=(stamp.mtime_ns + 10**9,) * 2)
        remove_if(container.loose.directory / name, killed, stamp.mtime_ns)

    in_a_child(lambda: remove(key, True))
    in_a_child(lambda: remove("same", False))
    assert container.remove_left_overs() == 1
    (left,) = os.listdir(container.loose.directory)
    assert left.endswith(f".{key}" if len(key.encode()) < 200 else ".")
    assert pickle.loads((container.loose.directory / left).read_bytes()) == "newer"
    assert [problem.name for problem in container.problems()] == [left]
    with FileDatabase(container.directory, "r") as database:
        assert [one.what.endswith("while it was being removed") for one in database.left_overs()] == [True]


def test_a_file_without_hard_links_is_put_back(tmp_path, monkeypatch):
    """Where link() is refused, a file that changed meanwhile is put back by renaming."""
    loose = Container(tmp_path / "x.ampdb").loose
    loose.write("k", b"first")
    stamp = loose.stamp("k")
    monkeypatch.setattr(os, "link", lambda *a: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here")))
    monkeypatch.setattr(type(loose), "stamp", lambda self, name: stamp)
    (loose.directory / "k").write_bytes(b"second!")
    assert not loose.remove_unchanged("k", stamp)
    assert (loose.directory / "k").read_bytes() == b"second!"
    assert os.listdir(loose.directory) == ["k"]


# -- archives ------------------------------------------------------------------------------------

ENTRIES = {f"k{n}": [n, [n / 7] * 50] for n in range(40)}


def test_an_archive_cut_anywhere_serves_what_is_whole(database, loose):
    """Members before the cut are served, the damage is named, loose files are there, the source stays."""
    path = database.path / "archive.tar.gz"
    write_tar(path, packed(ENTRIES))
    whole = path.read_bytes()
    (loose / "good").write_bytes(pickle.dumps("fine", 0))
    counts = set()
    for size in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:size])
        values = {key: database[key] for key in database.keys()}
        assert values.pop("good") == "fine"
        assert values.items() <= ENTRIES.items()
        assert Container(database.path).archive.problems()
        counts.add(len(values))
    assert len(counts) > 5
    assert path.exists()


def test_nothing_behind_a_checksum_that_does_not_fit_passes_for_a_value(database, loose):
    """Any digit may be another, so members are no entries, and reading one says so; a set replaces it."""
    path = database.path / "archive.tar.gz"
    write_tar(path, packed(ENTRIES))
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + b"\0\0\0\0" + whole[-4:])
    assert database.keys() == []
    assert "k3" not in database
    with pytest.raises(DamagedArchiveError, match="k3"):
        database["k3"]
    database["k3"] = "again"
    assert database["k3"] == "again"
    database.archive()
    assert {key: database[key] for key in database.keys()} == {"k3": "again"}
    assert whole[:-8] in [kept.read_bytes()[:-8] for kept in database.path.glob("archive*.tar.gz")]


@pytest.mark.parametrize("bit", range(8))
def test_a_wrong_bit_anywhere_in_an_archive_gives_no_wrong_value(tmp_path, bit):
    """Not either where the stream runs over its own end, or a header of the tar no longer makes sense."""
    path = tmp_path / "archive.tar.gz"
    write_tar(path, packed(ENTRIES))
    whole = path.read_bytes()
    for offset in range(bit, len(whole), 31):
        changed = bytearray(whole)
        changed[offset] ^= 1 << bit
        path.write_bytes(changed)
        archive = Archive(path)
        for key in archive.names(Rule()):
            assert load_legacy(key, archive.read(key), Rule()) == ENTRIES[key], offset


def test_what_stands_behind_the_end_of_an_archive_casts_no_doubt_on_it(database, loose):
    """The checksum of the members was read and fits; a joined archive with a wrong one adds nothing."""
    path = database.path / "archive.tar.gz"
    write_tar(path, packed(ENTRIES))
    whole = path.read_bytes()
    for behind in (b"garbage", whole[:-8] + bytes(8), bytes(600)):
        path.write_bytes(whole + behind)
        assert {key: database[key] for key in database.keys()} == ENTRIES


@pytest.mark.parametrize("data", [b"", b"no gzip", b"\x1f\x8b", b"\x1f\x8b\x08" + b"\0" * 500])
def test_garbage_in_the_place_of_an_archive_is_named(database, loose, data):
    """Loose entries are served, sets work, and archive() deletes no byte of the garbage."""
    (database.path / "archive.tar.gz").write_bytes(data)
    (loose / "good").write_bytes(pickle.dumps("fine", 0))
    assert {key: database[key] for key in database.keys()} == {"good": "fine"}
    database["more"] = 1
    database.archive()
    assert {key: database[key] for key in database.keys()} == {"good": "fine", "more": 1}
    assert data in [path.read_bytes() for path in database.path.glob("archive*.tar.gz")]


def test_archive_keeps_the_bytes_of_a_damaged_archive(database, loose):
    """What a half archive still holds may be worth a rescue: its bytes stay."""
    path = database.path / "archive.tar.gz"
    write_tar(path, packed(ENTRIES))
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    served = {key: database[key] for key in database.keys()}
    (loose / "k39").write_bytes(pickle.dumps("loose", 0))
    database.archive()
    assert {key: database[key] for key in database.keys()} == served | {"k39": "loose"}
    assert half in [kept.read_bytes() for kept in database.path.glob("archive*.tar.gz")]


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_tar_formats_read_and_the_last_duplicate_counts(database, tar_format):
    """USTAR, GNU and PAX, long names, gzip joined end to end; of two members the last one counts."""
    long = "x" * 90 if tar_format == tarfile.USTAR_FORMAT else "y" * 200
    members = packed({"a": "old", long: 2}) + packed({"a": "new"})
    write_tar(database.path / "archive.tar.gz", members, format=tar_format)
    assert {key: database[key] for key in database} == {"a": "new", long: 2}


def test_extended_headers_give_times_within_a_second(tmp_path):
    """Amp on Python 3.8 and later writes fractions of seconds into PAX headers."""
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, mtime in (("a", 1500000000.625), ("b", 1500000001)):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 3, mtime
            tar.addfile(member, io.BytesIO(b"I1\n"))
    members = Archive(tmp_path / "archive.tar.gz").members()
    assert members["a"].mtime == 1500000000.625
    assert members["b"].mtime == 1500000001.0


def test_torn_members_are_skipped(database):
    """Amp's archive() packs torn files like any other; they are no entries here either."""
    data = pickle.dumps(VALUE, 0)
    write_tar(database.path / "archive.tar.gz", [("torn", data[:-5]), ("zero", b"\0" * 90), ("good", data)])
    assert database.keys() == ["good"]
    assert "torn" not in database
    assert len(database.values()) == 1


def test_an_archive_that_is_replaced_while_it_is_read_is_read_again(database):
    """Each look finds the entries of the archive that is there now, also from threads."""
    path = database.path / "archive.tar.gz"
    write_tar(path, packed({"a": 0}))
    wrong = []

    def read():
        for _ in range(200):
            value = database["a"]
            if not isinstance(value, int):
                wrong.append(value)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(1, 30):
        write_tar(database.path / "next.tar.gz", packed({"a": n}))
        os.replace(database.path / "next.tar.gz", path)
    for thread in threads:
        thread.join()
    assert not wrong
    assert database["a"] == 29
    path.unlink()
    assert "a" not in database


def test_an_archive_that_changed_is_not_removed(tmp_path):
    """Removal compares the bytes after the file was moved aside, and puts a changed one back."""
    archive = Archive(tmp_path / "archive.tar.gz")
    write_tar(archive.path, packed({"a": 1}))
    signature = archive.signature()
    write_tar(archive.path, packed({"a": 2}))
    assert not archive.remove_unchanged(signature)
    assert os.listdir(tmp_path) == ["archive.tar.gz"]
    assert archive.remove_unchanged(archive.signature())
    assert os.listdir(tmp_path) == []


# -- LegacyDatabase ------------------------------------------------------------------------------


def test_legacy_database_is_a_mapping(tmp_path):
    """Set, get, delete, iterate, update, contain: as a dict does, in the files of Amp."""
    with LegacyDatabase.open(tmp_path / "x", "c") as database:
        oracle = {}
        for mapping in (oracle, database):
            mapping["a"] = [1, 2.5]
            mapping.update({"b": 2}, c=3)
            mapping.update([("d", {"x": (1, "Cu")})])
            del mapping["b"]
        assert {key: database[key] for key in database} == oracle
        assert isinstance(database.keys(), list)
        assert isinstance(database.values(), list)
        assert len(database) == 3
        assert ("a" in database, "b" in database, 7 in database) == (True, False, False)
        for key in ("b", "", "a/b", "../x", 7):
            with pytest.raises(KeyError):
                database[key]
        with pytest.raises(KeyError):
            del database["b"]
    assert sorted(os.listdir(tmp_path / "x.ampdb" / "loose")) == ["a", "c", "d"]


def test_legacy_database_refuses_keys_that_are_no_file_names(tmp_path):
    """Nothing is written outside loose/, whatever the key."""
    database = LegacyDatabase(tmp_path / "x")
    for key in ("a/b", "../evil", "", ".", "..", "x" * 256, "nul\0", "\udcff", ".ampstore-1.tmp"):
        with pytest.raises(InvalidKeyError):
            database[key] = 1
    with pytest.raises(KeyTypeError):
        database[7] = 1
    assert os.listdir(tmp_path) == []
    with pytest.raises(MissingStoreError):
        LegacyDatabase(tmp_path / "no" / "x")["a"] = 1


def test_legacy_database_writes_in_the_safe_order(tmp_path, monkeypatch):
    """Temporary file, fsync, rename, fsync of the directory; and the old file until the rename."""
    database = LegacyDatabase(tmp_path / "x")
    database["k"] = "old"
    loose, events = database.path / "loose", []
    fsync, replace = os.fsync, os.replace

    def see_fsync(descriptor):
        events.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        assert database["k"] == "old" or events[-1][1] == "loose"
        fsync(descriptor)

    def see_replace(source, target):
        events.append(("replace", os.path.basename(target)))
        assert (loose / os.path.basename(source)).stat().st_size
        replace(source, target)

    monkeypatch.setattr(os, "fsync", see_fsync)
    monkeypatch.setattr(os, "replace", see_replace)
    database["k"] = "new"
    assert [event for event, _ in events] == ["fsync", "replace", "fsync"]
    assert events[0][1].startswith(".ampstore-")
    assert events[1:] == [("replace", "k"), ("fsync", "loose")]
    assert os.listdir(loose) == ["k"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_value(tmp_path, monkeypatch, step):
    """Disk full at any step is a StorageError; the old value is there and no temporary file."""
    database = LegacyDatabase(tmp_path / "x")
    database["k"] = "old"

    def full(*arguments):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(StorageError):
        database["k"] = "new"
    monkeypatch.undo()
    assert database["k"] == "old"
    assert os.listdir(database.path / "loose") == ["k"]


def test_what_is_written_is_plain_pickle_for_old_programs(tmp_path):
    """Protocol 2 at most, NumPy's old module names, and readable with pickle alone, from file and tar."""
    value = [("Cu", [np.float64(0.5), 1.5]), np.arange(6).reshape(2, 3), np.str_("Pt"), np.int64(3)]
    database = LegacyDatabase(tmp_path / "x")
    database["k"] = value
    data = (database.path / "loose" / "k").read_bytes()
    assert data[:2] == b"\x80\x02" or data[:1] != b"\x80"
    assert b"numpy.core" in data
    assert b"numpy._core" not in data
    back = pickle.loads(data)
    assert [type(item) for item in back] == [type(item) for item in value]
    assert back[1].tolist() == value[1].tolist()
    database["texts"] = "cnumpy._core."
    assert database.archive() == 2
    with tarfile.open(database.path / "archive.tar.gz") as tar:
        assert tar.extractfile("k").read() == data
    assert database["texts"] == "cnumpy._core."
    assert os.listdir(database.path / "loose") == []


def test_legacy_database_deletes_from_both_tiers(tmp_path):
    """A deleted key shows no archived value, and the others are as they were."""
    database = LegacyDatabase(tmp_path / "x")
    database.update({"a": "old", "b": 2})
    database.archive()
    database["a"] = "new"
    del database["a"]
    assert "a" not in database
    assert database.keys() == ["b"]
    assert LegacyDatabase(tmp_path / "x")["b"] == 2


def test_legacy_archive_again_adds_to_the_archive(tmp_path):
    """Later archive() calls keep what is archived, replace what is newer, and leave torn files alone."""
    database = LegacyDatabase(tmp_path / "x")
    oracle = {}
    for n in range(4):
        new = {f"k{n}": n, "same": [n]}
        database.update(new)
        oracle.update(new)
        (database.path / "loose" / "torn").write_bytes(b"(lp0\n")
        age(database.path / "loose" / "torn")
        assert database.archive() == 2
        assert {key: database[key] for key in database.keys()} == oracle
        assert os.listdir(database.path / "loose") == ["torn"]
    assert database.archive() == 0


def test_killed_at_each_step_of_a_legacy_archive_nothing_is_lost(tmp_path):
    """A kill -9 before and after every rename, unlink, fsync and link leaves every value in a tier."""
    for step in range(1, 60):
        database = LegacyDatabase(tmp_path / f"{step}")
        database.update({"a": "old", "b": 2})
        database.archive()
        database.update({"a": "new", "c": 3})
        child = os.fork()
        if child == 0:
            calls = 0

            def watched(real):
                def call(*arguments, **options):
                    nonlocal calls
                    calls += 1
                    if calls == step:
                        os.kill(os.getpid(), 9)
                    return real(*arguments, **options)

                return call

            for name in ("rename", "unlink", "link", "replace", "fsync"):
                setattr(os, name, watched(getattr(os, name)))
            database.archive()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert {key: database[key] for key in database.keys()} == {"a": "new", "b": 2, "c": 3}
        if status == 0:
            break
    assert status == 0
    assert step > 5


ADDER = """
import sys
from ampstore import LegacyDatabase
database = LegacyDatabase(sys.argv[1])
for n in range(40):
    database[f"{sys.argv[2]}{n}"] = n
    if n % 5 == 4:
        database.archive()
    assert database[f"{sys.argv[2]}{n}"] == n, n
"""


def test_two_processes_that_set_and_archive_lose_nothing(tmp_path):
    """Two writers that both call archive() all the time find all their values."""
    processes = [
        subprocess.Popen([sys.executable, "-c", ADDER, str(tmp_path / "x"), name], stderr=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    for process in processes:
        assert process.communicate()[1] == ""
    database = LegacyDatabase(tmp_path / "x")
    assert {key: database[key] for key in database.keys()} == {f"{name}{n}": n for name in "ab" for n in range(40)}


MAINTAINER = """
import sys
from pathlib import Path
from ampstore.errors import AccessError
from ampstore.legacy.container import maintenance_lock
try:
    with maintenance_lock(Path(sys.argv[1]), 5):
        pass
except AccessError as err:
    print(err)
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_lock_that_cannot_be_given_back_is_an_error_of_ours(tmp_path):
    """The file system knew flock when it was taken, and no longer when it was given back."""
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=flock", "-e", "inject=flock:error=ENOSYS:when=3"]
    done = subprocess.run(
        [*strace, sys.executable, "-c", MAINTAINER, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert "cannot be given back" in done.stdout, done.stderr


INTERRUPTED = """
import fcntl, gc, sys
from pathlib import Path
from ampstore.legacy import maintenance_lock

class Interrupting:
    # raises KeyboardInterrupt at the N-th line that Python runs, as Ctrl-C may
    def __init__(self, at):
        self.left = at

    def __call__(self, frame, event, _):
        if event == "line":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self

def maintain():
    with maintenance_lock(Path(sys.argv[1]), 0.05):
        pass

lost = []
sys.unraisablehook = lost.append
maintain()
steps, came_out = 0, True
while came_out:
    steps, came_out = steps + 4, False
    try:
        sys.settrace(Interrupting(steps))
        maintain()
    except KeyboardInterrupt:
        came_out = True
    finally:
        sys.settrace(None)
    assert not lost, f"step {steps}"
    gc.collect()
    with open(Path(sys.argv[1]) / "store.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # free for others
print(steps)
"""


def test_ctrl_c_at_any_step_of_the_maintenance_lock_comes_out(tmp_path):
    """None is lost in a finalizer, where Python only prints it, and the lock is free afterwards.

    In a process of its own: what is interrupted inside filelock may leave that unable to fork.
    """
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, tmp_path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_where_locks_do_not_work_maintenance_says_so_at_once(tmp_path, monkeypatch):
    """Not "another process maintained it" after the whole time-out."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", fail)
    start = time.monotonic()
    with pytest.raises(AccessError, match="not implemented"), maintenance_lock(tmp_path, 30):
        pass
    assert time.monotonic() - start < 10
