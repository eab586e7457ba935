"""F25: whoever speaks to the sockets of a run, and hosts that say too much, nothing, or die."""

import os
import random
import select
import socket
import threading

import pytest
import test_messages
import test_parallel
import test_remote
from test_messages import client_of, closed, received, server  # noqa: F401 - server is a fixture
from test_remote import cluster, mute, nothing_is_left  # noqa: F401 - fixtures

from ampstore.parallel import worker


@pytest.mark.fault("F25", "random bytes, half a greeting, a key that was not handed out, a frame of a gigabyte")
def test_who_is_no_worker_changes_nothing(fault, server, tmp_path, monkeypatch):  # noqa: F811
    """The master goes on and hears those only that it admitted."""
    known = client_of(tmp_path / "server", server.admit("node1 1"))
    greeting = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE" + b"\0" * 47
    chance = random.Random(fault.seed)
    gigabyte = b"\x02" + (1 << 30).to_bytes(8) + b"x" * 100_000  # a long frame of ZeroMQ that claims as much
    for number in range(fault.times(100, 8000)):
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


@pytest.mark.fault("F25", "all bytes that a worker sent, sent once more")
def test_what_was_recorded_and_is_sent_again_is_not_heard(fault, server, tmp_path):  # noqa: F811
    """A connection has keys of its own, so the bytes of another one say nothing to it."""
    recorded, path = bytearray(), tmp_path / "between"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    passing = threading.Thread(target=pass_on, args=(listener, tmp_path / "server", recorded))
    passing.start()
    worker = client_of(path, server.admit("node1 1"))
    worker.send(b"result", b"k1", b"once")
    assert received(server) == [("node1 1", [b"result", b"k1", b"once"])]
    closed(worker)
    passing.join(30)
    listener.close()
    assert len(recorded) > 300
    for _ in range(fault.times(3, 150)):
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(tmp_path / "server"))
            end.sendall(recorded)
            if heard := received(server, 0.2):
                fault.wrong(f"the master heard {heard}")
        fault.injected()
    known = client_of(tmp_path / "server", server.admit("node2 2"))
    known.send(b"hello")
    if received(server, 20) != [("node2 2", [b"hello"])]:
        fault.wrong("the master does not hear its worker any more")
    closed(known)


def pass_on(listener, to, recorded):
    """One connection, with a copy of all that its client says."""
    near, _ = listener.accept()
    with near, socket.socket(socket.AF_UNIX) as far:
        far.connect(str(to))
        while ready := select.select([near, far], [], [], 20)[0]:
            for end in ready:
                data = end.recv(1 << 16)
                if not data:
                    return
                (far if end is near else near).sendall(data)
                if end is near:
                    recorded += data


def dies(image, key):
    """The worker of image 5 dies before, within or after the frame with its result; once."""
    mark = os.environ["AMPSTORE_TEST_MARK"]
    if image == 5 and not os.path.exists(mark):
        open(mark, "w").close()
        send = worker.send_frame

        def send_and_die(end, frame):
            if mark.endswith("within"):
                end.sendall(len(frame).to_bytes(8) + frame[: len(frame) // 2])
            elif mark.endswith("after"):
                send(end, frame)
            os._exit(7)

        worker.send_frame = send_and_die
    return image


@pytest.mark.parametrize("when", ["before", "within", "after"])
@pytest.mark.fault("F25", "a worker dies exactly before, within or after its result")
def test_a_worker_that_dies_around_its_result_costs_nothing_but_time(fault, tmp_path, monkeypatch, when):
    """Every result once, nothing failed."""
    for number in range(fault.times(1, 10)):
        monkeypatch.setenv("AMPSTORE_TEST_MARK", str(tmp_path / f"{number} {when}"))
        work = test_parallel.in_processes(dies, 20)  # which fails where a result comes twice
        fault.injected()
        if not (tmp_path / f"{number} {when}").exists() or work.failures:
            fault.wrong(f"{work.failures}")
        if work.results != {f"k{n}": n for n in range(20)}:
            fault.lost(f"{sorted(work.results)}")


@pytest.mark.fault("F25", "workers that are killed at random, one after another")
def test_the_work_of_workers_that_die_is_done_by_others(fault):
    """Every result once."""
    test_parallel.test_killing_workers_one_after_another_loses_nothing()
    fault.injected(9)


@pytest.mark.fault("F25", "an intruder on the port of a node, banners, a host that never answers or is not there")
def test_hosts_that_misbehave_are_named_in_time(fault, cluster, mute, caplog):  # noqa: F811
    """The others do the work."""
    test_remote.test_banners_greetings_and_slow_logins_do_no_harm(cluster)
    test_remote.test_a_host_that_accepts_and_never_answers_is_given_up_in_time(cluster, mute)
    fault.injected(3)
    if fault.long:
        test_remote.test_an_intruder_on_the_port_gets_nothing_and_changes_nothing(cluster, caplog)
        fault.injected(6)
