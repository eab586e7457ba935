"""A container where several hosts share the file system: no WAL, a spool, one maintainer."""

import contextlib
import errno
import json
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT

import ampstore
from ampstore import FileDatabase, network
from ampstore.cli import main
from ampstore.errors import BusyError, NetworkFileSystemError, SettingError, StorageError
from ampstore.filesystem import FileSystem
from ampstore.spool import Record, Spool, directory, segment

NFS = 0x6969


@pytest.fixture
def nfs(monkeypatch):
    """Every file system is NFS, as far as ampstore asks."""
    monkeypatch.delenv("AMPSTORE_NETWORK_FS", raising=False)
    monkeypatch.setattr(network, "file_system", lambda _: FileSystem("nfs", shared=True))
    monkeypatch.setattr(network, "_known", {})
    monkeypatch.setattr(network, "_warned", set())
    return monkeypatch


@pytest.fixture
def path(tmp_path, nfs):
    return tmp_path / "results.ampdb"


def hosts(path, number=2, **options):
    """Handles on one container, each with a segment of its own, as programs on several hosts have them."""
    stack = contextlib.ExitStack()
    return stack, [stack.enter_context(FileDatabase(path, **options)) for _ in range(number)]


def files(path):
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if found.is_file())


def stored(path):
    """Keys in the store's file, told by plain sqlite3."""
    with contextlib.closing(sqlite3.connect(path / "store.sqlite3")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
        return {key for (key,) in connection.execute("SELECT key FROM entry")}


# -- reads and writes ----------------------------------------------------------------------------


def test_others_see_at_once_what_is_written_and_no_wal_is_made(path):
    """Writes go to the spool; another host reads them there; only archive() touches the store."""
    stack, (one, two) = hosts(path)
    with stack:
        one["a"] = [1, 2]
        two.update({"b": 2, "c": 3})
        assert (two["a"], one["b"], len(one), sorted(two)) == ([1, 2], 2, 3, ["a", "b", "c"])
        assert one.missing(["a", "x", "c"]) == ["x"]
        assert one.get_many(["c", "x", "a"]) == {"c": 3, "a": [1, 2]}
        assert stored(path) == set()
        assert two.tiers() == {"store": 0, "loose": 0, "archive": 0, "spool": 3}
        assert one.archive().written == 3
        assert stored(path) == {"a", "b", "c"}
        assert (two["a"], one["b"], len(two)) == ([1, 2], 2, 3)
    assert not [name for name in files(path) if name.endswith(("-wal", "-shm"))]


def test_what_waits_in_the_spool_is_listed_reported_and_counted_by_top(path):
    """Folded and spooled entries by key, each once as it is now, without deleted ones; claims are counted too."""
    stack, (one, two) = hosts(path)
    with stack:
        one.update({"a": 1, "c": [1, 2], "e": 5})
        one.archive()
        two.update({"b": {"x": 1}, "c": "newer", "ü": 2})
        del two["e"]
        listed = run("ls", path, "--json")
        rows = [json.loads(line) for line in listed.output.splitlines()]
        assert [row["key"] for row in rows] == ["a", "b", "c", "ü"]
        assert "str" in rows[2]["kind"]
        assert all(row["bytes"] and row["codec"] and row["written"] for row in rows)
        assert [
            json.loads(line)["key"] for line in run("ls", path, "b*", "--since", "1h", "--json").output.splitlines()
        ] == ["b"]
        assert two.claims().take(["x", "y"], 2).mine == ["x", "y"]
        seen = json.loads(run("top", path, "--once", "--json").output)
        assert (seen["entries"], seen["claimed"]) == (4, 2)
        assert "<td>ü" in run_report(path)
        one.archive()
        assert [json.loads(line)["key"] for line in run("ls", path, "--json").output.splitlines()] == [
            "a",
            "b",
            "c",
            "ü",
        ]


def run(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def run_report(path):
    made = path.parent / "report.html"
    run("report", path, "--output", made)
    return made.read_text()


def test_the_last_of_two_writes_wins_whoever_made_it(path):
    """One after the other, from alternating hosts, folded and not: no clock of a host is asked."""
    stack, handles = hosts(path, 3)
    with stack:
        for number in range(12):
            handles[number % 2]["k"] = number
            assert handles[2]["k"] == number
            if number % 5 == 4:
                handles[2].archive()
                assert [handle["k"] for handle in handles] == [number] * 3


def test_a_deleted_entry_stays_deleted(path):
    """A tombstone hides spool, store and archive, before and after it is folded."""
    from ampstore import LegacyDatabase

    with LegacyDatabase(path) as legacy:
        legacy.update({"archived": 1, "other": 2})
        legacy.archive()
    stack, (one, two) = hosts(path)
    with stack:
        one["stored"] = 1
        one.archive()
        two["spooled"] = 1
        for key in ("archived", "stored", "spooled"):
            del two[key]
            assert key not in one
            with pytest.raises(KeyError):
                one[key]
        assert one.keys() == ["other"]
        one.archive()
        assert (one.keys(), len(two), stored(path)) == (["other"], 1, {"other"})
        with pytest.raises(KeyError):
            del two["stored"]


def test_a_loose_file_wins_until_it_is_written_over(path):
    """A legacy program's write shows at once; a later one replaces it, also after archive()."""
    from ampstore import LegacyDatabase

    stack, (one, two) = hosts(path)
    with stack:
        one["k"] = "spooled"
        LegacyDatabase(path)["k"] = "legacy"
        assert two["k"] == "legacy"
        two["k"] = "newer"
        assert one["k"] == "newer"
        one.archive()
        assert two["k"] == "newer"


def test_reading_creates_and_locks_nothing(path):
    """A handle with "r" sees store and spool, and leaves the directory as it was."""
    with FileDatabase(path) as database:
        database["a"] = 1
        database.archive()
        database["b"] = 2
        before = files(path)
        with FileDatabase(path, "r") as reader:
            assert (reader["a"], reader["b"], len(reader)) == (1, 2, 2)
            with pytest.raises(PermissionError):
                reader["c"] = 3
        assert files(path) == before


def test_clear_empties_all_tiers(path):
    """Nothing is left, and nothing comes back with the next fold."""
    with FileDatabase(path) as database:
        database.update({str(number): number for number in range(5)})
        database.archive()
        database["new"] = 1
        database.clear()
        assert len(database) == 0
        database.archive()
        assert (database.keys(), stored(path)) == ([], set())


def test_a_container_that_comes_to_a_local_disk_keeps_what_waits_in_its_spool(path, nfs):
    """Read through the spool with "r", folded by the first writer; copying without it is refused."""
    from ampstore.errors import StoreError
    from ampstore.transfer import copy

    with FileDatabase(path) as database:
        database["a"] = 1
    with pytest.raises(StoreError, match="ampstore archive"):
        copy(path, path.parent / "copy.db")
    nfs.setattr(network, "file_system", lambda _: FileSystem("ext", shared=False))
    nfs.setattr(network, "_known", {})
    with FileDatabase(path, "r") as reader:
        assert reader["a"] == 1
    with FileDatabase(path) as database:
        assert database["a"] == 1
        assert isinstance(database.store, ampstore.Store)
        database["a"] = 2
    with FileDatabase(path) as database:
        assert database["a"] == 2
    copy(path, path.parent / "copy.db")


# -- segments ------------------------------------------------------------------------------------


def commit(spool, **values):
    from ampstore.codec import Codec

    spool.append([Record(key, Codec().encode(value)) for key, value in values.items()])


def test_a_torn_commit_is_no_commit(tmp_path):
    """Cut at every byte, a segment shows its whole commits and nothing of the others."""
    spool, ends = Spool(tmp_path / "spool"), [0]
    for number in range(3):
        commit(spool, **{f"k{number}": number, "k": number})
        (name,) = os.listdir(tmp_path / "spool")
        ends.append(os.stat(tmp_path / "spool" / name).st_size)
    whole = (tmp_path / "spool" / name).read_bytes()
    for size in range(len(whole)):
        cut = tmp_path / "cut"
        cut.mkdir(exist_ok=True)
        (cut / name).write_bytes(whole[:size])
        seen = Spool(cut)
        seen.look()
        complete = sum(end <= size for end in ends) - 1
        expected = {f"k{number}" for number in range(complete)} | ({"k"} if complete else set())
        assert seen.newest({}).keys() == expected
        assert [torn.length for torn in seen.torn()] == ([size - ends[complete]] if size != ends[complete] else [])
    spool.close()


def test_a_damaged_segment_gives_no_wrong_value(path, caplog):
    """One flipped bit anywhere: the value is right, absent, or the older one from the store."""
    with FileDatabase(path) as database:
        database["k"] = "old"
        database.archive()
        database["k"] = "new"
        (name,) = (path / "spool").glob("*.seg")
        data = name.read_bytes()
        for place in range(0, len(data), 3):
            name.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
            with FileDatabase(path, "r") as reader:
                assert reader.get("k") in ("old", "new")


def test_a_segment_with_a_damaged_entry_is_set_aside(path, caplog):
    """Folding goes on without it, says so, and keeps its bytes."""
    with FileDatabase(path) as database:
        database["k"] = "a" * 50
    (name,) = (path / "spool").glob("*.seg")
    data = name.read_bytes()
    name.write_bytes(data.replace(b"a" * 50, b"b" * 50))
    with FileDatabase(path) as database:
        assert [damage.key for damage in database.verify()] == ["k"]
        database["other"] = 1
        database.archive()
        assert database.keys() == ["other"]
    assert "damaged" in caplog.text
    assert list((path / "spool").glob("*.damaged"))


def test_a_killed_writer_s_half_commit_is_named_and_left_out(path, caplog):
    """Its whole commits are folded, and its segment goes."""
    with FileDatabase(path) as database:
        database["k"] = 1
    (name,) = (path / "spool").glob("*.seg")
    with open(name, "r+b") as file:
        file.truncate(os.stat(name).st_size - len(segment.packed(0, ())))
        file.seek(0, os.SEEK_END)
        file.write(segment.packed(9, [Record("half", None)])[:-2])
    os.utime(name, (0, 0))
    with FileDatabase(path) as database:
        database.archive()
        assert database.keys() == ["k"]
    assert "no whole commit" in caplog.text
    assert not list((path / "spool").glob("*.se*"))


def test_a_writer_whose_segment_was_sealed_before_writes_again(path):
    """What it commits into a segment that is folded and gone comes into a new one."""
    stack, (one, two) = hosts(path)
    with stack:
        one["a"] = 1
        two["b"] = 2
        two._writable().lease.lease = -1.0  # so that every writer counts as silent
        two.archive()
        assert not list((path / "spool").glob("*.seg"))
        one["a"] = 3
        assert two["a"] == 3
        assert len(list((path / "spool").glob("*.seg"))) == 1


def test_a_commit_that_was_folded_while_it_was_made_counts_once(path, nfs):
    """Sealed between the sync and the answer: the notes of the store say that it is in."""
    stack, (one, two) = hosts(path)
    with stack:
        one["a"] = 1
        two["b"] = 2
        two._writable().lease.lease = -1.0
        real, calls = os.fsync, []

        def fsync(descriptor):
            real(descriptor)
            if not calls and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".seg"):
                calls.append(1)
                two._writable().lease.lease = -1.0
                with two._maintained():
                    two_seen.append(stored(path))

        two_seen = []
        nfs.setattr(segment.os, "fsync", fsync)
        one["a"] = 5
        assert calls and two_seen == [{"a", "b"}]
        assert (one["a"], two["a"]) == (5, 5)
        assert not list((path / "spool").glob("*.seg"))


def test_a_fold_that_dies_before_it_removes_the_segments_brings_nothing_old_back(path, nfs):
    """The store notes what it has of each segment in the same transaction."""
    stack, (one, two) = hosts(path)
    with stack:
        one["k"] = "old"
        two["k"] = "new"
        one.close()
        two.close()
        nfs.setattr(Spool, "remove", lambda *_: 0)
        one.archive()
        segments = sorted((path / "spool").glob("*.seg"))
        assert len(segments) == 2
        nfs.undo()
    for gone in segments:  # as far as it got
        copy = path.parent / "copy.ampdb"
        shutil.copytree(path, copy)
        (copy / "spool" / gone.name).unlink()
        nfs.setattr(network, "file_system", lambda _: FileSystem("nfs", shared=True))
        nfs.setattr(network, "_known", {})
        with FileDatabase(copy) as database:
            assert database["k"] == "new"
            database.archive()
            assert database["k"] == "new"
        shutil.rmtree(copy)


# -- the user decides ----------------------------------------------------------------------------


def test_one_warning_says_what_is_done_and_how_to_decide(path, caplog):
    """Once for each path, however often it is opened."""
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        with FileDatabase(path) as database:
            database["a"] = 1
    (record,) = caplog.records
    for part in (str(path), "nfs", "WAL", "AMPSTORE_NETWORK_FS"):
        assert part in record.getMessage()


def test_wal_is_used_where_the_user_says_so(path, nfs):
    """AMPSTORE_NETWORK_FS=wal: as on a local disk."""
    nfs.setenv("AMPSTORE_NETWORK_FS", "wal")
    with FileDatabase(path) as database:
        database["a"] = 1
        assert "store.sqlite3-wal" in files(path)


def test_a_store_that_has_a_wal_loses_it_to_its_maintainer(path, nfs):
    """Made on a local disk and copied: readers need no WAL, the first fold takes it away."""
    nfs.setenv("AMPSTORE_NETWORK_FS", "wal")
    with FileDatabase(path) as database:
        database["a"] = 1
    nfs.setenv("AMPSTORE_NETWORK_FS", "spool")
    before = files(path)
    with FileDatabase(path, "r") as reader:
        assert reader["a"] == 1
    assert files(path) == before
    with FileDatabase(path) as database:
        database["b"] = 2
        database.archive()
        assert stored(path) == {"a", "b"}


def test_refuse_is_an_error_for_writers(path, nfs):
    """AMPSTORE_NETWORK_FS=refuse names the file system and the way out."""
    nfs.setenv("AMPSTORE_NETWORK_FS", "refuse")
    with pytest.raises(NetworkFileSystemError, match="nfs.*local disk"):
        FileDatabase(path)["a"] = 1
    with pytest.raises(OSError, match="AMPSTORE_NETWORK_FS"):
        ampstore.open(path.parent / "a.db")
    assert not (path.parent / "a.db").exists()


def test_a_setting_that_means_nothing_is_an_error(path, nfs):
    """It is not guessed what was meant; the choices are named."""
    nfs.setenv("AMPSTORE_NETWORK_FS", "never")
    with pytest.raises(SettingError, match="'never'.*wal, spool, refuse"):
        FileDatabase(path)["a"] = 1


def test_a_single_file_is_kept_in_a_rollback_journal(path):
    """Writers take turns by SQLite's locks, readers see each commit."""
    name = path.parent / "a.db"
    with ampstore.open(name) as writer, ampstore.open(name, "r") as reader:
        for number in range(3):
            writer["a"] = number
            assert reader["a"] == number
        assert not [found for found in os.listdir(path.parent) if found.endswith(("-wal", "-shm"))]


def test_a_file_system_that_cannot_be_asked_is_not_taken_for_a_local_one(tmp_path, monkeypatch):
    """A process without descriptors left gets the error: WAL on a shared file system would lose entries."""

    def none_left(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(network, "_known", {})
    monkeypatch.setattr(network, "file_system", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        ampstore.open(tmp_path / "a.db")


def test_a_local_file_system_costs_one_statfs(tmp_path, monkeypatch):
    """However many containers and stores are opened on one device."""
    calls, real = [], network.file_system
    monkeypatch.setattr(network, "_known", {})
    monkeypatch.setattr(network, "file_system", lambda place: calls.append(place) or real(place))
    for number in range(3):
        with FileDatabase(tmp_path / f"{number}") as database:
            database["a"] = number
            assert database["a"] == number
    assert len(calls) <= 1


# -- faults --------------------------------------------------------------------------------------


def test_errors_of_a_network_are_tried_again_a_few_times(path, nfs):
    """ESTALE once or twice goes unnoticed; for good it is an error that names the directory."""
    with FileDatabase(path) as database:
        database["a"] = 1
        real, left = os.listdir, [2]

        def listdir(place):
            if left[0]:
                left[0] -= 1
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), place)
            return real(place)

        nfs.setattr(directory.os, "listdir", listdir)
        assert database["a"] == 1
        left[0] = -1
        with pytest.raises(StorageError, match="times in a row.*mount"):
            database["a"]
        left[0] = 0


def test_a_maintainer_that_died_in_its_commit_is_waited_for_and_then_succeeded(path):
    """Its journal is rolled back under the lease; a reader that may not write gets an error in time."""
    with FileDatabase(path, timeout=0.2) as database:
        database["a"] = 1
        database.archive()
        (path / "store.sqlite3-journal").write_bytes(b"half")
        with FileDatabase(path, "r", timeout=0.2) as reader, pytest.raises(BusyError, match="open it once for writing"):
            reader["a"]
        assert database["a"] == 1
        assert not (path / "store.sqlite3-journal").exists()


# -- claims --------------------------------------------------------------------------------------


def test_claims_are_exclusive_and_a_dead_owner_s_are_taken_over(path):
    """A key is computed by one owner; another host's claim is free after a lease without a heartbeat."""
    stack, (one, two) = hosts(path)
    with stack:
        first, second = one.claims(10.0), two.claims(10.0)
        assert first.take(["a", "b"], 2).mine == ["a", "b"]
        assert second.take(["a", "b", "c"], 3).mine == ["c"]
        assert first.put([("a", one.codec.encode(1))]) == []
        assert second.take(["a"], 1).stored == ["a"]
        for claim in (path / "spool" / "claims").iterdir():
            if claim.name == first._path("b").name:
                claim.write_text("other:17:0123456789ab-99:feed")
        now = [0.0]
        second._clock = lambda: now[0]
        assert second.take(["b"], 1).others == ["b"]
        now[0] = 10.0
        assert second.take(["b"], 1).others == ["b"]
        now[0] = 10.1
        assert second.take(["b"], 1).mine == ["b"]
        assert not first.holds("b") or first._clock() < first._sure_until
        first.release()
        second.release()
        assert list((path / "spool" / "claims").iterdir()) == []


def test_programs_share_a_calculation(path):
    """Data calculates each image once, whoever asks."""
    from ampstore import Data

    done = []
    images = {f"image{number}": number for number in range(10)}
    with Data(path, calculator=done.append) as one, Data(path, calculator=done.append) as two:
        one.calculate_items({key: images[key] for key in list(images)[:6]})
        two.calculate_items(images)
    assert sorted(done) == list(range(10))


# -- every crash point ---------------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path):
    """A directory whose syncs cost nothing: these tests kill processes, not machines."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ampstore-test-") as name:
        yield Path(name)


def test_a_maintainer_killed_at_any_call_loses_nothing(memory):
    """Fold, killed at its N-th change of a file for every N: all is there, nothing older, the next fold works."""
    from faults.shim import built

    program = str(ROOT / "tests" / "spool_worker.py")
    found = subprocess.run(
        [sys.executable, program, "crash", str(memory)],
        env={**os.environ, "LD_PRELOAD": str(built())},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert int(found.stdout.split()[-1]) > 20


# -- several hosts -------------------------------------------------------------------------------


def on_host(name, role, place, *arguments):
    """A program in UTS and PID namespaces of its own: another host as far as it and others can tell."""
    from faults.shim import built

    program = [sys.executable, str(ROOT / "tests" / "spool_worker.py"), role, str(place), *arguments]
    command = ["unshare", "-u", "-p", "-f", "--mount-proc", "--kill-child=KILL"]
    inside = ["sh", "-c", 'hostname "$0" && exec "$@"', name, *program]
    environment = {**os.environ, "LD_PRELOAD": str(built())}
    return subprocess.Popen([*command, *inside], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def namespaces():
    """Skip where this user may make no namespaces; CI may not skip."""
    possible = (
        shutil.which("unshare")
        and not subprocess.run(
            ["unshare", "-u", "-p", "-f", "--mount-proc", "hostname", "x"], capture_output=True, check=False
        ).returncode
    )
    if not possible:
        assert os.environ.get("CI") != "true", "CI must be able to make UTS and PID namespaces"
        pytest.skip("this user may make no UTS and PID namespaces")


@pytest.mark.parametrize(
    "count", [pytest.param(250, id="250 entries"), pytest.param(5000, id="5000 entries", marks=pytest.mark.soak)]
)
def test_four_hosts_write_while_maintainers_are_killed(memory, namespaces, count):
    """Nothing that was acknowledged is lost, nothing old comes back, and there is no WAL at any time.

    Maintainers run on hosts of their own and are killed with SIGKILL, so that the next one has to wait for the
    lease to run out.
    """
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    writers = [on_host(name, "write", memory, name, str(count)) for name in ("n0", "n1", "n2", "n3")]
    readers = ThreadPoolExecutor(len(writers))
    outputs = [readers.submit(writer.communicate) for writer in writers]
    folds, kills, wals = 0, 0, set()
    while not all(output.done() for output in outputs) or kills < 3:
        maintainer = on_host(f"m{kills}", "maintain", memory)
        deadline = time.monotonic() + 10
        for line in maintainer.stdout:
            folds += line == "folded\n"
            wals |= {name for name in files(memory) if name.endswith(("-wal", "-shm"))}
            if (line == "folding\n" and chance.random() < 0.3) or time.monotonic() > deadline:
                break
        maintainer.kill()
        maintainer.communicate()
        kills += 1
    readers.shutdown()
    for writer, output in zip(writers, outputs, strict=True):
        said = output.result()[0].splitlines()
        assert writer.returncode == 0
        assert said == [str(number) for number in range(count)], f"seed {seed}: {[x for x in said if 'OLD' in x]}"
    found = on_host("judge", "judge", memory, str(count))
    said = found.communicate(timeout=60)[0]
    assert (found.returncode, said) == (0, "whole\n"), f"seed {seed}, {kills} kills, {folds} folds"
    assert folds > 0
    assert not wals
