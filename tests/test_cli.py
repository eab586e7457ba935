"""The command line: every command, its output, its exit code."""

import contextlib
import json
import os
import pickle
import sqlite3
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ampstore import FileDatabase, Store
from ampstore.cli import main
from ampstore.errors import BusyError
from ampstore.legacy import LegacyDatabase, maintenance_lock

COMMANDS = [
    "anneal-report",
    "archive",
    "backup",
    "compact",
    "completion",
    "copy",
    "cores",
    "diff",
    "doctor",
    "export",
    "get",
    "info",
    "ls",
    "merge",
    "migrate",
    "put",
    "rekey",
    "report",
    "restore",
    "rm",
    "salvage",
    "sql",
    "top",
    "upgrade",
    "verify",
]


def run(*arguments, **options):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], **options)
    assert "Traceback" not in result.output
    assert "\x1b" not in result.output
    return result


def command(*arguments, **options):
    """The real command in a process of its own."""
    line = [sys.executable, "-m", "ampstore", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def one_sentence(text):
    return text.startswith("Error: ") and text.count("\n") == 1


@pytest.fixture
def file(tmp_path):
    """A store with four entries."""
    path = tmp_path / "results.db"
    with Store(path) as store:
        store.update({"a1": [1, 2.5, "Cu"], "a2": {"x": (1, None)}, "b1": list(range(500)), "b2": "text"})
    return path


@pytest.fixture
def container(tmp_path):
    """A container with one entry in its store and one loose file."""
    path = tmp_path / "label-fp.ampdb"
    with FileDatabase(path) as database:
        database["stored"] = [1.5]
    (path / "loose" / "legacy").write_bytes(pickle.dumps([2.5], 0))
    return path


def test_every_command_is_listed_and_has_help():
    """--help of the group names each command, and each explains itself."""
    assert main.list_commands(None) == COMMANDS
    listing = run("--help")
    assert listing.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in listing.output
        text = run(name, "--help")
        assert text.exit_code == 0
        assert main.get_command(None, name).help.split("\n")[0][:30] in " ".join(text.output.split())
        assert run(name, "-h").output == text.output


def test_the_installed_command_and_the_module_are_one():
    """`python -m ampstore --version` prints the version and leaves with 0."""
    done = command("--version")
    assert done.returncode == 0
    assert "version" in done.stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("cores", "doctor", "completion")])
def test_wrong_usage_leaves_with_2(name, tmp_path):
    """A missing argument, an unknown option or a path that is no store: 2, and nothing is made."""
    assert run(name).exit_code == 2
    assert run(name, "x", "--no-such-option").exit_code == 2
    if name != "put":
        more = {"get": ["k"], "rm": ["k"], "export": [tmp_path / "o"], "backup": [tmp_path / "o"]}
        more |= {name: [tmp_path / "o"] for name in ("copy", "diff", "merge", "salvage")}
        more |= {"rekey": ["images.traj", "--from", "v1"], "sql": ["select 1"], "restore": [tmp_path / "o"]}
        places = [tmp_path / "nowhere", *more.get(name, [])]
        done = run(name, *(reversed(places) if name == "merge" else places))
        assert done.exit_code == 2
        assert done.stdout == ""
        assert "nowhere" in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_foreign_file_leaves_with_2(tmp_path):
    """A file that is something else is named and not touched."""
    path = tmp_path / "notes.txt"
    path.write_text("notes " * 500)
    done = run("info", path)
    assert done.exit_code == 2
    assert one_sentence(done.stderr)
    assert path.read_text() == "notes " * 500


def test_info_shows_what_a_store_or_a_container_holds(file, container):
    """Entries, sizes, format; tiers where there are tiers."""
    facts = json.loads(run("info", file, "--json").stdout)
    assert facts["entries"] == 4
    assert facts["format"]
    assert facts["disk"] > 0
    facts = json.loads(run("info", container, "--json").stdout)
    assert (facts["entries"], facts["in store"], facts["in loose"], facts["in archive"]) == (2, 1, 1, 0)
    assert "in loose" in run("info", str(container).removesuffix(".ampdb")).stdout


