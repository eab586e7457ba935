"""One contract for every store: SQLite, PostgreSQL, the legacy layout, the container, the container of a URL.

What holds for all of them is written down here once; what only one of them does is in its own module.
"""

import datetime
import pickle

import pytest

from ampstore import FileDatabase, LegacyDatabase, Store
from ampstore import open as open_shelf
from ampstore.errors import AmpstoreError

KINDS = ["sqlite", "postgresql", "legacy", "container", "server database", "shelf", "shelf on postgresql"]

VALUES = {
    "none": None,
    "text": "\0 ü 日本 \ud800",
    "bytes": bytes(range(256)),
    "numbers": [0, -1, 2**70, 1.5, -0.0, float("inf"), 1j],
    "nested": {"a": [(1, {"b": {2, 3}})], None: ()},
    "time": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    "fingerprint": [("Cu", [0.1, 0.25, -0.5]), ("O", [1e-300, 0.0])],
    "empty": [],
}


@pytest.fixture(params=KINDS)
def reopen(request, tmp_path):
    """Function that opens the same database again."""
    kind = request.param
    place = tmp_path / "a.db"
    if "postgresql" in kind or "server" in kind:
        place = request.getfixturevalue("postgres").url(request.getfixturevalue("schema"))
    make = {"legacy": LegacyDatabase, "container": FileDatabase, "server database": FileDatabase}.get(kind, Store)
    return open_shelf if "shelf" in kind else make, place


@pytest.fixture
def database(reopen):
    make, place = reopen
    opened = make(place)
    yield opened
    opened.close()


def again(reopen):
    make, place = reopen
    return make(place)


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back_equal_fresh_and_after_reopening(database, reopen, name):
    """Whatever is in them."""
    value = VALUES[name]
    database["k"] = value
    first, second = database["k"], database["k"]
    assert first == second == value
    assert type(first) is type(value)
    assert first is not second or not isinstance(value, list | dict)
    database.close()
    other = again(reopen)
    assert other["k"] == value
    other.close()


@pytest.mark.parametrize("key", ["a", "ü", "日本", "😀", "%s", "a b", "'", '"', "k" * 200, "$1", "A"])
def test_text_is_a_key(database, key):
    """Only this very key."""
    database[key] = 1
    assert database[key] == 1
    assert key in database
    assert list(database) == [key]
    assert key.swapcase() == key or key.swapcase() not in database
    del database[key]
    assert key not in database
    assert len(database) == 0


@pytest.mark.parametrize("key", ["a\0b", "\ud800", "k" * 5000])
def test_an_awkward_key_is_stored_or_refused_by_name_and_read_as_absent(database, key):
    """Never half, and no foreign error."""
    assert key not in database
    assert database.get(key, 7) == 7
    with pytest.raises(KeyError):
        del database[key]
    try:
        database[key] = 1
    except AmpstoreError as err:
        assert isinstance(err, ValueError)
        assert list(database) == []
    else:
        assert database[key] == 1
        assert list(database) == [key]


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_a_key_that_is_no_text_is_refused_at_write_and_absent_at_read(database, key):
    """As in Amp and in shelve: TypeError, KeyError, False."""
    with pytest.raises(TypeError):
        database[key] = 1
    assert key not in database
    with pytest.raises(KeyError):
        database[key]
    assert len(database) == 0


def test_missing_keys_are_key_errors(database):
    """Of the key alone."""
    with pytest.raises(KeyError) as caught:
        database["nope"]
    assert caught.value.args == ("nope",)
    with pytest.raises(KeyError):
        del database["nope"]
    assert database.get("nope") is None


def test_methods_of_a_mapping_do_what_a_dict_does(database):
    """Beside a dict; only the order is free."""
    oracle = {}
    for mapping in (database, oracle):
        mapping.update({"a": 1, "b": 2}, c=3)
        mapping["a"] = 5
        assert mapping.setdefault("e", 6) == 6
        assert mapping.setdefault("a", 7) == 5
        assert mapping.pop("b") == 2
        assert mapping.pop("b", "none") == "none"
        with pytest.raises(KeyError):
            mapping.pop("b")
    assert dict(database.items()) == oracle
    assert set(database.keys()) == set(oracle)
    assert sorted(database.values()) == sorted(oracle.values())
    assert len(database) == len(oracle)
    key, value = database.popitem()
    assert oracle[key] == value
    database.clear()
    assert len(database) == 0
    assert not list(database)


def test_many_entries_are_stored_and_asked_for_at_once(database):
    """More than one query or transaction takes."""
    pairs = {f"k{n}": [n] for n in range(1100)}
    database.update(pairs)
    assert len(database) == 1100
    assert dict(database.items()) == pairs
    database.update({f"k{n}": "new" for n in range(600)})
    assert len(database) == 1100
    assert database["k599"] == "new"
    assert database["k600"] == [600]


def test_two_handles_see_each_others_writes_at_once(database, reopen):
    """No handle has a state of its own."""
    other = again(reopen)
    try:
        database["a"] = 1
        assert other["a"] == 1
        other["a"] = 2
        other["b"] = 3
        assert database["a"] == 2
        assert len(database) == 2
        del other["a"]
        assert "a" not in database
    finally:
        other.close()


def test_iteration_goes_on_while_entries_are_written(database):
    """What was there and stayed comes once."""
    database.update({f"k{n}": n for n in range(50)})
    seen = []
    for key in database:
        seen.append(key)
        if not key.startswith("new"):
            database[f"new{key}"] = 1
    assert len(seen) == len(set(seen))
    assert {f"k{n}" for n in range(50)} <= set(seen)


def test_a_refused_value_changes_nothing(database):
    """What cannot be stored leaves the old value."""
    database["a"] = 1
    with pytest.raises((TypeError, pickle.PicklingError, AmpstoreError)):
        database["a"] = lambda: None
    assert database["a"] == 1


def test_a_handle_pickles_as_its_place(database):
    """For workers."""
    database["a"] = 1
    if hasattr(database, "cache"):
        pytest.skip("a shelf holds unsaved values and does not pickle")
    copy = pickle.loads(pickle.dumps(database))
    assert copy["a"] == 1
    copy.close()
