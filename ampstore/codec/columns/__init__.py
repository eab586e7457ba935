"""Typed columns: values of atomistic programs as one stream in which like stands with like.

A pickle tells the type of every number again and puts the 9 bytes of one float next to those of
another. Columns tell a type once per level and lay numbers out as zstd likes them:

    [("Cu", [1.5, 0.0]), ("Pt", [2.5, 3.5])]
       list    2 items
       tuple   2 fields
       str     table Cu Pt, indices 0 1
       list    lengths 2 2
       float   1.5 0.0 2.5 3.5: exact zeros as bits, the others as byte planes
               (all first bytes, then all second bytes, and so on)

The very same value comes back: `float` or `numpy.float64`, tuple or list, order, every bit of a
NaN. A value that holds other types, or one list, dict or array twice (pickle keeps it one), does
not fit, and `encode` says so with None. docs/columns.md specifies the bytes.

What surprised us: the fastest way to learn that 380,000 objects are all floats *and* to get at their
bytes is `marshal`: 4.4 ms. To ask for their types alone takes 7.2 ms, `numpy.fromiter` 7.1 more.

Every item takes at least one byte of the stream, so a hostile one cannot ask for more than about
250 bytes of memory per byte of its own.
"""

from ampstore.codec.columns.read import decode
from ampstore.codec.columns.write import encode, gains

__all__ = ["decode", "encode", "gains"]