def test_ls_takes_a_glob_a_limit_and_gives_json_lines(file, container):
    """One row per entry, sorted by key; --json gives one object a line."""
    assert all(key in run("ls", file).stdout for key in ("a1", "a2", "b1", "b2"))
    rows = [json.loads(line) for line in run("ls", file, "--json").stdout.splitlines()]
    assert [row["key"] for row in rows] == ["a1", "a2", "b1", "b2"]
    assert rows[0].keys() == {"key", "kind", "bytes", "stored", "codec", "written"}
    for pattern, keys in (
        ("a*", ["a1", "a2"]),
        ("?1", ["a1", "b1"]),
        ("[ab]2", ["a2", "b2"]),
        ("b2", ["b2"]),
        ("z", []),
    ):
        found = run("ls", file, pattern, "--json").stdout.splitlines()
        assert [json.loads(line)["key"] for line in found] == keys
    assert len(run("ls", file, "--limit", 3, "--json").stdout.splitlines()) == 3
    rows = [json.loads(line) for line in run("ls", container, "--json").stdout.splitlines()]
    assert [(row["key"], row["kind"] == "legacy file") for row in rows] == [("stored", False), ("legacy", True)]
    assert len(run("ls", container, "--limit", 1, "--json").stdout.splitlines()) == 1


def test_ls_prints_no_commands_for_the_terminal(tmp_path):
    """A key with escape sequences is shown as text."""
    with Store(tmp_path / "s.db") as store:
        store["\x1b[31mred\x07\n[bold]"] = 1
    done = run("ls", tmp_path / "s.db")
    assert "\\x1b[31mred\\x07\\n[bold]" in done.stdout
    assert command("ls", tmp_path / "s.db").stdout == done.stdout


def test_put_get_and_rm_change_single_entries(tmp_path):
    """Literals and JSON, from the argument or stdin; a new file or a new container."""
    for path in (tmp_path / "new.db", tmp_path / "new.ampdb"):
        assert run("put", path, "k", "[1, (2.5, 'Cu')]").exit_code == 0
        assert run("put", path, "j", '{"a": null}').exit_code == 0
        assert run("put", path, "s", input="{1: True}\n").exit_code == 0
        assert run("get", path, "k").stdout == "[1, (2.5, 'Cu')]\n"
        assert json.loads(run("get", path, "j", "--json").stdout) == {"a": None}
        assert run("get", path, "s").stdout == "{1: True}\n"
        assert run("rm", path, "k", "s").exit_code == 0
        gone = run("get", path, "k")
        assert (gone.exit_code, gone.stdout) == (1, "")
        assert "'k'" in gone.stderr
        partly = run("rm", path, "k", "j")
        assert partly.exit_code == 1
        assert "'k'" in partly.stderr
        assert run("get", path, "j").exit_code == 1
    assert (tmp_path / "new.ampdb" / "store.sqlite3").is_file()


def test_put_refuses_what_is_no_value_before_it_makes_a_store(tmp_path):
    """A bare word is wrong usage, and no empty store is left."""
    done = run("put", tmp_path / "s.db", "k", "bare words")
    assert done.exit_code == 2
    assert "bare words" in done.stderr
    assert os.listdir(tmp_path) == []


def test_rm_takes_an_entry_from_every_tier(container):
    """A legacy file goes too."""
    assert run("rm", container, "legacy").exit_code == 0
    assert os.listdir(container / "loose") == []
    assert run("get", container, "legacy").exit_code == 1


def test_get_prints_arrays_as_json_and_needs_allow_for_foreign_objects(tmp_path):
    """NumPy values become lists and numbers; a foreign class is named with the way out."""
    import argparse

    import numpy as np

    with Store(tmp_path / "s.db", allow=["argparse.Namespace"]) as store:
        store["array"] = {"x": np.arange(4).reshape(2, 2), "y": np.float64(0.5), (1, 2): {"b"}}
        store["odd"] = argparse.Namespace(a=1)
    assert json.loads(run("get", tmp_path / "s.db", "array", "--json").stdout) == {
        "x": [[0, 1], [2, 3]],
        "y": 0.5,
        "(1, 2)": ["b"],
    }
    refused = run("get", tmp_path / "s.db", "odd")
    assert refused.exit_code == 1
    assert "argparse.Namespace" in refused.stderr
    assert run("get", tmp_path / "s.db", "odd", "--allow", "argparse.Namespace").exit_code == 0


def test_verify_finds_a_flipped_byte(file):
    """A bit that plain sqlite3 turned in one payload is found, named, and the exit code is 1."""
    clean = run("verify", file)
    assert (clean.exit_code, clean.stdout) == (0, "4 entries, 0 damaged\n")
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        (payload,) = connection.execute("SELECT payload FROM entry WHERE key='b1'").fetchone()
        flipped = payload[:20] + bytes([payload[20] ^ 4]) + payload[21:]
        connection.execute("UPDATE entry SET payload = ? WHERE key='b1'", [flipped])
    damaged = run("verify", file)
    assert damaged.exit_code == 1
    assert "damaged: b1: " in damaged.stdout
    assert "4 entries, 1 damaged" in damaged.stdout
    found = json.loads(run("verify", file, "--json").stdout)
    assert [entry["key"] for entry in found["damaged"]] == ["b1"]
    got = run("get", file, "b1")
    assert got.exit_code == 1
    assert one_sentence(got.stderr)


