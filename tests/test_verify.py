"""`ampstore verify`: what is damaged, what is left over, what can be done, and which globals values name."""

import contextlib
import json
import os
import pickle
import sqlite3
import subprocess
import sys

import pytest
from click.testing import CliRunner

import ampstore
from ampstore.cli import main
from ampstore.codec.globals import UNKNOWN, globals_of


@pytest.fixture
def container(tmp_path):
    with ampstore.FileDatabase(tmp_path / "c") as database:
        database["a"] = 1
        database["b"] = {"x": [0.5] * 10}
    return tmp_path / "c.ampdb"


def verified(path, *options):
    done = CliRunner().invoke(main, ["verify", str(path), "--json", *options])
    return done.exit_code, json.loads(done.stdout)


def change(path, sql, *parameters):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql, parameters)


def test_left_overs_are_listed_and_are_no_damage(container):
    """Unfinished copies, temporary files, claims of the dead: exit code 0."""
    store = container / "store.sqlite3"
    (container / ".store.sqlite3.0123456789abcdef.new").write_bytes(b"half")
    (container / ".store.sqlite3.0001-20260101-000000.backup.0123abcd.new").write_bytes(b"half")
    (container / "loose" / ".ampstore-0123.tmp").write_bytes(b"half")
    change(store, "INSERT INTO claim VALUES ('late', 'somebody:1:x-y:z', 1, 5.0)")
    code, found = verified(container)
    assert code == 0
    assert found["damaged"] == []
    text = json.dumps(found["left_over"])
    for part in ("0123456789abcdef", "0123abcd", "ampstore-0123", "'late'"):
        assert part in text, part
    assert all(one["remedy"] for one in found["left_over"])


def test_a_dictionary_that_no_entry_needs_is_left_over(container):
    """Compacting drops it."""
    change(container / "store.sqlite3", "INSERT INTO dictionary VALUES (77, 'list', 0.0, x'00')")
    _, found = verified(container)
    assert ["dictionary 77" in one["what"] for one in found["left_over"]] == [True]


def test_a_claim_of_a_living_process_is_not_left_over(container):
    """It is work that goes on."""
    with ampstore.FileDatabase(container) as database:
        claims = database.claims()
        claims.take(["new"], 1)
        assert list(database.left_overs()) == []
        claims.release()


def test_a_claim_of_a_process_that_ended_is(container):
    """Also long before its lease runs out."""
    code = (
        f"import ampstore, os; d = ampstore.FileDatabase({str(container)!r}); d.claims().take(['new'], 1); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    _, found = verified(container)
    assert ["'new': of a process that has ended" in one["what"] for one in found["left_over"]] == [True]


def test_each_damage_comes_with_what_can_be_done(container):
    """A damaged entry and a broken page."""
    change(container / "store.sqlite3", "UPDATE entry SET payload = x'01' WHERE key = 'a'")
    code, found = verified(container)
    assert code == 1
    assert [(one["key"], "salvage" in one["remedy"]) for one in found["damaged"]] == [("a", True)]


class Mine:
    pass


def test_globals_are_listed_without_importing_them(container):
    """Of the store and of loose files, with counts; also those that no rule would admit."""
    (container / "loose" / "evil").write_bytes(b"cnosuchmodule_x\nrun\n(S'x'\ntR.")
    (container / "loose" / "mine").write_bytes(pickle.dumps(Mine(), 4))
    with ampstore.FileDatabase(container) as database:
        database["set"] = {1, 2, frozenset((3,))}
    code, found = verified(container, "--globals")
    assert code == 0
    assert found["nosuchmodule_x.run"] == 1
    assert found[f"{__name__}.Mine"] == 1
    table = CliRunner().invoke(main, ["verify", str(container), "--globals"])
    assert "nosuchmodule_x.run" in table.stdout
    assert "nosuchmodule_x" not in sys.modules


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_names_the_same_globals(protocol):
    """As an unpickler that records what it is asked for sees them."""

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            asked.append((module, name))
            return super().find_class(module, name)

    import io
    from collections import OrderedDict
    from decimal import Decimal

    value = [Mine(), OrderedDict(a=Decimal("1.5")), os.getcwd, Decimal(2), complex(1, 2), Mine]
    stream = pickle.dumps(value, protocol)
    asked = []
    Recorder(io.BytesIO(stream)).load()
    assert list(globals_of(stream)) == asked


@pytest.mark.parametrize("stream", [b"\x80\x04\x8c\x02os2\x8c\x06system\x93.", b"\x80\x02\x82\x01.", b"no pickle", b""])
def test_names_that_are_put_together_otherwise_are_said_to_be_unknown(stream):
    """Never silently nothing: a reader of the list must see that something could not be read."""
    assert UNKNOWN in list(globals_of(stream))
