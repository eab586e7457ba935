"""What a salvage got out, and what is lost."""

from dataclasses import asdict, dataclass, field
from typing import NamedTuple


class Finding(NamedTuple):
    """One entry that is lost or not certain.

    Attributes
    ----------
    key : str
    reason : str
    """

    key: str
    reason: str


@dataclass
class Salvaged:
    """What a salvage did.

    Attributes
    ----------
    source, destination : str
    written : int
        Entries in the destination.
    restored : int
        Those of them that came from an older page, a lower tier or a second copy, since the first version was damaged.
    lost : list of Finding
        Entries that are known to have been there and have no whole version.
    unsure : list of Finding
        Entries that were written (unless `certain` was asked for), and that may be an older version or deleted ones.
    damage : list of str
        What is wrong with the files as a whole.
    complete : bool
        Whether every key that the source had is known.
    """

    source: str
    destination: str
    written: int = 0
    restored: int = 0
    lost: list[Finding] = field(default_factory=list)
    unsure: list[Finding] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    complete: bool = True

    @property
    def whole(self) -> bool:
        """Whether every entry was got out, and surely so."""
        return self.complete and not self.lost and not self.unsure

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        lists = {"lost": [one._asdict() for one in self.lost], "unsure": [one._asdict() for one in self.unsure]}
        return {**asdict(self), **lists, "whole": self.whole}
