"""The Store: a mapping, checked with a dict as the oracle and with plain sqlite3 round the code."""

import contextlib
import multiprocessing
import os
import pickle
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ampstore
from ampstore import Store
from ampstore.backend import wal
from ampstore.errors import (
    AccessError,
    BusyError,
    ClosedError,
    CodecError,
    CorruptEntryError,
    DamagedStoreError,
    EncodeError,
    EntryTooLargeError,
    ForbiddenGlobalError,
    InvalidKeyError,
    KeyTypeError,
    MissingStoreError,
    NotAStoreError,
    ReadOnlyError,
    StorageError,
)

AWKWARD_KEYS = [
    "",
    " ",
    "a/b",
    "..",
    "ü",
    "日本",
    "\0",
    "a\0b",
    "\n",
    "k" * 10_000,
    "%",
    "'",
    '"',
    "😀",
    "\udbff"[:0] + "x",
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.db"


@pytest.fixture
def store(path):
    with Store(path) as opened:
        yield opened


# -- a mapping ---------------------------------------------------------------------------------


def test_value_comes_back_equal_and_fresh(store):
    """Every get builds new objects; changing one changes nothing else."""
    store["a"] = [("Cu", [0.1, -0.0])]
    first, second = store["a"], store["a"]
    assert first == second == [("Cu", [0.1, -0.0])]
    first.append("changed")
    assert store["a"] == second


def test_missing_key_is_key_error_with_the_key(store):
    """As in a dict."""
    with pytest.raises(KeyError) as caught:
        store["nope"]
    assert caught.value.args == ("nope",)
    with pytest.raises(KeyError):
        del store["nope"]
    assert store.get("nope", 3) == 3


@pytest.mark.parametrize("key", AWKWARD_KEYS, ids=lambda key: repr(key[:12]))
def test_any_text_is_a_key(store, key):
    """Keys are text, whatever is in it; length counts, NUL included."""
    store[key] = "here"
    assert store[key] == "here"
    assert key in store
    assert list(store) == [key]
    assert store.get_many([key]) == {key: "here"}
    assert store.missing([key]) == []
    del store[key]
    assert key not in store


@pytest.mark.parametrize("key", [1, None, b"a", 1.5, ("a",)])
def test_key_that_is_no_text_is_refused_at_write_and_absent_at_read(store, key):
    """TypeError when writing, KeyError or False when reading, as users of dicts expect."""
    with pytest.raises(KeyTypeError, match="keys must be str"):
        store[key] = 1
    with pytest.raises(TypeError):
        store.put_many([(key, 1)])
    assert key not in store
    with pytest.raises(KeyError):
        store[key]
    with pytest.raises(KeyError):
        del store[key]
    assert len(store) == 0


def test_half_a_surrogate_is_refused_by_name(store):
    """Text that cannot be encoded is no key."""
    with pytest.raises(InvalidKeyError, match="surrogate"):
        store["\ud800"] = 1
    assert "\ud800" not in store
    with pytest.raises(KeyError):
        store["\ud800"]
    with pytest.raises(KeyError):
        del store["\ud800"]


def test_mapping_methods_do_what_a_dict_does(store):
    """The whole MutableMapping surface beside a dict."""
    oracle = {}
    for mapping in (store, oracle):
        mapping.update({"a": 1, "b": 2}, c=3)
        mapping.update([("d", 4), ("a", 5)])
        assert mapping.setdefault("e", 6) == 6
        assert mapping.setdefault("a", 7) == 5
        assert mapping.pop("b") == 2
        assert mapping.pop("b", "none") == "none"
        with pytest.raises(KeyError):
            mapping.pop("b")
        assert mapping.popitem() == ("e", 6)
    assert dict(store) == oracle
    assert store == oracle
    assert list(store) == list(oracle)
    assert list(store.items()) == list(oracle.items())
    assert list(store.values()) == list(oracle.values())
    assert store.keys() == oracle.keys()
    assert store.keys() & {"a", "z"} == {"a"}
    assert ("a", 5) in store.items()
    assert 5 in store.values()
    assert len(store.items()) == len(oracle)
    store.clear()
    assert not store
    with pytest.raises(KeyError):
        store.popitem()


def test_overwriting_keeps_the_place_in_the_order(store):
    """Order is that of insertion, as in a dict."""
    store.update(a=1, b=2, c=3)
    store["a"] = 4
    del store["b"]
    store["b"] = 5
    assert list(store.items()) == [("a", 4), ("c", 3), ("b", 5)]


def test_iteration_goes_on_while_others_write_and_sees_what_was_there(store):
    """No lock, no surprise: entries added meanwhile are left for the next iteration."""
    store.put_many((f"k{n}", n) for n in range(2500))
    seen = []
    for n, (key, value) in enumerate(store.items()):
        seen.append(key)
        store[f"new{n}"] = value
        if n == 10:
            del store["k2000"]
    assert seen == [f"k{n}" for n in range(2500) if n != 2000]
    assert len(store) == 2499 + len(seen)


def test_contains_len_keys_and_missing_touch_no_payload(store, path, monkeypatch):
    """They work on a store whose payloads are all damaged."""
    store.update(a=[1] * 100, b=2)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update entry set payload = x'00'")
    assert "a" in store
    assert len(store) == 2
    assert list(store) == ["a", "b"]
    assert store.missing(["a", "c", "b", "c"]) == ["c"]
    with pytest.raises(CorruptEntryError, match="'a'"):
        store["a"]


def test_get_many_returns_what_is_there_in_the_order_asked(store):
    """Any number of keys, also more than one query takes."""
    store.put_many((f"k{n}", n) for n in range(1000))
    asked = [f"k{n}" for n in range(1500, -1, -3)]
    assert list(store.get_many(asked).items()) == [(key, int(key[1:])) for key in asked if int(key[1:]) < 1000]
    assert store.missing(asked) == [key for key in asked if int(key[1:]) >= 1000]


def test_put_many_takes_a_generator_and_counts(store):
    """Lazily, so that more than fits into memory can be stored."""
    assert store.put_many((str(n), n) for n in range(2345)) == 2345
    assert len(store) == 2345


def test_put_many_stores_what_came_before_a_refused_pair_in_whole_transactions(store):
    """A refused pair raises; nothing is half-written."""
    pairs = [(str(n), n) for n in range(1500)] + [("bad", threading.Lock())]
    with pytest.raises(CodecError):
        store.put_many(pairs)
    assert len(store) == 1000
    assert "bad" not in store


# -- transactions ------------------------------------------------------------------------------


def test_batch_is_all_or_nothing_and_others_see_it_at_once(store, path):
    """Another connection sees none of a batch before its end, and all of it after."""
    with Store(path) as other:
        with store.batch():
            store["a"] = 1
            store["b"] = 2
            assert store["a"] == 1
            assert "a" not in other
        assert dict(other) == {"a": 1, "b": 2}
        with pytest.raises(ZeroDivisionError), store.batch():
            store["c"] = 3
            del store["a"]
            _ = 1 / 0
        assert dict(other) == {"a": 1, "b": 2}


def test_inner_batch_rolls_back_alone(store):
    """Batches nest."""
    with store.batch():
        store["outer"] = 1
        with pytest.raises(ZeroDivisionError), store.batch():
            store["inner"] = 2
            _ = 1 / 0
        with store.batch():
            store["kept"] = 3
    assert dict(store) == {"outer": 1, "kept": 3}


def _increment(path, times):
    with Store(path) as store:
        for _ in range(times):
            with store.batch():
                store["n"] = store["n"] + 1


def test_read_and_write_in_a_batch_is_atomic_among_processes(store, path):
    """A counter that four processes increment loses nothing."""
    store["n"] = 0
    run_in_processes(_increment, [(path, 100)] * 4)
    assert store["n"] == 400


def run_in_processes(function, arguments, method="spawn"):
    """Run a function once per tuple of arguments, all at once; every process must end well."""
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=function, args=given) for given in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_setting_an_equal_value_writes_nothing(store, path, raw):
    """The row, its time of writing included, stays as it is."""
    store["a"] = [1, 2, 3]
    before = raw(path, "select * from entry")
    store["a"] = [1, 2, 3]
    assert raw(path, "select * from entry") == before
    store["a"] = [1, 2, 4]
    assert raw(path, "select * from entry") != before


