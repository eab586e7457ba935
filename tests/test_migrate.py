"""Legacy databases into stores and back: complete, verified, harmless, at any moment."""

import ast
import contextlib
import io
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ampstore import FileDatabase, Store
from ampstore.cli import main
from ampstore.codec.safe import Rule
from ampstore.errors import BusyError, MissingStoreError
from ampstore.legacy import Archive, Container, LegacyDatabase, maintenance_lock
from ampstore.transfer import Report, export_legacy, find_containers, folding, import_legacy

SOUND = [
    "py2-values/values.ampdb",
    *(
        f"{writer}/amp-{kind}.ampdb"
        for writer in (
            "v061-debian", "v061-py27", "v101-archived", "v101-default", "v101-loose", "v101-mixed", "v101-numpy2",
        )
        for kind in ("fingerprint-primes", "fingerprints", "neighborlists")
    ),
]  # fmt: skip
HOSTILE = [
    "empty", "gz-crc", "gz-empty", "gz-garbage", "gz-nottar", "gz-truncated", "no-loose", "pickles-archive",
    "pickles-loose", "tar-absolute", "tar-bomb", "tar-devices", "tar-dotdot", "tar-duplicate", "tar-names",
    "tar-symlink", "torn",
]  # fmt: skip


def digests(values):
    from canonical import exact

    return {key: exact(value) for key, value in values.items()}


def expected(manifest, name):
    return {key: entry["exact"] for key, entry in manifest[name]["entries"].items()}


