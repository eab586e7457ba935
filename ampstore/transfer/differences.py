"""What two stores do not have in common, in constant memory: a merge join over their keys in order.

Two stores are told apart by their checksums alone; nothing is decoded unless the codecs differ.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ampstore.backend import Head
from ampstore.codec import Allowed
from ampstore.transfer.comparing import equal
from ampstore.transfer.places import opened_side
from ampstore.transfer.report import Version
from ampstore.transfer.sides import Side


class Difference(NamedTuple):
    """One key that two stores do not have in common.

    Attributes
    ----------
    key : str
    what : {"only in a", "only in b", "different", "unreadable in a", "unreadable in b"}
    a, b : Version or None
        What each has.
    reason : str
        Why it cannot be read.
    """

    key: str
    what: str
    a: Version | None = None
    b: Version | None = None
    reason: str = ""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        sides = {name: side._asdict() for name, side in (("a", self.a), ("b", self.b)) if side}
        return {"key": self.key, "what": self.what, **sides, **({"reason": self.reason} if self.reason else {})}


def diff(a: object, b: object, *, allow: Allowed = (), timeout: float = 30.0) -> Iterator[Difference]:
    """Differences of two stores, by key.

    Parameters
    ----------
    a, b : as in `copy`
    allow : iterable of str or "*"
        As in `Store`; needed only where values have to be decoded.
    timeout : float, seconds

    Yields
    ------
    Difference
    """
    with opened_side(a, allow=allow, timeout=timeout) as one, opened_side(b, allow=allow, timeout=timeout) as other:
        for left, right in _joined(one.sorted_heads(), other.sorted_heads()):
            if left and right and equal(left, one, right, other):
                continue
            what = "different" if left and right else f"only in {'a' if left else 'b'}"
            yield Difference(_key(left, right), what, _version(left, one), _version(right, other))
        for name, side in (("a", one), ("b", other)):
            for problem in side.problems:
                yield Difference(problem.name, f"unreadable in {name}", reason=f"{problem.where}: {problem.reason}")


def _joined(one: Iterator[Head], other: Iterator[Head]) -> Iterator[tuple[Head | None, Head | None]]:
    """Heads of each key, None for the side that lacks it."""
    left, right = next(one, None), next(other, None)
    while left or right:
        key = _key(left, right)
        mine, theirs = left if left and left.key == key else None, right if right and right.key == key else None
        yield mine, theirs
        left = next(one, None) if mine else left
        right = next(other, None) if theirs else right


def _key(left: Head | None, right: Head | None) -> str:
    return min(head.key for head in (left, right) if head)


def _version(head: Head | None, side: Side) -> Version | None:
    return Version(side.location, head.kind, head.size, head.written_at) if head else None
