"""What a caller lets values name besides what is safe; `ampstore.codec.safe` says what that is and holds to it.

A module of its own, since most values are no pickles: a store is opened, listed and read without `safe`.
"""

from collections.abc import Iterable
from typing import Literal

Anything = Literal["*"]
Allowed = Iterable[str] | Anything
ANYTHING: Anything = "*"


def checked(allow: Allowed) -> tuple[str, ...] | Anything:
    """The names, to be gone through as often as one likes.

    Parameters
    ----------
    allow : iterable of str or "*"
        Packages ("mypkg"), modules ("mypkg.types") or single names ("mypkg.types.Thing"). "*" admits everything.

    Raises
    ------
    TypeError
        If `allow` is a text other than "*" (a list was meant).
    """
    if not isinstance(allow, str):
        return tuple(allow)
    if allow == ANYTHING:
        return ANYTHING
    raise TypeError(f'allow={allow!r}: give a list, allow=["{allow}"], or "*" for everything')
