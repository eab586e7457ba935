"""F25: whoever speaks to the sockets of a run, and hosts that say too much, nothing, or die."""

import random
import socket

import pytest
import test_messages
import test_parallel
import test_remote
from test_messages import client_of, closed, received, server  # noqa: F401 - server is a fixture
from test_remote import cluster, mute, nothing_is_left  # noqa: F401 - fixtures


@pytest.mark.fault("F25", "random bytes, half a greeting, a key that was not handed out, a frame of a gigabyte")
def test_who_is_no_worker_changes_nothing(fault, server, tmp_path, monkeypatch):  # noqa: F811
    """The master goes on and hears those only that it admitted."""
    known = client_of(tmp_path / "server", server.admit("node1 1"))
    greeting = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE" + b"\0" * 47
    chance = random.Random(fault.seed)
    gigabyte = b"\x02" + (1 << 30).to_bytes(8) + b"x" * 100_000  # a long frame of ZeroMQ that claims as much
    for number in range(fault.times(100, 20_000)):
        data = chance.choice((b"", greeting, greeting[: chance.randrange(64)], greeting + gigabyte, gigabyte))
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(tmp_path / "server"))
            try:
                end.sendall(data + chance.randbytes(chance.randrange(5000)))
            except OSError:
                pass
        fault.injected()
        if number % 20 == 0:
            known.send(b"result", str(number).encode())
            if received(server, 20) != [("node1 1", [b"result", str(number).encode()])]:
                fault.wrong(f"after {number} intrusions the master does not hear its worker")
    closed(known)
    test_messages.test_frames_are_bounded(tmp_path / "b", monkeypatch) if (tmp_path / "b").mkdir() is None else None
    fault.injected()


@pytest.mark.fault("F25", "workers that die before and after their result, one after another")
def test_the_work_of_workers_that_die_is_done_by_others(fault, tmp_path, monkeypatch):
    """Every result once."""
    test_parallel.test_a_job_of_a_worker_that_died_is_done_by_another(tmp_path, monkeypatch)
    test_parallel.test_killing_workers_one_after_another_loses_nothing()
    fault.injected(4)


@pytest.mark.fault("F25", "an intruder on the port of a node, banners, a host that never answers or is not there")
def test_hosts_that_misbehave_are_named_in_time(fault, cluster, mute, caplog):  # noqa: F811
    """The others do the work."""
    test_remote.test_banners_greetings_and_slow_logins_do_no_harm(cluster)
    test_remote.test_a_host_that_accepts_and_never_answers_is_given_up_in_time(cluster, mute)
    fault.injected(3)
    if fault.long:
        test_remote.test_an_intruder_on_the_port_gets_nothing_and_changes_nothing(cluster, caplog)
        fault.injected(6)