def tree(directory):
    """Names, kinds and contents of everything below a directory."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        name = str(path.relative_to(directory))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def legacy_files(container):
    return {name: data for name, data in tree(container).items() if name.startswith(("loose", "archive.tar.gz"))}


def write_loose(container, values, protocol=0):
    """As a legacy program does: open, truncate, write."""
    (container / "loose").mkdir(parents=True, exist_ok=True)
    for key, value in values.items():
        (container / "loose" / key).write_bytes(pickle.dumps(value, protocol))


def write_archive(path, values, mtime=1500000000, tar_format=tarfile.PAX_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", format=tar_format) as tar:
        for key, value in values.items():
            data = value if isinstance(value, bytes) else pickle.dumps(value, 0)
            member = tarfile.TarInfo(key)
            member.size, member.mtime = len(data), mtime
            tar.addfile(member, io.BytesIO(data))


def legacy_archive(container):
    """What archive() of Amp does: everything into a new archive, in place, and the loose files go."""
    names = os.listdir(container / "loose")
    values = {name: (container / "loose" / name).read_bytes() for name in names}
    stamps = {name: (container / "loose" / name).stat().st_mtime for name in names}
    with tarfile.open(container / "archive.tar.gz", "w:gz") as tar:
        for name, data in values.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), stamps[name]
            tar.addfile(member, io.BytesIO(data))
    for name in names:
        (container / "loose" / name).unlink()


def run(*arguments, **options):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


@pytest.fixture
def container(tmp_path):
    """A generated container: 30 loose, 30 archived, 10 in both with the loose one newer."""
    directory = tmp_path / "made.ampdb"
    write_loose(directory, {f"loose{n}": [("Cu", [n + k / 7 for k in range(20)])] for n in range(30)})
    write_loose(directory, {f"both{n}": ["new", n] for n in range(10)})
    archived = {f"old{n}": {(n, "Pt", 0): [n * 0.1] * 30} for n in range(30)}
    write_archive(directory / "archive.tar.gz", archived | {f"both{n}": ["old", n] for n in range(10)})
    return directory


@pytest.fixture
def contents():
    """What the generated container holds."""
    return (
        {f"loose{n}": [("Cu", [n + k / 7 for k in range(20)])] for n in range(30)}
        | {f"both{n}": ["new", n] for n in range(10)}
        | {f"old{n}": {(n, "Pt", 0): [n * 0.1] * 30} for n in range(30)}
    )


# -- the corpus ----------------------------------------------------------------------------------


def test_the_lists_of_databases_name_the_whole_corpus(manifest, hostile):
    """No database of the corpus is forgotten here."""
    assert set(SOUND) == set(manifest)
    assert set(HOSTILE) == set(hostile["databases"])


@pytest.mark.parametrize("name", SOUND)
def test_real_databases_migrate_to_exactly_their_values(copy_of, manifest, name):
    """Every database that real Amp wrote comes out with the digests of the manifest, and its source is kept."""
    container = copy_of(name)
    before = legacy_files(container)
    report = import_legacy(container)
    assert report.complete, report.left
    assert report.written == report.entries == manifest[name]["n"]
    with Store(container / "store.sqlite3", "r") as store:
        assert digests(dict(store.items())) == expected(manifest, name)
    with FileDatabase(container, "r") as database:
        assert digests({key: database[key] for key in database.keys()}) == expected(manifest, name)
    assert legacy_files(container) == before


@pytest.mark.parametrize("name", ["py2-values/values.ampdb", "v101-loose/amp-fingerprints.ampdb"])
def test_migrated_values_can_be_read_without_ampstore(copy_of, manifest, name, raw):
    """Where the codec says pickle, sqlite3, zstandard and pickle suffice to read a row."""
    import zstandard

    container = copy_of(name)
    import_legacy(container)
    rows = raw(container / "store.sqlite3", "SELECT key, codec, payload FROM entry")
    assert {key for key, _, _ in rows} == manifest[name]["entries"].keys()
    values = {}
    for key, codec, payload in rows:
        if codec.startswith("pickle"):
            packed = codec.endswith("zstd")
            values[key] = pickle.loads(zstandard.ZstdDecompressor().decompress(payload) if packed else payload)
    assert values or name.startswith("v101")
    assert digests(values).items() <= expected(manifest, name).items()


def test_a_whole_directory_migrates_with_one_command(corpus, tmp_path, manifest):
    """One call takes every container below a directory; a second one changes nothing."""
    shutil.copytree(corpus, tmp_path / "all", ignore=shutil.ignore_patterns("hostile"), symlinks=True)
    first = run("migrate", tmp_path / "all", "--json", "--jobs", "1")
    assert first.exit_code == 0, first.output
    reports = json.loads(first.stdout)
    assert len(reports) == len(SOUND)
    assert sum(report["written"] for report in reports) == sum(manifest[name]["n"] for name in SOUND)
    again = json.loads(run("migrate", tmp_path / "all", "--json", "--jobs", "1").stdout)
    assert sum(report["written"] for report in again) == 0
    assert [report["unchanged"] for report in again] == [report["written"] for report in reports]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_databases_do_no_harm_and_give_their_good_entries(copy_of, hostile, name, tmp_path, monkeypatch):
    """Nothing runs, nothing outside the container changes, good entries arrive, bad ones do not."""
    pwned = tmp_path / "pwned"
    monkeypatch.setenv("AMPSTORE_PWN_FILE", str(pwned))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    truth = hostile["databases"][name]
    container = copy_of(f"hostile/{name}.ampdb")
    around = {path: data for path, data in tree(tmp_path).items() if not path.startswith(container.name)}
    before = legacy_files(container)
    evil = [Path(key) for key in truth["bad"] if key.startswith("/")]
    report = import_legacy(container)
    assert not pwned.exists()
    assert not any(path.exists() for path in evil)
    assert {path: data for path, data in tree(tmp_path).items() if not path.startswith(container.name)} == around
    assert legacy_files(container) == before
    good = {key: ast.literal_eval(text) for key, text in truth["good"].items()}
    with Store(container / "store.sqlite3", "r") as store:
        assert {key: store[key] for key in good} == good
        assert not set(truth["bad"]) & set(store)
        # What is before a cut was written so; behind a wrong checksum any digit may be another.
        recovered = {key for key in store if key.startswith("k")} if name == "gz-truncated" else set()
        assert set(store) - good.keys() - recovered <= set(truth.get("either", ()))
        assert recovered or name != "gz-truncated"
    named = {problem.name.rstrip("/") for problem in report.left}
    assert set(truth["bad"]) <= named
    with FileDatabase(container, "r") as database:
        assert {key: database[key] for key in good} == good
        assert [*database.verify()] or not report.left
    assert not pwned.exists()


@pytest.mark.parametrize("name", ["pickles-loose", "pickles-archive"])
def test_hostile_pickles_are_refused_at_reading_too(copy_of, hostile, name, tmp_path, monkeypatch):
    """A FileDatabase on an untouched hostile container runs nothing and still serves the good entries."""
    pwned = tmp_path / "pwned"
    monkeypatch.setenv("AMPSTORE_PWN_FILE", str(pwned))
    database = FileDatabase(copy_of(f"hostile/{name}.ampdb"), "r")
    for key in hostile["databases"][name]["bad"]:
        with pytest.raises((KeyError, ValueError, pickle.UnpicklingError)):
            database[key]
    assert database["good0"] == [1, 2.5, "Cu"]
    assert {"good0", "good1"} <= set(database.keys())
    assert not pwned.exists()
    database.close()


def test_remove_source_removes_nothing_that_could_not_be_read(copy_of, hostile):
    """Torn files, and the archive that stands behind them, stay where they are."""
    container = copy_of("hostile/torn.ampdb")
    report = import_legacy(container, remove_source=True)
    assert not report.complete
    assert sorted(path.name for path in (container / "loose").iterdir()) == ["half", "last_byte", "zero"]
    assert (container / "archive.tar.gz").exists()


# -- what the call promises ----------------------------------------------------------------------


def test_report_counts_what_was_done(container, contents):
    """Entries, written, unchanged, sizes and time are those of the work."""
    report = import_legacy(container)
    assert (report.entries, report.written, report.unchanged, report.left) == (70, 70, 0, [])
    assert report.source == str(container)
    assert report.destination == str(container / "store.sqlite3")
    files = legacy_files(container).values()
    assert report.bytes_before == sum(len(data) for data in files if data)
    assert report.bytes_after == sum(path.stat().st_size for path in container.glob("store.sqlite3*"))
    assert report.ratio == pytest.approx(report.bytes_before / report.bytes_after)
    assert report.complete
    assert report.seconds > 0
    assert json.loads(json.dumps(report.as_dict()))["written"] == 70
    with FileDatabase(container) as database:
        assert {key: database[key] for key in database} == contents


def test_an_empty_report_has_no_ratio():
    """Nothing over nothing is 0, not an error."""
    assert Report("a", "b").ratio == 0.0


def test_migrating_again_writes_nothing(container):
    """The second call compares and leaves every byte of the store's main file alone."""
    import_legacy(container)
    before = (container / "store.sqlite3").read_bytes()
    report = import_legacy(container)
    assert (report.written, report.unchanged) == (0, 70)
    assert (container / "store.sqlite3").read_bytes() == before


