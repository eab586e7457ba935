"""What is known of the SQLite that is linked, and of who holds a file of it; changes nothing."""

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

LINKED = tuple(int(part) for part in sqlite3.sqlite_version.split("."))
"""Version of the SQLite library that Python uses here."""

Version = tuple[int, ...]


class Bug(NamedTuple):
    """A bug of SQLite that a store could meet.

    Attributes
    ----------
    name : str
    first : tuple of int
        First version that has it.
    mended : tuple of tuple of int
        Versions that mended it, one for each line of releases; later lines have none of it.
    says : str
        What it does, and what ampstore does about it.
    """

    name: str
    first: Version
    mended: tuple[Version, ...]
    says: str

    def is_in(self, version: Version) -> bool:
        """Whether a version has it."""
        if version < self.first or version >= max(self.mended):
            return False
        return not any(version[:2] == fixed[:2] and version >= fixed for fixed in self.mended)


BUGS = (
    Bug(
        "WAL-reset race",
        (3, 7, 0),
        ((3, 44, 6), (3, 50, 7), (3, 51, 3)),
        "a PASSIVE checkpoint beside a commit can lose commits; ampstore never runs one, but a plain sqlite3 that "
        "writes to a store does: open it with -readonly",
    ),
    Bug(
        "CVE-2022-35737",
        (3, 0, 0),
        ((3, 39, 2),),
        "texts over 2 GB can overflow a buffer; an entry of a store has at most 1 GB",
    ),
    Bug(
        "CVE-2025-6965",
        (3, 0, 0),
        ((3, 50, 2),),
        "SQL that an attacker writes can corrupt memory; ampstore runs its own statements only",
    ),
)


def bugs() -> list[Bug]:
    """Those that the linked SQLite has."""
    return [bug for bug in BUGS if bug.is_in(LINKED)]


def holders(path: Path) -> dict[int, str]:
    """Processes that hold a lock on a store now: number -> command.

    Empty where the system does not tell; locks of another host's processes are not seen.
    """
    inodes = set()
    for name in (path, f"{path}-shm", f"{path}-wal"):
        try:
            inodes.add(os.stat(name).st_ino)
        except OSError:
            continue
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        words = line.replace("->", " ").split()
        if len(words) > 5 and words[5].rpartition(":")[2].isdigit() and int(words[5].rpartition(":")[2]) in inodes:
            found[int(words[4])] = _command(words[4])
    return found


def _command(process: str) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text(errors="replace").strip()
    except OSError:
        return "ended, or of another container"
