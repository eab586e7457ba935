"""Messages between a master and workers, by ZMQ; nothing that arrives is unpickled but by the safe rule.

plain     the sockets of Amp's own protocol: unmodified workers of Amp talk to them
secure    ampstore's own: encrypted, both ends known to each other by keys
"""

from typing import TYPE_CHECKING

from ampstore.messages.dictionary import MessageDictionary

if TYPE_CHECKING:
    from ampstore.messages.plain import Master as Master
    from ampstore.messages.plain import plain_master as plain_master
    from ampstore.messages.plain import plain_publisher as plain_publisher
    from ampstore.messages.secure import Client as Client
    from ampstore.messages.secure import Keys as Keys
    from ampstore.messages.secure import Server as Server

_HOMES = {
    "Client": "secure",
    "Keys": "secure",
    "Master": "plain",
    "Server": "secure",
    "plain_master": "plain",
    "plain_publisher": "plain",
}

__all__ = ["MessageDictionary", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    """ZMQ is imported by those who use it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as err:
        if err.name != "zmq":
            raise
        from ampstore.errors import WorkerError

        raise WorkerError("workers that are reached by messages need ZMQ: pip install 'ampstore[parallel]'") from err
