"""The command line: choosing, streams, SQL, restoring, completion, start-up."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from ampstore import FileDatabase, Store
from ampstore.cli import COMMANDS, main
from ampstore.cli.choosing import moment
from ampstore.errors import QueryError


def run(*arguments, **options):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], **options)
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def file(tmp_path):
    """A store with entries of different kinds, sizes and times."""
    path = tmp_path / "results.db"
    with Store(path) as store:
        store.update({"a1": [1, 2.5, "Cu"], "a2": list(range(900)), "b1": "text", "b2": {"x": 1}})
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE entry SET written_at = ? WHERE key = 'a1'", (time.time() - 10 * 86400,))
        connection.execute("UPDATE entry SET written_at = ? WHERE key = 'b1'", (time.time() - 3600,))
    return path


def listed(file, *options):
    lines = run("ls", file, "--json", *options).stdout.splitlines()
    return [json.loads(line)["key"] for line in lines]


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ([], ["a1", "a2", "b1", "b2"]),
        (["a*"], ["a1", "a2"]),
        (["--prefix", "b"], ["b1", "b2"]),
        (["*2", "--prefix", "a"], ["a2"]),
        (["--kind", "str of"], ["b1"]),
        (["--larger", "100"], ["a2"]),
        (["--smaller", "100", "b*"], ["b1", "b2"]),
        (["--since", "7d"], ["a2", "b1", "b2"]),
        (["--since", "30m"], ["a2", "b2"]),
        (["--sort", "bytes", "--reverse", "--limit", "1"], ["a2"]),
        (["--sort", "written"], ["a1", "b1", "a2", "b2"]),
        (["--sort", "key", "--reverse"], ["b2", "b1", "a2", "a1"]),
        (["--limit", "2"], ["a1", "a2"]),
        (["nothing*"], []),
    ],
)
def test_ls_chooses_and_sorts(file, options, keys):
    """By glob, prefix, kind, size, time; in any order; some of them."""
    found = listed(file, *options)
    assert sorted(found) == sorted(keys) if options == ["--sort", "written"] else found == keys


def test_a_moment_is_a_date_a_time_or_so_long_ago():
    """UTC where no zone is given; what is none of it is a usage error."""
    assert moment("2026-11-26") == moment("2026-11-26T00:00:00+00:00")
    assert moment("1970-01-01T01:00") == 3600
    assert abs(moment("2h") - (time.time() - 7200)) < 60
    with pytest.raises(click.UsageError, match="90m"):
        moment("yesterday")


def test_get_prints_several_and_reads_keys_from_stdin(file):
    """A document a line, each with its key."""
    lines = run("get", file, "b1", "b2", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [{"key": "b1", "value": "text"}, {"key": "b2", "value": {"x": 1}}]
    piped = run("get", file, "-", "--json", input="a1\nb1\n")
    assert [json.loads(line)["key"] for line in piped.stdout.splitlines()] == ["a1", "b1"]


def test_get_of_what_is_not_there_prints_the_rest_and_leaves_with_1(file):
    """Nothing is silent."""
    done = run("get", file, "b1", "nothing", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["value"] == "text"
    assert "nothing" in done.stderr


def test_put_reads_stdin(file):
    """JSON as well as Python."""
    assert run("put", file, "new", input='{"x": [1, null, true]}').exit_code == 0
    with Store(file, "r") as store:
        assert store["new"] == {"x": [1, None, True]}


def test_rm_by_pattern_can_be_tried_before(file):
    """--dry-run prints the keys and deletes none."""
    tried = run("rm", file, "--glob", "a*", "--dry-run")
    assert tried.stdout.split() == ["a1", "a2"]
    assert listed(file) == ["a1", "a2", "b1", "b2"]
    assert run("rm", file, "--glob", "a*").exit_code == 0
    assert listed(file) == ["b1", "b2"]
    assert run("rm", file, "--glob", "z*").exit_code == 1
    assert run("rm", file, "b1", "nothing").exit_code == 1
    assert listed(file) == ["b2"]


def test_sql_reads_and_cannot_write(file, tmp_path):
    """Rows for people, documents for scripts; whatever would change anything is refused."""
    rows = run("sql", file, "select key, bytes from entries order by bytes desc limit 1", "--json").stdout
    assert json.loads(rows)["key"] == "a2"
    before = file.read_bytes()
    for statement in (
        "delete from entry",
        "update entry set key = 'x'",
        "drop table entry",
        f"attach '{tmp_path / 'other.db'}' as other",
        "pragma journal_mode = delete",
        f"vacuum into '{tmp_path / 'copy.db'}'",
        "select load_extension('x')",
        "select 1; select 2",
        "nonsense",
    ):
        done = run("sql", file, statement)
        assert done.exit_code == 1, statement
        assert "cannot be asked" in done.stderr
    assert file.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["results.db"]
    assert issubclass(QueryError, ValueError)


def test_sql_says_when_there_is_more(file):
    """The limit is named."""
    done = run("sql", file, "select key from entries", "--limit", "2")
    assert len(done.stdout.splitlines()) == 3
    assert "--limit 0" in done.stderr


def test_restore_replaces_a_store_while_others_have_it_open(file, tmp_path):
    """An open handle sees the old content, then the new; the old store is kept."""
    backup = tmp_path / "backup.db"
    assert run("backup", file, backup).exit_code == 0
    with Store(file) as open_handle:
        open_handle["later"] = 1
        done = run("restore", backup, file)
        assert done.exit_code == 0, done.output
        assert "later" not in open_handle
        open_handle["after"] = 2
    assert listed(file) == ["a1", "a2", "after", "b1", "b2"]
    (kept,) = tmp_path.glob("results.db.*.replaced")
    assert "later" in listed(kept)


@pytest.mark.parametrize("damage", ["header", "middle", "empty", "wal"])
def test_restore_mends_a_damaged_store(file, tmp_path, damage):
    """Whatever is there is kept; a WAL that stayed is not played into the new file."""
    backup = tmp_path / "backup.db"
    run("backup", file, backup)
    whole = file.read_bytes()
    if damage == "header":
        file.write_bytes(b"x" * 100 + whole[100:])
    elif damage == "middle":
        file.write_bytes(whole[:4096] + b"\xff" * 8192 + whole[12288:])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        file.write_bytes(whole[:5000])
        (tmp_path / "results.db-wal").write_bytes(os.urandom(10_000))
    done = run("restore", backup, file)
    assert done.exit_code == 0, done.output
    assert listed(file) == ["a1", "a2", "b1", "b2"]
    assert run("verify", file).exit_code == 0


def test_restore_refuses_a_damaged_backup_and_changes_nothing(file, tmp_path):
    """Its pages and checksums are compared first."""
    backup = tmp_path / "backup.db"
    run("backup", file, backup)
    with contextlib.closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("UPDATE entry SET payload = zeroblob(5) WHERE key = 'b1'")
    before = file.read_bytes()
    done = run("restore", backup, file)
    assert done.exit_code == 1
    assert "backup is damaged" in done.stderr
    assert file.read_bytes() == before


def test_restore_can_be_tried_and_makes_what_is_not_there(file, tmp_path):
    """--dry-run writes nothing; a place that is free is filled."""
    assert run("restore", file, tmp_path / "new.db", "--dry-run").exit_code == 0
    assert not (tmp_path / "new.db").exists()
    assert run("restore", file, tmp_path / "new.db").exit_code == 0
    assert listed(tmp_path / "new.db") == ["a1", "a2", "b1", "b2"]


def test_restore_into_a_container(file, tmp_path):
    """The store of the container is replaced, its other tiers stay."""
    with FileDatabase(tmp_path / "label") as database:
        database["old"] = 1
    assert run("restore", file, tmp_path / "label.ampdb").exit_code == 0
    with FileDatabase(tmp_path / "label", "r") as database:
        assert sorted(database.keys()) == ["a1", "a2", "b1", "b2"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_made_for_each_shell(shell):
    """Text that the shell reads."""
    text = run("completion", shell).stdout
    assert "_AMPSTORE_COMPLETE" in text
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_bash_completes_commands():
    """The protocol between the script and the program."""
    environment = {**os.environ, "_AMPSTORE_COMPLETE": "bash_complete", "COMP_WORDS": "ampstore mig", "COMP_CWORD": "1"}
    program = "from ampstore.cli import main; main(prog_name='ampstore')"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "migrate" in done.stdout


def test_debug_shows_a_traceback_and_nothing_else_does(tmp_path):
    """One sentence by default."""
    command = [sys.executable, "-m", "ampstore"]
    plain = subprocess.run([*command, "ls", str(tmp_path / "no")], capture_output=True, text=True, check=False)
    assert plain.stderr.startswith("Error: ")
    debug = subprocess.run(
        [*command, "--debug", "ls", str(tmp_path / "no")], capture_output=True, text=True, check=False
    )
    assert "Traceback" in debug.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["ls", "results.db"], ["get", "results.db", "b1"], ["doctor", "--help"]]
)
def test_starting_a_command_imports_nothing_heavy(file, arguments):
    """So that help and `ls` are there at once."""
    program = (
        f"import sys; sys.argv[1:] = {arguments!r}\nfrom ampstore.cli import main\n"
        "try: main()\nexcept SystemExit: pass\nprint('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=file.parent, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("MODULES")[1].split())
    heavy = {"ase", "sqlalchemy", "alembic", "zmq", "matplotlib", "distributed", "psycopg", "importlib.metadata"}
    heavy |= {"rich", "numpy", "ctypes", "logging", "socket", "fractions", "ampstore.store.compaction"}
    assert not loaded & {*heavy, "ampstore.database", "ampstore.transfer"}


def test_the_list_of_commands_imports_none_of_them_and_cuts_no_line():
    """What each does in a line stands beside its module; its own page has the rest."""
    program = (
        "import sys; sys.argv[1:] = ['--help']\nfrom ampstore.cli import main\n"
        "try: main()\nexcept SystemExit: pass\nprint('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    listing, modules = done.stdout.split("MODULES")
    assert not [name for name in modules.split() if name.startswith(("ampstore.cli.", "ampstore.store"))]
    for name, (_, about) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(about)}$", listing, re.MULTILINE)
        assert main.get_command(None, name).get_short_help_str(limit=80) == about


def test_a_row_is_one_line_in_a_pipe_and_folded_in_a_narrow_terminal(tmp_path):
    """However long its key is; columns stand under each other where characters are wide, too."""
    with Store(tmp_path / "a.db") as store:
        store["k" * 300] = 1
        store["水" * 2] = 2
    printed = CliRunner().invoke(main, ["ls", str(tmp_path / "a.db"), "--sort", "stored"]).output.splitlines()
    assert [line.split()[0] for line in printed] == ["key", "k" * 300, "水" * 2]
    assert printed[1].index(" int ") == printed[2].index(" int ") + 2
    leader, follower = os.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    command = [sys.executable, "-m", "ampstore", "ls", str(tmp_path / "a.db")]
    subprocess.run(command, env=environment, stdout=follower, check=True)
    os.close(follower)
    shown = b""
    while chunk := _read(leader):
        shown += chunk
    assert max(len(line.rstrip()) for line in shown.decode().splitlines()) <= 80
    os.close(leader)


def _read(leader):
    try:
        return os.read(leader, 1 << 16)
    except OSError:  # EIO: what Linux says when the other side is closed
        return b""


def test_every_command_is_where_the_table_says():
    """Each of them can be had."""
    for name in COMMANDS:
        command = main.get_command(None, name)
        assert command is not None
        assert command.name == name


def test_no_colour_where_it_is_not_wanted(file):
    """NO_COLOR, and whatever is no terminal."""
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run(
        [sys.executable, "-m", "ampstore", "ls", str(file)], env=environment, capture_output=True, text=True, check=True
    )
    assert "\x1b[3" not in done.stdout