def test_verify_reads_the_legacy_tiers_too(container):
    """A torn loose file is damage."""
    (container / "loose" / "torn").write_bytes(b"(lp0\n")
    done = run("verify", container)
    assert done.exit_code == 1
    assert "torn" in done.stdout


def test_backup_copies_and_never_overwrites(file, container, tmp_path):
    """The copy has all entries; an existing file stays as it is, with exit code 2."""
    done = run("backup", file, tmp_path / "copy.db")
    assert done.exit_code == 0
    assert "4 entries" in done.stdout
    with Store(tmp_path / "copy.db", "r") as copy, Store(file, "r") as store:
        assert dict(copy) == dict(store)
    before = (tmp_path / "copy.db").read_bytes()
    again = run("backup", file, tmp_path / "copy.db")
    assert again.exit_code == 2
    assert one_sentence(again.stderr)
    assert (tmp_path / "copy.db").read_bytes() == before
    assert run("backup", container, tmp_path / "container.db").exit_code == 0


def test_archive_leaves_the_store_only(container):
    """Loose files are folded and gone."""
    done = run("archive", container)
    assert done.exit_code == 0
    assert os.listdir(container / "loose") == []
    assert json.loads(run("archive", container, "--json").stdout)[0]["written"] == 0
    (container / "loose" / "torn").write_bytes(b"(lp0\n")
    assert run("archive", container).exit_code == 1


@pytest.mark.parametrize("option", [[], ["--archive"]])
def test_export_writes_the_legacy_layout(container, tmp_path, option):
    """LegacyDatabase reads what was exported; an existing destination is refused with 2."""
    done = run("export", container, tmp_path / "back", *option)
    assert done.exit_code == 0
    back = LegacyDatabase(tmp_path / "back")
    assert {key: back[key] for key in back} == {"stored": [1.5], "legacy": [2.5]}
    assert run("export", container, tmp_path / "back", *option).exit_code == 2


def test_export_leaves_with_1_if_a_key_is_no_file_name(tmp_path):
    """What the layout cannot hold is listed."""
    with Store(tmp_path / "s.db") as store:
        store.update({"a/b": 1, "c": 2})
    done = run("export", tmp_path / "s.db", tmp_path / "back")
    assert done.exit_code == 1
    assert "'a/b'" in done.stderr


def test_upgrade_has_nothing_to_do_with_a_current_store(file):
    """The format is named, and that there is nothing to do."""
    done = run("upgrade", file)
    assert done.exit_code == 0
    assert "nothing to do" in done.stdout


def test_busy_leaves_with_3(container, monkeypatch):
    """Another maintainer, or no permission: 3, in one sentence."""
    import ampstore.database.tiers

    monkeypatch.setattr(
        ampstore.database.tiers, "maintenance_lock", lambda directory, timeout: maintenance_lock(directory, 0.1)
    )
    with maintenance_lock(container, 1):
        done = run("archive", container)
    assert done.exit_code == 3
    assert one_sentence(done.stderr)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_errors_of_the_system_leave_with_3(container, monkeypatch, error):
    """Whatever the operating system refuses is one sentence, too."""

    def failing(*arguments):
        raise error

    monkeypatch.setattr(os, "scandir", failing)
    done = run("ls", container)
    assert done.exit_code == 3
    assert one_sentence(done.stderr)


def test_debug_shows_the_traceback(tmp_path):
    """--debug lets the error through for a bug report."""
    done = command("--debug", "info", tmp_path / "nowhere")
    assert "Traceback" in done.stderr
    assert "Traceback" not in command("info", tmp_path / "nowhere").stderr


def test_a_pipe_that_closes_early_is_no_error(file):
    """`ampstore ls | head -1` prints no traceback."""
    line = f'"{sys.executable}" -m ampstore ls "{file}" --json | head -1'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["key"] == "a1"
    assert "Traceback" not in done.stderr


def test_exit_codes_of_the_errors(file, monkeypatch):
    """A busy store is 3 wherever it shows up."""

    def busy(self, key):
        raise BusyError(str(file))

    monkeypatch.setattr(Store, "__getitem__", busy)
    assert run("get", file, "a1").exit_code == 3


def test_interrupted_while_it_is_imported_the_command_ends_with_130_and_no_traceback(tmp_path):
    """Half of the time of a short command is that of its imports."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "ampstore", "ls", "x"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
