"""Compaction: less space, the same values, whatever else happens meanwhile."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import ampstore.store.compaction as compaction
from ampstore import FileDatabase, Store
from ampstore.backend import Recoded, SQLite
from ampstore.cli import main
from ampstore.codec import Codec, same
from ampstore.codec import dictionaries as dictionaries_module
from ampstore.codec.dictionaries import Dictionary, identify, train
from ampstore.codec.recoding import from_planes, to_planes
from ampstore.errors import CorruptEntryError, MissingDictionaryError, ReadOnlyError, StoreError
from ampstore.salvage import salvage

ROOT = Path(__file__).resolve().parents[1]


def neighbours(seed, atoms=12):
    """Neighbour lists that have much in common with those of other seeds, as frames of one trajectory have."""
    rng, common = np.random.default_rng(seed), np.random.default_rng(1)
    lists = []
    for _ in range(atoms):
        offsets = common.integers(-1, 2, (40, 3))
        offsets[rng.integers(0, 40, 2)] += 1
        lists.append((common.integers(0, atoms, 40), offsets))
    return lists


def fingerprint(seed, atoms=20):
    rng = np.random.default_rng(seed)
    return [("Cu", (rng.random(20) * 0.01 + 1).tolist()) for _ in range(atoms)]


def record(seed):
    rng = random.Random(seed)
    return {"name": f"calculation {seed}", "energy": rng.random(), "symbols": ["Cu", "Pt"] * 9, "converged": True}


VALUES = {f"{name} {n}": make(n) for make in (neighbours, fingerprint, record) for name, n in
          ((make.__name__, n) for n in range(60))}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    with Store(tmp_path / "a.db") as store:
        store.put_many(VALUES)
    return tmp_path / "a.db"


def assert_whole(path, values=VALUES):
    with Store(path, "r") as store:
        assert not list(store.verify())
        assert len(store) == len(values)
        for key, value in store.items():
            assert same(value, values[key]), key


def test_compaction_saves_space_and_changes_no_value(path, raw):
    """Neighbour lists and small fingerprints shrink, times of writing, digests and values stay."""
    facts = "select key, kind, size, written_at, substr(checksum, 1, 16) from entry order by id"
    before = raw(path, facts)
    with Store(path) as store:
        report = store.compact()
    gains = {gain.kind: gain for gain in report.kinds}
    lists = gains["list of n (int64[n], int64[n, n])"]
    assert (lists.codec, lists.entries, lists.rewritten) == ("columns1", 60, 60)
    assert lists.after < lists.before / 2
    assert lists.dictionary
    assert report.after < report.before
    assert report.as_dict()["kinds"][0]["kind"] == report.kinds[0].kind
    assert raw(path, facts) == before
    stored = raw(path, "select sum(length(payload)) from entry")[0][0]
    assert stored == sum(gain.after for gain in report.kinds)
    assert_whole(path)


def test_rows_name_the_dictionary_that_they_need(path, raw):
    """The id at the end of the codec is that of the dictionary, and of its own bytes."""
    with Store(path) as store:
        store.compact()
    dictionaries = dict(raw(path, "select id, data from dictionary"))
    named = {int(codec.split(":")[1]) for (codec,) in raw(path, "select codec from entry where codec like '%:%'")}
    assert named == set(dictionaries)
    for number, data in dictionaries.items():
        assert number == int.from_bytes(data[4:8], "little") == identify(data)


def test_a_second_compaction_rewrites_nothing(path, raw):
    """What was chosen is noted, so that the same call again only looks; new values are taken in."""
    with Store(path) as store:
        store.compact()
        numbers = raw(path, "select id from dictionary")
        again = store.compact()
        assert sum(gain.rewritten for gain in again.kinds) == 0
        assert raw(path, "select id from dictionary") == numbers
        store["neighbours new"] = neighbours(1000)
        more = store.compact()
        assert sum(gain.rewritten for gain in more.kinds) == 1
    assert_whole(path, VALUES | {"neighbours new": neighbours(1000)})


def test_a_level_can_be_asked_for(path):
    """A higher level makes it smaller; there is no level 0 or 23."""
    with Store(path) as store:
        low, high = store.compact(1), store.compact(19)
        assert {gain.level for gain in high.kinds} == {19}
        assert sum(gain.after for gain in high.kinds) < sum(gain.after for gain in low.kinds)
        for wrong in (0, 23, "3"):
            with pytest.raises(ValueError, match="levels 1 to 22"):
                store.compact(wrong)
    assert_whole(path)


def test_what_does_not_compress_stays_raw(tmp_path, raw):
    """Random bytes get neither zstd nor a dictionary."""
    values = {str(n): random.Random(n).randbytes(2000) for n in range(60)}
    with Store(tmp_path / "a.db") as store:
        store.put_many(values)
        report = store.compact()
    assert [(gain.rewritten, gain.dictionary) for gain in report.kinds] == [(0, 0)]
    assert raw(tmp_path / "a.db", "select distinct codec from entry") == [("pickle5",)]
    assert raw(tmp_path / "a.db", "select count(*) from dictionary") == [(0,)]


def test_empty_stores_and_stores_of_one_entry_are_compacted(tmp_path):
    """Too little to measure is no error."""
    with Store(tmp_path / "a.db") as store:
        assert store.compact().kinds == []
        store["a"] = [1.0] * 5000
        assert store.compact().kinds[0].entries == 1
        assert store["a"] == [1.0] * 5000


def test_compaction_is_refused_where_it_cannot_be(path):
    """Through a read-only handle, and inside a batch."""
    with Store(path, "r") as store, pytest.raises(ReadOnlyError):
        store.compact()
    with Store(path) as store, store.batch(), pytest.raises(StoreError, match="batch"):
        store.compact()


def test_dictionaries_that_no_entry_needs_go_with_the_next_compaction(path, raw):
    """Deleted with their entries, but not while one entry is left."""
    with Store(path) as store:
        store.compact()
        for key in [key for key in store if key != "neighbours 5"]:
            del store[key]
        store.compact()
        kept = raw(path, "select id from dictionary")
        assert raw(path, "select codec from entry") == [(f"columns1+zstd:{kept[0][0]}",)]
        assert same(store["neighbours 5"], VALUES["neighbours 5"])
        del store["neighbours 5"]
        assert store.compact().dropped == len(kept) == 1
    assert raw(path, "select count(*) from dictionary") == [(0,)]


def test_a_row_that_was_read_before_its_dictionary_went_is_read_again(path):
    """Whoever iterates slowly gets every value, though others compact twice meanwhile."""
    with Store(path) as reader, Store(path) as writer:
        writer.compact(1)
        items = iter(reader.items())
        found = dict([next(items)])
        with sqlite3.connect(path) as connection:  # as if others had chosen other dictionaries, twice
            for number, key, codec, size, checksum, payload in writer.backend.scan():
                made = writer.codec.without_dictionary(key, codec, size, checksum, payload)
                connection.execute(
                    "update entry set codec = ?, checksum = ?, payload = ? where id = ?", (*made, number)
                )
            connection.execute("delete from dictionary")
        connection.close()
        dictionaries_module._prepared.clear()
        found |= dict(items)
        assert all(same(found[key], VALUES[key]) for key in VALUES)


def test_a_missing_dictionary_is_named(path):
    """Entries that need it are damaged, by name, in `verify` and when they are read; the others are served."""
    with Store(path) as store:
        store.compact()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        needing = {row[0] for row in connection.execute("select key from entry where codec like '%:%'")}
        connection.execute("delete from dictionary")
    with Store(path) as store:
        assert {damage.key for damage in store.verify()} == needing
        assert all("no dictionary" in damage.reason for damage in store.verify())
        with pytest.raises(MissingDictionaryError, match="no dictionary"):
            store["neighbours 1"]
        store["neighbours 1"] = VALUES["neighbours 1"]
        assert same(store["neighbours 1"], VALUES["neighbours 1"])
        assert store.compact().damaged == len(needing) - 1


def test_any_flipped_bit_of_a_dictionary_is_found(path):
    """A damaged dictionary is an error at every read, never a wrong value, and is named by `verify`."""
    with Store(path) as store:
        store.compact()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        number, data = connection.execute(
            "select id, data from dictionary where id = (select max(substr(codec, 15)) from entry "
            "where codec like 'columns1+zstd:%')"
        ).fetchone()
        rng = random.Random(5)
        for bit in [*range(64), *rng.sample(range(8 * len(data)), 60)]:
            bad = bytearray(data)
            bad[bit // 8] ^= 1 << bit % 8
            connection.execute("update dictionary set data = ? where id = ?", (bytes(bad), number))
            with Store(path, "r") as store, pytest.raises(CorruptEntryError, match="dictionary"):
                store["neighbours 3"]
        with Store(path, "r") as store:
            assert any(damage.reason.startswith(f"dictionary {number}") for damage in store.verify())
        for hostile in (b"", b"x", bytes(2 << 20), "text", 5, data[:200]):
            connection.execute("update dictionary set data = ? where id = ?", (hostile, number))
            with Store(path, "r") as store, pytest.raises(CorruptEntryError):
                store["neighbours 3"]


def test_another_dictionary_under_the_id_is_refused(path):
    """A sound dictionary in the wrong place is found by its own id."""
    with Store(path) as store:
        store.compact()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        other = train([random.Random(n // 4).randbytes(300) for n in range(100)], 4096)
        connection.execute("update dictionary set data = ?", (other.data,))
    with Store(path, "r") as store:
        assert [damage.key for damage in store.verify()] == [f"neighbours {n}" for n in range(60)]
        with pytest.raises(CorruptEntryError, match=f"it is the dictionary {other.number}"):
            store["neighbours 3"]


def test_backups_carry_the_dictionaries(path, tmp_path):
    """A copy is whole without the original."""
    with Store(path) as store:
        store.compact()
        store.backup(tmp_path / "copy.db")
    path.unlink()
    assert_whole(tmp_path / "copy.db")


def test_a_compacted_store_is_salvaged_whole(path, tmp_path):
    """Entries leave their dictionaries behind on the way into the new store."""
    with Store(path) as store:
        store.compact()
    assert salvage(path, tmp_path / "b.db").written == len(VALUES)
    assert_whole(tmp_path / "b.db")


def test_a_blob_can_leave_its_dictionary_behind(path):
    """For another store a payload is made that needs none, with the same digest."""
    with Store(path) as store:
        store.compact()
        for _, key, *blob in store.backend.scan():
            codec, checksum, payload = store.codec.without_dictionary(key, *blob)
            assert ":" not in codec
            assert checksum[:16] == blob[2][:16]
            assert same(Codec().decode(key, codec, blob[1], checksum, payload), VALUES[key])


def test_a_newer_value_is_never_overwritten(path, monkeypatch):
    """What another handle stores between reading and rewriting stays."""
    real, newer = SQLite.recode, {}

    def slowly(backend, rows, dictionaries):
        with Store(path) as other:
            for key in list(other)[: 180 if not newer else 0 : 7]:
                other[key] = newer[key] = [key, len(newer)]
            del other["neighbours 1"]
            other["neighbours 1"] = newer["neighbours 1"] = "another"
        return real(backend, rows, dictionaries)

    monkeypatch.setattr(SQLite, "recode", slowly)
    with Store(path) as store:
        store.compact()
    monkeypatch.undo()
    assert_whole(path, VALUES | newer)


def test_a_rewrite_of_a_row_that_changed_does_nothing(path):
    """Compare and set: by the digest, the CRC and the codec together."""
    with Store(path) as store:
        number, _, codec, _, checksum, payload = next(store.backend.scan())
        wrong = [
            Recoded("x", b"y", b"z", number, checksum[:-1] + bytes((checksum[-1] ^ 1,)), codec),
            Recoded("x", b"y", b"z", number, checksum, "other"),
            Recoded("x", b"y", b"z", 10**9, checksum, codec),
        ]
        assert store.backend.recode(wrong, []) == set()
        assert next(store.backend.scan())[5] == payload
    assert_whole(path)


def test_batches_are_bounded(path, monkeypatch):
    """No commit rewrites more rows than it may."""
    sizes, real = [], SQLite.recode
    monkeypatch.setattr(compaction, "BATCH_ROWS", 50)
    monkeypatch.setattr(
        SQLite, "recode", lambda backend, rows, more: sizes.append(len(rows)) or real(backend, rows, more)
    )
    with Store(path) as store:
        report = store.compact()
    assert max(sizes) <= 50
    assert sum(sizes) == sum(gain.rewritten for gain in report.kinds)
    assert_whole(path)


def test_damaged_entries_are_left_alone(path):
    """A payload that is not what was written gets no new checksum."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("update entry set payload = x'00' || substr(payload, 2) where key = 'neighbours 7'")
    with Store(path) as store:
        assert store.compact().damaged == 1
        assert [damage.key for damage in store.verify()] == ["neighbours 7"]