@pytest.mark.parametrize("damage", ["payload = x'0102'", "checksum = x'0102'", "size = 3", "codec = 'nonsense'"])
def test_setting_an_equal_value_repairs_a_damaged_entry(store, path, damage):
    """Damage is never skipped over as unchanged."""
    store["a"] = ["text"] * 50
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"update entry set {damage}")
    with pytest.raises(CodecError):
        store["a"]
    store["a"] = ["text"] * 50
    assert store["a"] == ["text"] * 50
    assert list(store.verify()) == []


# -- many processes and threads ----------------------------------------------------------------


def _write_many(path, worker, count):
    with Store(path) as store:
        for n in range(count):
            store[f"{worker}-{n}"] = [worker, n]


def test_eight_processes_write_a_thousand_entries_each_into_a_fresh_store(path):
    """None lost, no error, though the store does not exist when they start."""
    run_in_processes(_write_many, [(path, worker, 1000) for worker in range(8)])
    with Store(path, "r") as store:
        assert len(store) == 8000
        assert all(store[f"{worker}-{n}"] == [worker, n] for worker in range(8) for n in range(0, 1000, 7))
        assert list(store.verify()) == []


def test_threads_share_one_store(store):
    """Sixteen threads write and read through one handle."""

    def work(worker):
        for n in range(50):
            store[f"{worker}-{n}"] = [worker] * n
            assert store[f"{worker}-{n}"] == [worker] * n

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(store) == 16 * 50


