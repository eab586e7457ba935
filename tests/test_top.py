"""Runs tell of themselves in the store, and `ampstore top` shows them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from ampstore import Data, FileDatabase, Store
from ampstore.cli import main
from ampstore.data import runs as told
from ampstore.overview import Watch, seconds, state_of

PROGRAM = """
import sys, time
from ampstore import Data

def calculate(image, key):
    open("at-" + key, "x").close()
    if key != "0":
        time.sleep(600)
    return image

Data("numbers", calculator=calculate).calculate_items({str(n): n for n in range(10)}, {"cores": 1})
"""


def half(image, key):
    if image % 2:
        raise ValueError(f"{image} is odd")
    return image / 2


@pytest.fixture
def calculated(tmp_path):
    """A container in which ten images were calculated and five of them failed."""
    data = Data(tmp_path / "halves", calculator=half)
    data.calculate_items({str(n): n for n in range(10)}, on_error="collect")
    data.close()
    return tmp_path / "halves.ampdb"


def test_a_run_notes_what_it_did_and_what_failed(calculated):
    """Total, done, failed, and the first reasons."""
    with FileDatabase(calculated, "r") as database:
        (run,) = told.runs(database.store)
        assert (run.total, run.done, run.failed, run.ended) == (10, 5, 5, True)
        assert min(run.failures) == ["1", "ValueError: 1 is odd"]
        assert run.place.endswith(f":{os.getpid()}")
        assert not [name for name in database.store.info() if name.startswith("run")]


def test_a_run_that_finds_everything_there_notes_nothing(calculated):
    """A simulation that asks at every step does not write."""
    data = Data(calculated, calculator=half)
    data.calculate_items({str(n): n for n in range(0, 10, 2)})
    data.close()
    with FileDatabase(calculated, "r") as database:
        assert len(told.runs(database.store)) == 1


def test_old_notes_go(tmp_path):
    """Only so many are kept, the newest."""
    with Store(tmp_path / "a.db") as store:
        for number in range(told.MOST + 5):
            clock = iter([float(number), float(number)]).__next__
            told.Telling(f"host:1:x-1:{number}", 1, store.note, clock).tell(0, [], 0)
            told.forget_old(store)
        kept = told.runs(store)
        assert len(kept) == told.MOST
        assert kept[-1].started == 5.0


def test_notes_that_are_none_are_passed_over(tmp_path):
    """A store from elsewhere may hold anything."""
    with Store(tmp_path / "a.db") as store:
        for number, text in enumerate(["", "[]", "{}", '{"program": 1, "started": "x"}', "[" * 100_000, "null"]):
            store.note(f"run {number}", text)
        assert told.runs(store) == []


def test_top_shows_a_run_at_work_and_one_that_was_killed(tmp_path):
    """From another process, while it calculates; and after kill -9."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=tmp_path)
    try:
        while not (tmp_path / "at-1").exists() and process.poll() is None:
            time.sleep(0.02)
        seen = Watch(lambda: FileDatabase(tmp_path / "numbers", "r")).look()
        (one,) = seen.runs
        assert (one.state, one.run.total, seen.entries) == ("at work", 10, 1)
        assert one.claims > 0
        assert seen.working
        shown = CliRunner().invoke(main, ["top", str(tmp_path / "numbers"), "--once"])
        assert "1 entries" in shown.output
        assert "1 at work" in shown.output
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = Watch(lambda: FileDatabase(tmp_path / "numbers", "r")).look()
    assert killed.runs[0].state == "killed"


def test_rate_and_time_left_come_from_two_looks(calculated):
    """Entries more, by seconds between."""
    times = iter([0.0, 2.0])
    watch = Watch(lambda: FileDatabase(calculated, "r"), clock=lambda: next(times))
    watch.look()
    with FileDatabase(calculated) as database:
        database.update({f"more {n}": n for n in range(8)})
    assert watch.look().rate == 4.0


def test_top_ends_when_nobody_is_at_work_any_more(calculated):
    """So it can stand in a script; a document a line with --json."""
    shown = CliRunner().invoke(main, ["top", str(calculated), "--json"])
    assert shown.exit_code == 0
    (line,) = shown.output.splitlines()
    facts = json.loads(line)
    assert (facts["entries"], facts["claimed"], facts["runs"][0]["failed"]) == (5, 0, 5)


def test_top_of_nothing_is_a_usage_error(tmp_path):
    """As for every command."""
    assert CliRunner().invoke(main, ["top", str(tmp_path / "nothing")]).exit_code == 2


def test_a_run_of_another_machine_is_silent_after_a_while():
    """Nobody can know more: its process is not here, its claims have gone."""
    facts = ("elsewhere:1:other-1:x", "job.py", 0.0, time.time() - 3600, False, 10, 1, 0, [])
    assert state_of(told.Run(*facts), 0) == "silent"
    assert state_of(told.Run(*facts), 3) == "at work"


@pytest.mark.parametrize(("count", "text"), [(None, "?"), (42, "42 s"), (300, "5 min"), (11520, "3.2 h")])
def test_times_are_for_people(count, text):
    """Short, with a unit."""
    assert seconds(count) == text