def test_dry_run_writes_nothing(container):
    """A dry run reads everything and leaves the tree byte for byte as it is."""
    (container / "loose" / "torn").write_bytes(b"(lp0\nF1.")
    before = tree(container.parent)
    report = import_legacy(container, dry_run=True)
    assert (report.entries, report.written, report.dry_run) == (71, 70, True)
    assert [problem.name for problem in report.left] == ["torn"]
    assert tree(container.parent) == before


def test_remove_source_leaves_a_store_only(container, contents):
    """With everything verified, loose/ is empty and the archive is gone."""
    report = import_legacy(container, remove_source=True)
    assert report.removed == 41
    assert legacy_files(container) == {"loose": None}
    with FileDatabase(container) as database:
        assert {key: database[key] for key in database} == contents


def test_remove_source_mends_a_damaged_row_from_its_source_first(container, contents, raw):
    """A source is not removed on the word of a checksum that the stored payload does not have."""
    import sqlite3

    import_legacy(container)
    with contextlib.closing(sqlite3.connect(container / "store.sqlite3")) as connection, connection:
        connection.execute("UPDATE entry SET payload = zeroblob(length(payload)) WHERE key IN ('loose3', 'old3')")
    report = import_legacy(container, remove_source=True)
    assert report.complete
    assert report.written == 2
    with Store(container / "store.sqlite3", "r") as store:
        assert dict(store.items()) == contents
        assert not list(store.verify())


def test_source_is_removed_only_after_the_store_is_on_the_disk(container, monkeypatch):
    """Every removal comes after a sync of the store that has the entry."""
    events = []
    sync, unlink = Store.sync, os.unlink

    def record(path, *rest, **options):
        if "/.ampstore-" in str(path):
            events.append("unlink")
        unlink(path, *rest, **options)

    monkeypatch.setattr(Store, "sync", lambda self: (events.append("sync"), sync(self)))
    monkeypatch.setattr(os, "unlink", record)
    import_legacy(container, remove_source=True)
    assert events[0] == "sync"
    assert events.count("unlink") == 41