def test_connections_of_finished_threads_are_closed(store):
    """A thousand short threads do not leave a thousand connections."""
    for n in range(50):
        thread = threading.Thread(target=store.__setitem__, args=(str(n), n))
        thread.start()
        thread.join()
    assert store._backend._connections.number() <= 3


def test_child_after_fork_uses_connections_of_its_own(store):
    """The parent's handle works on in both."""
    store["before"] = 1

    def child():
        store["child"] = store["before"] + 1
        return True

    assert in_a_forked_child(child)
    store["parent"] = 3
    assert dict(store) == {"before": 1, "child": 2, "parent": 3}


def test_a_child_loses_nothing_after_its_parent_and_everybody_else_has_gone(path):
    """The child has locks of its own: nobody takes himself for the last one and deletes the WAL under it."""
    store = ampstore.Store(path)
    store["before"] = 1
    (from_child, to_parent), (from_parent, to_child) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            store["child"] = 1
            os.write(to_parent, b"x")
            os.read(from_parent, 1)
            store["child, later"] = 2
            os._exit(0)
        os._exit(1)
    os.read(from_child, 1)
    store.close()
    with ampstore.Store(path) as other:
        other["other"] = 3
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('select * from entry').fetchall()"
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=60)
    os.write(to_child, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    for descriptor in (from_child, to_parent, from_parent, to_child):
        os.close(descriptor)
    with ampstore.Store(path) as again:
        assert dict(again) == {"before": 1, "child": 1, "other": 3, "child, later": 2}


def in_a_forked_child(function):
    """Run a function in a child of this process; whether it returned True."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = 0 if function() is True else 1
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def test_fork_inside_a_batch_leaves_the_parent_unaffected(store):
    """The child cannot end the parent's transaction, nor use the file, and says so; the parent's commit holds."""
    batch = store.batch()
    batch.__enter__()
    store["a"] = 1

    def child_leaves():
        with pytest.raises(ampstore.StoreError, match="does not cross fork"):
            batch.__exit__(None, None, None)
        for use in (lambda: dict(store), lambda: ampstore.Store(store.path)):
            with pytest.raises(ampstore.StoreError, match="was forked while a transaction was open"):
                use()
        return True

    assert in_a_forked_child(child_leaves)
    batch.__exit__(None, None, None)
    assert dict(store) == {"a": 1}


def test_a_store_pickles_as_its_location(store):
    """A worker gets a handle, not a copy."""
    store["a"] = 1
    with pickle.loads(pickle.dumps(store)) as again:
        again["b"] = 2
        assert again.path == store.path
    assert store["b"] == 2


def test_waiting_for_another_writer_ends_with_busy_error(path):
    """The wait is bounded by timeout=, and the error is a TimeoutError."""
    with Store(path, timeout=0.1) as store, Store(path) as other:
        store["a"] = 1
        with other.batch():
            started = time.monotonic()
            with pytest.raises(BusyError, match=r"0\.1 s"):
                store["a"] = 2
            with pytest.raises(TimeoutError), store.batch():
                pass
            assert time.monotonic() - started < 5
            assert store["a"] == 1
        store["a"] = 3


# -- killed ------------------------------------------------------------------------------------

KILLED = """
import sys, ampstore
acknowledged = open(sys.argv[2], "a", buffering=1)
with ampstore.Store(sys.argv[1]) as store:
    for n in range(10**9):
        if n % 3:
            store[f"k{n}"] = ["value", n] * 20
            print(n, file=acknowledged)
        else:
            with store.batch():
                store[f"k{n}"] = store[f"twin{n}"] = ["value", n] * 20
            print(n, file=acknowledged)
"""


def test_kill_9_loses_no_acknowledged_entry(path, tmp_path):
    """At several moments; unacknowledged entries are whole or absent, batches whole or absent."""
    log = tmp_path / "acknowledged"
    for wait in (0.4, 0.5, 0.6, 0.8):
        log.write_text("")
        process = subprocess.Popen([sys.executable, "-c", KILLED, path, log])
        deadline = time.monotonic() + 20
        while not log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Store(path) as store:
            numbers = [int(line) for line in log.read_text().splitlines()]
            assert numbers
            for n in numbers:
                assert store[f"k{n}"] == ["value", n] * 20
            for key in store:
                if key.startswith("k") and int(key[1:]) % 3 == 0:
                    assert f"twin{key[1:]}" in store
            assert list(store.verify()) == []
            store.clear()


# -- the WAL -----------------------------------------------------------------------------------


def test_no_connection_has_autocheckpoint_on(store, path):
    """A PASSIVE checkpoint beside a commit that resets the WAL loses commits on SQLite before 3.51.3."""
    seen = []

    def look():
        store["a"] = 1
        seen.append(store._backend.connection().execute("PRAGMA wal_autocheckpoint").fetchone()[0])

    for _ in range(3):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    look()
    with Store(path, "r") as reader:
        _ = reader["a"]
        seen.append(reader._backend.connection().execute("PRAGMA wal_autocheckpoint").fetchone()[0])
    assert seen == [0] * 5


def test_a_new_store_is_in_wal_mode_with_our_mark(store, path, raw):
    """What `file` and sqlite3 see."""
    assert raw(path, "PRAGMA journal_mode") == [("wal",)]
    assert raw(path, "PRAGMA application_id") == [(int.from_bytes(b"AMPS"),)]


def wal_size(path):
    try:
        return os.stat(f"{path}-wal").st_size
    except FileNotFoundError:
        return 0


FRAME = 4096 + 24
"""Bytes of the WAL for each page that was written, in every store that ampstore made."""


def write_and_watch(path, count):
    """Write small entries, a commit each; the largest WAL that was seen."""
    largest = 0
    with Store(path) as store:
        for n in range(count):
            store[str(n % 5000)] = n
            if n % 50 == 0:
                largest = max(largest, wal_size(path))
    return largest


def test_the_wal_stays_bounded_under_small_writes(path):
    """Twenty thousand commits; what is written between two looks adds to the bound."""
    largest = write_and_watch(path, 20_000)
    assert wal.WAL_BOUND // 4 < largest < 2 * wal.WAL_BOUND


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_wal_stays_bounded_under_a_million_small_writes(path):
    """The same, at full length."""
    assert write_and_watch(path, 1_000_000) < 2 * wal.WAL_BOUND


def _write_small(path, worker):
    with Store(path) as store:
        for n in range(3000):
            store[f"{worker}-{n % 500}"] = n


def test_a_checkpoint_waits_for_as_much_wal_as_it_may_have(path):
    """Rows that share pages take little of it."""
    checkpoints = []
    with Store(path) as store:
        connection = store._backend.connection()
        connection.set_trace_callback(lambda sql: "wal_checkpoint" in sql and checkpoints.append(sql))
        for n in range(6000):
            store[f"{n % 100}"] = n
        connection.set_trace_callback(None)
    assert 1 < len(checkpoints) <= 1 + 6000 * 2 * FRAME // wal.WAL_BOUND


def test_what_is_in_the_wal_is_what_sqlite_counts(path):
    """Also while its file is longer, written again from the beginning; asked by plain sqlite3."""
    rng = random.Random(5)
    restarted = 0
    with Store(path) as store, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as plain:
        plain.execute("PRAGMA wal_autocheckpoint=0")
        for _ in range(40):
            for n in range(rng.randrange(1, 60)):
                store[str(n)] = rng.randbytes(rng.randrange(5000))
            size, found = wal_size(path), wal._beyond(0, f"{path}-wal")
            busy, frames, moved = plain.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
            assert (busy, moved) == (0, frames)
            assert (found.used, found.size) == (32 + frames * FRAME, size)
            restarted += found.used < size
            assert wal._beyond(found.used, f"{path}-wal") is None
            assert wal._beyond(found.used - FRAME - 32, f"{path}-wal").used == found.used
    assert restarted > 20


def test_the_wal_stays_bounded_with_several_writers(path):
    """Every writer looks, so their slack adds up and no more."""
    Store(path).close()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_small, args=(path, worker)) for worker in range(4)]
    for writer in writers:
        writer.start()
    largest = 0
    while any(writer.is_alive() for writer in writers):
        largest = max(largest, wal_size(path))
        time.sleep(0.002)
    assert all(writer.exitcode == 0 for writer in writers)
    assert largest < 3 * wal.WAL_BOUND


def test_a_long_reader_holds_the_wal_only_as_long_as_it_reads(store, path):
    """Somebody's open sqlite3 query delays the checkpoint; afterwards the space comes back."""
    store["a"] = 1
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("select count(*) from entry").fetchall()
        for n in range(100):
            store[f"k{n}"] = os.urandom(200_000)
        assert wal_size(path) > wal.TRUNCATED_ABOVE
        reader.execute("COMMIT")
    for n in range(40):
        store[f"l{n}"] = os.urandom(200_000)
    assert wal_size(path) < 2 * wal.WAL_BOUND


def fsyncs(path, durability, tmp_path):
    """Fsync and fdatasync calls of 50 commits, as strace counts them."""
    Store(path).close()
    program = f"""
import ampstore
with ampstore.Store({str(path)!r}, durability={durability!r}) as store:
    store["warm"] = 1
    for n in range(50):
        store[str(n)] = n
"""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", trace, sys.executable, "-c", program]
    subprocess.run(command, check=True)
    return sum("sync(" in line for line in trace.read_text().splitlines())


def test_full_durability_syncs_every_commit_and_normal_does_not(tmp_path):
    """Seen from outside, by the system calls."""
    assert fsyncs(tmp_path / "full.db", "full", tmp_path) >= 50
    assert fsyncs(tmp_path / "normal.db", "normal", tmp_path) < 10


def test_sync_puts_commits_on_the_disk_also_beside_a_reader(store, path):
    """By a checkpoint, or by syncing the WAL when a reader is in the way."""
    store["a"] = 1
    store.sync()
    assert wal_size(path) == 0
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("select * from entry").fetchall()
        store["b"] = 2
        store.sync()
        assert wal_size(path) > 0
    with store.batch():
        store["c"] = 3
        store.sync()
    assert dict(store) == {"a": 1, "b": 2, "c": 3}


# -- read-only ---------------------------------------------------------------------------------


def test_read_only_creates_and_changes_nothing(path, tmp_path):
    """Not even the -shm file that SQLite makes beside a store in WAL mode."""
    with Store(path) as store:
        store["a"] = 1
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with Store(path, "r") as reader:
        assert reader["a"] == 1
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
        for write in (
            lambda: reader.__setitem__("b", 1),
            lambda: reader.__delitem__("a"),
            lambda: reader.put_many({"b": 1}),
            reader.clear,
            reader.compact,
            lambda: reader.pop("a"),
        ):
            with pytest.raises(ReadOnlyError, match="read-only"):
                write()
        reader.sync()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_read_only_works_in_a_read_only_directory(path, tmp_path):
    """As another user, since root may write everywhere."""
    with Store(path) as store:
        store["a"] = 1
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    program = f"""
import os
if os.getuid() == 0:
    for parent in {[str(parent) for parent in tmp_path.parents][:-2]!r}:
        os.chmod(parent, 0o755)
    import ampstore, encodings.idna
    with ampstore.open({str(path) + "x"!r}.replace("a.dbx", "../warm.db"), "n") as shelf:  # import everything
        shelf["a"] = 1
        assert list(shelf.items())
    os.setuid(65534)
with ampstore.open({str(path)!r}, "r") as shelf:
    print(shelf["a"], len(shelf), list(shelf.items()))
try:
    ampstore.open({str(path)!r}, "w")["b"] = 1
except PermissionError as err:
    print("refused")
"""
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.stdout.splitlines() == ["1 1 [('a', 1)]", "refused"], done.stderr
    finally:
        tmp_path.chmod(0o755)


def test_reader_that_was_opened_first_sees_what_a_writer_does_later(path):
    """Read as immutable while nobody writes, live as soon as somebody does."""
    with Store(path) as store:
        store["a"] = 1
    with Store(path, "r") as reader:
        assert dict(reader) == {"a": 1}
        with Store(path) as writer:
            writer["b"] = 2
            assert dict(reader) == {"a": 1, "b": 2}
            writer.sync()
            writer["a"] = 3
            assert reader["a"] == 3
        assert dict(reader) == {"a": 3, "b": 2}
        with Store(path) as writer:
            writer.clear()
            writer.compact()
        assert dict(reader) == {}


def _rewrite(path, seconds):
    deadline = time.monotonic() + seconds
    n = 0
    while time.monotonic() < deadline:
        n += 1
        with Store(path) as store, store.batch():
            for key in "abcdefgh":
                store[key] = [n] * 2000
        with Store(path) as store:
            store.compact()


def test_readers_never_see_a_wrong_value_beside_writers_that_come_and_go(path):
    """A writer that opens, writes, checkpoints and closes again and again changes the file under the reader."""
    with Store(path) as store:
        store.update(dict.fromkeys("abcdefgh", [0] * 2000))
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_rewrite, args=(path, 3.0))
    writer.start()
    with Store(path, "r") as reader:
        seen = set()
        while writer.is_alive():
            values = list(reader.values())
            assert len(values) == 8
            for value in values:
                assert len(value) == 2000
                assert len(set(value)) == 1
            seen.add(values[0][0])
    writer.join()
    assert writer.exitcode == 0
    assert len(seen) > 3


