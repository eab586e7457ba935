"""A worker that talks as Amp's do: does not flush its handshake, REQ socket, pickled dicts.

Run as `python amp_worker.py [MODE] NUMBER HOST:PORT`, where MODE is what goes wrong.
"""

import os
import signal
import sys
import time


def main():
    *mode, number, address = sys.argv[1:]
    mode = mode[0] if mode else "data"
    if mode == "mute":
        time.sleep(600)
    if mode == "garbage":
        while True:
            print("\x00\xff nonsense " * 50)
            time.sleep(0.01)
    if mode == "early":
        print("no such module", file=sys.stderr)
        sys.exit(5)
    print("<amp-connect>")  # not flushed
    print(f"/tmp/worker-{number}.log<stderr>")
    if mode == "silent":
        time.sleep(600)
    if mode == "half":
        import socket

        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as end:
            end.sendall(b"\xff\x00\x00\x00")
        time.sleep(0.2)
        sys.exit(6)
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.connect(f"tcp://{address}")

    def message(subject, data=None):
        return {"id": number, "subject": subject, "data": data}

    def ask(name):
        socket.send_pyobj(message("<request>", name))
        return socket.recv_pyobj()

    if mode == "bytes":
        socket.send(b"cos\nsystem\n(S'touch /tmp/ampstore-was-here'\ntR.")
        socket.recv()
        sys.exit(7)
    if mode == "huge":
        socket.send(bytes(3_000_000))
        socket.recv()
    if mode == "stranger":
        socket.send_pyobj({"id": "77", "subject": "<result>", "data": {"wrong": 1}})
        assert socket.recv() == b""
    if mode == "twice":
        second = context.socket(zmq.REQ)
        second.connect(f"tcp://{address}")
        second.send_pyobj([1, 2, 3])
        assert second.recv() == b""
    socket.send_pyobj(message("<purpose>"))
    purpose = socket.recv_pyobj()
    if mode == "loss":
        publisher = ask("publisher")
        subscriber = context.socket(zmq.SUB)
        subscriber.connect(f"tcp://{publisher}")
        subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        socket.send_pyobj(message("setup complete"))
        socket.recv_string()
        while subscriber.recv_pyobj() != "test message":
            pass
        socket.send_pyobj(message("subscriber working"))
        socket.recv_string()
        while True:
            vector = subscriber.recv_pyobj()
            if isinstance(vector, str):
                continue
            socket.send_pyobj(message("result", {"loss": float(sum(vector)), "pid": os.getpid()}))
            socket.recv_string()
    factor = ask("factor")
    images = ask("images")
    if mode == "dies" and number == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    results = {}
    for left, key in zip(range(len(images) - 1, -1, -1), images):
        results[key] = [purpose, factor * images[key]]
        if left % 100 == 0:
            socket.send_pyobj(message("<info>", left))
            socket.recv_string()
    socket.send_pyobj(message("<result>", results))
    socket.recv_string()
    if mode == "doubles":
        socket.send_pyobj(message("<result>", results))
        assert socket.recv() == b""


main()
