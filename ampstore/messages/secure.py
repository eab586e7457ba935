"""Messages between a master and its agents on nodes: encrypted, and each end sure of the other.

    server   ROUTER, one; has a key pair of its own and a list of the keys that it admits
    client   DEALER, one on each node; gets its key pair, and the server's public key, on its stdin

All of it is CURVE (Curve25519), which ZMQ does below the messages. A message says by whose key it came,
so nobody can speak for another; who has no key can neither read nor send anything.
"""

import contextlib
from typing import NamedTuple

import zmq
from zmq.utils import z85

from ampstore.messages.plain import LINGER, largest_message

_DOMAIN = b"ampstore"
_ZAP = "inproc://zeromq.zap.01"  # where ZMQ asks whether a key is admitted


class Keys(NamedTuple):
    """What a client must have; text.

    Attributes
    ----------
    server : str
        Public key of the server.
    public, secret : str
        Key pair of the client.
    """

    server: str
    public: str
    secret: str


class Server:
    """The master's end.

    Used by one thread.

    Parameters
    ----------
    path : str
        Where to listen, a Unix socket.
    """

    def __init__(self, path: str) -> None:
        self._context = zmq.Context()
        self._admission = self._context.socket(zmq.REP)
        self._admission.bind(_ZAP)
        public, secret = zmq.curve_keypair()
        self._public = public
        self._names: dict[bytes, str] = {}  # by public key, raw
        self._routes: dict[str, bytes] = {}
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.curve_server = True
        self._socket.curve_secretkey = secret
        self._socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
        self._socket.setsockopt(zmq.LINGER, LINGER)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, largest_message())
        self._socket.bind(f"ipc://{path}")
        self._poller = zmq.Poller()
        self._poller.register(self._admission, zmq.POLLIN)
        self._poller.register(self._socket, zmq.POLLIN)

    def admit(self, name: str) -> Keys:
        """Keys for a new client, which will be known by this name."""
        public, secret = zmq.curve_keypair()
        self._names[z85.decode(public)] = name
        return Keys(self._public.decode(), public.decode(), secret.decode())

    def forget(self, name: str) -> None:
        """Admit a client no more; what it still sends is dropped."""
        self._names = {key: known for key, known in self._names.items() if known != name}
        self._routes.pop(name, None)

    def send(self, name: str, *parts: bytes) -> None:
        """Send a message to a client that has been heard of."""
        if name in self._routes:
            self._socket.send_multipart([self._routes[name], *parts])

    def receive(self, timeout: float) -> list[tuple[str, list[bytes]]]:
        """Messages that are there, or come within so many seconds, with the names of those who sent them."""
        for socket, _ in self._poller.poll(int(1000 * timeout) + 1 if timeout else 0):
            if socket is self._admission:
                self._decide()
        found = []
        with contextlib.suppress(zmq.Again):
            while True:
                route, *parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
                name = str(parts[0].get("User-Id")) if parts else ""
                if name in self._names.values():
                    self._routes[name] = route.bytes
                    found.append((name, [part.bytes for part in parts]))
        return found

    def _decide(self) -> None:
        version, request, _, _, _, mechanism, *credentials = self._admission.recv_multipart()
        name = self._names.get(credentials[0]) if mechanism == b"CURVE" and credentials else None
        answer = [b"400", b"no such key", b""] if name is None else [b"200", b"", name.encode()]
        self._admission.send_multipart([version, request, *answer, b""])

    def close(self) -> None:
        """Close. Closing twice is fine."""
        self._socket.close()
        self._admission.close(0)
        self._context.term()


class Client:
    """The end on a node.

    Used by one thread.

    Parameters
    ----------
    address : str
        "host:port"
    keys : Keys
    """

    def __init__(self, address: str, keys: Keys) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.curve_serverkey = keys.server.encode()
        self._socket.curve_publickey = keys.public.encode()
        self._socket.curve_secretkey = keys.secret.encode()
        self._socket.setsockopt(zmq.LINGER, LINGER)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, largest_message())
        self._socket.connect(f"tcp://{address}")

    def fileno(self) -> int:
        """Descriptor that becomes readable when there may be something to receive; all of it must be taken then."""
        return int(self._socket.fileno())

    def send(self, *parts: bytes) -> None:
        """Send a message."""
        self._socket.send_multipart(parts)

    def receive(self, timeout: float = 0.0) -> list[list[bytes]]:
        """Messages that are there, or come within so many seconds."""
        found = []
        if self._socket.poll(int(1000 * timeout)):
            with contextlib.suppress(zmq.Again):
                while True:
                    found.append(self._socket.recv_multipart(zmq.NOBLOCK))
        return found

    def close(self) -> None:
        """Close when everything has been sent, after `LINGER` at the latest."""
        self._socket.close()
        self._context.term()
