"""The package's use of stdlib logging, without its import, which takes as long as to open a store and get an entry.

What surprises: nothing is lost by it. Who wants to see what ampstore logs has imported logging to say so; as long as
nobody has, there is nobody who listens.
"""

import functools
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import logging


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
