"""Drop-in for the stdlib module: `import ampstore.shelve as shelve`.

Shelve to the letter, trust in its own file included: it stores objects of the program's own
classes, and reading a file that somebody else made can run what that somebody put there.
`ampstore.open` is the safe door.
"""

import shelve as _stdlib

from ampstore import shelf as _shelf
from ampstore.codec import ANYTHING as _ANYTHING
from ampstore.store import Flag as _Flag

__all__ = ["BsdDbShelf", "DbfilenameShelf", "Shelf", "open"]

Shelf = _stdlib.Shelf
BsdDbShelf = _stdlib.BsdDbShelf
DbfilenameShelf = _shelf.Shelf


def open(  # noqa: A001 - the name that shelve has
    filename: _shelf.Filename, flag: _Flag = "c", protocol: int | None = None, writeback: bool = False
) -> _shelf.Shelf:
    """Open a persistent dictionary for any picklable value; see the module about trust.

    Parameters are those of `shelve.open`; the file is an ampstore store.
    """
    return _shelf.open(filename, flag, protocol, writeback, allow=_ANYTHING)
