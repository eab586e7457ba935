"""Copy, merge and diff between stores of every kind."""

import contextlib
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

import ampstore
from ampstore import FileDatabase, LegacyDatabase, Store
from ampstore.cli import main
from ampstore.errors import MissingStoreError, MixedSchemesError, StoreError
from ampstore.images.hashing import SCHEMES
from ampstore.transfer import Copied, copying, sides
from ampstore.transfer.sides import StoreSide, bounded
from ampstore.transfer.targets import CHANGED, StoreTarget

VALUES = {
    "fingerprint": [("Cu", [0.1, 0.25, -0.5]), ("O", [1e-300, 0.0])],
    "neighbours": [([1, 2, 3], [(0, 0, 1), (0, 1, 0), (0, 0, 0)])],
    "text": "ü 日本",
    "nothing": None,
    "dict": {"a": (1, 2.5), None: []},
}
SOURCES = ["sqlite", "container", "postgresql", "legacy"]
DESTINATIONS = ["sqlite", "container", "postgresql", "loose", "archive"]


class Foreign:
    """A class that no store admits by itself."""

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


@pytest.fixture
def place(request, tmp_path):
    """Function: where a store of a kind can be made."""

    def make(kind, name):
        if kind == "postgresql":
            return request.getfixturevalue("postgres").url(request.getfixturevalue("schema"))
        return str(tmp_path / (f"{name}.db" if kind == "sqlite" else f"{name}.ampdb"))

    return make


def opened(place, kind):
    return {"sqlite": Store, "postgresql": Store, "container": FileDatabase}.get(kind, LegacyDatabase)(place)


def fill(place, kind, values):
    with opened(place, kind) as database:
        database.update(values)


def contents(place, kind):
    with opened(place, kind) as database:
        return dict(database.items())


def store(path, values, notes=()):
    with Store(path) as made:
        made.put_many(values)
        for name, value in dict(notes).items():
            made.note(name, value)
    return path


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


ROWS = "SELECT key, codec, kind, size, checksum, written_at, payload FROM entry ORDER BY id"


# -- every kind of store -------------------------------------------------------------------------


PAIRS = [(a, b) for a in SOURCES for b in DESTINATIONS if (a, b) != ("postgresql", "postgresql")]  # that: next test


@pytest.mark.parametrize(("source", "destination"), PAIRS)
def test_a_copy_has_the_same_entries_and_copying_again_writes_nothing(place, source, destination):
    """Between any two kinds of stores."""
    fill(place(source, "a"), source, VALUES)
    layout = destination if destination in ("loose", "archive") else "store"
    report = ampstore.copy(place(source, "a"), place(destination, "b"), layout=layout)
    assert (report.written, report.unchanged, report.complete) == (len(VALUES), 0, True)
    assert contents(place(destination, "b"), destination) == VALUES
    again = ampstore.copy(place(source, "a"), place(destination, "b"), layout=layout)
    assert (again.written, again.unchanged, again.complete) == (0, len(VALUES), True)
    assert list(ampstore.diff(place(source, "a"), place(destination, "b"))) == []


def test_two_schemas_of_one_database_are_two_stores(postgres, schema, tmp_path):
    """Copied from one to the other, and told apart."""
    from postgres import connect, new_schema

    other = new_schema()
    try:
        fill(postgres.url(schema), "postgresql", VALUES)
        assert ampstore.copy(postgres.url(schema), postgres.url(other)).written == len(VALUES)
        assert contents(postgres.url(other), "postgresql") == VALUES
        with Store(postgres.url(other)) as changed:
            del changed["text"]
        assert [one.key for one in ampstore.diff(postgres.url(schema), postgres.url(other))] == ["text"]
    finally:
        with contextlib.closing(connect(postgres.url(other))) as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{other}" CASCADE')


def test_keys_that_the_destination_cannot_hold_are_left_and_named(postgres, schema, tmp_path):
    """PostgreSQL's text has no U+0000; a file name no slash."""
    source = store(tmp_path / "a.db", {"a\0b": 1, "c/d": 2, "e": 3})
    report = ampstore.copy(source, postgres.url(schema))
    assert [problem.name for problem in report.left] == ["a\0b"]
    report = ampstore.copy(source, tmp_path / "b", layout="loose")
    assert sorted(problem.name for problem in report.left) == ["a\0b", "c/d"]
    assert (report.written, report.entries, report.complete) == (1, 3, False)


