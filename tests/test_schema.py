"""Creating, checking and upgrading the schema."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import ROOT

import ampstore
from ampstore import Store, schema, tables
from ampstore.backend import objects
from ampstore.errors import NewerStoreError, OutdatedStoreError

DATA = ROOT / "tests" / "data"

NEXT_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade():
    op.add_column("entry", sa.Column("note", sa.Text))
    {body}
    op.execute("UPDATE entry SET note = 'upgraded'")
"""


WITH_NOTE = objects.OURS["entry"][0].replace(",primarykey(id)", ",notetext,primarykey(id)")
KNOW_NOTE = f"""
from ampstore.backend import objects
objects.OURS["entry"] += ({WITH_NOTE!r},)
"""


def columns(path):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return [row[1] for row in connection.execute("pragma table_info(entry)")]


@pytest.fixture
def old_store(tmp_path):
    """The store of revision 0001 that is checked in; see tests/data/README.md."""
    return shutil.copy(DATA / "store-0001.sqlite3", tmp_path / "old.db")


@pytest.fixture
def next_migrations(tmp_path):
    """Function that makes a migrations directory with a made-up revision 0003."""

    def make(body="pass"):
        directory = tmp_path / "migrations"
        shutil.copytree(ROOT / "migrations", directory, dirs_exist_ok=True)
        (directory / "versions" / "0003_note.py").write_text(NEXT_REVISION.format(body=body))
        return directory

    return make


@pytest.fixture
def next_version(next_migrations, monkeypatch):
    """Function that turns this process into one that knows revision 0003."""

    def become(body="pass"):
        directory = next_migrations(body)
        monkeypatch.setattr(schema, "KNOWN", ("0001", "0002", "0003"))
        monkeypatch.setattr(schema, "READABLE", ())
        monkeypatch.setitem(objects.OURS, "entry", (*objects.OURS["entry"], WITH_NOTE))
        monkeypatch.setattr(schema, "migrations", lambda: directory)

    return become


# -- revision 0001 -----------------------------------------------------------------------------


def test_the_migrations_lead_to_the_tables_in_code(tmp_path):
    """Alembic finds no difference between a new store and ampstore.tables."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    Store(tmp_path / "a.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": tables.VERSION_TABLE})
        assert compare_metadata(context, tables.metadata) == []
        view = connection.exec_driver_sql("select sql from sqlite_master where name = 'entries'").scalar()
    engine.dispose()
    assert view.strip() == tables.ENTRIES_VIEW.strip()


def test_head_in_code_is_head_of_the_migrations():
    """Opening does not import Alembic, so the code knows the revisions by itself."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(ROOT / "migrations"))
    assert tuple(reversed([revision.revision for revision in script.walk_revisions()])) == schema.KNOWN


def test_schema_is_that_of_the_design(tmp_path):
    """Payload last, key unique, the rowid as id."""
    Store(tmp_path / "a.db").close()
    assert columns(tmp_path / "a.db") == ["id", "key", "codec", "kind", "size", "checksum", "written_at", "payload"]


def test_checked_in_store_of_revision_0001_reads_the_same_for_ever(old_store):
    """Whatever later versions do, these values come back."""
    with Store(old_store, "r") as store:
        assert store["fingerprints"] == [("Cu", [0.5, -0.0, 1e-300]), ("Pt", [])]
        assert store["text"] == "ü" * 1000
        assert store["number"] == 12345678901234567890
        assert store["array"].tolist() == [[1, 2], [3, 4]]
        assert list(store.verify()) == []


def test_a_store_of_revision_0001_is_read_as_it_is_and_upgraded_by_a_writer(old_store, raw):
    """The table of traces is all that it lacks."""
    with Store(old_store, "r") as store:
        assert store.info()["format"] == "0001"
        assert len(store) == 4
    with Store(old_store) as store:
        assert store.info()["format"] == "0002"
        store.put_trace("fit", 0, [(0, 2.0, 1.5, 1.5, 0.0, 0.0, 0.0)])
        assert dict(store).keys() == {"fingerprints", "text", "number", "array"}
    assert raw(old_store, "select run, step, temperature, loss from trace") == [("fit", 0, 2.0, 1.5)]


def test_creating_makes_one_file_and_no_left_overs(tmp_path):
    """Exactly the name that was given."""
    ampstore.open(tmp_path / "results.db").close()
    assert os.listdir(tmp_path) == ["results.db"]


def test_creation_honours_the_umask(tmp_path):
    """Never wider than the user wants."""
    old = os.umask(0o077)
    try:
        Store(tmp_path / "a.db").close()
    finally:
        os.umask(old)
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600


OPENER = (
    KNOW_NOTE
    + """
import sys
from pathlib import Path
from ampstore import schema
if len(sys.argv) > 3:
    schema.KNOWN = ("0001", "0002", "0003")
    schema.migrations = lambda: Path(sys.argv[2])
from ampstore import Store
sys.stdin.readline()
with Store(sys.argv[1]) as store:
    store[f"by {sys.argv[-1]}"] = 1
"""
)


