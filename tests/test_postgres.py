"""Stores on a PostgreSQL server: what only they have. The contract that all stores share is in test_contract.py.

Checked round ampstore with plain psycopg.
"""

import contextlib
import logging
import multiprocessing
import pickle
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner
from postgres import PASSWORD, connect

import ampstore
from ampstore import Data, FileDatabase, Store
from ampstore.backend import parse
from ampstore.cli import main
from ampstore.cli.target import plain_name
from ampstore.errors import (
    AccessError,
    BusyError,
    ConnectionLostError,
    InvalidKeyError,
    LocationError,
    MissingStoreError,
    NewerStoreError,
    NotAStoreError,
    ReadOnlyError,
    StoreError,
)

spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def url(postgres, schema):
    return postgres.url(schema)


@pytest.fixture
def store(url):
    with Store(url) as opened:
        yield opened


@pytest.fixture
def plain(url, schema):
    """A connection of psycopg in the schema of the store."""
    with contextlib.closing(connect(url)) as connection:
        yield connection


def ours(postgres):
    if not postgres.ours:
        pytest.skip("AMPSTORE_TEST_POSTGRES_URL is not a server that tests may stop")


def run_in_processes(function, arguments):
    """Run a function once per tuple of arguments, all at once; every process must end well."""
    processes = [spawn.Process(target=function, args=given) for given in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes)


# -- places ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql", "postgres"])
def test_urls_of_libpq_and_of_sqlalchemy_name_the_same_store(scheme):
    """One canonical form, so that handles can be compared and pickled."""
    server = parse(f"{scheme}://me@host:5433/db?schema=jobs&sslmode=require")
    assert server.location == "postgresql+psycopg://me@host:5433/db?sslmode=require&schema=jobs"
    assert server.conninfo == "postgresql://me@host:5433/db?sslmode=require"
    assert server.schema == "jobs"
    assert parse(server.location) == server


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql+asyncpg://host/db", "no such kind"),
        ("postgresql://u:p@ss@host/db", "%40"),
        ("postgresql://u:p/ss@host/db", "%2F"),
        ("postgresql://u:p#ss@host/db", "%23"),
        ("postgresql://host/db?schema=", "schema"),
        ("postgresql://host/db?schema=pg_catalog", "PostgreSQL itself"),
        ("postgresql://host/db?schema=" + 64 * "x", "63 bytes"),
        ("postgresql://host/db?sync=perhaps", "on or off"),
        ("postgresql://host/db?nonsense=1", "nonsense"),
    ],
)
def test_a_url_that_names_no_database_is_refused_without_its_password(url, reason):
    """It may be the password that has the wrong characters, so the message does not repeat it."""
    with pytest.raises(LocationError) as caught:
        Store(url)
    assert reason in str(caught.value)
    assert "p@ss" not in str(caught.value)
    assert "ss@host" not in str(caught.value)


def test_stores_stand_side_by_side_in_schemas_of_any_name(postgres, schema, url):
    """Quotes, blanks and capitals in a name are just a name."""
    name = f'{schema} "Ü"; drop'
    with Store(url) as one, Store(postgres.url(name)) as two:
        one["a"], two["a"] = 1, 2
        assert (one["a"], two["a"]) == (1, 2)
        two.clear()
        assert len(one) == 1
    with contextlib.closing(connect(url)) as connection:
        connection.execute('DROP SCHEMA "' + name.replace('"', '""') + '" CASCADE')


def test_without_a_schema_in_the_url_it_is_ampstore():
    """Not public, where tables of other programs are."""
    assert parse("postgresql://host/db").schema == "ampstore"


@pytest.mark.parametrize("flag", ["r", "w"])
def test_a_missing_store_is_not_created_by_reading(url, flag, plain, schema):
    """As shelve: only c and n create."""
    with pytest.raises(MissingStoreError, match="'c' does"):
        Store(url, flag)
    assert plain.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone() is None