def test_two_processes_give_the_same_store_as_one(container, contents, monkeypatch, tmp_path):
    """With jobs=2 the values, their kinds and their order are those of jobs=1."""
    copy = Path(shutil.copytree(container, tmp_path / "copy.ampdb"))
    monkeypatch.setattr(folding, "WORTH_PROCESSES", 0)
    one, two = import_legacy(container, jobs=1), import_legacy(copy, jobs=2)
    assert (one.written, one.left) == (two.written, two.left) == (70, [])
    with Store(container / "store.sqlite3", "r") as a, Store(copy / "store.sqlite3", "r") as b:
        assert list(a.items()) == list(b.items())
        assert [row[:5] for row in a.listing()] == [row[:5] for row in b.listing()]
        assert dict(b.items()) == contents


def test_progress_ends_at_the_total(container):
    """The callback counts up to the number of entries."""
    seen = []
    import_legacy(container, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (70, 70)
    assert seen == sorted(seen)


def test_into_a_file_a_container_or_a_directory(container, contents, tmp_path):
    """--into takes a store's file, a container or a directory, and leaves the source as it is."""
    before = tree(container)
    (tmp_path / "directory").mkdir()
    targets = {
        tmp_path / "new" / "all.db": tmp_path / "new" / "all.db",
        tmp_path / "other.ampdb": tmp_path / "other.ampdb" / "store.sqlite3",
        tmp_path / "directory": tmp_path / "directory" / "store.sqlite3",
    }
    for into, file in targets.items():
        assert import_legacy(container, into).complete
        with Store(file, "r") as store:
            assert dict(store.items()) == contents
    assert tree(container) == before


def test_several_containers_go_into_a_directory_under_their_own_names(tmp_path):
    """With several containers, --into gets one of each name, with the directories between."""
    write_loose(tmp_path / "runs" / "a" / "amp-fp.ampdb", {"k": "a"})
    write_loose(tmp_path / "runs" / "b" / "amp-fp.ampdb", {"k": "b"})
    result = run("migrate", tmp_path / "runs", "--into", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert FileDatabase(tmp_path / "out" / "a" / "amp-fp.ampdb", "r")["k"] == "a"
    assert FileDatabase(tmp_path / "out" / "b" / "amp-fp.ampdb", "r")["k"] == "b"


def test_find_containers_follows_no_links_and_names_what_is_missing(tmp_path):
    """Links are passed over, a container given twice counts once, a wrong path is an error."""
    write_loose(tmp_path / "runs" / "deep" / "er" / "x.ampdb", {"k": 1})
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path)
    found = tmp_path / "runs" / "deep" / "er" / "x.ampdb"
    assert find_containers([tmp_path, found, found.with_suffix("")]) == [found]
    with pytest.raises(MissingStoreError):
        find_containers([tmp_path / "nowhere"])


def test_a_second_maintainer_waits_and_then_says_so(container):
    """While one process maintains a container, another one gets BusyError after its time-out."""
    with maintenance_lock(container, 1), pytest.raises(BusyError):
        import_legacy(container, timeout=0.1)


def test_a_source_that_may_not_be_written_migrates_elsewhere(container, contents, tmp_path, monkeypatch):
    """With --into and without removal nothing at all is created beside the source."""
    before = tree(container)
    import_legacy(container, tmp_path / "elsewhere.db")
    assert tree(container) == before


def test_globals_outside_the_rule_are_named_and_come_with_allow(tmp_path):
    """A value of a foreign class is left with the way out; the same call with allow takes it."""
    container = tmp_path / "x.ampdb"
    forbidden = b"cpathlib_of_mine\nThing\n)\x81."
    write_loose(container, {"good": 1})
    (container / "loose" / "odd").write_bytes(forbidden)
    report = import_legacy(container)
    assert [problem.name for problem in report.left] == ["odd"]
    assert "pathlib_of_mine" in report.left[0].reason
    (container / "loose" / "odd").write_bytes(pickle.dumps(argparse_namespace(), 2))
    assert not import_legacy(container).complete
    assert import_legacy(container, allow=["argparse.Namespace"]).complete


def argparse_namespace():
    import argparse

    return argparse.Namespace(a=1)


def test_archived_entries_that_need_allow_stay_visible_to_who_allows_them(tmp_path):
    """Folding without allow does not hide the archived rest from a handle that has it."""
    container = tmp_path / "x.ampdb"
    write_archive(container / "archive.tar.gz", {"good": 1, "odd": pickle.dumps(argparse_namespace(), 2)})
    assert not import_legacy(container).complete
    with FileDatabase(container, allow=["argparse.Namespace"]) as database:
        assert sorted(database.keys()) == ["good", "odd"]
        assert database["odd"].a == 1
        del database["odd"]
        assert "odd" not in database
        assert database.keys() == ["good"]
    with FileDatabase(container, allow=["argparse.Namespace"]) as database:
        assert database.keys() == ["good"]


@pytest.mark.parametrize("name", [b"\xff\xfe", b"caf\xe9"])
def test_names_that_are_no_text_are_left(tmp_path, name):
    """A file name that is not UTF-8 is named, and the rest arrives."""
    container = tmp_path / "x.ampdb"
    write_loose(container, {"good": 1})
    with open(os.fsencode(container / "loose") + b"/" + name, "wb") as file:
        file.write(pickle.dumps(2, 0))
    report = import_legacy(container)
    assert report.written == 1
    assert [problem.where for problem in report.left] == ["loose"]
    with FileDatabase(container) as database:
        assert database.keys() == ["good"]


# -- while others go on --------------------------------------------------------------------------


def test_a_newer_legacy_archive_wins_over_what_was_migrated(container, contents):
    """A value that a legacy program wrote and archived after the first run replaces the migrated one."""
    import_legacy(container, remove_source=True)
    write_loose(container, {"loose1": "newer", "fresh": 5})
    legacy_archive(container)
    report = import_legacy(container)
    assert report.written == 2
    with FileDatabase(container) as database:
        assert {key: database[key] for key in database} == contents | {"loose1": "newer", "fresh": 5}


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_an_older_archive_never_replaces_what_was_set_since(tmp_path, tar_format):
    """An archived value from before a set stays below it, whatever happens to the archive."""
    container = tmp_path / "x.ampdb"
    write_archive(container / "archive.tar.gz", {"k": "old", "other": 1}, mtime=time.time(), tar_format=tar_format)
    with FileDatabase(container) as database:
        database["k"] = "new"
        assert import_legacy(container).complete
        assert database["k"] == "new"
        database.archive()
        assert database["k"] == "new"
        assert database["other"] == 1


def test_deleted_entries_do_not_come_back_with_the_next_run(container, contents):
    """What was deleted after a migration stays deleted, though the kept archive still has it."""
    import_legacy(container)
    with FileDatabase(container) as database:
        for key in ("old1", "both1", "loose1"):
            del database[key]
    assert import_legacy(container).complete
    gone = {"old1", "both1", "loose1"}
    with FileDatabase(container) as database:
        assert {key: database[key] for key in database} == {k: v for k, v in contents.items() if k not in gone}


WRITER = """
import os, pickle, sys, time
directory, rounds = sys.argv[1], int(sys.argv[2])
for n in range(rounds):
    for k in range(20):
        with open(f"{directory}/live{k}", "wb") as file:
            pickle.dump([n, k, [0.5] * 50], file, 0)
        time.sleep(0.001)
print("done", flush=True)
"""


@pytest.mark.parametrize("remove", [False, True])
def test_nothing_of_a_legacy_writer_is_lost_while_migrating(tmp_path, remove):
    """A program that opens, truncates and writes loose files all the time finds its last values kept."""
    container = tmp_path / "x.ampdb"
    write_loose(container, {f"base{n}": n for n in range(100)})
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(container / "loose"), "20"], stdout=subprocess.PIPE)
    try:
        while writer.poll() is None:
            import_legacy(container, remove_source=remove)
    finally:
        writer.wait()
        writer.stdout.close()
    report = import_legacy(container, remove_source=remove)
    assert report.complete, report.left
    with FileDatabase(container) as database:
        values = {key: database[key] for key in database}
    assert values == {f"base{n}": n for n in range(100)} | {f"live{k}": [19, k, [0.5] * 50] for k in range(20)}


