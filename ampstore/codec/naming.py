"""Names of codecs, as rows have them: how a value became the payload, from left to right.

    columns1                     stream of typed columns, as it is
    columns1+zstd                the same in one zstd frame
    vectors1+planes8+zstd:40312  numbers of 8 bytes as byte planes, zstd with the dictionary of that id

A name comes from a row, so it may be anybody's: what it is not made of is refused, and nothing is
imported for it but an installed entry point of just that name (see `ampstore.codec.plugins`).
"""

import re
from functools import lru_cache
from typing import NamedTuple

PICKLE = "pickle5"
COLUMNS = "columns1"
VECTORS = "vectors1"
PLANES = "+planes8"
ZSTD = "+zstd"
BUILTIN = frozenset((PICKLE, COLUMNS, VECTORS))

# Not compiled here: most rows have one of a few names, which are known by heart.
BASE = r"[a-z][a-z0-9_.-]{0,63}"
_NAME = rf"({BASE})(\+planes8)?(?:(\+zstd)(?::([1-9][0-9]{{0,9}}))?)?"


class Name(NamedTuple):
    """A name taken apart.

    Attributes
    ----------
    base : str
        What made the stream of the value.
    planes : bool
        Whether the numbers of the stream were laid out as byte planes.
    zstd : bool
    dictionary : int
        Id of the dictionary, 0 if there is none.
    """

    base: str
    planes: bool
    zstd: bool
    dictionary: int

    def __str__(self) -> str:
        ending = ZSTD if self.zstd else ""
        return self.base + (PLANES if self.planes else "") + ending + (f":{self.dictionary}" if self.dictionary else "")


@lru_cache(maxsize=256)
def parse(name: str) -> Name:
    """Parts of a name.

    Raises
    ------
    ValueError
        If it is none.
    """
    found = re.fullmatch(_NAME, name) if isinstance(name, str) else None
    if not found:
        raise ValueError(f"unknown codec {name!r:.80}; a newer ampstore may know it")
    base, planes, zstd, dictionary = found.groups()
    return Name(base, bool(planes), bool(zstd), int(dictionary or 0))
