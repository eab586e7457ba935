"""What a transfer did."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from ampstore.legacy import Problem
from ampstore.store.compaction import Compaction

Progress = Callable[[int, int], None]
"""Called with the entries done and all there are."""


@dataclass
class Report:
    """What a transfer did.

    Attributes
    ----------
    source, destination : str
    entries : int
        Entries found in the source.
    written : int
        Entries that were written to the destination.
    unchanged : int
        Entries that the destination had already, the same or newer.
    left : list of Problem
        What was not transferred: name, where, reason.
    removed : int
        Source files that were removed after they were verified.
    bytes_before, bytes_after : int
        Size of the legacy files, and of the destination.
    compaction : Compaction or None
        What `archive` gained by storing the destination anew.
    seconds : float
    dry_run : bool
        Nothing was written.
    """

    source: str
    destination: str
    entries: int = 0
    written: int = 0
    unchanged: int = 0
    left: list[Problem] = field(default_factory=list)
    removed: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    compaction: Compaction | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing was left behind."""
        return not self.left

    @property
    def ratio(self) -> float:
        """Bytes before over bytes after."""
        return self.bytes_before / self.bytes_after if self.bytes_after else 0.0

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "left": [problem._asdict() for problem in self.left], "ratio": round(self.ratio, 3)}


MOST_LISTED = 10_000
"""Conflicts that a report lists; all are counted."""


class Version(NamedTuple):
    """One of several values of a key.

    Attributes
    ----------
    location : str
        Where it is.
    kind : str
        What it is, for people.
    size : int
        Bytes of its stream.
    written_at : float
        Seconds since 1970.
    """

    location: str
    kind: str
    size: int
    written_at: float


class Conflict(NamedTuple):
    """A key with another value at each side.

    Attributes
    ----------
    key : str
    source, destination : Version
    taken : {"source", "destination", ""}
        Which one the destination has now; "" if nobody decided, so that it kept its own.
    """

    key: str
    source: Version
    destination: Version
    taken: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        sides = {"source": self.source._asdict(), "destination": self.destination._asdict()}
        return {"key": self.key, **sides, "taken": self.taken}


@dataclass
class Copied(Report):
    """What a copy did; `written` counts what replaced another value too, `unchanged` what was there already.

    Attributes
    ----------
    kept, overwritten : int
        Keys with another value at the destination, which stayed or was replaced as was asked for.
    undecided : int
        Those that stayed since nobody said what to do.
    conflicts : list of Conflict
        The first of all of these.
    """

    kept: int = 0
    overwritten: int = 0
    undecided: int = 0
    conflicts: list[Conflict] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing was left behind, and nothing is undecided."""
        return not self.left and not self.undecided

    def note(self, conflict: Conflict) -> None:
        """Count a conflict, and list it if it is one of the first."""
        if len(self.conflicts) < MOST_LISTED:
            self.conflicts.append(conflict)
        self.kept += conflict.taken == "destination"
        self.undecided += not conflict.taken

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**super().as_dict(), "conflicts": [conflict.as_dict() for conflict in self.conflicts]}
