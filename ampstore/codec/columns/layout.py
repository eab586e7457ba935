"""Constants of the format, and byte planes.

planes of 0x0102 0x0304 (little-endian 02 01 04 03)    01 03 02 04
"""

import struct
import sys
from array import array
from typing import Any

HEADER = b"C1"
DEEPEST = 16
FEWEST_FIELDS = 2  # tuples of one field in each other would be backed by the bytes of the innermost only
MOST_FIELDS = 8  # longer tuples are sequences, not records
MOST_TYPES = 255
MOST_AXES = 8
FEWEST_SCALARS = 1200  # smaller values are faster as pickles
LEVELS_TO_LOOK = 4
FEWEST_ZEROS = 16  # one float in so many must be +0.0 for zeros to be kept as bits
FEWEST_OTHERS = 8  # and one in so many must not: every item takes a byte at least

INTEGERS = "BbHhIiqQ"
"""Codes of whole numbers, as struct and NumPy name those of standard size; the first that fits is taken."""
DTYPES = "?bBhHiIqQefdFD"
WIDTH = {code: struct.calcsize("<" + code) for code in "?bBhHiIqQefd"} | {"F": 8, "D": 16}

PACKED = "K"
"""Code of rows of few small whole numbers, each row as one byte."""
WIDEST_ROW = 8
MOST_ROWS = 256  # different rows that a byte can tell

Items = list[Any]

_RANGES = [
    (code, 0, 256 ** WIDTH[code] - 1)
    if code.isupper()
    else (code, -(256 ** WIDTH[code]) // 2, 256 ** WIDTH[code] // 2 - 1)
    for code in INTEGERS
]


def smallest(lowest: int, highest: int) -> str:
    """Code of the first type of whole numbers that has this range."""
    for code, least, most in _RANGES:
        if least <= lowest and highest <= most:
            return code
    raise OverflowError(f"{lowest} to {highest} is too wide for 64 bits")


def planes(data: bytes, width: int, start: int = 0, stride: int | None = None) -> bytes:
    """All highest bytes of little-endian numbers, then all second highest, and so on."""
    if width == 1:
        return data
    return b"".join([data[start + byte :: stride or width] for byte in reversed(range(width))])


def unplanes(data: bytes, width: int) -> "bytes | bytearray":
    """The numbers that `planes` took apart."""
    if width == 1:
        return data
    size = len(data) // width
    numbers = bytearray(len(data))
    for plane, byte in enumerate(reversed(range(width))):
        numbers[byte::width] = data[plane * size : (plane + 1) * size]
    return numbers


def little(numbers: "array[Any]") -> bytes:
    """Bytes of numbers, little-endian on every machine."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()
