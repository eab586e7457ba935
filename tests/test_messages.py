"""Messages: who has no key learns nothing and changes nothing; what makes no sense is dropped."""

import logging
import pickle
import random
import socket
import subprocess
import sys
import threading
import time

import pytest
import zmq

from ampstore.errors import WorkerLostError
from ampstore.messages import Client, Keys, Server, plain_master, plain_publisher

SECRET = b"positions of atoms that nobody else may see"


@pytest.fixture
def server(tmp_path):
    found = Server(str(tmp_path / "server"))
    yield found
    found.close()


def client_of(path, keys):
    """A client at the server's Unix socket itself, where the node's port leads to."""
    found = Client("127.0.0.1:9", keys)
    found._socket.disconnect("tcp://127.0.0.1:9")
    found._socket.connect(f"ipc://{path}")
    return found


def received(server, seconds=10.0, count=1):
    found, deadline = [], time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        found += server.receive(0.05)
    return found


def closed(*clients):
    for client in clients:
        client._socket.linger = 0
        client.close()


def test_those_who_are_admitted_talk(server, tmp_path):
    """The server knows by the key who speaks."""
    clients = {name: client_of(tmp_path / "server", server.admit(name)) for name in ("node1 1", "node2 2")}
    for name, client in clients.items():
        client.send(b"hello", name.encode())
    found = received(server, count=2)
    assert sorted(found) == [("node1 1", [b"hello", b"node1 1"]), ("node2 2", [b"hello", b"node2 2"])]
    server.send("node2 2", b"jobs", SECRET)
    assert clients["node2 2"].receive(10) == [[b"jobs", SECRET]]
    assert clients["node1 1"].receive(0.1) == []
    closed(*clients.values())


def other_keys(server):
    public, secret = (key.decode() for key in zmq.curve_keypair())
    return Keys(server.admit("x").server, public, secret)


def test_a_key_that_was_not_handed_out_is_not_admitted(server, tmp_path):
    """Nor is one of a client that was forgotten, and what that still sends is dropped."""
    stranger = client_of(tmp_path / "server", other_keys(server))
    stranger.send(b"result", b"k1", b"wrong")
    forgotten = client_of(tmp_path / "server", server.admit("node1 1"))
    forgotten.send(b"hello", b"1")
    assert received(server) == [("node1 1", [b"hello", b"1"])]
    server.forget("node1 1")
    forgotten.send(b"result", b"k1", b"late")
    server.send("node1 1", SECRET)
    server.send("never heard of", SECRET)
    assert received(server, seconds=0.5) == []
    assert forgotten.receive(0.1) == stranger.receive(0.1) == []
    closed(stranger, forgotten)


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER, zmq.SUB])
def test_a_socket_without_keys_gets_nothing(server, tmp_path, kind):
    """Whatever its kind; others go on."""
    context = zmq.Context()
    intruder = context.socket(kind)
    intruder.linger = 0
    intruder.connect(f"ipc://{tmp_path / 'server'}")
    if kind == zmq.SUB:
        intruder.subscribe(b"")
    else:
        intruder.send_multipart([b"result", b"k1", b"wrong"])
    client = client_of(tmp_path / "server", server.admit("node1 1"))
    client.send(b"hello", b"1")
    assert received(server) == [("node1 1", [b"hello", b"1"])]
    server.send("node1 1", SECRET)
    assert client.receive(10) == [[SECRET]]
    assert intruder.poll(200) == 0
    intruder.close()
    context.term()
    closed(client)


def test_a_server_with_another_key_gets_nothing(tmp_path):
    """A client sends to nobody but the server whose public key it was given."""
    context = zmq.Context()
    impostor = context.socket(zmq.ROUTER)
    impostor.curve_server = True
    impostor.curve_secretkey = zmq.curve_keypair()[1]
    impostor.bind(f"ipc://{tmp_path / 'impostor'}")
    real = Server(str(tmp_path / "server"))
    client = client_of(tmp_path / "impostor", real.admit("node1 1"))
    client.send(b"result", SECRET)
    assert impostor.poll(500) == 0
    closed(client)
    impostor.close(0)
    context.term()
    real.close()


