"""Claims: many owners, one calculation of each key, whatever the clocks do."""

import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from ampstore.codec import Codec
from ampstore.database import FileDatabase
from ampstore.owner import has_ended, new_owner
from ampstore.store import Store
from ampstore.store.claims import LONGEST_LEASE, Claims

ELSEWHERE = "elsewhere:1:abc-1:f00"


class Clock:
    """Monotonic time that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Machine:
    """A store whose database has a clock of its own, and claimants with theirs."""

    def __init__(self, path):
        self.store = Store(path)
        self.wall = time.time()
        self.clock = Clock()
        self.set_database_clock()

    def set_database_clock(self):
        days = lambda *_: self.wall / 86400 + 2440587.5  # noqa: E731
        self.store.backend.connection().create_function("julianday", 1, days)

    def claims(self, lease=60.0):
        found = Claims(lambda: self.store, lease, clock=self.clock)
        found.owner = (
            f"elsewhere:{random.randrange(10**6)}:abc-1:{os.urandom(8).hex()}"  # no process that can be looked at
        )
        return found

    def pass_time(self, seconds):
        self.wall += seconds
        self.clock.now += seconds


@pytest.fixture
def machine(tmp_path):
    found = Machine(tmp_path / "a.db")
    yield found
    found.store.close()


def blob(value):
    return Codec().encode(value)


def test_a_key_is_claimed_by_one(machine):
    """The second claimant sees that the key is another's."""
    a, b = machine.claims(), machine.claims()
    assert a.take(["x", "y"], 1) == (["x"], [], [], 1)
    assert b.take(["x", "y"], 2) == (["y"], [], ["x"], 2)


def test_take_says_which_keys_are_stored(machine):
    """A key with a value is not claimed."""
    machine.store["x"] = 1
    assert machine.claims().take(["x", "y"], 5) == (["y"], ["x"], [], 2)


def test_take_looks_no_further_than_it_must(machine):
    """Keys behind the last one that was claimed are left for the next call."""
    taken = machine.claims().take([str(n) for n in range(10_000)], 300)
    assert taken.mine == [str(n) for n in range(300)]
    assert taken.seen == 300


def test_storing_gives_the_claim_back_in_the_same_transaction(machine, raw):
    """After put there is an entry and no claim."""
    a = machine.claims()
    a.take(["x"], 1)
    assert a.put([("x", blob(5))]) == []
    assert machine.store["x"] == 5
    assert raw(machine.store.path, "SELECT count(*) FROM claim") == [(0,)]


def test_an_expired_claim_is_taken_over_and_its_token_rises(machine, raw):
    """Taking over needs a claim that has expired and that nobody renewed for half a lease."""
    a, b = machine.claims(), machine.claims()
    a.take(["x"], 1)
    assert b.take(["x"], 1).others == ["x"]
    machine.pass_time(61)
    assert b.take(["x"], 1).mine == ["x"]
    assert raw(machine.store.path, "SELECT owner, token FROM claim") == [(b.owner, 2)]


def test_renewed_claims_last(machine):
    """An owner that lives keeps its keys for ever."""
    a, b = machine.claims(), machine.claims()
    a.take(["x"], 1)
    for _ in range(20):
        machine.pass_time(15)
        assert a.renew() == 1
        assert b.take(["x"], 1).others == ["x"]


def test_a_late_result_is_stored_if_it_is_the_first(machine):
    """The work of an owner that was stopped is not thrown away; the new owner's is not stored twice."""
    a, b = machine.claims(), machine.claims()
    a.take(["x"], 1)
    b.take(["x"], 1)
    machine.pass_time(61)
    assert b.take(["x"], 1).mine == ["x"]
    assert a.put([("x", blob("first"))]) == []
    assert b.put([("x", blob("second"))]) == ["x"]
    assert machine.store["x"] == "first"


def test_a_late_result_is_fenced_if_it_is_not_the_first(machine):
    """What was stored meanwhile stays."""
    a, b = machine.claims(), machine.claims()
    a.take(["x"], 1)
    b.take(["x"], 1)
    machine.pass_time(61)
    b.take(["x"], 1)
    b.put([("x", blob("first"))])
    assert a.put([("x", blob("late"))]) == ["x"]
    assert machine.store["x"] == "first"


def test_a_late_owner_does_not_release_the_claim_of_the_next(machine, raw):
    """Giving back is by token."""
    a, b = machine.claims(), machine.claims()
    a.take(["x"], 1)
    b.take(["x"], 1)
    machine.pass_time(61)
    b.take(["x"], 1)
    a.release(["x"])
    a.release()
    assert raw(machine.store.path, "SELECT owner FROM claim") == [(b.owner,)]


def test_an_owner_that_slept_learns_what_it_lost(machine):
    """After a stop longer than the lease, `holds` asks the store."""
    a, b = machine.claims(), machine.claims()
    a.take(["x", "y"], 2)
    b.take(["x"], 1)
    machine.pass_time(61)
    assert b.take(["x"], 1).mine == ["x"]
    assert not a.holds("x")
    assert a.holds("y")
    assert a.take(["x"], 1).others == ["x"]