KILLED = """
import os, sys
import ampstore.store.compaction as compaction
from ampstore import Store
from ampstore.backend import SQLite
compaction.BATCH_ROWS = 20
real, left = SQLite.recode, [int(sys.argv[2])]
def recode(*arguments):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    return real(*arguments)
SQLite.recode = recode
with Store(sys.argv[1]) as store:
    store.compact()
"""


def test_killed_anywhere_it_loses_nothing_and_goes_on(path):
    """After kill -9 between any two commits every value is there, and the next call finishes the work."""
    for commits in (1, 4):
        done = subprocess.run([sys.executable, "-c", KILLED, path, str(commits)], cwd=ROOT, timeout=60)
        assert done.returncode == -signal.SIGKILL
        assert_whole(path)
    with Store(path) as store:
        assert sum(gain.rewritten for gain in store.compact().kinds) > 0
    assert_whole(path)


@pytest.mark.soak
@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="strace is not installed")
def test_killed_at_every_write_it_loses_nothing(path, tmp_path):
    """Kill -9 at the N-th write to the disk, for every N."""
    original, number = path.read_bytes(), 1
    while True:
        path.write_bytes(original)
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        inject = f"inject=pwrite64,ftruncate,fdatasync:signal=SIGKILL:when={number}"
        program = "import sys; from ampstore import Store; Store(sys.argv[1]).compact()"
        done = subprocess.run(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject, sys.executable, "-c", program, path],
            cwd=ROOT, timeout=120,
        )  # fmt: skip
        assert_whole(path)
        if done.returncode == 0:
            break
        number += max(1, number // 6)
    assert number > 10


def test_two_compactions_beside_a_writer(path):
    """Any number of handles may compact at once while others write; nothing is lost."""
    newer, failures = {}, []

    def run(work):
        try:
            with Store(path) as store:
                work(store)
        except Exception as err:
            failures.append(err)

    def write(store):
        for n in range(90):
            store[f"neighbours {n}"] = newer[f"neighbours {n}"] = neighbours(n + 5000)

    threads = [threading.Thread(target=run, args=(work,)) for work in (Store.compact, Store.compact, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert_whole(path, VALUES | newer)


def test_prepared_dictionaries_are_bounded(path, monkeypatch):
    """A process that reads many stores keeps some dictionaries, not all."""
    monkeypatch.setattr(dictionaries_module, "MOST_PREPARED", 2)
    monkeypatch.setattr(dictionaries_module, "MOST_CONTEXTS", 2)
    with Store(path) as store:
        store.compact()
    for _ in range(3):
        assert_whole(path)
    assert len(dictionaries_module._prepared) <= 2
    assert len(dictionaries_module._contexts._kept) <= 2


def test_threads_share_a_dictionary_and_no_context(path):
    """Many threads read compacted rows at once."""
    failures = []
    with Store(path) as store:
        store.compact()

        def read():
            for key, value in VALUES.items():
                if not same(store[key], value):
                    failures.append(key)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_archive_compacts(tmp_path, raw):
    """`FileDatabase.archive` trains dictionaries and tells what it gained."""
    with FileDatabase(tmp_path / "label-neighborlists") as database:
        database.update({f"{n:032x}": neighbours(n) for n in range(60)})
        report = database.archive()
        assert report.compaction.kinds[0].dictionary
        assert report.as_dict()["compaction"]["kinds"][0]["entries"] == 60
        assert all(same(database[f"{n:032x}"], neighbours(n)) for n in range(60))
    assert raw(tmp_path / "label-neighborlists.ampdb" / "store.sqlite3", "select count(*) from dictionary") == [(1,)]


def test_the_command_tells_what_was_gained(path, tmp_path):
    """A table for people, JSON for scripts; wrong levels and paths are usage errors."""
    run = lambda *words: CliRunner().invoke(main, [*map(str, words)])  # noqa: E731
    done = run("compact", path)
    assert done.exit_code == 0
    assert "list of n (int64[n], int64[n, n])" in done.output
    report = json.loads(run("compact", path, "--level", 5, "--json").stdout)
    assert {gain["level"] for gain in report["kinds"]} == {5}
    assert run("compact", path, "--level", 40).exit_code == 2
    assert run("compact", tmp_path / "nothing").exit_code == 2
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("update entry set payload = x'00' where key = 'neighbours 7'")
        connection.execute("delete from info where name = 'compacted'")
    assert run("compact", path).exit_code == 1
    assert_not_hidden(path)


def assert_not_hidden(path):
    with Store(path, "r") as store:
        assert [damage.key for damage in store.verify()] == ["neighbours 7"]


@pytest.mark.parametrize(
    "note", ["", "{}", "[]", "5", '{"at": "x", "recipes": {}}', '{"at": 1, "recipes": {"a": [1]}}']
)
def test_a_spoilt_note_is_ignored(path, note):
    """The note of an older compaction is data like any other."""
    with Store(path) as store:
        store.note(compaction.NOTE, note)
        store.compact()
    assert_whole(path)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 1003])
def test_planes_come_back(size):
    """Bytes that are over stand first."""
    data = os.urandom(size)
    assert from_planes(to_planes(data)) == data


def test_only_what_training_gave_is_a_dictionary():
    """Raw bytes, long ones and other types are refused."""
    for wrong in (b"", bytes(100), dictionaries_module.MAGIC + bytes(100), bytes(2 << 20), None, "text"):
        with pytest.raises(ValueError, match="not those"):
            Dictionary(wrong)
