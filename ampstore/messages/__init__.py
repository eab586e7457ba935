"""Messages between a master and workers, by ZMQ; nothing that arrives is unpickled but by the safe rule.

plain     the sockets of Amp's own protocol: unmodified workers of Amp talk to them
secure    ampstore's own: encrypted, both ends known to each other by keys
"""

from typing import TYPE_CHECKING

from ampstore.late import late_names
from ampstore.messages.dictionary import MessageDictionary

if TYPE_CHECKING:
    from ampstore.messages.plain import Master as Master
    from ampstore.messages.plain import plain_master as plain_master
    from ampstore.messages.plain import plain_publisher as plain_publisher
    from ampstore.messages.secure import Client as Client
    from ampstore.messages.secure import Keys as Keys
    from ampstore.messages.secure import Server as Server

_HOMES = {
    "Client": "messages.secure",
    "Keys": "messages.secure",
    "Master": "messages.plain",
    "Server": "messages.secure",
    "plain_master": "messages.plain",
    "plain_publisher": "messages.plain",
}

__all__ = ["MessageDictionary", *_HOMES]  # noqa: PLE0604

_late = late_names(__name__, _HOMES)


def __getattr__(name: str) -> object:
    """ZMQ is imported by those who use it."""
    try:
        return _late(name)
    except ModuleNotFoundError as err:
        if err.name != "zmq":
            raise
        from ampstore.errors import WorkerError

        raise WorkerError("workers that are reached by messages need ZMQ: pip install 'ampstore[parallel]'") from err