# -- copy ----------------------------------------------------------------------------------------


def test_rows_are_copied_as_they_are_in_their_order(tmp_path, raw):
    """Payload, codec, kind and time of writing, looked at with plain sqlite3."""
    source = store(tmp_path / "a.db", {f"{7 * n % 2500:05}": [n, n / 2] for n in range(2500)})
    report = ampstore.copy(source, tmp_path / "b.db")
    assert report.written == 2500
    assert raw(tmp_path / "b.db", ROWS) == raw(source, ROWS)


def test_values_that_this_user_may_not_unpickle_are_copied(tmp_path):
    """Nothing is unpickled on the way between two stores."""
    with Store(tmp_path / "a.db", allow="*") as source:
        source["x"] = Foreign(3)
    assert ampstore.copy(tmp_path / "a.db", tmp_path / "b.db").complete
    with Store(tmp_path / "b.db", "r", allow="*") as copied:
        assert copied["x"] == Foreign(3)


def test_foreign_values_do_not_get_into_the_legacy_layout_unasked(tmp_path):
    """That needs decoding, so it needs permission; the entry is left and named."""
    with Store(tmp_path / "a.db", allow="*") as source:
        source["x"] = Foreign(3)
        source["y"] = 1
    report = ampstore.copy(tmp_path / "a.db", tmp_path / "b", layout="loose")
    assert [problem.name for problem in report.left] == ["x"]
    assert ampstore.copy(tmp_path / "a.db", tmp_path / "b", layout="loose", allow="*").complete


def test_dictionaries_go_along_with_the_rows_that_need_them(tmp_path, raw):
    """A compacted store is readable at its destination, and verify finds nothing."""
    values = {f"{n:04}": {"name": f"image {n}", "tags": ["surface", "slab", "relaxed", str(n)]} for n in range(600)}
    source = store(tmp_path / "a.db", values)
    with Store(source) as compacted:
        compacted.compact()
    dictionaries = raw(source, "SELECT id, kind, data FROM dictionary")
    assert dictionaries
    assert ampstore.copy(source, tmp_path / "b.db").complete
    assert raw(tmp_path / "b.db", "SELECT id, kind, data FROM dictionary") == dictionaries
    with Store(tmp_path / "b.db", "r") as copied:
        assert dict(copied) == values
        assert list(copied.verify()) == []


def test_what_is_there_is_not_read_again(tmp_path, raw):
    """Payloads of entries that arrived before are of no interest, even if they are damaged by now."""
    source = store(tmp_path / "a.db", {"a": 1, "b": 2})
    ampstore.copy(source, tmp_path / "b.db")
    with contextlib.closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("UPDATE entry SET payload = x'00' WHERE key = 'a'")
    report = ampstore.copy(source, tmp_path / "b.db")
    assert (report.unchanged, report.complete) == (2, True)


def test_a_damaged_entry_is_left_and_named_and_the_others_are_copied(tmp_path):
    """Its bytes do not have their checksum."""
    source = store(tmp_path / "a.db", {"a": 1, "b": 2})
    with contextlib.closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("UPDATE entry SET payload = x'00' WHERE key = 'a'")
    done = run("copy", source, tmp_path / "b.db")
    assert done.exit_code == 1
    assert "'a'" in done.output
    assert "checksum" in done.output
    assert contents(tmp_path / "b.db", "sqlite") == {"b": 2}


def test_an_entry_whose_dictionary_is_lost_is_left_and_named(tmp_path):
    """It could not be read at the destination either."""
    source = store(tmp_path / "a.db", {"a": 1, "b": 2})
    with contextlib.closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("UPDATE entry SET codec = 'pickle5+zstd:40000' WHERE key = 'a'")
    report = ampstore.copy(source, tmp_path / "b.db")
    assert [problem.name for problem in report.left] == ["a"]
    assert "dictionary 40000" in report.left[0].reason
    assert contents(tmp_path / "b.db", "sqlite") == {"b": 2}


