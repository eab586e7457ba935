"""What lies about in and beside a store and belongs to nothing any more. Harmless, so it is no damage.

files         .NAME.<random>.new of a creation, backup or upgrade that was killed
claims        of processes that have ended, or that nobody renewed for a lease
dictionaries  that no entry is compressed with
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ampstore.backend import SQLite
from ampstore.owner import has_ended

if TYPE_CHECKING:
    from ampstore.backend import Backend

_RANDOM = r"\.[0-9a-f]{8,16}\.new(-wal|-shm|-journal)?"


class LeftOver(NamedTuple):
    """One thing that nobody needs.

    Attributes
    ----------
    what : str
    remedy : str
        What can be done about it.
    """

    what: str
    remedy: str


def left_overs(backend: "Backend") -> Iterator[LeftOver]:
    """Everything of that kind."""
    for name in unfinished_files(backend.path) if isinstance(backend, SQLite) else ():
        yield LeftOver(f"{name}: an unfinished copy", "delete it once no ampstore runs here")
    for key, owner, left in backend.claims_left():
        if has_ended(owner) or left < 0:
            why = "of a process that has ended" if has_ended(owner) else f"not renewed for {-left:.0f} s"
            yield LeftOver(f"claim on {key!r}: {why}", "nothing to do: the next who calculates it takes it")
    needed = {codec.rpartition(":")[2] for codec, *_ in backend.kinds() if ":" in codec}
    for number, kind, _, size in backend.dictionaries():
        if str(number) not in needed:
            yield LeftOver(
                f"dictionary {number} ({kind}, {size} bytes): no entry needs it", "`ampstore archive` or compact"
            )


def unfinished_files(path: Path) -> list[str]:
    """Names of unfinished copies beside a store's file."""
    pattern = re.compile(rf"\.{re.escape(path.name[:200])}.*{_RANDOM}")
    return sorted(item.name for item in path.parent.iterdir() if pattern.fullmatch(item.name))
