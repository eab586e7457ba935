"""`ampstore doctor`: the place where a store lies."""

import contextlib
import json
import os
import sqlite3

import pytest
from click.testing import CliRunner

from ampstore import FileDatabase, Store, doctor, filesystem
from ampstore.backend import about
from ampstore.cli import main
from ampstore.filesystem import FileSystem, file_system


def findings(path, **options):
    return {finding.subject.split()[0]: finding for finding in doctor.examine(path, **options)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "results.db"
    with Store(path) as store:
        store["a"] = 1
    return path


def test_a_healthy_place_has_nothing_bad(file):
    """Every subject is looked at, and the store is counted."""
    found = findings(file)
    assert {"SQLite", "ampstore", "packages", "file", "free", "permissions", "WAL", "locks", "store", "speed"} <= set(
        found
    )
    assert not [finding for finding in found.values() if finding.state == "bad" and finding.subject != "free space"]
    assert "1 entries" in found["store"].found


def test_it_changes_nothing(file):
    """No file appears, and the store's bytes stay."""
    before, names = file.read_bytes(), set(os.listdir(file.parent))
    findings(file)
    assert file.read_bytes() == before
    assert set(os.listdir(file.parent)) == names


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_the_wal_reset_race_is_known_by_version(version, has_it):
    """It was mended in three lines of releases."""
    assert about.BUGS[0].is_in(version) is has_it


def test_a_shared_file_system_is_bad_and_the_way_out_is_named(file, monkeypatch):
    """WAL works on one host only."""
    monkeypatch.setattr(doctor, "file_system", lambda path: FileSystem("nfs", shared=True))
    found = findings(file)["file"]
    assert found.state == "bad"
    assert "local disk" in found.advice


def test_the_kind_of_a_file_system_is_what_the_kernel_says(tmp_path):
    """Compared with the table of mounts."""
    assert file_system("/proc").name == "0x9fa0"
    assert not file_system(tmp_path).shared
    with pytest.raises(FileNotFoundError):
        file_system(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("kind", "name", "shared"), [("xfs", "xfs", False), ("nfs4", "nfs", True), ("fuse.sshfs", "nfs", True)]
)
def test_the_table_of_mounts_is_believed_about_plain_local_kinds_only(tmp_path, monkeypatch, kind, name, shared):
    """Whatever else it says is a question for statfs."""
    device = os.stat(tmp_path).st_dev
    table = tmp_path / "mounts"
    table.write_text(
        "22 27 0:0 / /proc rw,relatime - proc proc rw\n"
        f"27 1 {os.major(device)}:{os.minor(device)} / / rw shared:1 - {kind} /dev/x rw\n"
    )
    monkeypatch.setattr(filesystem, "MOUNTS", str(table))
    monkeypatch.setattr(filesystem, "_by_statfs", lambda path: FileSystem("nfs", shared=True))
    assert file_system(tmp_path) == FileSystem(name, shared)


@pytest.mark.parametrize("table", ["", "27 1 0:0 / / rw - ext4", "garbage\n - \n"])
def test_a_table_of_mounts_that_says_nothing_leaves_the_question_to_statfs(tmp_path, monkeypatch, table):
    """Also where there is none."""
    (tmp_path / "mounts").write_text(table)
    monkeypatch.setattr(filesystem, "_by_statfs", lambda path: FileSystem("nfs", shared=True))
    for place in (tmp_path / "mounts", tmp_path / "nothing"):
        monkeypatch.setattr(filesystem, "MOUNTS", str(place))
        assert file_system(tmp_path).shared


def test_who_holds_a_lock_is_named(file):
    """A writer in the middle of a transaction."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert str(os.getpid()) in findings(file)["locks"].found
        connection.execute("ROLLBACK")


def test_a_damaged_store_is_bad(file):
    """Its own error says what is wrong."""
    file.write_bytes(b"SQLite format 3\0" + bytes(4000))
    found = findings(file)
    assert found["store"].state == "bad"
    assert "salvage" in found["store"].advice


def test_an_old_format_is_a_note(file):
    """It is upgraded by the next writer."""
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE ampstore_version SET version_num = '0001'")
    assert findings(file)["store"].state in ("note", "bad")


def test_left_overs_of_killed_programs_are_named(file):
    """Hidden files that end in .new."""
    (file.parent / ".results.db.0123456789abcdef.new").touch()
    assert "1: .results.db" in findings(file)["left-overs"].found


def test_a_container_and_an_empty_directory_can_be_asked_about(tmp_path):
    """Before there is a store as well as after."""
    assert "store" not in findings(tmp_path)
    with FileDatabase(tmp_path / "label") as database:
        database["a"] = 1
    assert findings(tmp_path / "label")["store"].state == "ok"


def test_the_command_prints_findings_and_says_bad_by_its_exit_code(file, tmp_path):
    """For people and for scripts."""
    shown = CliRunner().invoke(main, ["doctor", str(file), "--no-speed"])
    assert shown.exit_code == 0, shown.output
    assert "ok    store: 1 entries" in shown.output
    file.write_bytes(b"nonsense" * 1000)
    broken = CliRunner().invoke(main, ["doctor", str(file), "--json", "--no-speed"])
    assert broken.exit_code == 1
    assert [one["subject"] for one in json.loads(broken.output) if one["state"] == "bad"] == ["store"]
    nowhere = CliRunner().invoke(main, ["doctor", str(tmp_path / "no" / "where")])
    assert nowhere.exit_code == 2
    assert "Traceback" not in nowhere.output