def open_at_once(count, path, *more):
    """Start processes, let them open the store at the same moment; their errors."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, path, *more, str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [error for process in processes if (error := process.communicate(timeout=120)[1])]


def test_thirty_two_processes_open_a_fresh_store_at_once_without_one_error(tmp_path):
    """One creates it, all write to it."""
    assert open_at_once(32, tmp_path / "a.db") == []
    with Store(tmp_path / "a.db", "r") as store:
        assert len(store) == 32
    assert os.listdir(tmp_path) == ["a.db"]


def test_processes_that_open_an_empty_file_at_once_agree_on_one_store(tmp_path):
    """The empty file is replaced once, under a lock."""
    (tmp_path / "a.db").touch()
    assert open_at_once(8, tmp_path / "a.db") == []
    with Store(tmp_path / "a.db", "r") as store:
        assert len(store) == 8


CREATOR = "import sys, ampstore; ampstore.Store(sys.argv[1]).close()"


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fsync", "link", "unlink", "ftruncate"])
def test_kill_while_creating_leaves_no_half_store(tmp_path, call):
    """Killed at the first, second, ... of these system calls, the next open succeeds."""
    for number in (1, 2, 5, 9):
        path = tmp_path / f"{number}.db"
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", inject, sys.executable, "-c", CREATOR, path]
        done = subprocess.run(command, check=False, capture_output=True)
        assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL)
        with Store(path) as store:
            store["a"] = 1
            assert dict(store) == {"a": 1}


# -- upgrades ----------------------------------------------------------------------------------


def test_an_older_store_is_backed_up_and_upgraded_when_it_is_opened(old_store, next_version, tmp_path):
    """The backup opens with the older version's eyes: it is as the store was."""
    next_version()
    with Store(old_store) as store:
        assert store["fingerprints"][1] == ("Pt", [])
        assert store.info()["format"] == "0003"
        assert store.info()["needs"] == schema.version()
    assert columns(old_store)[-1] == "note"
    (backup,) = [file for file in tmp_path.iterdir() if file.name.endswith(".backup")]
    assert backup.name.startswith("old.db.0001-")
    assert columns(backup) == ["id", "key", "codec", "kind", "size", "checksum", "written_at", "payload"]
    with Store(old_store) as store:
        assert len(store) == 4
    assert len([file for file in tmp_path.iterdir() if file.name.endswith(".backup")]) == 1


def test_a_revision_that_fails_changes_nothing(old_store, next_version):
    """Half of its statements were done; all are taken back, and the error says so."""
    next_version('op.execute("INSERT INTO nonsense VALUES (1)")')
    before = columns(old_store)
    with pytest.raises(OutdatedStoreError, match="changed nothing") as caught:
        Store(old_store)
    assert caught.value.__cause__ is not None
    assert columns(old_store) == before
    next_version()
    with Store(old_store) as store:
        assert store.info()["format"] == "0003"


def test_read_only_does_not_upgrade_and_says_what_does(old_store, next_version):
    """`ampstore upgrade`."""
    next_version()
    with pytest.raises(OutdatedStoreError, match="ampstore upgrade"):
        Store(old_store, "r")
    assert columns(old_store)[-1] == "payload"


def test_a_newer_store_is_refused_with_the_version_that_it_needs(old_store):
    """By every flag, before anything is written."""
    with contextlib.closing(sqlite3.connect(old_store)) as connection, connection:
        connection.execute("update ampstore_version set version_num = '0007'")
        connection.execute("update info set value = '9.1' where name = 'needs'")
    for flag in "rwcn":
        with pytest.raises(NewerStoreError, match=r"format 0007.*up to 0002.*install ampstore 9\.1 or newer"):
            Store(old_store, flag)
    with contextlib.closing(sqlite3.connect(old_store)) as connection:
        assert connection.execute("select count(*) from entry").fetchone() == (4,)


def test_thirty_two_processes_open_an_old_store_at_once_without_one_error(old_store, next_migrations, tmp_path):
    """One upgrades it, with one backup; all write to it."""
    assert open_at_once(32, old_store, str(next_migrations())) == []
    assert columns(old_store)[-1] == "note"
    with contextlib.closing(sqlite3.connect(old_store)) as connection:
        assert connection.execute("select count(*) from entry").fetchone() == (36,)
    assert len([file for file in tmp_path.iterdir() if file.name.endswith(".backup")]) == 1


UPGRADER = KNOW_NOTE + textwrap.dedent("""
    import sys
    from pathlib import Path
    from ampstore import schema
    schema.KNOWN = ("0001", "0002", "0003")
    schema.migrations = lambda: Path(sys.argv[2])
    from ampstore import Store
    Store(sys.argv[1]).close()
""")


def test_kill_while_upgrading_leaves_the_old_or_the_new_store(old_store, next_migrations):
    """At several writes; the retry succeeds."""
    directory = str(next_migrations())
    original = Path(old_store).read_bytes()
    for number in (1, 2, 4, 8, 16):
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{old_store}{suffix}")
        Path(old_store).write_bytes(original)
        inject = f"inject=pwrite64:signal=SIGKILL:when={number}"
        command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", inject]
        subprocess.run(
            [*command, sys.executable, "-c", UPGRADER, old_store, directory], check=False, capture_output=True
        )
        subprocess.run([sys.executable, "-c", UPGRADER, old_store, directory], check=True)
        assert columns(old_store)[-1] == "note"
        with contextlib.closing(sqlite3.connect(old_store)) as connection:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
            assert connection.execute("select count(*) from entry").fetchone() == (4,)


def test_alembic_knows_the_environment_without_an_ini(tmp_path):
    """`[tool.alembic]` in pyproject.toml; for the developers of the next revision."""
    if tuple(map(int, version("alembic").split(".")[:2])) < (1, 16):
        pytest.skip("Alembic reads pyproject.toml since 1.16; what ampstore itself needs is older")
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "heads"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "0002" in done.stdout, done.stderr