def test_a_database_or_server_that_is_not_there_is_named(postgres, schema):
    """Two different things, two errors."""
    missing = postgres.url(schema).replace("/postgres?", "/no_such_database?")
    with pytest.raises(MissingStoreError, match="no_such_database"):
        Store(missing)
    with pytest.raises(ConnectionLostError, match="cannot be reached"):
        Store("postgresql://me@127.0.0.1:1/db", timeout=2)


def test_a_schema_with_a_table_of_somebody_else_is_left_alone(url, plain, schema):
    """Refused, and nothing is changed."""
    plain.execute(f"CREATE SCHEMA {schema}")
    plain.execute("CREATE TABLE claim (theirs int)")
    with pytest.raises(NotAStoreError, match="another program"):
        Store(url)
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s"
    assert plain.execute(tables, (schema,)).fetchall() == [("claim",)]


# -- the schema --------------------------------------------------------------------------------


def _open_and_set(url, name):
    with Store(url) as store:
        store[name] = name


def test_eight_processes_open_one_fresh_schema_at_once(url, plain):
    """One makes it, all go on."""
    run_in_processes(_open_and_set, [(url, f"p{n}") for n in range(8)])
    assert plain.execute("SELECT count(*) FROM entry").fetchone() == (8,)
    assert plain.execute("SELECT count(*) FROM info WHERE name = 'store'").fetchone() == (1,)


