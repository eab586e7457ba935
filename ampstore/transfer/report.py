"""What a transfer did."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from ampstore.legacy import Problem
from ampstore.store import Compaction

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
