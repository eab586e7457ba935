"""A witness of durable commits: their number, kept beside the store.

With durability "full" every transaction counts itself in the store, and once it is on the disk the
number is noted in `NAME-commits`. A store that counts less than its witness has lost commits that
were acknowledged, or is an older copy. The other way round means nothing: the note is made last.

A power cut gives no false alarm, since only what is on the disk is noted; nor do a copy or a move
without the witness, writers of durability "normal" and plain sqlite3, which count nothing.
"""

import os
from typing import NamedTuple

_SIZE = 64  # one sector, so that it is written as a whole


class Note(NamedTuple):
    """Id of a store, and how many durable commits it has had."""

    store: str
    commits: int


class Witness:
    """The file beside one store.

    Parameters
    ----------
    path : str
        The store.
    """

    def __init__(self, path: str) -> None:
        self.path = f"{path}-commits"

    def read(self) -> Note | None:
        """What was noted, None if nothing was, or nothing that makes sense."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            return _parse(os.pread(descriptor, _SIZE, 0))
        except OSError:  # as if it were not there: it only warns, and must not stop a commit
            return None
        finally:
            os.close(descriptor)

    def note(self, note: Note) -> None:
        """Note a number of commits, unless a larger one of the same store is there.

        Raises
        ------
        OSError
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o666)  # umask decides
        try:
            # No lock: two notes at one moment may leave the smaller number, until the next one.
            was = _parse(os.pread(descriptor, _SIZE, 0))
            if was is None or was.store != note.store or was.commits < note.commits:
                os.pwrite(descriptor, f"{note.store[:40]} {note.commits}".ljust(_SIZE - 1).encode() + b"\n", 0)
        finally:
            os.close(descriptor)


def _parse(data: bytes) -> Note | None:
    parts = data.split()
    if len(parts) != 2 or not parts[1].isdigit():
        return None
    return Note(parts[0].decode("ascii", "replace"), int(parts[1]))