def test_the_migrations_lead_to_the_tables_that_the_code_describes(store, postgres, schema, plain):
    """Alembic finds no difference; the view is that of the code."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    from ampstore.tables import ENTRIES_VIEW_POSTGRESQL, VERSION_TABLE, metadata

    engine = create_engine("postgresql+psycopg://", creator=lambda: plain, poolclass=StaticPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    definition = "SELECT pg_get_viewdef('entries'::regclass)"
    made = plain.execute(definition).fetchone()
    plain.execute("DROP VIEW entries")
    plain.execute(ENTRIES_VIEW_POSTGRESQL)
    assert plain.execute(definition).fetchone() == made


def test_a_newer_format_is_refused(store, url, plain):
    """Naming what it needs."""
    plain.execute("UPDATE ampstore_version SET version_num = '9999'")
    plain.execute("UPDATE info SET value = '7.5' WHERE name = 'needs'")
    with pytest.raises(NewerStoreError, match=r"ampstore 7\.5"):
        Store(url)


def test_an_older_format_is_upgraded_once_by_all(store, url, plain):
    """Entries stay; a reader that needs nothing new does not write."""
    store["a"] = 1
    plain.execute("DROP TABLE trace")
    plain.execute("UPDATE ampstore_version SET version_num = '0001'")
    with Store(url, "r") as reader:
        assert reader["a"] == 1
    run_in_processes(_open_and_set, [(url, f"p{n}") for n in range(3)])
    assert plain.execute("SELECT count(*) FROM trace").fetchone() == (0,)
    assert store["a"] == 1


def test_people_see_entries_in_the_view(store, plain):
    """Key, kind, sizes and times, as in SQLite."""
    store["a"] = {"x": 1.5}
    key, kind, size, stored, ratio, codec, written = plain.execute("SELECT * FROM entries").fetchone()
    assert (key, kind, codec.startswith("pickle")) == ("a", "dict of 1 str: float", True)
    assert size > 0
    assert stored > 0
    assert float(ratio) == pytest.approx(size / stored, abs=0.05)
    assert written.endswith("Z")
    assert len(written) == 20


def test_keys_are_listed_by_bytes_whatever_the_language_of_the_server(store):
    """As SQLite does."""
    keys = ["b", "B", "a", "ä", "_", "A1", "a1"]
    store.update(dict.fromkeys(keys, 1))
    assert [row[0] for row in store.listing()] == sorted(keys, key=str.encode)


# -- limits ------------------------------------------------------------------------------------


def test_a_key_that_postgresql_cannot_hold_is_refused_at_write_and_absent_at_read(store):
    """NUL, and more than an index takes."""
    for key, reason in (("a\0b", r"U\+0000"), ("ü" * 1301, "2,602 bytes")):
        with pytest.raises(InvalidKeyError, match=reason):
            store[key] = 1
        with pytest.raises(InvalidKeyError, match=reason):
            store.put_many([(key, 1)])
        assert key not in store
        assert store.get(key) is None
        assert store.missing([key]) == [key]
        assert store.get_many([key]) == {}
        assert store.pop(key, 5) == 5
    assert len(store) == 0


def test_the_longest_key_is_stored_whatever_is_in_it(store):
    """Also where it does not compress."""
    import random

    key = "".join(random.Random(1).choices([chr(n) for n in range(33, 127)], k=2600))
    store[key] = 1
    assert list(store) == [key]


def test_values_hold_nul_and_lone_surrogates(store):
    """Payloads are bytes."""
    store["a"] = "\0 \ud800"
    assert store["a"] == "\0 \ud800"


def test_iteration_takes_chunks_by_bytes(store):
    """Forty values of 1 MB do not come in one piece."""
    import os

    store.put_many((f"k{n}", os.urandom(1_000_000)) for n in range(20))
    sizes = []
    after, last = 0, store.backend.last_id()
    while chunk := store.backend.rows(after, last):
        after = chunk[-1][0]
        sizes.append(len(chunk))
    assert sum(sizes) == 20
    assert max(sizes) <= 9


# -- transactions ------------------------------------------------------------------------------


def test_a_transaction_that_commits_late_with_earlier_ids_is_neither_lost_nor_repeated(store, plain):
    """Ids are given when a row is written and seen when it is committed."""
    plain.execute("BEGIN")
    columns = "key, codec, kind, size, checksum, written_at, payload"
    row = f"INSERT INTO entry ({columns}) VALUES (%s, 'pickle5', '', 1, '', 0, '')"
    plain.execute(row, ("early",))
    store.update(a=1, b=2)
    seen = iter(store)
    assert next(seen) == "a"
    plain.execute("COMMIT")
    assert list(seen) == ["b"]
    assert list(store) == ["early", "a", "b"]


def _hold(url, entered, leave):
    with Store(url) as store, store.batch():
        store["held"] = 1
        entered.set()
        leave.wait(60)


def test_writers_wait_for_a_batch_no_longer_than_the_timeout_and_readers_not_at_all(url, store):
    """BusyError, as on SQLite."""
    entered, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=_hold, args=(url, entered, leave))
    thread.start()
    try:
        assert entered.wait(30)
        with Store(url, timeout=0.2) as other:
            assert len(other) == 0
            for write in (
                lambda: other.update(a=1),
                lambda: other.update({f"k{n}": n for n in range(50)}),
                lambda: other.setdefault("b", 1),
            ):
                with pytest.raises(BusyError, match=r"0\.2 s"):
                    write()
    finally:
        leave.set()
        thread.join()
    assert list(store) == ["held"]


def test_a_failed_statement_in_a_batch_never_ends_as_if_it_were_stored(store):
    """PostgreSQL spoils the whole transaction, and would answer COMMIT by rolling back silently."""
    with pytest.raises(StoreError, match="nothing of it was stored"), store.batch():
        store["a"] = 1
        with contextlib.suppress(StoreError):
            store.backend._connections.run("SELECT 1/0")
    assert "a" not in store


def test_two_that_store_many_in_opposite_order_both_end(url, store):
    """What PostgreSQL calls a deadlock runs again."""
    pairs = [(f"k{n}", n) for n in range(200)]
    errors = []

    def put(pairs, value):
        try:
            with Store(url) as other:
                for _ in range(5):
                    other.put_many((key, (value, n)) for key, n in pairs)
        except Exception as err:
            errors.append(err)

    threads = [threading.Thread(target=put, args=given) for given in ((pairs, 1), (pairs[::-1], 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(store) == 200


def test_a_repeated_key_in_one_call_keeps_its_place_and_the_last_value(store):
    """As in a dict; COPY alone would stumble."""
    pairs = [(f"k{n % 40}", n) for n in range(100)]
    store.put_many(pairs)
    assert list(store.items()) == list(dict(pairs).items())


def test_many_rows_of_a_batch_that_is_taken_back_hinder_no_later_ones(store, monkeypatch):
    """The staging table that was made in it is gone with it, and is made again; rows go by COPY both times."""
    copied = []
    monkeypatch.setattr(store.backend, "_copy", lambda rows, copy=store.backend._copy: copied.append(copy(rows)))
    for depth in (1, 2):
        with pytest.raises(ZeroDivisionError), contextlib.ExitStack() as batches:
            for _ in range(depth):
                batches.enter_context(store.batch())
            store.put_many((f"{n}", n) for n in range(100))
            raise ZeroDivisionError
        with store.batch():
            with contextlib.suppress(ZeroDivisionError), store.batch():
                store.put_many((f"{n}", n) for n in range(100))
                raise ZeroDivisionError
            store.put_many((f"{n}", n) for n in range(50))
    assert dict(store) == {f"{n}": n for n in range(50)}
    assert len(copied) == 6


def test_copied_rows_of_one_batch_are_stored_once_each(store):
    """Several calls share one staging table."""
    with store.batch():
        for start in range(3):
            store.put_many((f"{start}-{n}", n) for n in range(100))
        store["1-5"] = "changed"
        store.put_many((f"3-{n}", n) for n in range(100))
    assert len(store) == 400
    assert store["1-5"] == "changed"


def test_reading_only_writes_nothing(url, store, plain):
    """Refused here, and by the server."""
    store["a"] = 1
    with Store(url, "r") as reader:
        assert reader["a"] == 1
        for write in (lambda: reader.update(b=2), reader.clear, lambda: reader.pop("a"), reader.compact):
            with pytest.raises(ReadOnlyError):
                write()
        with pytest.raises(ReadOnlyError):
            reader.backend._connections.run("DELETE FROM entry")
    assert len(store) == 1


def test_durability_says_what_a_commit_waits_for(url):
    """Of the disk always, unless the URL says otherwise; of standbys with "full"."""
    shown = "SELECT current_setting('synchronous_commit')"
    for place, durability, expected in (
        (url, "normal", "local"),
        (url, "full", "on"),
        (url + "&sync=off", "full", "off"),
    ):
        with Store(place, durability=durability) as store:
            assert store.backend._connections.run(shown).rows == [(expected,)]
            store["a"] = durability
            store.sync()


# -- the server goes away ----------------------------------------------------------------------


def test_statements_go_on_after_the_server_broke_the_connection(store, plain):
    """Reads, writes, deletes: none tells the program."""
    broken = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampstore'"
    for step in (
        lambda: store.update(a=1),
        lambda: store["a"],
        lambda: store.update({f"k{n}": n for n in range(60)}),
        lambda: store.__delitem__("a"),
        lambda: store.setdefault("b", 2),
        lambda: list(store),
        lambda: store.clear(),
    ):
        plain.execute(broken)
        step()
    assert len(store) == 0


def test_a_broken_batch_says_so_and_stores_nothing(store, plain):
    """The program acted on what it read in it, so it has to begin again."""
    with pytest.raises(ConnectionLostError, match="middle of a transaction"), store.batch():
        store["a"] = 1
        plain.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampstore'")
        with contextlib.suppress(ConnectionLostError):
            store["b"] = 2
        store["c"] = 3
    assert len(store) == 0
    store["d"] = 4
    assert dict(store) == {"d": 4}


def test_a_server_that_stays_away_is_an_error_within_the_timeout(postgres, url, store):
    """And everything works again once it is back."""
    ours(postgres)
    store["a"] = 1
    with Store(url, timeout=0.5) as hasty:
        hasty["b"] = 2
        postgres.stop()
        try:
            with pytest.raises(ConnectionLostError):
                _ = hasty["a"]
        finally:
            postgres.start()
        assert dict(hasty) == {"a": 1, "b": 2}
    assert len(store) == 2


def test_a_frozen_server_is_an_error_within_the_timeout_and_seconds_and_the_store_goes_on_with_it(postgres, schema):
    """Its sockets stay open and its kernel answers: by a socket of its host as by TCP, alone, in bulk, in a batch."""
    ours(postgres)
    url = postgres.url(schema)
    tcp = postgres.url(schema, tcp=True, password=PASSWORD)
    ended = []

    def use(store, step):
        with pytest.raises((ConnectionLostError, BusyError)) as caught:
            step(store)
        ended.append(f"{caught.value}")

    def batch(store):
        with store.batch():
            frozen.wait(30)
            store["d"] = 4

    steps = [
        (url, lambda store: store["a"]),
        (tcp, lambda store: store.__setitem__("b", 2)),
        (url, lambda store: store.put_many((f"{n}", b"x" * 100_000) for n in range(64))),
        (url, batch),
    ]
    frozen = threading.Event()
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(Store(place, timeout=1)) for place, _ in steps]
        stores[0]["a"] = 1
        began = threading.Barrier(5)

        def run(store, step):
            assert len(store) == 1  # connected
            began.wait(30)
            if step is not batch:
                frozen.wait(30)
            use(store, step)

        threads = [
            threading.Thread(target=run, args=(store, step)) for store, (_, step) in zip(stores, steps, strict=True)
        ]
        for thread in threads:
            thread.start()
        began.wait(30)
        with postgres.frozen():
            frozen.set()
            for thread in threads:
                thread.join(30)
            assert not any(thread.is_alive() for thread in threads)
            with pytest.raises(ConnectionLostError):
                _ = stores[0]["a"]
        assert len(ended) == 4
        assert stores[0]["a"] == 1
        stores[1]["b"] = 3
        assert stores[3]["b"] == 3
        assert "d" not in stores[3]


def test_a_statement_that_takes_long_on_a_server_that_answers_is_waited_for(store, url):
    """Silence alone is no reason to give up."""
    with Store(url, timeout=0.2) as hasty:
        connections = hasty.backend._connections
        connections.get().patience = 0.2
        assert connections.run("SELECT 1 FROM pg_sleep(1.5)").rows == [(1,)]


def write_and_acknowledge(url, worker, log, stop, started):
    """Set entries until told to stop; write the name of each into a log when the call has returned."""
    with Store(url, timeout=60) as store, open(log, "w") as acknowledged:
        n = 0
        while not stop.is_set():
            if n % 10 == 9:
                store.put_many([(f"{worker}-{n}-{i}", n) for i in range(40)])
            store[f"{worker}-{n}"] = [worker, n]
            print(f"{worker}-{n}", file=acknowledged, flush=True)
            n += 1
            if n == 20:
                started.release()


def kill_server_beside_writers(postgres, url, tmp_path, writers, kills, after):
    """The acknowledged keys of writers beside whom the server is killed again and again."""
    stop, started = spawn.Event(), spawn.Semaphore(0)
    logs = [tmp_path / f"{worker}.log" for worker in range(writers)]
    processes = [
        spawn.Process(target=write_and_acknowledge, args=(url, worker, log, stop, started))
        for worker, log in enumerate(logs)
    ]
    for process in processes:
        process.start()
    try:
        for _ in processes:
            assert started.acquire(timeout=60)
        _kill_and_wait(postgres, processes, logs, kills, after)
        stop.set()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * writers
    finally:
        for process in processes:
            process.kill()
            process.join()
    return {key for log in logs for key in log.read_text().split()}


def _kill_and_wait(postgres, processes, logs, kills, after):
    """Kill and start again; every writer goes on before the next kill."""
    for _ in range(kills):
        postgres.kill()
        before = [log.read_text().count("\n") for log in logs]
        postgres.start()
        for log, count in zip(logs, before, strict=True):
            while log.read_text().count("\n") < count + after:
                assert all(process.is_alive() for process in processes)
                processes[0].join(0.02)


@pytest.mark.parametrize(
    ("writers", "kills"), [(8, 2), pytest.param(8, 25, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_no_acknowledged_entry_is_lost_when_the_server_is_killed_beside_eight_writers(
    postgres, url, store, tmp_path, writers, kills
):
    """SIGKILL for the server and all its processes; writers go on by themselves after the restart."""
    ours(postgres)
    acknowledged = kill_server_beside_writers(postgres, url, tmp_path, writers, kills, after=10)
    assert acknowledged <= set(store)
    assert all(store[key] == [int(part) for part in key.split("-")] for key in acknowledged)
    assert list(store.verify()) == []
    bulk = [key for key in store if key.count("-") == 2]
    assert len(bulk) % 40 == 0


# -- fork, threads, pickles --------------------------------------------------------------------


def test_a_fork_uses_a_connection_of_its_own_and_the_parent_keeps_its(store):
    """In the middle of everything."""
    store["a"] = 1
    context = multiprocessing.get_context("fork")

    def child():
        store["b"] = store["a"] + 1

    process = context.Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert dict(store) == {"a": 1, "b": 2}


def test_threads_that_end_give_their_connections_back(store):
    """None stays open on the server."""
    for n in range(5):
        thread = threading.Thread(target=store.update, args=({f"k{n}": n},))
        thread.start()
        thread.join()
    store["a"] = 1
    assert store.backend._connections.number() <= 2
    assert len(store) == 6


# -- claims and Data ---------------------------------------------------------------------------


def test_claims_of_the_dead_are_taken_over_by_one(store, plain):
    """Two that come at the same time do not wait for each other; one gets each key."""
    dead = "somewhere:1:x-1:dead"
    keys = [f"k{n}" for n in range(50)]
    assert store.backend.claim_many(dict.fromkeys(keys), dead, 60) == dict.fromkeys(keys, 1)
    was = {key: (dead, 1, expiry) for key, _, _, expiry, _ in store.backend.claims(keys)}
    plain.execute("BEGIN")
    plain.execute("SELECT 1 FROM claim WHERE key < 'k3' FOR UPDATE")
    taken = store.backend.claim_many(was, "me", 60)
    plain.execute("COMMIT")
    assert taken == {key: 2 for key in keys if key >= "k3"}
    assert store.backend.claim_many(was, "other", 60) == {key: 2 for key in keys if key < "k3"}
    assert store.backend.claim_many(was, "third", 60) == {}


def _square(image, key):
    with open(f"{image[1]}/{key}.{__import__('os').getpid()}", "x"):
        return image[0] ** 2


def _calculate(url, directory):
    images = {f"k{n}": (n, directory) for n in range(60)}
    data = Data(url, db=FileDatabase, calculator=_square)
    data.calculate_items(images)
    data.close()


@pytest.mark.parametrize("db", [FileDatabase, Store, ampstore])
def test_data_calculates_what_is_missing_on_a_server(url, tmp_path, db, schema):
    """By URL, with each database that takes one."""
    images = {f"k{n}": (n, tmp_path) for n in range(5)}
    data = Data(url, db=db, calculator=_square)
    data.calculate_items(images)
    data.calculate_items(images)
    data.open()
    assert {key: data.d[key] for key in images} == {key: n**2 for key, (n, _) in images.items()}
    data.close()


def test_programs_share_the_work_without_overlap(url, tmp_path, store):
    """Three calculate the same sixty images; none is calculated twice."""
    run_in_processes(_calculate, [(url, str(tmp_path))] * 3)
    assert sorted(path.name.split(".")[0] for path in tmp_path.iterdir()) == sorted(f"k{n}" for n in range(60))
    assert len(store) == 60


def test_file_database_of_a_url_has_lists_and_no_tiers(url, schema):
    """The interface of Amp programs; nothing is made before something is written."""
    with FileDatabase(url) as database:
        assert (database.keys(), database.values(), len(database), "a" in database) == ([], [], 0, False)
        with pytest.raises(MissingStoreError):
            Store(url, "r")
        database["a"] = [1]
        database.update(b=2)
        assert database.keys() == ["a", "b"]
        assert database.values() == [[1], 2]
        assert database.tiers() == {"store": 2}
        assert database.archive().complete
        assert list(database.verify()) == []
        del database["b"]
        assert pickle.loads(pickle.dumps(database))["a"] == [1]
        database.close()
        assert database["a"] == [1]
        database.clear()
        assert len(database) == 0
    with FileDatabase(url, "r") as reader, pytest.raises(ReadOnlyError):
        reader["a"] = 1


# -- care --------------------------------------------------------------------------------------


def test_backup_is_a_verified_file_of_one_moment(store, tmp_path):
    """Every entry, every fact; it opens as any store."""
    store.put_many((f"k{n}", [n] * 50) for n in range(1500))
    made = store.backup(tmp_path / "copy.db")
    with Store(made, "r") as copy:
        assert dict(copy) == dict(store)
        assert list(copy) == list(store)
        assert copy.info()["store"] == store.info()["store"]
    with pytest.raises(FileExistsError):
        store.backup(tmp_path / "copy.db")


def test_verify_names_what_is_damaged(store, plain):
    """Whoever changed a payload behind our back."""
    store.update(a=[1] * 100, b=2)
    plain.execute("UPDATE entry SET payload = '\\x00' WHERE key = 'a'")
    assert [damage.key for damage in store.verify()] == ["a"]
    store["a"] = [1] * 100
    assert list(store.verify()) == []


def test_commands_take_a_url(url, tmp_path):
    """put, ls, get, info, verify, backup, rm."""

    def run(*words, code=0):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == code, result.output
        return result.output

    run("info", url, code=2)
    run("put", url, "a", "[1, 2]")
    assert run("get", url, "a").strip() == "[1, 2]"
    assert "int[2]" in run("ls", url)
    assert url.split("schema=")[1].split("&")[0] in run("info", url)
    assert "0 damaged" in run("verify", url)
    assert "verified" in run("backup", url, tmp_path / "copy.db")
    assert "has format" in run("upgrade", url)
    assert "1 entries" in run("top", url, "--once")
    run("report", url, "--output", tmp_path / "r.html")
    assert "int[n]" in (tmp_path / "r.html").read_text()
    assert "on disk before" in run("compact", url)
    run("rm", url, "a")
    run("get", url, "a", code=1)


SECRET_URL = "postgresql+psycopg://me:s3cret@host/results?schema=x"


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (["sql", SECRET_URL, "select 1"], "psql"),
        (["restore", __file__, SECRET_URL], "ampstore copy BACKUP URL"),
        (["restore", SECRET_URL, "a.db"], "a backup is a file"),
        (["archive", SECRET_URL], "ampstore compact"),
        (["salvage", SECRET_URL, "b.db"], "ampstore copy URL NEW"),
        (["salvage", "a.db", SECRET_URL], "ampstore copy"),
        (["migrate", SECRET_URL], "ampstore copy CONTAINER URL"),
        (["migrate", "a.ampdb", "--into", SECRET_URL], "ampstore copy CONTAINER URL"),
        (["export", "a.db", SECRET_URL], "ampstore copy"),
        (["backup", "a.db", SECRET_URL], "ampstore copy"),
        (["doctor", SECRET_URL], "ampstore verify"),
    ],
)
def test_commands_for_files_refuse_a_url_in_one_sentence_with_the_way_out(words, way_out, tmp_path, monkeypatch):
    """Exit code 2, nothing is made, and the password is not repeated."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "not for a store on a server" in result.output
    assert way_out in result.output
    assert not leaks(result.output)
    assert list(tmp_path.iterdir()) == []