# -- people ------------------------------------------------------------------------------------


def test_plain_sqlite3_shows_the_entries_while_a_writer_is_open(store, path):
    """`sqlite3 -readonly store 'select * from entries limit 3'`."""
    store["a1"] = [("Cu", [0.5] * 20)] * 37
    store["b2"] = {"cutoff": 6.5}
    store["c3"] = b"bytes"
    store["d4"] = None
    with store.batch():
        store["not committed"] = 1
        command = ["sqlite3", "-readonly", "-header", path, "select * from entries limit 3"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert shown[0] == "key|kind|bytes|stored|ratio|codec|written"
    key, kind, size, stored, ratio, codec, written = shown[1].split("|")
    assert (key, kind) == ("a1", "list of 37 (symbol, float[20])")
    assert int(size) > int(stored) > 0
    assert float(ratio) > 1
    assert time.strptime(written, "%Y-%m-%dT%H:%M:%SZ").tm_year >= 2024
    assert len(shown) == 4


def test_stats_and_info_tell_sizes_and_origin(store):
    """For `ampstore info`."""
    store.update(a=[1] * 1000, b="x")
    stats = store.stats()
    assert stats.entries == 2
    assert stats.size > stats.stored > 0
    assert sum(stats.codecs.values()) == 2
    assert store.info()["format"] == "0002"
    assert "ampstore" in store.info()["created_by"]


# -- verify, backup, compact -------------------------------------------------------------------


def test_verify_names_exactly_the_damaged_entries(store, path):
    """By key, whatever part of the row was damaged; the rest is still served."""
    store.update({f"k{n}": ["some text"] * n for n in range(1, 50)})
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update entry set payload = substr(payload, 1, 5) where key = 'k7'")
        connection.execute("update entry set checksum = zeroblob(20) where key = 'k9'")
        connection.execute("update entry set codec = 'future9' where key = 'k11'")
        # The CRC of the payload is right, the digest of the stream is not.
        connection.execute("update entry set checksum = zeroblob(16) || substr(checksum, 17) where key = 'k13'")
    assert [damage.key for damage in store.verify()] == ["k7", "k9", "k11", "k13"]
    assert store["k8"] == ["some text"] * 8


def test_verify_reports_broken_pages(path):
    """Garbage in the middle of the file is found and named, not raised."""
    with Store(path) as store:
        store.put_many((f"k{n}", os.urandom(3000)) for n in range(200))
    with open(path, "r+b") as file:
        file.seek(8192 * 30)
        file.write(os.urandom(8192 * 3))
    with Store(path) as store:
        assert list(store.verify())


def test_backup_is_a_verified_copy_made_while_others_write(store, path, tmp_path):
    """The copy holds one moment's entries and opens by itself."""
    store.put_many((f"k{n}", [n] * 100) for n in range(500))
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            store[f"later{n}"] = n
            n += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        made = store.backup(tmp_path / "backup.db")
    finally:
        stop.set()
        thread.join()
    with Store(made, "r") as copy:
        assert copy["k499"] == [499] * 100
        assert len([key for key in copy if key.startswith("k")]) == 500
        assert list(copy.verify()) == []
    assert sorted(file.name for file in tmp_path.iterdir() if "backup" in file.name) == ["backup.db"]
    with pytest.raises(FileExistsError, match="never overwrites"):
        store.backup(made)
    with pytest.raises(FileNotFoundError, match="create it first"):
        store.backup(tmp_path / "no" / "backup.db")


def test_compact_gives_space_back(store, path):
    """After deletes, the file shrinks."""
    store.put_many((str(n), os.urandom(10_000)) for n in range(500))
    store.sync()
    for n in range(490):
        del store[str(n)]
    report = store.compact()
    assert report.after < report.before / 10
    assert path.stat().st_size < 500_000
    assert len(store) == 10


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"x", b"\x80\x04]." * 300])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path, content):
    """NotAStoreError, an OSError; not a byte of the file changes."""
    path.write_bytes(content)
    for flag in "rwcn":
        with pytest.raises(NotAStoreError, match="a.db"):
            Store(path, flag)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_left_alone(path):
    """No table of ours is put into it."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table systems (id integer)")
    content = path.read_bytes()
    for flag in "rwcn":
        with pytest.raises(NotAStoreError, match="another program"):
            Store(path, flag)
    assert path.read_bytes() == content


def test_a_truncated_store_gives_named_errors(path):
    """At any length: a clear error or right values, never a wrong value."""
    with Store(path) as store:
        store.put_many((f"k{n}", [n] * 500) for n in range(300))
    whole = path.read_bytes()
    for size in [100, 512, 4096, 8192, 10_000, 40_000, len(whole) // 2, len(whole) - 8192, len(whole) - 1]:
        path.write_bytes(whole[:size])
        try:
            with Store(path, "r") as store:
                for n in range(300):
                    assert store[f"k{n}"] == [n] * 500
        except (DamagedStoreError, NotAStoreError, CorruptEntryError, KeyError, StorageError) as err:
            assert str(err)


def test_an_empty_file_becomes_a_store(path):
    """As with dbm; tempfile makes such files."""
    path.touch()
    with pytest.raises(NotAStoreError):
        Store(path, "w")
    with Store(path, "c") as store:
        store["a"] = 1
    with Store(path, "n") as store:
        assert dict(store) == {}


def test_a_directory_is_refused_by_name(tmp_path):
    """And the message says what opens directories."""
    (tmp_path / "dir").mkdir()
    for flag in "rwcn":
        with pytest.raises(NotAStoreError, match="FileDatabase"):
            Store(tmp_path / "dir", flag)


def test_a_fifo_is_refused_without_waiting(tmp_path):
    """Opening one would wait for its writer."""
    os.mkfifo(tmp_path / "fifo")
    for flag in "rwc":
        with pytest.raises(NotAStoreError):
            Store(tmp_path / "fifo", flag)


def test_missing_store_and_missing_directory_are_named(path, tmp_path):
    """FileNotFoundError, and nothing is created."""
    for flag in "rw":
        with pytest.raises(MissingStoreError, match="'c' does"):
            Store(path, flag)
    with pytest.raises(FileNotFoundError, match="create it first"):
        Store(tmp_path / "no" / "such" / "a.db")
    assert list(tmp_path.iterdir()) == []


def test_no_permission_is_named(path, tmp_path):
    """PermissionError with the way out, as another user."""
    with Store(path) as store:
        store["a"] = 1
    program = f"""