def test_who_listens_on_the_way_reads_nothing(server, tmp_path):
    """All bytes of a conversation are recorded: neither messages nor secret keys are among them."""
    path, tapped = str(tmp_path / "server"), bytearray()
    listener = socket.create_server(("127.0.0.1", 0))
    keys = server.admit("node1 1")
    client = Client(f"127.0.0.1:{listener.getsockname()[1]}", keys)
    here, _ = listener.accept()
    there = socket.socket(socket.AF_UNIX)
    there.connect(path)
    threads = [threading.Thread(target=tap, args=ends) for ends in ((here, there, tapped), (there, here, tapped))]
    for thread in threads:
        thread.start()
    client.send(b"hello", SECRET)
    assert received(server) == [("node1 1", [b"hello", SECRET])]
    server.send("node1 1", b"jobs", SECRET[::-1])
    assert client.receive(10) == [[b"jobs", SECRET[::-1]]]
    closed(client)
    for thread in threads:
        thread.join()
    assert len(tapped) > 400
    for text in (SECRET, SECRET[::-1], keys.secret.encode(), b"hello"):
        assert text not in tapped
    for end in (here, there, listener):
        end.close()


def tap(source, target, record):
    try:
        while piece := source.recv(4096):
            record += piece
            target.sendall(piece)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_do_no_harm(server, tmp_path, seed):
    """Neither from the first byte on, nor after the greeting of the protocol, nor half of it."""
    rng = random.Random(seed)
    greeting = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE" + b"\0" * 47
    for start in (b"", greeting, greeting[: rng.randrange(64)]):
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(tmp_path / "server"))
            try:
                end.sendall(start + rng.randbytes(rng.randrange(1, 5000)))
            except OSError:
                pass
    client = client_of(tmp_path / "server", server.admit("node1 1"))
    client.send(b"hello", b"1")
    assert received(server) == [("node1 1", [b"hello", b"1"])]
    closed(client)


def test_frames_are_bounded(tmp_path, monkeypatch):
    """A message over the limit is never taken in."""
    monkeypatch.setenv("AMPSTORE_LARGEST_MESSAGE", "1000000")
    server = Server(str(tmp_path / "server"))
    client = client_of(tmp_path / "server", server.admit("node1 1"))
    client.send(b"hello", b"1")
    assert len(received(server)) == 1
    client.send(b"result", bytes(2_000_000))
    assert received(server, seconds=0.7) == []
    closed(client)
    server.close()
    server.close()


# -- the sockets of Amp's protocol -------------------------------------------------------------------


@pytest.fixture
def master(tmp_path):
    found = plain_master(str(tmp_path / "master"), 3)
    yield found
    found.close(0)


@pytest.fixture
def worker(master, tmp_path):
    context = zmq.Context()
    found = context.socket(zmq.REQ)
    found.linger = 0
    found.connect(f"ipc://{tmp_path / 'master'}")
    yield found
    found.close()
    context.term()


def message(worker="0", subject="<purpose>", data=None):
    return {"id": worker, "subject": subject, "data": data}


