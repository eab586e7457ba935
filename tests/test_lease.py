"""A lease among hosts: one holder, whatever the delays, and a dead one is succeeded."""

import os
import subprocess
import sys
import threading

import pytest

from ampstore.errors import BusyError
from ampstore.lease import Lease

ELSEWHERE = b"other:17:0123456789ab-99:feed 000000000001"


class Clock:
    """A monotonic clock that the test moves."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def numbers(directory):
    return sorted(name for name in os.listdir(directory))


def test_one_holder_at_a_time_and_each_has_a_higher_token(tmp_path):
    """The token, which fences, grows with every holder, and one file is left."""
    first, second = Lease(tmp_path), Lease(tmp_path)
    assert first.try_acquire()
    assert not second.try_acquire()
    token = first.token
    first.release()
    assert second.try_acquire()
    assert second.token == token + 1
    second.release()
    assert numbers(tmp_path) == [f"maintainer.{token + 1}"]


def test_a_silent_holder_of_another_host_is_succeeded_after_the_lease_and_not_before(tmp_path, clock):
    """Only the taker's own clock counts, from its first look on."""
    (tmp_path / "maintainer.4").write_bytes(ELSEWHERE)
    os.utime(tmp_path / "maintainer.4", (0, 0))
    lease = Lease(tmp_path, 10, clock=clock)
    for clock.now in (100, 105, 110):
        assert not lease.try_acquire()
    clock.now = 110.1
    assert lease.try_acquire()
    assert lease.token == 5
    lease.release()


def test_a_heartbeat_keeps_the_lease(tmp_path, clock):
    """Any change of the file, content or time, starts the wait anew."""
    file = tmp_path / "maintainer.4"
    file.write_bytes(ELSEWHERE)
    lease = Lease(tmp_path, 10, clock=clock)
    for beat in range(5):
        file.write_bytes(ELSEWHERE[:-1] + b"%d" % beat)
        clock.now += 9
        assert not lease.try_acquire()


def test_who_lost_the_lease_learns_it_before_the_commit(tmp_path, clock):
    """`check` fails for a holder that slept while another one took over, and harms that one not."""
    sleeper, taker = Lease(tmp_path, 10), Lease(tmp_path, 10, clock=clock)
    assert sleeper.try_acquire()
    (tmp_path / f"maintainer.{sleeper.token}").write_bytes(ELSEWHERE)
    taker.try_acquire()
    clock.now += 11
    assert taker.try_acquire()
    with pytest.raises(BusyError, match="took over"):
        sleeper.check()
    sleeper.release()
    taker.check()
    taker.release()


def test_a_taker_that_was_slow_does_not_disturb_later_holders(tmp_path):
    """What it saw free was taken, given back and taken again; its own file is not the highest any more."""
    slow, quick, third = Lease(tmp_path), Lease(tmp_path), Lease(tmp_path)
    assert quick.try_acquire()
    quick.release()
    seen = slow._look()
    assert quick.try_acquire()
    quick.release()
    assert third.try_acquire()
    slow._look = lambda: seen
    assert not slow.try_acquire()
    third.check()
    third.release()


def test_a_holder_of_this_machine_that_ended_is_succeeded_at_once(tmp_path):
    """Its process number and start say so: nobody waits for the lease."""
    program = "import sys, pathlib; from ampstore.lease import Lease; Lease(pathlib.Path(sys.argv[1])).acquire(1)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
    lease = Lease(tmp_path)
    assert lease.try_acquire()
    lease.release()


def test_of_many_takers_one_wins(tmp_path):
    """Threads with leases of their own, all at once, again and again: never two holders."""
    holders, most, lock = [0], [0], threading.Lock()

    def take():
        lease = Lease(tmp_path)
        for _ in range(30):
            if lease.try_acquire():
                with lock:
                    holders[0] += 1
                    most[0] = max(most[0], holders[0])
                lease.check()
                with lock:
                    holders[0] -= 1
                lease.release()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


def test_a_wait_for_the_lease_is_bounded(tmp_path):
    """After the time-out there is an error that says how to go on."""
    first, second = Lease(tmp_path), Lease(tmp_path)
    with first.held(1), pytest.raises(BusyError, match="timeout="):
        second.acquire(0.05)