KILLED = """
import os, signal, sys
import ampstore
from ampstore.transfer import copying

copying.WORTH_THREADS = 0

def progress(done, total):
    if done >= 2000:
        os.kill(os.getpid(), signal.SIGKILL)

ampstore.copy(sys.argv[1], sys.argv[2], progress=progress, jobs=int(sys.argv[3]))
"""


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_copy_that_was_killed_goes_on(tmp_path, raw, jobs):
    """The same call again writes what is missing, and the order is that of the source."""
    source = store(tmp_path / "a.db", {f"{n:05}": [n] for n in range(5500)}, {"hash scheme": "v2"})
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "b.db"), str(jobs)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    there = raw(tmp_path / "b.db", "SELECT count(*) FROM entry")[0][0]
    assert 0 < there < 5500
    report = ampstore.copy(source, tmp_path / "b.db", jobs=jobs)
    assert (report.written, report.unchanged) == (5500 - there, there)
    assert raw(tmp_path / "b.db", ROWS) == raw(source, ROWS)
    with Store(tmp_path / "b.db", "r") as copied:
        assert copied.noted("hash scheme") == "v2"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("jobs", [2, 4])
def test_several_threads_copy_the_same_rows_in_the_same_order(place, tmp_path, monkeypatch, kind, jobs):
    """Chunks are read, written and read back at once; what is damaged, conflicts or was there is told as by one."""
    monkeypatch.setattr(copying, "_CHUNK_BYTES", 1500)
    monkeypatch.setattr(copying, "WORTH_THREADS", 0)
    values = {f"{7 * n % 2500:05}": [n, n / 2] for n in range(2500)}
    source = store(tmp_path / "a.db", values)
    damaged, differing = "00007", "00014"
    with contextlib.closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("UPDATE entry SET payload = x'00' WHERE key = ?", (damaged,))
    fill(place(kind, "b"), kind, {differing: "another", "00021": values["00021"]})
    done = []
    report = ampstore.copy(source, place(kind, "b"), jobs=jobs, progress=lambda *now: done.append(now))
    assert (report.entries, report.written, report.unchanged, report.undecided) == (2500, 2497, 1, 1)
    assert [problem.name for problem in report.left] == [damaged]
    assert done == sorted(done)
    expected = {differing: "another", "00021": values["00021"]}
    expected |= {key: value for key, value in values.items() if key not in (damaged, *expected)}
    assert list(contents(place(kind, "b"), kind).items()) == list(expected.items())


@pytest.mark.parametrize(("size", "several"), [(100, False), (40_000, True)])
def test_small_values_go_from_file_to_file_in_one_thread(tmp_path, monkeypatch, size, several):
    """However many are allowed: there they only wait for each other."""
    writers, put = set(), StoreTarget.put

    def noting(self, *arguments):
        writers.add(threading.get_ident())
        return put(self, *arguments)

    monkeypatch.setattr(StoreTarget, "put", noting)
    source = store(tmp_path / "a.db", {str(n): os.urandom(size) for n in range(20)})
    assert ampstore.copy(source, tmp_path / "b.db", jobs=4).written == 20
    assert (writers != {threading.get_ident()}) == several


def test_an_error_of_the_writing_thread_ends_the_copy_and_the_same_call_goes_on(tmp_path, monkeypatch, raw):
    """It is raised as it is; nothing is written after it, and no thread is left."""
    source = store(tmp_path / "a.db", {f"{n:05}": [n] for n in range(3500)})
    put, calls = StoreTarget.put, []

    def failing(self, rows, seen, side):
        calls.append(len(rows))
        if len(calls) == 2:
            raise StoreError("b.db", "the disk is full")
        return put(self, rows, seen, side)

    monkeypatch.setattr(copying, "WORTH_THREADS", 0)
    with monkeypatch.context() as patched:
        patched.setattr(StoreTarget, "put", failing)
        with pytest.raises(StoreError, match="the disk is full"):
            ampstore.copy(source, tmp_path / "b.db", jobs=4)
    there = raw(tmp_path / "b.db", "SELECT count(*) FROM entry")[0][0]
    assert there == 1000
    assert ampstore.copy(source, tmp_path / "b.db", jobs=4).unchanged == there
    assert raw(tmp_path / "b.db", ROWS) == raw(source, ROWS)


