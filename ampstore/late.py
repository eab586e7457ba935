"""What is imported late: names of packages when they are first used, and stdlib logging.

`import ampstore` and the first get of a program are to be there at once, so a package names what it has, and imports
it for the first who asks. Logging takes as long to import as to open a store and get an entry.

What surprises: nothing of the log is lost by it. Who wants to see what ampstore logs has imported logging to say so; as
long as nobody has, there is nobody who listens.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import logging


def late_names(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """The `__getattr__` of a package (PEP 562) whose names live in modules that it does not import itself.

    Parameters
    ----------
    package : str
        Its `__name__`.
    homes : mapping of str to str
        Module of each name, as it is called within ampstore: "store", "transfer.copying".
    """

    def look_up(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f"ampstore.{homes[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return look_up


def late_logger(name: str) -> "logging.Logger":
    """What `logging.getLogger(name)` gives, to be used as it is.

    Parameters
    ----------
    name : str
        Of the module that logs.
    """
    return cast("logging.Logger", _LateLogger(name))


@functools.cache
def package_logger() -> "logging.Logger":
    """The logger of the whole package; its records go nowhere unless a program gives it a handler."""
    import logging

    logger = logging.getLogger("ampstore")
    logger.addHandler(logging.NullHandler())
    return logger


class _LateLogger:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        if "logging" not in sys.modules:
            return _nobody_listens
        import logging

        package_logger()
        return getattr(logging.getLogger(self._name), attribute)


def _nobody_listens(*_: object, **__: object) -> None:
    """In the place of warning, info, isEnabledFor, ..."""