class Gadget:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('/tmp/ampstore-was-here').touch()",)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\0",
        b"garbage",
        pickle.dumps(message())[:-3],
        pickle.dumps([1, 2]),
        pickle.dumps("text"),
        pickle.dumps({"id": "0", "subject": "<purpose>"}),
        pickle.dumps({**message(), "more": 1}),
        pickle.dumps(message("3")),
        pickle.dumps(message("-1")),
        pickle.dumps(message(-1)),
        pickle.dumps(message(True)),
        pickle.dumps(message(None)),
        pickle.dumps(message("²")),
        pickle.dumps(message("9" * 5000)),
        pickle.dumps(message(subject=5)),
        pickle.dumps(message(data=Gadget())),
        pickle.dumps(Gadget()),
    ],
)
def test_what_is_no_message_is_answered_with_nothing_and_dropped(master, worker, bad, caplog):
    """The next one is taken."""
    caplog.set_level(logging.WARNING)
    worker.send(bad)
    answered = []

    def go_on():
        answered.append(worker.recv())
        worker.send_pyobj(message("2", data=5))

    thread = threading.Thread(target=go_on)
    thread.start()
    assert master.recv_pyobj() == message("2", data=5)
    thread.join()
    assert answered == [b""]
    assert master.dropped == 1
    assert "dropped" in caplog.text


def test_what_amps_workers_send_is_understood(master, worker):
    """Arrays and numbers of numpy, in any protocol; numbers of workers as text or not."""
    import numpy

    for number, protocol in (("0", 0), ("2", 2), (1, 5)):
        data = {"k": [("Cu", [0.1, numpy.float64(2)])], "a": numpy.arange(3.0)}
        worker.send_pyobj(message(number, "<result>", data), protocol=protocol)
        found = master.recv_pyobj()
        assert (found["id"], found["subject"]) == (number, "<result>")
        assert found["data"]["k"] == data["k"]
        assert found["data"]["a"].tolist() == [0.0, 1.0, 2.0]
        master.send_string("meaningless")
        assert worker.recv_string() == "meaningless"


def test_texts_are_translated_for_the_worker_that_asks(master, worker):
    """An address is another one on each node; all else is sent as it is."""
    master.translate = lambda number, text: f"{text} for {number}"
    worker.send_pyobj(message("1"))
    master.recv_pyobj()
    master.send_pyobj("address")
    assert worker.recv_pyobj() == "address for 1"
    worker.send_pyobj(message("1"))
    master.recv_pyobj()
    master.send_pyobj(["address"])
    assert worker.recv_pyobj() == ["address"]


def test_the_socket_looks_after_workers_while_it_waits(master, worker, monkeypatch):
    """Also if others talk all the time; time-outs and NOBLOCK work as with any socket."""
    looks = []

    def watch():
        looks.append(1)
        if len(looks) == 3:
            raise WorkerLostError(1, "node1", "gone")

    master.watch = watch
    with pytest.raises(WorkerLostError, match="worker 1 on node1 is lost: gone"):
        master.recv_pyobj()
    assert len(looks) == 3
    with pytest.raises(zmq.Again):
        master.recv(zmq.NOBLOCK)
    master.rcvtimeo = 50
    with pytest.raises(zmq.Again):
        master.recv()


def test_what_is_published_reaches_subscribers(master, tmp_path):
    """A PUB socket of ZMQ as any other."""
    publisher = plain_publisher(master, str(tmp_path / "publisher"))
    subscriber = zmq.Context.instance().socket(zmq.SUB)
    subscriber.connect(f"ipc://{tmp_path / 'publisher'}")
    subscriber.subscribe(b"")
    for _ in range(200):
        publisher.send_pyobj([1.0, 2.0])
        if subscriber.poll(50):
            break
    assert subscriber.recv_pyobj() == [1.0, 2.0]
    subscriber.close(0)
    publisher.close(0)


def test_the_worker_program_is_not_for_people():
    """By hand it says what it is for, and ends."""
    done = subprocess.run(
        [sys.executable, "-m", "ampstore.worker", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "nothing to start by hand" in done.stderr


def test_zmq_that_is_missing_is_named():
    """With what to install; ampstore itself goes without."""
    code = (
        "import sys; sys.modules['zmq'] = None\n"
        "import ampstore\n"
        "try: ampstore.setup_parallel({'cores': {'localhost': 1}}, 'x', print)\n"
        "except ampstore.WorkerError as err: print(err)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'ampstore[parallel]'" in done.stdout, done.stderr