def test_another_value_at_the_destination_is_a_conflict(tmp_path):
    """By default it stays, is listed, and the exit code is 1; the others are copied."""
    source, target = store(tmp_path / "a.db", {"a": 1, "b": [2.5]}), store(tmp_path / "b.db", {"b": "other"})
    done = run("copy", source, target, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    (conflict,) = report["conflicts"]
    assert (conflict["key"], conflict["taken"]) == ("b", "")
    assert conflict["destination"]["kind"] == "str of 5"
    assert conflict["source"]["written_at"] < conflict["destination"]["written_at"]
    assert contents(target, "sqlite") == {"b": "other", "a": 1}


@pytest.mark.parametrize(("option", "value"), [("--overwrite", [2.5]), ("--keep", "other")])
def test_a_conflict_can_be_decided(tmp_path, option, value):
    """For the source or for the destination; then all is well."""
    source, target = store(tmp_path / "a.db", {"a": 1, "b": [2.5]}), store(tmp_path / "b.db", {"b": "other"})
    assert run("copy", source, target, option).exit_code == 0
    assert contents(target, "sqlite") == {"b": value, "a": 1}


def test_a_dry_run_writes_nothing(tmp_path):
    """Not even the destination."""
    source = store(tmp_path / "a.db", {"a": 1, "b": 2})
    done = run("copy", source, tmp_path / "b.db", "--dry-run")
    assert "would be written" in done.output
    assert ampstore.copy(source, tmp_path / "c.ampdb", dry_run=True).written == 2
    assert not {"b.db", "c.ampdb"} & set(os.listdir(tmp_path))


def test_facts_go_along_and_what_belongs_to_the_store_stays(tmp_path, raw):
    """Its id, claims, notes of runs."""
    source = store(tmp_path / "a.db", {"a": 1}, {"hash scheme": "v2", "project": "alloys", "run x": "{}"})
    with Store(source) as claimed:
        claimed.claims().take(["z"], 1)
    ampstore.copy(source, tmp_path / "b.db")
    facts, copied = (dict(raw(path, "SELECT name, value FROM info")) for path in (source, tmp_path / "b.db"))
    assert (copied["hash scheme"], copied["project"]) == ("v2", "alloys")
    assert copied["store"] != facts["store"]
    assert "run x" not in copied
    assert raw(tmp_path / "b.db", "SELECT count(*) FROM claim") == [(0,)]


def test_keys_of_different_schemes_are_not_mixed(tmp_path, raw):
    """Refused before anything is written, by copy and by merge."""
    old = store(tmp_path / "old.db", {"a": 1}, {"hash scheme": "v1"})
    new = store(tmp_path / "new.db", {"b": 2}, {"hash scheme": "v2"})
    with pytest.raises(MixedSchemesError):
        ampstore.copy(old, new)
    with pytest.raises(MixedSchemesError):
        ampstore.merge(tmp_path / "all.db", [new, old])
    assert contents(new, "sqlite") == {"b": 2}
    assert not (tmp_path / "all.db").exists()


def test_the_scheme_of_unknown_keys_stays_unknown(tmp_path):
    """A store that notes none may hold keys of any scheme, and so does what it was copied into."""
    noted = store(tmp_path / "a.db", {"a": 1}, {"hash scheme": "v2"})
    ampstore.copy(store(tmp_path / "b.db", {"b": 2}), noted)
    with Store(noted, "r") as mixed:
        assert mixed.noted("hash scheme").split()[0] == "v2"
        assert set(mixed.noted("hash scheme").split()) == set(SCHEMES)


def test_a_store_is_not_copied_onto_itself(tmp_path):
    """By no name."""
    with FileDatabase(tmp_path / "a") as database:
        database["k"] = 1
    (tmp_path / "link.db").symlink_to(tmp_path / "a.ampdb" / "store.sqlite3")
    for name in ("a", "a.ampdb", "a.ampdb/store.sqlite3", "link.db"):
        with pytest.raises(StoreError, match="both"):
            ampstore.copy(tmp_path / name, tmp_path / "a.ampdb")


def test_no_source_is_wrong_usage(tmp_path):
    """And the destination is not made."""
    with pytest.raises(MissingStoreError):
        ampstore.copy(tmp_path / "nothing.db", tmp_path / "b.db")
    assert run("copy", tmp_path / "no.ampdb", tmp_path / "b.db").exit_code == 2
    assert run("copy", tmp_path / "a", tmp_path / "b", "--keep", "--overwrite").exit_code == 2
    assert os.listdir(tmp_path) == []


def test_what_somebody_else_writes_meanwhile_is_not_overwritten(tmp_path):
    """A row is written only over what the copy has seen."""
    source = store(tmp_path / "a.db", {"a": 1, "b": 2})
    with Store(source, "r") as read, Store(tmp_path / "b.db") as written:
        side, target = StoreSide(read, "a"), StoreTarget(written, "b")
        (heads,) = side.heads()
        written["a"] = "newer"
        problems = target.put(side.rows(heads), {}, side)
        assert [(problem.name, problem.reason) for problem in problems] == [("a", CHANGED)]
        assert dict(written) == {"a": "newer", "b": 2}


def test_a_row_that_does_not_come_back_is_told(tmp_path, monkeypatch):
    """Every entry is read back and compared."""
    source = store(tmp_path / "a.db", {"a": 1, "b": 2})
    with Store(source, "r") as read, Store(tmp_path / "b.db") as written:
        put_rows = written.backend.put_rows

        def damaging(rows):
            put_rows([row._replace(payload=b"?") if row.key == "a" else row for row in rows])

        monkeypatch.setattr(written.backend, "put_rows", damaging)
        side, target = StoreSide(read, "a"), StoreTarget(written, "b")
        (heads,) = side.heads()
        assert target.put(side.rows(heads), {}, side) == []
        (problem,) = target.differing(side.rows(heads))
        assert problem.name == "a"
        assert "damaged" in problem.reason


def test_chunks_are_bounded_in_rows_and_bytes(tmp_path, monkeypatch):
    """So the memory of a copy is; an entry larger than a chunk is one of its own."""
    monkeypatch.setattr(sides, "CHUNK_ROWS", 10)
    monkeypatch.setattr(sides, "CHUNK_BYTES", 1000)
    source = store(
        tmp_path / "a.db", {f"{n}": os.urandom(50 if n < 35 else 400 if n < 45 else 3000) for n in range(47)}
    )
    with Store(source, "r") as read:
        chunks = list(StoreSide(read, "a").heads())
    assert sum(map(len, chunks)) == 47
    assert max(map(len, chunks)) == 10
    assert all(sum(head.stored for head in chunk) <= 1000 or len(chunk) == 1 for chunk in chunks)
    assert list(bounded([])) == []


# -- containers and the legacy layout ------------------------------------------------------------


def loose(container, key, value):
    path = Path(container) / "loose" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, 2))
    return path


