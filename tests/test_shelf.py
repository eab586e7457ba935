"""ampstore.open and ampstore.shelve beside the stdlib module, with CPython's own tests of it."""

import dbm.dumb
import os
import shelve
import subprocess
import sys
import unittest

import pytest

import ampstore
import ampstore.shelve
from ampstore.errors import ForbiddenGlobalError


class Ours:
    """A class of the program's own."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is Ours and other.value == self.value

    def __hash__(self):
        return hash(self.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shelf.db"


def test_readme_example_works(path):
    """A shelf is a dictionary that stays."""
    with ampstore.open(path) as shelf:
        shelf["a1b2"] = [("Cu", [0.1, 0.2])]
    with ampstore.open(path, "r") as shelf:
        assert dict(shelf) == {"a1b2": [("Cu", [0.1, 0.2])]}
    assert os.listdir(path.parent) == ["shelf.db"]


def test_a_shelf_is_a_shelve_shelf(path):
    """Programs ask with isinstance."""
    with ampstore.open(path) as shelf:
        assert isinstance(shelf, shelve.Shelf)
    with ampstore.shelve.open(path) as shelf:
        assert isinstance(shelf, ampstore.shelve.Shelf)
        assert isinstance(shelf, ampstore.shelve.DbfilenameShelf)


@pytest.mark.parametrize("make", [str, os.fsencode, lambda path: path], ids=["str", "bytes", "Path"])
def test_filename_may_be_text_bytes_or_a_path(path, make):
    """As in shelve; the file has exactly this name."""
    ampstore.open(make(path)).close()
    assert path.exists()


@pytest.mark.parametrize("opener", [ampstore.open, ampstore.shelve.open], ids=["open", "shelve"])
class TestFlags:
    """Flags mean exactly what they mean to shelve."""

    def test_r_needs_a_store_and_does_not_write(self, path, opener):
        """Reading creates nothing; the error is one that `except dbm.error` catches."""
        with pytest.raises(OSError):
            opener(path, "r")
        assert not path.exists()
        opener(path).close()
        with opener(path, "r") as shelf, pytest.raises(OSError):
            shelf["a"] = 1

    def test_w_needs_a_store(self, path, opener):
        """And keeps what is in it."""
        with pytest.raises(OSError):
            opener(path, "w")
        with opener(path, "c") as shelf:
            shelf["a"] = 1
        with opener(path, "w") as shelf:
            shelf["b"] = 2
            assert dict(shelf) == {"a": 1, "b": 2}

    def test_c_creates_or_keeps(self, path, opener):
        """The default."""
        with opener(path) as shelf:
            shelf["a"] = 1
        with opener(path, "c") as shelf:
            assert dict(shelf) == {"a": 1}

    def test_n_always_starts_empty(self, path, opener):
        """Also where there was something."""
        with opener(path, "n") as shelf:
            shelf["a"] = 1
        with opener(path, "n") as shelf:
            assert dict(shelf) == {}

    def test_an_unknown_flag_is_an_error(self, path, opener):
        """As in dbm."""
        with pytest.raises(ValueError, match="flag"):
            opener(path, "x")


def test_without_writeback_changes_inside_values_are_not_kept(path):
    """The documented surprise of shelve."""
    with ampstore.open(path) as shelf:
        shelf["a"] = [1]
        shelf["a"].append(2)
        assert shelf["a"] == [1]


def test_writeback_keeps_changes_at_sync_and_close(path):
    """Through every way of getting at a value."""
    with ampstore.open(path, writeback=True) as shelf:
        shelf.update(a=[1], b=[1], c=[1], d=[1])
        shelf["a"].append(2)
        shelf.sync()
        with ampstore.open(path, "r") as other:
            assert other["a"] == [1, 2]
        shelf["a"].append(3)
        for value in shelf.values():
            value.append("all")
        shelf.get("b").append("get")
        shelf.setdefault("e", []).append("default")
        shelf["c"].append("popped")
        assert shelf.pop("c") == [1, "all", "popped"]
        del shelf["d"]
        assert "d" not in shelf
    with ampstore.open(path) as shelf:
        assert dict(shelf) == {"a": [1, 2, 3, "all"], "b": [1, "all", "get"], "e": ["default"]}


def test_writeback_does_not_write_what_did_not_change(path, raw):
    """Closing a shelf that was only read leaves every row as it was."""
    with ampstore.open(path) as shelf:
        shelf.update({str(n): [n] for n in range(20)})
    before = raw(path, "select * from entry")
    with ampstore.open(path, writeback=True) as shelf:
        assert sum(value[0] for value in shelf.values()) == 190
    assert raw(path, "select * from entry") == before


def test_writeback_of_a_read_only_shelf_closes_without_writing(path):
    """Shelve fails here; there is nothing to write."""
    with ampstore.open(path) as shelf:
        shelf["a"] = [1]
    with ampstore.open(path, "r", writeback=True) as shelf:
        shelf["a"].append(2)
    with ampstore.open(path) as shelf:
        assert shelf["a"] == [1]


def test_closed_shelf_raises_value_error(path):
    """The error and its words are those of shelve."""
    shelf = ampstore.open(path, writeback=True)
    shelf["a"] = 1
    shelf.close()
    shelf.close()
    uses = [
        lambda: shelf["a"],
        lambda: shelf.__setitem__("a", 1),
        lambda: "a" in shelf,
        lambda: len(shelf),
        lambda: list(shelf),
        lambda: list(shelf.items()),
        lambda: shelf.pop("a"),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()


def test_protocol_is_accepted_and_checked(path):
    """It changes nothing in the file: streams are protocol 5."""
    for protocol in range(6):
        with ampstore.open(path, protocol=protocol) as shelf:
            shelf["a"] = protocol
            assert shelf["a"] == protocol
    with pytest.raises(ValueError, match="protocol"):
        ampstore.open(path, protocol=77)


def test_open_is_safe_by_default_and_shelve_is_shelve(path):
    """Two doors: one refuses objects of unknown classes, the other stores them without a word."""
    with ampstore.shelve.open(path) as shelf:
        shelf["ours"] = [Ours(1)]
        assert shelf["ours"] == [Ours(1)]
    with ampstore.open(path) as shelf:
        with pytest.raises(ForbiddenGlobalError, match=Ours.__module__):
            shelf["ours"]
        with pytest.raises(ForbiddenGlobalError, match="allow="):
            shelf["more"] = Ours(2)
        assert "more" not in shelf
    with ampstore.open(path, allow=[Ours.__module__]) as shelf:
        shelf["more"] = Ours(2)
        assert dict(shelf) == {"ours": [Ours(1)], "more": Ours(2)}


def test_an_open_shelf_at_exit_loses_nothing_and_says_nothing(path):
    """Without close and without with, also under writeback."""
    program = f"""
