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

from ampstore.late import late_names

if TYPE_CHECKING:
    from ampstore.data.data import Data as Data
    from ampstore.parallel import Failure as Failure

_HOMES = {"Data": "data.data", "Failure": "parallel"}

__all__ = [*_HOMES]  # noqa: PLE0604

__getattr__ = late_names(__name__, _HOMES)
