"""Python's garbage collector, paused while a large value is built."""

import contextlib
import gc
from collections.abc import Iterator

LARGE = 64 << 10
"""Bytes of a stream from which on it pays."""


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Pause the collector: it would walk thousands of new lists again and again, and find nothing."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