def test_names_made_of_a_url_have_neither_password_nor_host():
    """Of a report's file, and beside a progress bar."""
    assert plain_name(SECRET_URL) == "results-x"
    assert plain_name("postgresql://me@host/results?sslmode=require&password=s3cret") == "results"


# -- passwords ---------------------------------------------------------------------------------


def leaks(text):
    """Whether a text has the password in any form."""
    from urllib.parse import quote

    return any(form in text for form in (PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), "s3cret"))


def test_the_password_is_in_no_repr_pickle_error_or_log(postgres, schema, caplog):
    """Wherever a program may print it."""
    ours(postgres)
    caplog.set_level(logging.DEBUG)
    url = postgres.url(schema, tcp=True, password=PASSWORD)
    assert leaks(url)
    with Store(url, timeout=0.3) as store, FileDatabase(url) as database:
        store["a"] = 1
        texts = [repr(store), str(vars(store)), store.location, repr(database), repr(database.store)]
        texts += [repr(pickle.dumps(store)), repr(pickle.dumps(database)), str(store.info()), repr(vars(store.backend))]
        assert database["a"] == 1
        with Store(url) as holder, holder.batch(), pytest.raises(BusyError) as caught:
            store["b"] = 1
        texts += [repr(caught.value), str(caught.value)]
        with pytest.raises(StoreError) as caught:
            store.backend._connections.run("SELECT nonsense")
        texts += [repr(caught.value), str(caught.value), repr(pickle.dumps(caught.value))]
        assert pickle.loads(pickle.dumps(store))["a"] == 1  # this process knows it
    wrong = url.replace("s3cret", "wr0ng")
    with pytest.raises(AccessError) as caught:
        Store(wrong)
    texts += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    result = CliRunner().invoke(main, ["--debug", "info", wrong])
    texts += [result.output, repr(result.exception)]
    result = CliRunner().invoke(main, ["info", url])
    assert result.exit_code == 0
    texts += [result.output, caplog.text]
    assert not [text for text in texts if leaks(text) or "wr0ng" in text]