def test_a_loose_file_stays_as_long_as_an_older_value_is_archived(tmp_path, monkeypatch):
    """At no moment, and so after no kill, does a legacy program see the older one."""
    container, seen = tmp_path / "x.ampdb", []
    write_loose(container, {"k": "new"})
    write_archive(container / "archive.tar.gz", {"k": "old", "other": 1})
    remove = Archive.remove_unchanged

    def look(archive, signature):
        seen.append(LegacyDatabase(container)["k"])
        return remove(archive, signature)

    monkeypatch.setattr(Archive, "remove_unchanged", look)
    assert import_legacy(container, remove_source=True).removed == 2
    assert seen == ["new"]
    assert not os.listdir(container / "loose")
    with FileDatabase(container) as database:
        assert dict(database) == {"k": "new", "other": 1}


def test_a_rewrite_within_one_tick_of_the_clock_is_not_removed(tmp_path):
    """Two writes of one size may share their mtime; a settled stamp tells them apart."""
    loose = Container(tmp_path / "x.ampdb").loose
    for n in range(20):
        write_loose(tmp_path / "x.ampdb", {"k": 1000 + n})
        value, stamp = loose.load("k", Rule(()), settled=True)
        assert value == 1000 + n
        write_loose(tmp_path / "x.ampdb", {"k": 9000 + n})
        assert not loose.remove_unchanged("k", stamp)
        assert pickle.loads((tmp_path / "x.ampdb" / "loose" / "k").read_bytes()) == 9000 + n