import os, pathlib
import ampstore, ampstore.store, ampstore.schema
path = pathlib.Path({str(path)!r})
for parent in path.parents:
    if os.stat(parent).st_uid == os.getuid() and parent != pathlib.Path("/") and len(parent.parts) > 2:
        os.chmod(parent, 0o755)
os.chmod(path, 0)
os.chmod(path.parent, 0o555)
if os.getuid() == 0:
    os.setuid(65534)
for flag in "rwc":
    try:
        ampstore.Store(path, flag)
    except PermissionError as err:
        print(type(err).__name__, "permission" in str(err))
try:
    ampstore.Store(path.with_name("new.db"))
except PermissionError as err:
    print(type(err).__name__, "mode of" in str(err))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    tmp_path.chmod(0o755)
    assert done.stdout.splitlines() == ["AccessError True"] * 4, done.stderr


@pytest.mark.parametrize("options", [{"flag": "x"}, {"flag": ""}, {"durability": "none"}, {"allow": "mypkg"}])
def test_wrong_options_are_refused(path, options):
    """Before anything is created."""
    with pytest.raises((ValueError, TypeError)):
        Store(path, **options)
    assert not path.exists()


def nested(depth):
    """A list in a list in a list."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


def test_values_that_cannot_be_stored_leave_the_old_value(store):
    """EncodeError for what pickle cannot write, ForbiddenGlobalError for what could not be read back."""
    store["a"] = 1
    for value in (threading.Lock(), lambda: 0, open):
        with pytest.raises((EncodeError, ForbiddenGlobalError)):
            store["a"] = value
    with pytest.raises(EncodeError):
        store["a"] = nested(100_000)
    assert store["a"] == 1


def test_a_value_over_the_limit_is_refused_with_the_limit(store):
    """SQLite's limit is named; here it is lowered, so that the test needs no gigabyte."""
    store._backend.largest = 10_000
    with pytest.raises(EntryTooLargeError, match="10,000"):
        store["a"] = os.urandom(20_000)
    with pytest.raises(OverflowError):
        store.put_many({"a": os.urandom(20_000)})
    assert len(store) == 0