def test_a_process_without_the_password_gets_it_by_the_means_of_libpq(postgres, schema, tmp_path):
    """PGPASSFILE, PGPASSWORD, a service file; without one the error says where it looks."""
    ours(postgres)
    with Store(postgres.url(schema, tcp=True, password=PASSWORD)) as store:
        store["a"] = 1
        place = store.location
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    passfile, services = tmp_path / "pass", tmp_path / "services"
    passfile.write_text(f"127.0.0.1:{postgres.port}:*:*:{escaped}\n")
    passfile.chmod(0o600)
    services.write_text(f"[amp]\nhost=127.0.0.1\nport={postgres.port}\nuser=amp\ndbname=postgres\n")
    program = "import sys, ampstore; print(ampstore.Store(sys.argv[1], 'r')['a'])"
    service = f"postgresql+psycopg://?service=amp&schema={schema}"
    for url, given in (
        (place, {"PGPASSFILE": str(passfile)}),
        (place, {"PGPASSWORD": PASSWORD}),
        (service, {"PGSERVICEFILE": str(services), "PGPASSFILE": str(passfile)}),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, url], env={"PATH": "/usr/bin", **given}, capture_output=True, text=True
        )
        assert done.stdout == "1\n", done.stderr
    done = subprocess.run([sys.executable, "-c", program, place], env={"HOME": "/"}, capture_output=True, text=True)
    assert "AccessError" in done.stderr
    assert "PGPASSFILE" in done.stderr


def test_a_user_without_rights_is_told_what_is_missing(postgres, schema, plain):
    """Reading works with the right to read; creating needs more."""
    ours(postgres)
    role = f"{schema}_reader"
    with Store(postgres.url(schema)) as store:
        store["a"] = 1
    plain.execute(f"CREATE ROLE {role} LOGIN")
    url = postgres.url(schema).replace("//amp@", f"//{role}@")
    try:
        with pytest.raises((AccessError, MissingStoreError)):
            Store(url, "r")
        with pytest.raises(AccessError, match="may not create"):
            Store(url.replace(schema, f"{schema}_other").replace(f"{schema}_other_reader", role))
        plain.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        plain.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
        with Store(url, "r") as reader:
            assert reader["a"] == 1
        with Store(url, "w") as writer, pytest.raises(AccessError):
            writer["b"] = 1
    finally:
        plain.execute(f"DROP OWNED BY {role}")
        plain.execute(f"DROP ROLE {role}")


def test_without_psycopg_the_error_names_the_extra():
    """A plain sentence, no ImportError from somewhere below."""
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "import ampstore\n"
        "try: ampstore.Store('postgresql://host/db')\n"
        "except ModuleNotFoundError as err: print(err)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'ampstore[postgres]'" in done.stdout
