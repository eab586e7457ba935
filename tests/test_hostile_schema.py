"""A file that claims to be a store and brings a schema of its own: nothing of it runs."""

import contextlib
import re
import sqlite3
import time

import pytest
from click.testing import CliRunner

import ampstore
from ampstore.backend import objects
from ampstore.cli import main
from ampstore.errors import ForeignSchemaError, NotAStoreError
from ampstore.salvage import salvage


@pytest.fixture
def path(tmp_path):
    with ampstore.Store(tmp_path / "store.db", "c") as store:
        store.put_many({"a": 1, "b": [("Cu", [0.5] * 40)]})
    return tmp_path / "store.db"


def run(path, script):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


ENDLESS = "(WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n)"
COPY = "CREATE TABLE old AS SELECT * FROM {0}; DROP TABLE {0};"
REWRITE = "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET {}; PRAGMA writable_schema=OFF; VACUUM;"

HOSTILE = {
    "a trigger on writes": "CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM entry; END",
    "a trigger under another case": "CREATE TRIGGER t BEFORE DELETE ON ENTRY BEGIN SELECT RAISE(ABORT, 'no'); END",
    "a trigger on claims": f"CREATE TRIGGER t AFTER UPDATE ON claim BEGIN SELECT {ENDLESS}; END",
    "a view for people that lies": "DROP VIEW entries; CREATE VIEW entries AS SELECT 'x' AS key FROM entry",
    "a view in the place of the entries": "DROP VIEW entries; ALTER TABLE entry RENAME TO e; CREATE VIEW entry AS "
    f"SELECT id, key, codec, kind, {ENDLESS} AS size, checksum, written_at, payload FROM e",
    "a view in the place of the facts": f"DROP TABLE info; CREATE VIEW info AS SELECT 'a' AS name, {ENDLESS} AS value",
    "a view in the place of the version": "DROP TABLE ampstore_version; CREATE VIEW ampstore_version AS "
    f"SELECT {ENDLESS} AS version_num",
    "a virtual table": "CREATE VIRTUAL TABLE v USING fts4(x)",
    "a generated column": "DROP VIEW entries; DROP TABLE entry; CREATE TABLE entry (id INTEGER PRIMARY KEY, "
    "key TEXT UNIQUE, codec TEXT, kind TEXT, size INT, checksum BLOB, written_at REAL, payload BLOB "
    "AS (hex(zeroblob(1 << 28))))",
    "a costly check": "DROP TABLE claim; CREATE TABLE claim (key TEXT PRIMARY KEY, owner TEXT, token INT, "
    "expires_at REAL CHECK (length(hex(randomblob(1 << 28))) > 0))",
    "a check on a table that only verify reads": "CREATE TABLE mine (x CHECK (length(hex(randomblob(1 << 28)))))",
    "an index on an expression": "CREATE INDEX i ON entry (length(hex(zeroblob(1 << 28))))",
    "an index with a condition": "CREATE INDEX i ON entry (kind) WHERE length(payload) > 5",
    "an index that forbids writes": "CREATE UNIQUE INDEX i ON entry (kind)",
    "an unknown table of ours": "ALTER TABLE info ADD COLUMN more TEXT DEFAULT 'x'",
}