import ampstore
shelf = ampstore.open({str(path)!r}, writeback=True)
shelf["a"] = [1]
shelf["a"].append(2)
other = ampstore.open({str(path)!r})
other["b"] = 1
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    with ampstore.open(path) as shelf:
        assert shelf["b"] == 1
        assert shelf["a"] == [1, 2]


def test_deleting_a_shelf_closes_it(path):
    """As shelve's destructor does."""
    shelf = ampstore.open(path, writeback=True)
    shelf["a"] = [1]
    shelf["a"].append(2)
    del shelf
    with ampstore.open(path) as shelf:
        assert shelf["a"] == [1, 2]


# -- CPython's own tests -----------------------------------------------------------------------

test_shelve = pytest.importorskip("test.test_shelve", reason="this Python has no `test` package")


class Stand:
    """The shelve module as the tests see it: everything of the stdlib, but `open` is ours."""

    def __init__(self, opener):
        self.open = opener

    def __getattr__(self, name):
        return getattr(shelve, name)


def cpython_cases():
    """Every test of test_shelve that opens a file, and the mapping tests on such shelves."""
    for name, cls in vars(test_shelve).items():
        if isinstance(cls, type) and issubclass(cls, unittest.TestCase):
            for test in unittest.defaultTestLoader.getTestCaseNames(cls):
                if name == "TestCase" or "File" in name:
                    yield pytest.param(cls, test, id=f"{name}.{test}")


@pytest.mark.parametrize("opener", [ampstore.open, ampstore.shelve.open], ids=["open", "shelve"])
@pytest.mark.parametrize(("cls", "test"), list(cpython_cases()))
def test_cpython_test_of_shelve_passes(cls, test, opener, monkeypatch, tmp_path):
    """test.test_shelve from this interpreter, with our open in the place of shelve's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(test_shelve, "shelve", Stand(opener))
    result = unittest.TestResult()
    cls(test).run(result)
    problems = [*result.errors, *result.failures]
    assert not problems, problems[0][1]
    assert result.testsRun == 1


def test_cpython_has_enough_tests_to_mean_something():
    """A changed layout of test_shelve must not leave us with nothing."""
    assert len(list(cpython_cases())) > 20


def test_an_old_shelf_of_the_same_name_is_pointed_out(tmp_path, caplog):
    """dbm.dumb appends to the name, so the old entries would seem to be gone."""
    with shelve.Shelf(dbm.dumb.open(str(tmp_path / "old"))) as old:
        old["a"] = [1]
    with ampstore.open(tmp_path / "old") as new:
        assert "old.dat" in caplog.text and "copies it over" in caplog.text
        new.update(shelve.Shelf(dbm.dumb.open(str(tmp_path / "old"), "r")))
        assert dict(new) == {"a": [1]}
    caplog.clear()
    ampstore.open(tmp_path / "old").close()
    ampstore.open(tmp_path / "other").close()
    assert not caplog.records