def test_tiers_of_a_container_are_copied_as_it_shows_them(tmp_path):
    """A loose file over the store, the store over nothing; torn files are named."""
    container = tmp_path / "a.ampdb"
    with FileDatabase(container) as database:
        database.update({"a": "store", "b": "store", "c": "store"})
    loose(container, "b", "loose")
    loose(container, "d", "loose")
    loose(container, "c", "torn").write_bytes(b"\x80\x02")
    with FileDatabase(container, "r") as database:
        expected = dict(database.items())
    report = ampstore.copy(container, tmp_path / "b.db")
    assert contents(tmp_path / "b.db", "sqlite") == expected == {"a": "store", "b": "loose", "c": "store", "d": "loose"}
    assert [problem.name for problem in report.left] == ["c"]


def test_loose_files_of_the_destination_are_folded_first(tmp_path):
    """They would hide what is copied; a conflict with one is a conflict."""
    source = store(tmp_path / "a.db", {"a": 1, "b": 2})
    with FileDatabase(tmp_path / "b") as database:
        database["c"] = 3
    loose(tmp_path / "b.ampdb", "b", "other")
    foreseen = ampstore.copy(source, tmp_path / "b", dry_run=True)
    report = ampstore.copy(source, tmp_path / "b")
    for each in (foreseen, report):
        assert [(one.key, one.taken) for one in each.conflicts] == [("b", "")]
    assert os.listdir(tmp_path / "b.ampdb" / "loose") == []
    assert contents(tmp_path / "b.ampdb", "container") == {"a": 1, "b": "other", "c": 3}


