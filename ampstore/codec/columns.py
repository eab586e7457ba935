"""Typed columns: values of atomistic programs as one stream in which like stands with like.

A pickle tells the type of every number again and puts 9 bytes of one float next to those of
another. Columns tell a type once per level and lay numbers out as zstd and NumPy like them:

    [("Cu", [1.5, 0.0]), ("Pt", [2.5, 3.5])]
       list    2 items
       tuple   of 2 fields
       str     table "Cu" "Pt", indices 0 1
       list    lengths 2 2
       float   1.5 0.0 2.5 3.5: exact zeros as bits, the rest as byte planes
               (all first bytes, then all second bytes, ...)

The very same value comes back: `float` or `numpy.float64`, tuple or list, order, every bit of a
NaN. What is not made of the types below, shares a list, dict, array or tuple with itself, or is too
small to gain, does not fit, and `encode` says so with None. docs/columns.md specifies the bytes.

What surprised us: the fastest way to learn that 380,000 objects are all floats *and* to get at their
bytes is `marshal`, 4.4 ms; asking their types alone takes 7.2 ms, `numpy.fromiter` another 7.1.

Every item of a column takes at least one byte of the stream, so that a hostile stream cannot ask
for more than about 200 bytes of memory per byte of its own.
"""

import marshal
import struct
import sys
from array import array
from collections.abc import Callable, Iterable
from functools import cache
from itertools import accumulate, chain, compress
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy
    import numpy.typing

__all__ = ["decode", "encode"]

HEADER = b"C1"
DEEPEST = 16
MOST_FIELDS = 8  # longer tuples are sequences, not records
MOST_AXES = 8

INTEGERS = "BbHhIiqQ"
"""Codes of integers, as struct and NumPy name them with standard sizes; the first that fits is taken."""
DTYPES = "?bBhHiIqQefdFD"
_RANGES = [(code, *((0, 256**size - 1) if code.isupper() else (-(256**size) // 2, 256**size // 2 - 1)))
           for code in INTEGERS for size in [struct.calcsize("<" + code)]]

Items = list[Any]


class _Misfit(Exception):
    """The value is none for columns."""


def encode(value: object) -> bytes | None:
    """Stream of a value, or None if it does not fit.

    Equal values (types, order, bits) have equal streams.
    """
    if not _promising(value, DEEPEST):
        return None
    writer = _Writer()
    try:
        writer.column([value], DEEPEST)
    except _Misfit:
        return None
    return HEADER + b"".join(writer.parts)


def decode(stream: bytes) -> object:
    """Value of a stream, a fresh object at every call.

    Raises
    ------
    ValueError
        If the bytes are not a stream that `encode` could have made.
    """
    if stream[:2] != HEADER:
        raise ValueError("no columns of version 1")
    reader = _Reader(stream)
    try:
        (value,) = reader.column(1, DEEPEST)
    except (TypeError, OverflowError, MemoryError) as err:
        raise ValueError(f"columns: {err}") from err
    if reader.position != len(stream):
        raise ValueError(f"{len(stream) - reader.position} bytes after the end of the columns")
    return value