def test_closed_store_raises_value_error_and_closes_twice(path):
    """In every operation."""
    store = Store(path)
    store["a"] = 1
    store.close()
    store.close()
    for use in (lambda: store["a"], lambda: len(store), lambda: list(store), lambda: store.__setitem__("a", 2)):
        with pytest.raises(ClosedError):
            use()
        with pytest.raises(ValueError, match="closed"):
            use()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", directory], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield directory
    subprocess.run(["umount", directory], check=True)


def test_a_full_disk_is_a_named_error_that_loses_and_halves_nothing(small_disk):
    """What was acknowledged is there, and writing goes on when space returns."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    with Store(small_disk / "a.db") as store:
        stored = []
        with pytest.raises(StorageError, match="disk"):
            for n in range(1000):
                store[f"k{n}"] = os.urandom(50_000)
                stored.append(f"k{n}")
        assert stored
        with pytest.raises(OSError, match="disk"), store.batch():
            store["x"] = os.urandom(3_000_000)
        with pytest.raises(StorageError):
            store.put_many((f"m{n}", os.urandom(50_000)) for n in range(1000))
        assert set(stored) <= set(store)
        assert "x" not in store
        ballast.unlink()
        store["after"] = 1
        assert list(store.verify()) == []
    with Store(small_disk / "a.db") as store:
        assert set(stored) < set(store)
        assert store["after"] == 1


def test_creating_a_store_on_a_full_disk_leaves_nothing(small_disk):
    """No half store, no temporary file."""
    with contextlib.suppress(OSError):
        (small_disk / "ballast").write_bytes(bytes(5_000_000))
    with pytest.raises(StorageError):
        Store(small_disk / "a.db")
    assert [file.name for file in small_disk.iterdir()] == ["ballast"]


def test_a_file_size_limit_is_a_named_error(path):
    """RLIMIT_FSIZE, as batch systems set it."""
    with Store(path) as store:
        store["a"] = 1
    program = f"""