def test_a_loose_file_that_nobody_may_read_hides_nothing_silently(tmp_path):
    """The copy is refused, since the container would go on showing that file."""
    loose(tmp_path / "b.ampdb", "a", Foreign(1))
    with pytest.raises(StoreError, match="'a'"):
        ampstore.copy(store(tmp_path / "a.db", {"a": 1}), tmp_path / "b.ampdb")


def test_loose_files_that_were_copied_before_are_not_decoded_again(tmp_path):
    """Known by the time of the file, to the nanosecond; a file of another time is read."""
    path = loose(tmp_path / "a.ampdb", "a", 1)
    loose(tmp_path / "a.ampdb", "b", 2)
    ampstore.copy(tmp_path / "a.ampdb", tmp_path / "b.db")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(pickle.dumps(5, 2))
    os.utime(path, ns=times)
    assert ampstore.copy(tmp_path / "a.ampdb", tmp_path / "b.db").unchanged == 2
    os.utime(path, ns=(times[0], times[1] + 1_000_000_000))
    report = ampstore.copy(tmp_path / "a.ampdb", tmp_path / "b.db")
    assert [one.key for one in report.conflicts] == ["a"]


def test_legacy_files_are_read_by_several_processes_to_the_same_end(tmp_path, monkeypatch):
    """In their order."""
    monkeypatch.setattr(sides, "WORTH_PROCESSES", 0)
    values = {f"{n:03}": [("Cu", [float(n)] * 20)] for n in range(200)}
    fill(tmp_path / "a.ampdb", "legacy", values)
    assert ampstore.copy(tmp_path / "a.ampdb", tmp_path / "b.db", jobs=2).written == 200
    assert contents(tmp_path / "b.db", "sqlite") == values


def test_a_container_with_a_store_is_not_taken_for_the_legacy_layout(tmp_path):
    """Loose files written beside its store would hide entries."""
    with FileDatabase(tmp_path / "b") as database:
        database["c"] = 3
    with pytest.raises(StoreError, match="has a store"):
        ampstore.copy(store(tmp_path / "a.db", {"a": 1}), tmp_path / "b", layout="loose")


# -- merge ---------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path, raw):
    """Three stores of one key, the second one written last."""
    paths = [store(tmp_path / f"{n}.db", {"same": 0, "k": f"value {n}", f"only {n}": n}) for n in range(3)]
    for path, at in zip(paths, (100.0, 300.0, 200.0), strict=True):
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE entry SET written_at = ?", (at,))
    return paths


@pytest.mark.parametrize(
    ("prefer", "value", "code"),
    [(None, "value 0", 1), ("first", "value 0", 0), ("last", "value 2", 0), ("newest", "value 1", 0)],
)
def test_a_merge_has_all_keys_and_reports_the_conflicts(tmp_path, three, prefer, value, code):
    """What is taken is as preferred; without a preference the first stays, and the exit code tells."""
    options = ["--prefer", prefer] if prefer else []
    done = run("merge", tmp_path / "all.db", *three, "--json", *options)
    assert done.exit_code == code
    assert contents(tmp_path / "all.db", "sqlite") == {"same": 0, "k": value, "only 0": 0, "only 1": 1, "only 2": 2}
    conflicts = [one for copied in json.loads(done.stdout)["copies"] for one in copied["conflicts"]]
    assert [one["key"] for one in conflicts] == ["k", "k"]
    assert [one["source"]["written_at"] for one in conflicts] == [300.0, 200.0]
    assert all((one["taken"] == "") == (prefer is None) for one in conflicts)


def test_the_newest_of_two_at_one_time_is_undecided(tmp_path, three):
    """Nobody can tell."""
    with contextlib.closing(sqlite3.connect(three[1])) as connection, connection:
        connection.execute("UPDATE entry SET written_at = 100.0")
    merged = ampstore.merge(three[0], three[1:2], prefer="newest")
    assert [(one.key, one.taken) for one in merged.conflicts] == [("k", "")]
    assert not merged.complete


