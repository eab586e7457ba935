"""Data: results by image, calculated where they are missing, each durable as soon as it is there.

data         the class that programs use
calculator   anything that calculates, as one function of image and key
task         one run: what to hand out, what to store and when
sinks        where results go: with claims, or into any shelve-like database
interrupts   Ctrl-C and SIGTERM, answered between two writes
progress     a bar on a terminal, a line a minute in a log

Workers import `calculator` only, and with it no database: that halves the time they take to start.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampstore.data.data import Data as Data
    from ampstore.parallel import Failure as Failure

__all__ = ["Data", "Failure"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ampstore.data.data import Data
    from ampstore.parallel import Failure

    return {"Data": Data, "Failure": Failure}[name]