def seconds_to_refuse(path, flag):
    start = time.process_time()
    with pytest.raises(ForeignSchemaError) as refused:
        ampstore.Store(path, flag)
    return time.process_time() - start, str(refused.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_run_is_refused_before_it_runs(path, name):
    """Endless views, costly functions, triggers: refused by name in no time, for reading and for writing."""
    run(path, HOSTILE[name])
    before = path.read_bytes()
    for flag in ("r", "w", "c", "n"):
        seconds, sentence = seconds_to_refuse(path, flag)
        assert "ampstore salvage" in sentence
        assert seconds < 5
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        "sql = 'CREATE TRIGGER x AFTER INSERT ON entry BEGIN DELETE FROM entry; END' WHERE name = 'mine'",
        "sql = 'CREATE VIEW entry AS SELECT 1 AS id' WHERE name = 'mine'",
        "sql = 'CREATE/**/VIEW mine AS SELECT 1' WHERE name = 'mine'",
        "tbl_name = 'mine' WHERE name = 't'",
    ],
)
def test_a_schema_that_names_one_thing_and_makes_another_is_refused(path, change):
    """The columns of sqlite_schema can lie about the text beside them; what counts is the text."""
    run(
        path,
        "CREATE TABLE mine (x)" + ("; CREATE TRIGGER t AFTER INSERT ON entry BEGIN SELECT 1; END" * ("tbl" in change)),
    )
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(f"UPDATE sqlite_schema SET {change}")
    with pytest.raises((ForeignSchemaError, ampstore.DamagedStoreError, NotAStoreError, ampstore.StoreError)):
        ampstore.Store(path, "w")


def test_upgrade_refuses_it_too(path):
    """The command that rewrites the schema looks at it first."""
    run(path, HOSTILE["a trigger on writes"] + ";DROP TABLE trace; UPDATE ampstore_version SET version_num = '0001'")
    done = CliRunner().invoke(main, ["upgrade", str(path)])
    assert done.exit_code == 1
    assert "trigger" in done.stderr
    assert len(list(path.parent.iterdir())) == 1


def test_salvage_is_the_way_out(path, tmp_path):
    """It reads pages and runs no SQL of the file: the entries come out, the schema does not."""
    run(path, HOSTILE["a trigger on writes"])
    assert salvage(path, tmp_path / "new.db").written == 2
    with ampstore.Store(tmp_path / "new.db", "w") as store:
        assert store["a"] == 1


def test_the_command_says_it_in_one_sentence(path):
    """No traceback; exit code 1, since something is wrong with the file."""
    run(path, HOSTILE["a virtual table"])
    done = CliRunner().invoke(main, ["info", str(path)])
    assert done.exit_code == 1
    assert "virtual" not in done.stdout
    assert re.search(r"the schema has a table 'v'", done.stderr)


HARMLESS = """
CREATE TABLE notes (key TEXT, "my note" TEXT, at REAL DEFAULT 0);
CREATE VIEW large AS SELECT key FROM entry WHERE size > 1000;
CREATE INDEX by_kind ON entry (kind, "size" DESC);
CREATE INDEX by_key ON notes(key);
ANALYZE;
"""


def test_people_may_keep_tables_views_and_plain_indexes_in_the_file(path):
    """Nothing of that runs on our statements, so it stays and is no error."""
    run(path, HARMLESS)
    with ampstore.Store(path, "w") as store:
        store["c"] = 3
        store.compact()
        assert not list(store.verify())
    with ampstore.Store(path, "r") as store:
        assert list(store) == ["a", "b", "c"]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'by%'").fetchone() == (2,)


def test_the_schema_in_code_is_what_the_migrations_make(path, raw):
    """A fresh store holds exactly the objects that `objects` knows, text by text."""
    rows = [objects.SchemaObject(*row) for row in raw(path, "SELECT type, name, tbl_name, sql FROM sqlite_schema")]
    named = {row.name for row in rows if row.text}
    assert named == set(objects.OURS)
    assert all(objects.holds(rows, name) for name in named)


def test_connections_are_limited(path):
    """Defensive where Python offers it; no memory map, no attached files but the one of VACUUM."""
    with ampstore.Store(path, "w") as store:
        connection = store.backend.connection()
        assert connection.getlimit(sqlite3.SQLITE_LIMIT_ATTACHED) == 1
        assert connection.execute("PRAGMA mmap_size").fetchone() in (None, (0,))
        assert connection.execute("PRAGMA trusted_schema").fetchone() == (0,)
        assert connection.execute("PRAGMA cell_size_check").fetchone() == (1,)
        if hasattr(connection, "getconfig"):
            assert connection.getconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE)
