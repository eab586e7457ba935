r"""`%.15f` of many numbers at once, digit for digit what Python's own formatting gives.

Formatting digits is what hashing costs: Python needs 0.2 to 0.4 us for each number. Here the fraction is
scaled to an integer in extended precision and its digits are looked up four at a time:

    -12.25  ->  "-\012" | ".250" | "0000" | "0000" | "0000"      the zero byte is dropped at the end

The product fraction * 10**15 has an error below 2**-15 there (64 bits of mantissa), so the nearest integer is
certain unless the product lies that close to a half; those numbers, one in thousands, are rounded in exact
integer arithmetic. Without extended precision (`EXACT` is false) the caller formats one by one.
"""

from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[numpy.float64]

WIDTH = 20
"""Bytes of one number's field, with zero bytes where there is no sign or digit."""

LARGEST = 999.0
"""Absolute values from here on have no place in the field (one below 1000: rounding may carry)."""

_SURE = 0.4999

_max = numpy.maximum.reduce  # the method goes through a function in Python

EXACT = bool(numpy.longdouble(1) + numpy.longdouble(2) ** -63 > 1)
"""Whether this machine's long double has the 64 bits that the error bound needs."""


def _table() -> "NDArray[numpy.uint32]":
    """Four bytes each: 1000 x (plain, negative) integer parts, 10,000 x four digits, 1000 x point and three."""
    whole = [sign + b"%d" % n for n in range(1000) for sign in (b"\0", b"-")]
    padded = [text[:1] + text[1:].rjust(3, b"\0") for text in whole]
    four = [b"%04d" % n for n in range(10000)]
    dot = [b".%03d" % n for n in range(1000)]
    return numpy.frombuffer(b"".join((*padded, *four, *dot)), numpy.uint32)


_TABLE = _table()
_SECTIONS = numpy.array([0, 12000, 2000, 2000, 2000])
_SCALE = numpy.longdouble(10**15)


def fields(numbers: "Floats") -> bytes | None:
    """Fields of `WIDTH` bytes for an array; None if one number is not finite or too large.

    `text(fields(numbers))` is `("%.15f" * n) % tuple(numbers)`, and so is any slice at multiples of `WIDTH`.
    """
    if not len(numbers):
        return b""
    size = numpy.abs(numbers)
    if not _max(size) < LARGEST:  # also where it is NaN
        return None
    whole = size.astype(numpy.int64)
    fraction = size - whole
    scaled = fraction.astype(numpy.longdouble)
    scaled *= _SCALE
    nearest = numpy.rint(scaled)
    scaled -= nearest
    digits = nearest.astype(numpy.int64)
    doubt = numpy.abs(scaled, out=scaled)
    if _max(doubt) > _SURE:
        for n in numpy.flatnonzero(doubt > _SURE):
            digits[n] = _rounded(float(fraction[n]))
    if _max(digits) == 10**15:
        carry = digits == 10**15
        whole += carry
        digits[carry] = 0
    index = numpy.empty((len(numbers), 5), numpy.int64)
    halves = numpy.empty((len(numbers), 2), numpy.int64)
    upper = halves[:, 0] = digits // 10**8
    halves[:, 1] = digits - upper * 10**8
    high = halves // 10**4
    index[:, 1::2] = high
    index[:, 2::2] = halves - high * 10**4
    index[:, 0] = 2 * whole + numpy.signbit(numbers)
    index += _SECTIONS
    return _TABLE.take(index).tobytes()


def text(part: bytes) -> bytes:
    """The digits in fields or in a slice of them."""
    return part.translate(None, b"\0")


def _rounded(fraction: float) -> int:
    """Nearest integer of fraction * 10**15, ties to even."""
    above, below = fraction.as_integer_ratio()
    quotient, rest = divmod(above * 10**15, below)
    return quotient + (2 * rest > below or (2 * rest == below and quotient % 2 == 1))