import os, resource, signal
import ampstore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
with ampstore.Store({str(path)!r}) as store:
    try:
        for n in range(100):
            store[str(n)] = os.urandom(50_000)
    except OSError as err:
        print(type(err).__name__, n > 0, store["a"], len(store) == n + 1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["StorageError", "True", "1", "True"], done.stderr
    with Store(path) as store:
        assert list(store.verify()) == []


def test_too_many_open_files_is_a_named_error(path):
    """EMFILE: an OSError that says what could not be opened, and the store works on."""
    with Store(path) as store:
        store["a"] = 1
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            with contextlib.suppress(OSError):
                while True:
                    held.append(open(os.devnull))
            with pytest.raises(OSError):
                Store(path)
            assert store["a"] == 1
        finally:
            for file in held:
                file.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        store["b"] = 2


def test_access_error_is_exported():
    """The names that users catch are at the top."""
    assert ampstore.AccessError is AccessError


def test_a_damaged_index_never_gives_the_value_of_another_key(tmp_path):
    """Every byte of the page that leads from keys to rows, changed: the value, nothing, or an error that says so."""
    path = tmp_path / "a.db"
    values = {f"k{n:02}": [n] for n in range(30)}
    with Store(path) as store:
        store.update(values)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'entry' AND sql IS NULL"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    whole, told = path.read_bytes(), 0
    page = range((root - 1) * size, root * size)
    for place in random.Random(5).sample([place for place in page if whole[place]], 150):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with contextlib.suppress(DamagedStoreError), Store(path, "r") as store:
            for key, value in values.items():
                try:
                    assert store.get(key, value) == value
                    assert store.get_many([key]).get(key, value) == value
                except DamagedStoreError:
                    told += 1
    assert told


def plainly(path, sql):
    """Read or change a store by plain sqlite3, which does not know the tally."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as plain:
        return plain.execute(sql).fetchall()


STEPS = st.sampled_from(["set", "set", "del", "del", "clear", "batch", "undo", "compact"])


@given(st.lists(st.tuples(STEPS, st.integers(0, 9))))
@settings(max_examples=60)
def test_len_is_the_number_of_entries_without_counting_them(tmp_path_factory, steps):
    """Whatever is deleted, in whatever order, also in batches that are undone: len is what a count says."""
    path = tmp_path_factory.mktemp("len") / "store.db"
    truth: dict[str, int] = {}
    with ampstore.Store(path) as store:
        for step, number in steps:
            key = f"k{number}"
            if step == "set":
                store[key] = truth[key] = number
            elif step == "del":
                assert (store.pop(key, None) is None) == (truth.pop(key, None) is None)
            elif step == "clear":
                store.clear()
                truth.clear()
            elif step == "compact":
                store.compact()
            else:
                with contextlib.suppress(ZeroDivisionError), store.batch():
                    before = dict(truth)
                    for other in range(number, 10):
                        store.pop(f"k{other}", None)
                        truth.pop(f"k{other}", None)
                    store["k3"] = truth["k3"] = number
                    if step == "undo":
                        truth = before
                        raise ZeroDivisionError
            assert len(store) == len(truth)
        assert plainly(path, "SELECT count(*) FROM entry") == [(len(truth),)]
        told = plainly(path, "SELECT ifnull((SELECT max(id) FROM entry), 0) - value FROM info WHERE name = 'gaps'")
        assert told == [(len(truth),)]
        assert list(store.verify()) == []


def test_entries_that_plain_sqlite3_deleted_are_counted_again_by_compact(tmp_path):
    """Verify names it, with the way out."""
    with ampstore.Store(tmp_path / "store.db") as store:
        store.put_many((str(number), number) for number in range(5))
        plainly(store.path, "DELETE FROM entry WHERE key = '2'")
        assert any("ampstore compact" in damage.reason for damage in store.verify())
        store.compact()
        assert len(store) == 4
        assert list(store.verify()) == []


def test_a_store_without_a_tally_is_counted(tmp_path):
    """As an older ampstore made it; compact begins the tally."""
    with ampstore.Store(tmp_path / "store.db") as store:
        store.put_many((str(number), number) for number in range(5))
        plainly(store.path, "DELETE FROM info WHERE name = 'gaps'")
        del store["1"]
        assert len(store) == 4
        assert list(store.verify()) == []
        store.compact()
        del store["4"]
        assert len(store) == 3
        assert plainly(store.path, "SELECT value FROM info WHERE name = 'gaps'") == [("1",)]
