"""Which entries `ampstore ls` shows: by glob, prefix, kind, size and time."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, Self

import click

if TYPE_CHECKING:
    from ampstore.database import FileDatabase
    from ampstore.store import Store

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Entry(NamedTuple):
    """What is listed of an entry; of a file that nobody folded in yet only the key is known."""

    key: str
    kind: str
    bytes: int
    stored: int
    codec: str
    written: float

    @property
    def time(self) -> str:
        """When it was written, UTC."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.written)) if self.written else ""


class Choice(NamedTuple):
    """Conditions that all must hold."""

    pattern: str
    prefix: str
    kind: str
    least: int
    most: float
    since: float

    @classmethod
    def of(
        cls, pattern: str, kind: str | None, prefix: str, larger: int | None, smaller: int | None, since: str | None
    ) -> Self:
        """From the options of the command."""
        start = prefix or re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        most = float("inf") if smaller is None else smaller
        return cls(pattern, start, kind or "", larger or 0, most, moment(since) if since else 0.0)

    def __call__(self, entry: Entry) -> bool:
        """Whether an entry is chosen."""
        return (
            fnmatchcase(entry.key, self.pattern)
            and entry.key.startswith(self.prefix)
            and self.kind in entry.kind
            and self.least <= entry.bytes <= self.most
            and entry.written >= self.since
        )


def listing(target: "Store | FileDatabase", choice: Choice) -> Iterator[Entry]:
    """Chosen entries by key, then those of legacy programs."""
    from ampstore.store import Store

    for row in target.listing(choice.prefix):
        if choice(entry := Entry(*row)):
            yield entry
    for key in () if isinstance(target, Store) else target.unfolded():
        if choice(entry := Entry(key, "legacy file", 0, 0, "", 0.0)):
            yield entry


def moment(text: str) -> float:
    """Seconds since 1970 of a date, a time (UTC), or so long ago: 90m, 12h, 7d."""
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if ago:
        return time.time() - float(ago[1]) * _UNITS[ago[2]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"--since {text}: a date such as 2026-11-26, a time, or so long ago: 90m, 12h, 7d"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