def test_killed_at_any_moment_the_same_command_finishes(container, contents, tmp_path):
    """A kill -9 at random moments of `ampstore migrate --remove-source`, then once more to the end."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    more = {f"more{n}": [n, [n / 3] * 200] for n in range(400)}
    write_loose(container, more)
    command = [sys.executable, "-m", "ampstore", "migrate", str(container), "--remove-source", "--jobs", "1"]
    for _ in range(6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.25, 0.9))
        process.kill()
        process.wait()
        with FileDatabase(container, "r") as database:
            assert {key: database[key] for key in database.keys()} == contents | more
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(legacy_files(container)) == {"loose"}
    with Store(container / "store.sqlite3", "r") as store:
        assert dict(store.items()) == contents | more


def dies_at(step, action):
    """Run an action in a child that kills itself at its n-th step; whether the child got to the end."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            moments = itertools.count(1)

            def moment():
                if next(moments) == step:
                    os.kill(os.getpid(), signal.SIGKILL)

            def watched(real):
                def call(*arguments, **options):
                    moment()
                    result = real(*arguments, **options)
                    moment()
                    return result

                return call

            for name in ("rename", "unlink", "link"):
                setattr(os, name, watched(getattr(os, name)))
            for name in ("sync", "put_blobs", "note", "compact", "__setitem__", "__delitem__"):
                setattr(Store, name, watched(getattr(Store, name)))
            action()
            os._exit(0)
        os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return not os.WIFSIGNALED(status)


def in_database(action):
    def run_in(path):
        with FileDatabase(path) as database:
            action(database)

    return run_in


ACTIONS = {
    "migrate": lambda path: import_legacy(path, remove_source=True),
    "archive": in_database(lambda database: database.archive()),
    "set": in_database(lambda database: database.__setitem__("both", "set")),
    "update": in_database(lambda database: database.update({"both": "set", "loose1": "updated", "fresh": 1})),
    "delete": in_database(lambda database: database.__delitem__("both")),
    "clear": in_database(lambda database: database.clear()),
}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("what", list(ACTIONS))
def test_killed_at_each_step_nothing_is_lost_or_older(what, stored, tmp_path):
    """A kill -9 before and after every rename, unlink, sync and write leaves the old or the new value."""
    original = tmp_path / "original.ampdb"
    write_loose(original, {"both": "new", "loose1": "loose", "loose2": "second"})
    write_archive(original / "archive.tar.gz", {"both": "old", "old1": "archived"})
    if stored:
        with Store(original / "store.sqlite3") as store:
            store["both"] = "older"
    before = {"both": "new", "loose1": "loose", "loose2": "second", "old1": "archived"}
    after = {
        "set": before | {"both": "set"},
        "update": before | {"both": "set", "loose1": "updated", "fresh": 1},
        "delete": {key: value for key, value in before.items() if key != "both"},
        "clear": {},
    }.get(what, before)
    for step in itertools.count(1):
        container = Path(shutil.copytree(original, tmp_path / f"{step}.ampdb"))
        finished = dies_at(step, lambda: ACTIONS[what](container))  # noqa: B023
        with FileDatabase(container) as database:
            found = {key: database[key] for key in database.keys()}
            for key in before.keys() | after.keys() | found.keys():
                assert found.get(key) in (before.get(key), after.get(key)), (step, key)
            if finished:
                assert found == after
            database.archive()
            assert {key: database[key] for key in database.keys()} == found
        if finished:
            break
    assert step > 5