def test_a_source_that_is_missing_stops_a_merge_before_it_begins(tmp_path, three):
    """Nothing is written."""
    with pytest.raises(MissingStoreError):
        ampstore.merge(tmp_path / "all.db", [*three, tmp_path / "nothing.db"])
    assert not (tmp_path / "all.db").exists()


def test_all_conflicts_are_counted_and_the_first_are_listed(monkeypatch, tmp_path):
    """A report has bounded memory."""
    monkeypatch.setattr("ampstore.transfer.report.MOST_LISTED", 5)
    one, other = (store(tmp_path / name, {f"{n}": name for n in range(30)}) for name in ("a.db", "b.db"))
    report = ampstore.copy(one, other)
    assert isinstance(report, Copied)
    assert (report.undecided, len(report.conflicts)) == (30, 5)
    done = run("copy", one, other)
    assert "25" in done.output or "10 more" in done.output


# -- diff ----------------------------------------------------------------------------------------


def test_differences_are_those_of_two_dicts(tmp_path):
    """Over several chunks of keys, in order."""
    a = {f"{n * 37 % 5003:05}é": n % 7 for n in range(3000)}
    b = {key: (value + 1 if key.startswith("0001") else value) for key, value in a.items() if key[4] != "3"}
    b |= {f"x{n}": n for n in range(5)}
    store(tmp_path / "a.db", a)
    store(tmp_path / "b.db", b)
    found = list(ampstore.diff(tmp_path / "a.db", tmp_path / "b.db"))
    expected = dict.fromkeys(a.keys() - b.keys(), "only in a") | dict.fromkeys(b.keys() - a.keys(), "only in b")
    expected |= {key: "different" for key in a.keys() & b.keys() if a[key] != b[key]}
    assert {one.key: one.what for one in found} == expected
    assert [one.key for one in found] == sorted(expected)


def test_one_value_in_two_codecs_is_no_difference(tmp_path):
    """Where codecs differ, the values decide."""
    value = [("Cu", [0.1 * n + m for n in range(30)]) for m in range(8)]
    store(tmp_path / "a.db", {"k": value, "other": value})
    with Store(tmp_path / "b.db") as pickled:
        blob = pickled.codec._pack("pickle5", "pickle", pickle.dumps(value, 5))
        pickled.put_blobs([("k", blob), ("other", pickled.codec._pack("pickle5", "p", pickle.dumps(value[1:], 5)))])
    with Store(tmp_path / "a.db") as columns:
        assert columns.read_blob("k")[0] != blob.codec
    assert [one.key for one in ampstore.diff(tmp_path / "a.db", tmp_path / "b.db")] == ["other"]
    report = ampstore.copy(tmp_path / "a.db", tmp_path / "b.db")
    assert (report.unchanged, report.undecided) == (1, 1)


def test_the_command_tells_by_its_exit_code(tmp_path):
    """0 equal, 1 different; with --json a document a line."""
    a, b = store(tmp_path / "a.db", {"x": 1, "y": 2}), store(tmp_path / "b.db", {"y": 3, "z": [4.5]})
    assert run("diff", a, a).exit_code == 0
    done = run("diff", a, b, "--json")
    assert done.exit_code == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["key"], line["what"]) for line in lines] == [
        ("x", "only in a"),
        ("y", "different"),
        ("z", "only in b"),
    ]
    assert lines[2]["b"]["kind"] == "float[1]"
    assert [line[:3] for line in run("diff", a, b).stdout.splitlines()] == ["< x", "! y", "> z"]


def test_what_cannot_be_read_is_told_by_diff(tmp_path):
    """Damaged legacy files are no equality."""
    store(tmp_path / "a.db", {"k": 1})
    loose(tmp_path / "b.ampdb", "k", 1)
    loose(tmp_path / "b.ampdb", "torn", 1).write_bytes(b"\x80")
    found = list(ampstore.diff(tmp_path / "a.db", tmp_path / "b.ampdb"))
    assert [(one.key, one.what) for one in found] == [("torn", "unreadable in b")]
