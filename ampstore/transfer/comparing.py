"""Two entries of one key: the same, or not.

Equal checksums are equal streams, so equal values, however they were compressed. Unequal ones of one codec are
unequal values, as far as stores go: nothing is decoded. Where the codecs differ, or one side is a legacy file, the
values decide; where a value may not be read, the entries count as different.
"""

from ampstore.backend import Head
from ampstore.codec import same
from ampstore.errors import AmpstoreError
from ampstore.transfer.sides import Side

DIGEST = 16


def equal(a: Head, one: Side, b: Head, other: Side) -> bool:
    """Whether two sides have the same value under the key of two heads."""
    if a.checksum[:DIGEST] == b.checksum[:DIGEST]:
        return True
    if one.exact and other.exact and _base(a) == _base(b):
        return False
    try:
        return same(_value(a, one), _value(b, other))
    except (AmpstoreError, KeyError):
        return False


def _base(head: Head) -> str:
    return head.codec.partition("+")[0]


def _value(head: Head, side: Side) -> object:
    for row in side.rows([head]):
        return side.codec.decode(row.key, row.codec, row.size, row.checksum, row.payload)
    raise KeyError(head.key)