# -- back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("name", ["v101-mixed/amp-neighborlists.ampdb", "v101-numpy2/amp-fingerprints.ampdb"])
def test_export_gives_equal_values_in_the_legacy_layout(copy_of, manifest, tmp_path, archive, name):
    """Exported values, read with plain pickle from files or the tar, have the digests of the manifest."""
    container = copy_of(name)
    import_legacy(container, remove_source=True)
    with FileDatabase(container, "r") as database:
        report = export_legacy(database, tmp_path / "back", archive=archive)
    assert report.complete
    assert report.written == report.entries == manifest[name]["n"]
    back = tmp_path / "back.ampdb"
    if archive:
        with tarfile.open(back / "archive.tar.gz") as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
        assert not list((back / "loose").iterdir())
    else:
        files = {path.name: path.read_bytes() for path in (back / "loose").iterdir()}
    assert digests({key: pickle.loads(data, encoding="latin1") for key, data in files.items()}) == expected(
        manifest, name
    )
    assert not any(b"numpy._core" in data for data in files.values())


def test_export_refuses_what_exists(container, tmp_path):
    """An existing destination stays as it is."""
    before = tree(container)
    with pytest.raises(FileExistsError):
        export_legacy({"k": 1}, container)
    assert tree(container) == before


def test_export_names_keys_that_cannot_be_file_names(tmp_path):
    """Slashes, NULs and long names stay in the store, and the report says why."""
    keys = ["good", "a/b", "..", "", "x" * 256, "nul\0", "\u00fc" * 128]
    with Store(tmp_path / "s.db") as store:
        store.update({key: key for key in keys})
        report = export_legacy(store, tmp_path / "out.ampdb")
    assert {problem.name for problem in report.left} == set(keys) - {"good"}
    assert all(problem.reason for problem in report.left)
    assert report.written == 1
    assert LegacyDatabase(tmp_path / "out.ampdb").keys() == ["good"]


# -- the command ---------------------------------------------------------------------------------


def test_migrate_exits_with_0_1_or_2(container, tmp_path):
    """0: all arrived; 1: something was left; 2: there is nothing to migrate."""
    assert run("migrate", container).exit_code == 0
    (container / "loose" / "torn").write_bytes(b"(lp0\n")
    torn = run("migrate", container)
    assert torn.exit_code == 1
    assert "left in made.ampdb: loose 'torn'" in torn.stderr
    assert run("migrate", tmp_path / "nowhere").exit_code == 2
    (tmp_path / "nothing").mkdir()
    assert run("migrate", tmp_path / "nothing").exit_code == 2
    assert run("migrate").exit_code == 2


def test_migrate_json_has_the_fields_of_the_report(container):
    """--json prints a list with one object per container, and nothing else."""
    result = run("migrate", container, "--json")
    (report,) = json.loads(result.stdout)
    assert report.keys() == {
        "source", "destination", "entries", "written", "unchanged", "left", "removed",
        "bytes_before", "bytes_after", "seconds", "dry_run", "ratio", "compaction",
    }  # fmt: skip
    assert report["written"] == 70
    assert result.stderr == ""


def test_migrate_says_that_kept_files_still_win(container):
    """The hint comes once, on stderr, when something was migrated and its files were kept."""
    result = run("migrate", container)
    assert result.stderr.count("ampstore archive") == 1
    assert "--remove-source" in result.stderr
    assert run("migrate", container).stderr == ""
    assert run("migrate", container, "--dry-run").stderr == ""


def test_migrate_remove_source_gives_no_hint(container):
    """Where nothing was kept there is nothing to say."""
    assert run("migrate", container, "--remove-source").stderr == ""


def test_migrate_tells_containers_of_one_name_apart(tmp_path, monkeypatch):
    """Containers that share a name are shown by their paths from the working directory."""
    monkeypatch.chdir(tmp_path)
    write_loose(tmp_path / "a" / "amp-fp.ampdb", {"k": 1})
    write_loose(tmp_path / "b" / "amp-fp.ampdb", {"k": 1})
    result = run("migrate", ".")
    assert "a/amp-fp.ampdb" in result.stdout
    assert "b/amp-fp.ampdb" in result.stdout
    single = run("migrate", "a/amp-fp.ampdb")
    assert "a/amp-fp.ampdb" not in single.stdout
    assert "amp-fp.ampdb" in single.stdout


def test_migrate_dry_run_says_would_be_written(container):
    """The column of a dry run promises, it does not claim."""
    result = run("migrate", container, "--dry-run")
    assert "would be written" in result.stdout
    assert not (container / "store.sqlite3").exists()