@pytest.mark.parametrize("jump", [10 * 365 * 86400, -10 * 365 * 86400, 3600.0, -3600.0])
def test_a_jump_of_the_wall_clock_neither_doubles_nor_blocks_a_claim(machine, jump):
    """An owner that lives keeps its key through the jump; one that is gone loses it in bounded time."""
    a, b = machine.claims(), machine.claims()
    a.take(["x"], 1)
    machine.wall += jump
    for _ in range(20):
        assert b.take(["x"], 1).others == ["x"]
        machine.pass_time(15)
        a.renew()
    machine.wall += jump
    waited = 0
    while not b.take(["x"], 1).mine:
        machine.pass_time(15)
        waited += 15
        assert waited <= 2 * LONGEST_LEASE
    assert waited >= 30


def test_a_claim_of_a_process_that_ended_is_free_at_once(tmp_path):
    """A killed program on the same machine keeps nobody waiting."""
    program = (
        "import sys, os\nfrom ampstore.store import Store\n"
        f"claims = Store({str(tmp_path / 'a.db')!r}).claims()\n"
        "claims.take(['x', 'y'], 2)\nprint(claims.owner, flush=True)\nos.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert has_ended(done.stdout.strip())
    with Store(tmp_path / "a.db") as store:
        assert store.claims().take(["x", "y"], 2).mine == ["x", "y"]


def test_who_has_ended_is_never_guessed():
    """A living process, another machine and a name that says nothing count as alive."""
    assert not has_ended(new_owner())
    assert not has_ended(ELSEWHERE)
    assert not has_ended("somebody")
    host, pid, birth, name = new_owner().rsplit(":", 3)
    machine, start = birth.split("-")
    assert has_ended(f"{host}:{pid}:{machine}-{int(start) - 1}:{name}")  # the number was given to another process


def test_claims_are_renewed_while_one_calculation_lasts(tmp_path):
    """A thread renews; the claim outlives its lease."""
    with Store(tmp_path / "a.db") as store:
        mine = store.claims(lease=0.4)
        with mine.kept():
            mine.take(["x"], 1)
            other = store.claims(lease=0.4)
            other.take(["x"], 1)
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                assert other.take(["x"], 1).others == ["x"]
                threading.Event().wait(0.05)
        assert mine.put([("x", blob(1))]) == []


def test_a_container_that_is_removed_takes_its_claims_along(tmp_path):
    """Renewing and giving back bring no removed container back."""
    import shutil

    with FileDatabase(tmp_path / "a") as database:
        claims = database.claims()
        claims.take(["x"], 1)
        shutil.rmtree(tmp_path / "a.ampdb")
        assert claims.renew() == 0
        claims.release()
        assert not (tmp_path / "a.ampdb").exists()


def test_a_loose_value_of_a_legacy_program_is_not_overwritten_by_a_late_result(tmp_path):
    """What Amp wrote meanwhile is the first value."""
    from ampstore.legacy import LegacyDatabase

    with FileDatabase(tmp_path / "a") as database:
        claims = database.claims()
        claims.take(["x"], 1)
        LegacyDatabase(tmp_path / "a")["x"] = "Amp's"
        assert claims.put([("x", blob("late"))]) == ["x"]
        assert database["x"] == "Amp's"


@pytest.mark.parametrize("lease", [0, -1, LONGEST_LEASE + 1, float("nan")])
def test_a_lease_must_be_sensible(tmp_path, lease):
    """Leases are positive and at most an hour."""
    with Store(tmp_path / "a.db") as store, pytest.raises(ValueError, match="lease"):
        store.claims(lease)


def claim_and_count(path, start, found):
    with Store(path) as store:
        claims = store.claims()
        start.wait(30)
        mine = []
        keys = [str(n) for n in range(400)]
        while keys:
            taken = claims.take(keys, 7)
            mine += taken.mine
            keys = keys[taken.seen :]
        found.put((os.getpid(), mine))
        start.wait(30)  # a process that ended would lose its claims


@pytest.mark.parametrize("processes", [6, pytest.param(64, marks=pytest.mark.soak)])
def test_every_key_is_claimed_once_by_many_processes(tmp_path, processes):
    """Claimants that start together share 400 keys without overlap and without gap."""
    Store(tmp_path / "a.db").close()
    context = multiprocessing.get_context("spawn")
    start, found = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=claim_and_count, args=(tmp_path / "a.db", start, found)) for _ in range(processes)
    ]
    for process in started:
        process.start()
    try:
        shares = [found.get(timeout=5 * processes + 60)[1] for _ in started]
        for process in started:
            process.join(30)
    finally:
        for process in started:
            process.kill()
            process.join()
    everything = [key for share in shares for key in share]
    assert sorted(everything) == sorted(str(n) for n in range(400))


def test_statements_use_the_clock_of_the_database_only(tmp_path):
    """Times of expiry come from SQL."""
    with Store(tmp_path / "a.db") as store:
        store.claims(lease=100).take(["x"], 1)
        connection = sqlite3.connect(tmp_path / "a.db")
        (expires,) = connection.execute("SELECT expires_at FROM claim").fetchone()
        connection.close()
    assert abs(expires - time.time() - 100) < 10
