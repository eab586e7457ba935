"""The judge sees what it is there to see."""

import contextlib
import sqlite3

import pytest

from ampstore import Store
from faults.acknowledged import Acknowledged
from faults.judge import judge


@pytest.fixture
def told(tmp_path):
    """A store of three entries and the log of who wrote them."""
    log = Acknowledged(tmp_path / "log")
    with Store(tmp_path / "a.db") as store:
        for key in "abc":
            with log.writing({key: [key] * 20}):
                store[key] = [key] * 20
        log.begin({"d": 4})
        with log.writing({"gone": None}):
            store.pop("gone", None)
    log.close()
    return tmp_path / "a.db", [tmp_path / "log"]


def test_a_sound_store_is_passed(told):
    """What was begun and not acknowledged may be absent."""
    assert judge(*told).survived


def test_begun_values_may_be_there(told):
    """A kill between the commit and the acknowledgement."""
    with Store(told[0]) as store:
        store["d"] = 4
    assert judge(*told).survived


def test_a_lost_entry_is_seen(told):
    """Deleted behind ampstore's back."""
    with contextlib.closing(sqlite3.connect(told[0])) as connection:
        connection.execute("DELETE FROM entry WHERE key = 'b'")
        connection.execute("UPDATE info SET value = value + 1 WHERE name = 'gaps'")
        connection.commit()
    verdict = judge(*told)
    assert (verdict.lost, verdict.wrong) == (1, 0)


@pytest.mark.parametrize(("key", "value"), [("a", ["b"] * 20), ("d", 5), ("gone", 1), ("stray", 1)])
def test_a_wrong_value_is_seen(told, key, value):
    """Another one than was written, one that was deleted, a key that nobody wrote."""
    with Store(told[0]) as store:
        store[key] = value
    verdict = judge(*told)
    assert (verdict.lost, verdict.wrong) == (0, 1)


def test_damage_is_seen_unless_it_was_done_on_purpose(told):
    """Verify has to name the key in both cases."""
    with contextlib.closing(sqlite3.connect(told[0])) as connection:
        connection.execute("UPDATE entry SET payload = zeroblob(length(payload)) WHERE key = 'b'")
        connection.commit()
    verdict = judge(*told)
    assert (verdict.lost, verdict.wrong) == (1, 1)
    assert judge(*told, damaged=["b"]).survived


def test_half_a_transaction_is_seen(told):
    """Keys that were written together."""
    assert not judge(*told, together=lambda key: "missing" if key == "a" else None).survived


def test_a_file_that_cannot_be_opened_is_seen(told):
    """Not a crash of the judge."""
    told[0].write_bytes(b"no database at all" * 100)
    assert not judge(*told).survived
